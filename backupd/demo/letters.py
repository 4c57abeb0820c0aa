"""Builds mail: RFC 5322 with CRLF, the same bytes for the same words."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import TYPE_CHECKING

from backupd.demo.ids import guid_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime


@dataclass(frozen=True)
class Enclosure:
    """A file in a letter; with a content id it is shown inside the HTML."""

    name: str
    content: bytes
    kind: str = "application/octet-stream"
    content_id: str = ""


@dataclass(frozen=True)
class Letter:
    """What a message says. Addresses are pairs of display name and address."""

    sender: tuple[str, str]
    to: Sequence[tuple[str, str]]
    subject: str
    text: str
    sent: datetime
    html: str = ""
    cc: Sequence[tuple[str, str]] = ()
    enclosures: Sequence[Enclosure] = ()
    calendar: str = ""
    attached: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def message_id(self) -> str:
        """An id that depends on what the letter says."""
        unique = guid_of(self.sender, self.subject, self.sent.isoformat(), self.to)
        return f"<{unique}@{self.sender[1].partition('@')[2]}>"

    def mime(self) -> bytes:
        """The bytes."""
        message = self._head()
        message.set_content(self.text, cte="quoted-printable")
        if self.html:
            message.add_alternative(self.html, subtype="html", cte="quoted-printable")
        if self.calendar:
            method = {"method": "REQUEST"}
            message.add_alternative(self.calendar, subtype="calendar", params=method)
        for enclosure in self.enclosures:
            _enclose(message, enclosure)
        if self.attached:
            _attach_message(message, self.attached)
        _fix_boundaries(message, self.message_id)
        return message.as_bytes()

    def _head(self) -> EmailMessage:
        message = EmailMessage(policy=SMTP)
        message["Received"] = f"from mail.example by mx.example; {format_datetime(self.sent)}"
        message["From"] = _address(self.sender)
        message["To"] = [_address(pair) for pair in self.to]
        if self.cc:
            message["Cc"] = [_address(pair) for pair in self.cc]
        message["Subject"] = self.subject
        message["Date"] = format_datetime(self.sent)
        message["Message-ID"] = self.message_id
        for name, value in self.headers.items():
            message[name] = value
        return message


def _address(pair: tuple[str, str]) -> Address:
    return Address(pair[0], addr_spec=pair[1])


def _enclose(message: EmailMessage, enclosure: Enclosure) -> None:
    main, _, sub = enclosure.kind.partition("/")
    if not enclosure.content_id:
        message.add_attachment(
            enclosure.content, maintype=main, subtype=sub, filename=enclosure.name
        )
        return
    html = message.get_body(("html",))
    if isinstance(html, EmailMessage):
        html.add_related(
            enclosure.content,
            maintype=main,
            subtype=sub,
            cid=f"<{enclosure.content_id}>",
            filename=enclosure.name,
            disposition="inline",
        )


def _attach_message(message: EmailMessage, mime: bytes) -> None:
    """As an opaque part, so that the attached bytes stay as they are."""
    part = EmailMessage(policy=SMTP)
    part["Content-Type"] = "message/rfc822"
    part["Content-Disposition"] = "attachment"
    part.set_payload([_parsed(mime)])
    message.make_mixed()
    message.attach(part)


def _parsed(mime: bytes) -> EmailMessage:
    head, _, body = mime.partition(b"\r\n\r\n")
    inner = EmailMessage(policy=SMTP)
    for line in head.replace(b"\r\n ", b" ").split(b"\r\n"):
        name, _, value = line.decode().partition(":")
        if not name.lower().startswith(("content-", "mime-")):
            inner[name] = value.strip()
    inner.set_content(body.decode(), cte="8bit" if not body.isascii() else "7bit")
    return inner


def _fix_boundaries(message: EmailMessage, unique: str) -> None:
    """The library draws boundaries at random; the same letter must be the same bytes."""
    for number, part in enumerate(message.walk()):
        if part.is_multipart() and part.get_content_maintype() == "multipart":
            part.set_boundary(f"_{number:03}_{guid_of(unique, number).replace('-', '')}_")


def png(width: int, height: int, colour: tuple[int, int, int]) -> bytes:
    """A picture in one colour."""
    rows = (b"\0" + bytes(colour) * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checked = kind + data
    return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))


_A4 = "[0 0 595 842]"
_FONTS = "<< /Font << /F1 5 0 R >> >>"


def pdf(title: str) -> bytes:
    """A page with one line of text."""
    text = f"BT /F1 24 Tf 72 720 Td ({title.encode('ascii', 'replace').decode()}) Tj ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox {_A4} /Contents 4 0 R /Resources {_FONTS} >>",
        f"<< /Length {len(text)} >>\nstream\n{text}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    out, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    tail = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return out + f"{tail}startxref\n{len(out)}\n%%EOF\n".encode()
