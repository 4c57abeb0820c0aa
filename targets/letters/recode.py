"""Parts that cannot pass as they are, encoded anew so that nobody loses a byte of their content."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from targets.letters.fields import CRLF, Head, parse
from targets.letters.parts import Part, Step
from targets.letters.rules import Rules

QUOTED, BASE64 = "quoted-printable", "base64"

_WIDTH = 57
"""Bytes that make a base64 line of 76 characters."""

_LINE = 75
_UNSAFE = re.compile(rb"[^\t -<>-~]")
_ATOM = re.compile(rb"=[0-9A-Fa-f]{2}|.", re.DOTALL)


@dataclass(slots=True)
class Needs:
    """What one reading of the parts found.

    Attributes:
        recode: the numbers of parts whose content cannot pass as it is, and how to encode them.
        signed: one of them is covered by a signature.
    """

    recode: dict[int, str] = field(default_factory=dict)
    nul: bool = False
    removed: bool = False
    long: bool = False
    signed: bool = False
    _run: int = 0

    def look(self, step: Step, rules: Rules) -> None:
        """Judge one piece of the body."""
        nul = b"\0" in step.data and not rules.nul_allowed
        self._run += len(step.data.rstrip(b"\r\n"))
        long = bool(rules.max_line and self._run > rules.max_line)
        if step.data[-1:] in b"\r\n":
            self._run = 0
        bare = step.part.encoding == "binary" and not step.part.text and _bare(step.data)
        self.long = self.long or long
        if not (nul or long or bare):
            return
        how = recoding(step.part) if step.what == "content" else ""
        self.nul = self.nul or (nul and bool(how))
        self.removed = self.removed or (nul and (not how or step.part.encoding == BASE64))
        self.signed = self.signed or step.part.signed
        if how:
            self.recode[step.part.number] = how

    def repairs(self, rules: Rules) -> Iterator[str]:
        """What is going to be done, in words."""
        if self.nul:
            yield "NUL bytes encoded"
        if self.removed:
            yield "NUL bytes removed"
        if self.long:
            yield f"lines over {rules.max_line} bytes broken"
        if self.recode and not (self.nul or self.long):
            yield "binary part encoded"
        if self.signed:
            yield "the sender's signature no longer matches"


def _bare(data: bytes) -> bool:
    return not data.endswith(CRLF) and data[-1:] in b"\r\n"


def recoding(part: Part) -> str:
    """How a part's content is encoded anew; "" where the standard allows nothing (multiparts)."""
    if part.kind.startswith(("multipart/", "message/")):
        return ""
    if part.encoding in {QUOTED, BASE64}:
        return part.encoding
    if part.encoding not in {"7bit", "8bit", "binary"}:
        return ""
    return QUOTED if part.text else BASE64


def header(raw: bytes, part: Part, how: str) -> bytes:
    """A part's header block that says how its content is encoded now; the old value is kept."""
    head, stray = parse(raw)
    retag(head, part, how)
    return bytes(head) + stray


def retag(head: Head, part: Part, how: str) -> None:
    """Name the new encoding in a header block."""
    if part.encoding == how:
        return
    for each in head.all("Content-Transfer-Encoding"):
        head.keep(each)
    head.add("Content-Transfer-Encoding", how)


class Recoder:
    """The content of one part, piece by piece, encoded anew.

    The line end before a boundary belongs to the boundary, so the last one is held back.
    """

    def __init__(self, part: Part, how: str) -> None:
        self._part, self._how = part, how
        self._held = b""
        self._end = b""

    def feed(self, data: bytes) -> bytes:
        """What can be written after one more piece."""
        if self._how == BASE64:
            return self._armoured(data)
        return self._quoted(data)

    def finish(self, *, whole: bool) -> bytes:
        """The rest; `whole` says that the message ends here and not at a boundary."""
        if self._how == QUOTED:
            return _soft(self._held, self._part)
        if self._part.encoding == BASE64:
            return self._held + (CRLF if self._held else b"")
        rest = self._held + (self._end if whole else b"")
        return b"".join(_base64_lines(rest)) if rest else b""

    def _armoured(self, data: bytes) -> bytes:
        if self._part.encoding == BASE64:
            self._held += data.translate(None, b"\0\r\n")
            cut = len(self._held) - len(self._held) % 76
            ready, self._held = self._held[:cut], self._held[cut:]
            return b"".join(ready[at : at + 76] + CRLF for at in range(0, cut, 76))
        end = _line_end(data)
        self._held += self._end + data[: len(data) - len(end)]
        self._end = end
        cut = len(self._held) - len(self._held) % _WIDTH
        ready, self._held = self._held[:cut], self._held[cut:]
        return b"".join(_base64_lines(ready))

    def _quoted(self, data: bytes) -> bytes:
        end = _line_end(data)
        line = self._held + data[: len(data) - len(end)]
        if end:
            self._held = b""
            return _soft(line, self._part) + CRLF
        cut = len(line) - 3
        if cut <= 0 or len(line) < _LINE:
            self._held = line
            return b""
        cut = line.rindex(b"=", cut) if b"=" in line[cut:] else len(line)
        self._held = line[cut:]
        return _soft(line[:cut], self._part) + b"=" + CRLF


def _line_end(data: bytes) -> bytes:
    return data[len(data.rstrip(b"\r\n")) :]


def _base64_lines(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), _WIDTH):
        yield binascii.b2a_base64(data[at : at + _WIDTH], newline=False) + CRLF


def _soft(line: bytes, part: Part) -> bytes:
    """A line in quoted-printable, broken softly; one that is in it already keeps its escapes."""
    if part.encoding == QUOTED:
        safe = line.replace(b"\0", b"=00")
    else:
        safe = _UNSAFE.sub(lambda found: b"=%02X" % found[0][0], line)
        safe = re.sub(rb"[ \t]\Z", lambda found: b"=%02X" % found[0][0], safe)
    lines, width = [bytearray()], 0
    for atom in _ATOM.findall(safe):
        if width + len(atom) > _LINE:
            lines.append(bytearray())
            width = 0
        lines[-1] += atom
        width += len(atom)
    return (b"=" + CRLF).join(lines)
