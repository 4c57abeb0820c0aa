"""Bytes above 127 in a header field, written the way RFC 2047 allows."""

from __future__ import annotations

import re

from targets.letters.fields import CRLF, Field, decode, encode

_ADDRESSES = frozenset(
    (b"from", b"sender", b"reply-to", b"to", b"cc", b"bcc", b"resent-from", b"resent-to", b"resent-cc")
)  # fmt: skip
_PARAMETERS = frozenset((b"content-type", b"content-disposition"))
_STRUCTURED = frozenset(
    (b"received", b"message-id", b"references", b"in-reply-to", b"return-path", b"date",
     b"mime-version", b"content-transfer-encoding", b"content-id")
)  # fmt: skip

_PHRASE = re.compile(
    r"""(?P<kept><[^<>]*>)|"(?P<quoted>(?:[^"\\]|\\.)*)"|[^\s"<>(),:;@]+(?:[ \t]+[^\s"<>(),:;@]+)*""",
    re.DOTALL,
)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"', re.DOTALL)


def ascii_field(field: Field) -> bytes:
    """All of a field in ASCII; what has no encoding there becomes question marks."""
    text = decode(field.value)
    if field.key in _ADDRESSES:
        text = re.sub(r"[ \t]+", " ", _PHRASE.sub(_phrase, text)).strip()
    elif field.key in _PARAMETERS:
        text = _QUOTED.sub(_parameter, text)
    elif field.key not in _STRUCTURED:
        text = encode(text)
    return field.name + b": " + text.encode("ascii", "replace") + CRLF


def _phrase(match: re.Match[str]) -> str:
    """A name beside an address; the address itself cannot be encoded."""
    if match[0].isascii() or match["kept"]:
        return match[0]
    quoted = match["quoted"]
    words = encode(re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[0])
    return f" {words} "  # a parser must see where an encoded word ends


def _parameter(match: re.Match[str]) -> str:
    return match[0] if match[0].isascii() else f'"{encode(match[1])}"'
