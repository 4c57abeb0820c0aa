"""What a mail says, whoever wrote its bytes anew: Bridge marks, re-encodes and sometimes rebuilds them.

Two messages mean the same when Message-ID, Date, From and Subject agree and their parts have the
same decoded contents, blanks in text aside. Boundaries, encodings, other fields may differ.
"""

from __future__ import annotations

import binascii
import codecs
import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import parsedate_to_datetime
from typing import IO

from targets.letters import addresses
from targets.letters.fields import Head
from targets.letters.letter import opened
from targets.letters.parts import Part, part_of, walk
from targets.letters.survey import blocks
from targets.serial import IN_MEMORY

_LONGEST = 10_000
_ENDS = b"\r\n"


class Meaning:
    """A sink for a message as it comes from a server; its digest is that of the meaning."""

    def __init__(self) -> None:
        self._held: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by hexdigest
        self._digest = ""
        self.size = 0

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        self.size += len(data)
        return self._held.write(data)

    def hexdigest(self) -> str:
        """The meaning of all that was written; nothing can be written afterwards."""
        if not self._digest:
            with self._held:
                self._held.seek(0)
                self._digest = meaning_of(self._held)
        return self._digest


def meaning_of(content: IO[bytes]) -> str:
    """SHA-256 over what a message says, from where the stream stands to its end."""
    found = opened(content)
    if found is None:
        return hashlib.file_digest(content, "sha256").hexdigest()  # type: ignore[arg-type]
    head, ahead = found
    leaves: dict[int, _Leaf] = {}
    for step in walk(part_of(head), blocks(content, ahead)):
        if step.what == "content":
            if step.part.number not in leaves:
                leaves[step.part.number] = _Leaf(step.part)
            leaves[step.part.number].feed(step.data)
    said = [*_fields(head), *sorted(filter(None, (each.close() for each in leaves.values())))]
    return hashlib.sha256("\n".join(said).encode("utf-8", "replace")).hexdigest()


def _fields(head: Head) -> Iterator[str]:
    for name, read in (
        ("Message-ID", str),
        ("Date", _moment),
        ("From", _authors),
        ("Subject", _words),
    ):
        there = head.first(name)
        yield f"{name}: {read(there.text[:_LONGEST]) if there else ''}"


def _moment(text: str) -> str:
    try:
        return str(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError, IndexError, OSError):
        return text


def _authors(text: str) -> str:
    """The addresses alone; names are encoded in many ways."""
    return " ".join(
        each.rpartition("<")[2].rstrip("> ").lower() for each in addresses.readable(text)
    )


def _words(text: str) -> str:
    with suppress(HeaderParseError, LookupError, ValueError):
        text = str(make_header(decode_header(text)))
    return "".join(text.split())


class _Leaf:
    """The decoded content of one part, hashed as it passes."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._hash = hashlib.sha256()
        self._carry = b""
        self._size = 0
        self._letters = _decoder(part.charset)

    def feed(self, data: bytes) -> None:
        """Take a piece of a line."""
        self._take(self._decoded(data))

    def close(self) -> str:
        """The digest; "" for a part without content, for some programs add such ones."""
        self._take(self._carry, final=True)
        return self._hash.hexdigest() if self._size else ""

    def _take(self, data: bytes, *, final: bool = False) -> None:
        if self._part.text:
            data = "".join(self._letters.decode(data, final).split()).encode("utf-8", "replace")
        else:
            data = data.translate(None, _ENDS)  # whose they are is not the same in every encoding
        self._size += len(data)
        self._hash.update(data)

    def _decoded(self, data: bytes) -> bytes:
        if self._part.encoding == "quoted-printable":
            return binascii.a2b_qp(data)
        if self._part.encoding != "base64":
            return data
        letters = self._carry + data.translate(None, b"\r\n \t\0")
        cut = len(letters) - len(letters) % 4
        ready, self._carry = letters[:cut], letters[cut:]
        try:
            return binascii.a2b_base64(ready)
        except binascii.Error:
            return ready


def _decoder(charset: str) -> codecs.IncrementalDecoder:
    try:
        known = codecs.lookup(charset)
        if not known._is_text_encoding:  # noqa: SLF001 - hex, zip and the like
            charset = "utf-8"
        return codecs.getincrementaldecoder(charset)("replace")
    except (LookupError, ValueError):
        return codecs.getincrementaldecoder("utf-8")("replace")
