"""What Graph would say about a message, derived from its RFC 5322 bytes. Any bytes will do."""

from __future__ import annotations

import email
import email.message
import re
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.utils import getaddresses, parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from backupd.demo.moments import EPOCH, stamp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from backupd.demo.calls import Json

T = TypeVar("T")

_HEADER_LIMIT = 4_000  # Python's header parser is quadratic on some long ones
_PREVIEW = 255
_NESTING = 40
_TAG = re.compile(r"<[^>]*>")


@dataclass(frozen=True)
class Part:
    """One attachment: `kind` is `file`, `item` or `reference`."""

    name: str
    content_type: str
    content: bytes
    content_id: str = ""
    inline: bool = False
    kind: str = "file"
    url: str = ""


def describe(mime: bytes) -> Json:
    """The properties of a message that its MIME form determines, without the body."""
    message = email.message_from_bytes(mime)
    sent = sent_at(message)
    sender = _first(_recipients(message, "From"))
    return {
        "subject": header(message, "Subject") if "Subject" in message else None,
        "internetMessageId": header(message, "Message-ID") or None,
        "from": sender,
        "sender": _first(_recipients(message, "Sender")) or sender,
        "toRecipients": _recipients(message, "To"),
        "ccRecipients": _recipients(message, "Cc"),
        "bccRecipients": _recipients(message, "Bcc"),
        "replyTo": _recipients(message, "Reply-To"),
        "sentDateTime": stamp(sent),
        "importance": _importance(message),
        "isReadReceiptRequested": "Disposition-Notification-To" in message,
        "hasAttachments": any(not part.inline for part in parts(mime)),
    }


def headers_of(mime: bytes) -> list[Json]:
    """The `internetMessageHeaders` of a message."""
    message = email.message_from_bytes(mime)
    return [{"name": name, "value": _clean(str(value))} for name, value in message.items()]


def body_of(mime: bytes) -> Json:
    """The `body` of a message: its HTML part, else its text."""
    message = email.message_from_bytes(mime)
    texts = [part for part in _leaves(message) if _is_text(part)]
    html = [part for part in texts if part.get_content_subtype() == "html"]
    chosen = _first(html) or _first(texts)
    kind = "html" if html else "text"
    return {"contentType": kind, "content": _decoded(chosen) if chosen is not None else ""}


def preview(body: Json) -> str:
    """The `bodyPreview`: the first 255 characters without tags."""
    return " ".join(_TAG.sub(" ", body["content"]).split())[:_PREVIEW]


def parts(mime: bytes) -> list[Part]:
    """The attachments of a message, inline ones included."""
    message = email.message_from_bytes(mime)
    if is_encrypted(mime):
        return [Part("smime.p7m", "application/pkcs7-mime", _payload(message))]
    found = [part for part in _leaves(message) if not _is_text(part)]
    return [_part(number, part) for number, part in enumerate(found, 1)]


def is_encrypted(mime: bytes) -> bool:
    """Whether this is an opaque S/MIME message, which Exchange does not convert to MIME."""
    head = re.split(rb"\r?\n\r?\n", mime, maxsplit=1)[0]
    head = re.sub(rb"\r?\n[ \t]", b" ", head).lower()
    return b"content-type: application/pkcs7-mime" in head


def item_class(mime: bytes) -> str:
    """The MAPI message class."""
    if is_encrypted(mime):
        return "IPM.Note.SMIME"
    head = mime[:_HEADER_LIMIT].lower()
    if b"multipart/signed" in head:
        return "IPM.Note.SMIME.MultipartSigned"
    return "IPM.Schedule.Meeting.Request" if b"method=request" in mime.lower() else "IPM.Note"


def sent_at(message: email.message.Message) -> datetime:
    """The time in the Date header; the epoch of the written content when there is none."""
    try:
        moment = parsedate_to_datetime(str(message["Date"])[:_HEADER_LIMIT])
    except (TypeError, ValueError, IndexError, OverflowError):
        return EPOCH
    return moment if moment.tzinfo else moment.replace(tzinfo=EPOCH.tzinfo)


def header(message: email.message.Message, name: str) -> str:
    """One header, decoded as far as it can be."""
    raw = _clean(str(message.get(name, "")))[:_HEADER_LIMIT]
    try:
        return str(make_header(decode_header(raw)))
    except (LookupError, ValueError, UnicodeError, email.errors.HeaderParseError):
        return raw


def _clean(text: str) -> str:
    unfolded = re.sub(r"\r?\n[ \t]+", " ", text).strip()
    return unfolded.encode("utf-8", "replace").decode()


def _recipients(message: email.message.Message, name: str) -> list[Json]:
    raw = [_clean(str(value))[:_HEADER_LIMIT] for value in message.get_all(name, [])]
    pairs = getaddresses(raw)
    return [
        {"emailAddress": {"name": _word(shown) or address, "address": address}}
        for shown, address in pairs
        if address
    ]


def _word(text: str) -> str:
    try:
        return str(make_header(decode_header(text)))
    except (LookupError, ValueError, UnicodeError, email.errors.HeaderParseError):
        return text


def _importance(message: email.message.Message) -> str:
    asked = header(message, "Importance").lower()
    return asked if asked in {"low", "high"} else "normal"


def _leaves(message: email.message.Message, depth: int = 0) -> Iterator[email.message.Message]:
    """Every part that is not a container; an attached message is a leaf."""
    content = message.get_payload()
    if message.get_content_maintype() != "multipart" or not isinstance(content, list):
        yield message
    elif depth < _NESTING:
        for part in content:
            if isinstance(part, email.message.Message):
                yield from _leaves(part, depth + 1)


def _is_text(part: email.message.Message) -> bool:
    if part.get_content_maintype() != "text" or part.get_filename():
        return False
    return part.get_content_disposition() != "attachment"


def _part(number: int, part: email.message.Message) -> Part:
    inner = part.get_payload()
    content_id = header(part, "Content-ID").strip("<>")
    inline = part.get_content_disposition() == "inline" or bool(content_id)
    attached = _first(inner) if isinstance(inner, list) else None
    if isinstance(attached, email.message.Message):
        name = header(attached, "Subject") or "Attached message"
        return Part(name, "message/rfc822", _flat(attached), kind="item")
    name = _word(part.get_filename() or "") or f"attachment-{number}"
    return Part(name, part.get_content_type(), _payload(part), content_id, inline)


def _flat(message: email.message.Message) -> bytes:
    try:
        return message.as_bytes()
    except (LookupError, ValueError, TypeError, AttributeError):
        return str(message.get_payload()).encode("utf-8", "replace")


def _payload(part: email.message.Message) -> bytes:
    content = part.get_payload(decode=True)
    return content if isinstance(content, bytes) else b""


def _decoded(part: email.message.Message) -> str:
    charset = part.get_content_charset("utf-8")
    try:
        return _payload(part).decode(charset, "replace")
    except LookupError:
        return _payload(part).decode("utf-8", "replace")


def _first(items: list[T]) -> T | None:
    return items[0] if items else None
