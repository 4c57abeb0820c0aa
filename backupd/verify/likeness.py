"""Whether two messages are the same letter, though two servers wrote their headers each in its own way.

Exchange rebuilds the MIME of a message whenever it is asked for it: fields come in another order,
encoded and folded otherwise, parts get new boundaries and transfer encodings. What a letter says
stays: who, when, about what, its texts and its attachments. That is compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_binary_file
from email.header import decode_header, make_header
from email.message import Message
from typing import IO

FIELDS = ("from", "to", "cc", "subject", "date", "message-id", "in-reply-to")

LONGEST_FIELD = 16 << 10
"""Bytes of a header field that are decoded; longer ones are compared as they are."""


def likeness(file: IO[bytes]) -> str:
    """SHA-256 of what a letter says; equal for all forms that servers give it."""
    letter = message_from_binary_file(file)
    digest = hashlib.sha256()
    for word in FIELDS:
        digest.update(f"{word}: {_said(letter, word)}\n".encode(errors="surrogatepass"))
    for part in sorted(_parts(letter)):
        digest.update(part)
    return digest.hexdigest()


def _said(letter: Message, word: str) -> str:
    raw = str(letter.get(word, ""))
    if len(raw) <= LONGEST_FIELD:
        with suppress(ValueError, LookupError, UnicodeError):  # unknown encoding: as it stands
            raw = str(make_header(decode_header(raw)))
    return re.sub(r"[\s\"']+", "", raw).casefold()


def _parts(letter: Message) -> Iterator[bytes]:
    """A digest of each leaf: text without its line ends and trailing blanks, everything else byte for byte."""
    for part in letter.walk():
        if part.is_multipart():
            continue
        content = part.get_payload(decode=True)
        data = content if isinstance(content, bytes) else str(part.get_payload()).encode("utf-8", "surrogateescape")  # fmt: skip
        if part.get_content_maintype() == "text":
            data = _text(data, part.get_content_charset("utf-8"))
        yield hashlib.sha256(data).digest()


def _text(data: bytes, charset: str) -> bytes:
    try:
        text = data.decode(charset, "replace")
    except LookupError:
        text = data.decode("latin-1")
    return re.sub(r"\s+", " ", text).strip().encode("utf-8", "surrogatepass")
