"""The parts of a body as they pass by: which bytes are header, which content, which neither.

A walk needs no more memory than one part's header and one piece of a line, whatever the size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from email.message import Message

from targets.letters.fields import CRLF, LINE_END, Head, parse, tidied

PIECE = 1 << 16
"""Bytes of a line that are looked at together."""

_HEAD_LIMIT = 1 << 16
_DEEPEST = 40
_TYPE_LIMIT = 2_000
_LONGEST_BOUNDARY = 1_000
_LINES = re.compile(rb"[^\r\n]{0,65536}+(?:\r{0,2}\n|\r)|[^\r\n]{1,65536}")


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a message, in the order in which the parts begin; the message itself is 0."""

    number: int
    kind: str
    encoding: str
    boundary: bytes = b""
    name: str = ""
    signed: bool = False
    charset: str = "utf-8"

    @property
    def text(self) -> bool:
        """Whether it is text that people read."""
        return self.kind.startswith("text/")


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of a body.

    Attributes:
        what: `head` (all of a part's header, as it stands), `content` (of a leaf), `edge`
            (boundaries and the text around the parts), or `unclosed`, without data: here the last
            boundary of the part is missing.
    """

    what: str
    part: Part
    data: bytes


def part_of(head: Head, number: int = 0, *, signed: bool = False) -> Part:
    """What a header block says of its part; nonsense makes it plain text."""
    known = Message()
    for name in ("Content-Type", "Content-Disposition", "Content-Transfer-Encoding"):
        if there := head.first(name):
            known[name] = there.text[:_TYPE_LIMIT]
    kind = known.get_content_type()
    boundary = known.get_boundary("") if kind.startswith("multipart/") else ""
    boundary = boundary if len(boundary) <= _LONGEST_BOUNDARY else ""
    encoding = (known.get("Content-Transfer-Encoding") or "7bit").split(";")[0].strip().lower()
    return Part(
        number,
        kind,
        encoding,
        boundary.encode("latin-1", "replace"),
        str(known.get_filename("") or ""),
        signed or kind == "multipart/signed",
        str(known.get_content_charset("utf-8")),
    )


def pieces(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """A stream cut into lines; a longer line comes in several pieces, only its last one with an end."""
    for block in blocks:
        yield from _LINES.findall(block)


@dataclass(slots=True)
class _Walk:
    """Where a walk is: the open multiparts, the part at hand, and its header while it is read."""

    part: Part
    open: list[Part] = field(default_factory=list)
    head: list[bytes] | None = None
    size: int = 0
    count: int = 0

    def enter(self, part: Part) -> None:
        """Go on behind a part's header."""
        self.part, self.head, self.size = part, None, 0
        if part.boundary and len(self.open) < _DEEPEST:
            self.open.append(part)
        elif part.kind == "message/rfc822" and part.encoding in {"7bit", "8bit", "binary"}:
            self.head = []

    def edge(self, piece: bytes) -> list[Part] | None:
        """The multiparts inside that were left open, if a line is the boundary of an open one: go behind it."""
        if not piece.startswith(b"--"):
            return None
        line = piece.rstrip()
        for at in range(len(self.open) - 1, -1, -1):
            mark = b"--" + self.open[at].boundary
            if line in {mark, mark + b"--"}:
                self.part = self.open[at]
                self.head = [] if line == mark else None
                inner = self.open[at + 1 :]
                del self.open[at + (line == mark) :]
                return inner[::-1]
        return None

    def content(self) -> str:
        """What a line is that is neither boundary nor header."""
        return "edge" if self.part.boundary else "content"

    def close_head(self) -> Step:
        """The header of a part is complete."""
        data = b"".join(self.head or ())
        self.count += 1
        block = LINE_END.sub(CRLF, data)
        signed = any(each.signed for each in self.open)
        head, _ = parse(tidied(block if block.endswith(CRLF) else block + CRLF))
        self.enter(part_of(head, self.count, signed=signed))
        return Step("head", self.part, data)


def walk(root: Part, blocks: Iterable[bytes]) -> Iterator[Step]:
    """All of a body, in order, nothing left out: joined, the data of the steps is what was read."""
    state, fresh = _Walk(root), True
    state.enter(root)
    for piece in pieces(blocks):
        start, fresh = fresh, piece[-1:] in b"\r\n"
        if start and state.head is not None and piece.startswith(b"--") and _ends(state, piece):
            yield state.close_head()
        if start and (inner := state.edge(piece)) is not None:
            yield from (Step("unclosed", each, b"") for each in inner)
            yield Step("edge", state.part, piece)
        elif state.head is None:
            yield Step(state.content(), state.part, piece)
        else:
            state.head.append(piece)
            state.size += len(piece)
            if (start and not piece.strip(b"\r\n")) or state.size > _HEAD_LIMIT:
                yield state.close_head()
    if state.head is not None:
        yield state.close_head()
    yield from (Step("unclosed", each, b"") for each in state.open[::-1])


def _ends(state: _Walk, piece: bytes) -> bool:
    """Whether a boundary ends a header that has no empty line."""
    line = piece.rstrip()
    return any(
        line in {b"--" + each.boundary, b"--" + each.boundary + b"--"} for each in state.open
    )
