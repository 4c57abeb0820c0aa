"""Whether encoded content is decoded by a strict program, judged piece by piece."""

from __future__ import annotations

import re

from targets.letters.parts import Part

_LETTERS = re.compile(rb"[A-Za-z0-9+/]*")
_PADDED = re.compile(rb"[A-Za-z0-9+/]*={0,2}")
_BROKEN = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|=[ \t]+\r*\n?\Z|\A=[ \t]*\r*\n?\Z")


class Decodes:
    """Follows the content of one part."""

    def __init__(self, part: Part) -> None:
        self._encoding = part.encoding
        self._count = 0
        self._ended = False
        self.broken = False

    def feed(self, data: bytes) -> None:
        """One more piece of a line."""
        if self._encoding == "quoted-printable":
            self.broken = self.broken or bool(_BROKEN.search(data))
        elif self._encoding == "base64":
            self._letters(data.rstrip(b"\r\n"))

    def close(self) -> bool:
        """Whether anything was broken."""
        return self.broken or self._count % 4 != 0

    def _letters(self, line: bytes) -> None:
        self._count += len(line)
        if not line:
            return
        self.broken = self.broken or self._ended or not _PADDED.fullmatch(line)
        self._ended = not _LETTERS.fullmatch(line)
