"""What stands in a mailbox for a mail that is too large for it: its header, its text, what is missing."""

from __future__ import annotations

import base64
import binascii
import quopri
from collections.abc import Iterator
from dataclasses import dataclass, field

from bs4 import BeautifulSoup

from backupd.mirror import names
from backupd.ports import Parcel
from targets.letters.fields import CRLF, Field, Head, make
from targets.letters.parts import Part, part_of, walk

TEXT_LIMIT = 1 << 18
"""Bytes of text that a stub carries along."""

LISTED = 200
"""Missing parts that a stub names."""

_CONTENT = (b"content-", b"mime-version")


def leftover_name(parcel: Parcel) -> str:
    """The file that holds the whole mail: the same in every run."""
    return f"{names.short_key(parcel.key)}.eml"


@dataclass(slots=True)
class _Contents:
    """The parts of a mail that is too large to be looked at at once."""

    parts: dict[int, Part] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    text: bytearray = field(default_factory=bytearray)
    chosen: Part | None = None
    limit: int = TEXT_LIMIT

    def take(self, part: Part, data: bytes) -> None:
        """One piece of a part's content."""
        if part.number in self.sizes or len(self.sizes) < LISTED:
            self.parts[part.number] = part
            self.sizes[part.number] = self.sizes.get(part.number, 0) + len(data)
        if self.chosen is None and part.text and not part.name:
            self.chosen = part
        if self.chosen is not None and self.chosen.number == part.number:
            self.text += data[: self.limit - len(self.text)]

    def missing(self) -> Iterator[str]:
        """A line for each part that the stub does not carry."""
        for number, part in self.parts.items():
            if part is not self.chosen:
                name = " ".join("".join(c if c.isprintable() else " " for c in part.name).split())
                yield f"- {name or 'without a name'} ({part.kind}, {megabytes(self.sizes[number])})"


def stub(head: Head, body: Iterator[bytes], size: int, limit: int, leftover: str) -> bytes:
    """A whole small letter under the header of a large one."""
    contents = _Contents(limit=min(TEXT_LIMIT, limit // 4))
    for step in walk(part_of(head), body):
        if step.what == "content":
            contents.take(step.part, step.data)
    lines = [
        f"This message has {megabytes(size)}, and this mailbox takes {megabytes(limit)}. Only its text is here.",
        f"The whole message is in the backup, and in the file {leftover} of the restore.",
        "",
        "Missing:",
        *(list(contents.missing()) or ["- the rest of its text"]),
        "",
        "-" * 72,
        _readable(contents),
    ]
    kept = [each.raw for each in head.fields if not each.key.startswith(_CONTENT)]
    return b"".join([*kept, *(each.raw for each in _describing(size)), CRLF, _armoured(lines)])


def megabytes(size: int) -> str:
    """A size as people say it."""
    return f"{size / 1_000_000:.1f} MB"


def _describing(size: int) -> list[Field]:
    return [
        make("X-Backupd-Original-Size", str(size)),
        make("MIME-Version", "1.0"),
        make("Content-Type", "text/plain; charset=utf-8"),
        make("Content-Transfer-Encoding", "base64"),
    ]


def _armoured(lines: list[str]) -> bytes:
    text = "\n".join(lines).replace("\r\n", "\n").replace("\n", "\r\n")
    return base64.encodebytes(text.encode("utf-8", "replace")).replace(b"\n", CRLF)


def _readable(contents: _Contents) -> str:
    """The text of the chosen part, whatever its encoding is."""
    part = contents.chosen
    if part is None:
        return "(no text)"
    text = _decoded(bytes(contents.text), part.encoding).decode(_known(part.charset), "replace")
    if part.kind == "text/html":
        text = BeautifulSoup(text, "lxml").get_text("\n", strip=True)
    return text.replace("\0", "")


def _decoded(data: bytes, encoding: str) -> bytes:
    if encoding == "quoted-printable":
        return quopri.decodestring(data)
    if encoding != "base64":
        return data
    letters = data.translate(None, b"\r\n \t\0")
    try:
        return base64.b64decode(letters[: len(letters) - len(letters) % 4])
    except binascii.Error:
        return data


def _known(charset: str) -> str:
    try:
        return charset if b"".decode(charset) == "" else "utf-8"
    except (LookupError, ValueError):
        return "utf-8"
