"""A message that Exchange does not hand out as MIME, put together from what it does hand out.

Exchange fails for good on most S/MIME messages ("ErrorMimeContentConversionFailed") and times out
on those above about 25 MB. Their properties and attachments can still be read. What comes out is
a true RFC 5322 message with the same content, but not the bytes that were sent; an S/MIME payload
is kept as it is, so that it can be decrypted and, where it is one entity, verified.
"""

from __future__ import annotations

import base64
import re
import secrets
from collections.abc import Iterator, Sequence
from email.header import Header
from email.utils import format_datetime, formataddr

from backupd.model import Gap
from backupd.ports import Draft
from sources.graph import attachments
from sources.graph.addresses import quoted
from sources.graph.client import Call, Client, Json
from sources.graph.failures import Broken
from sources.graph.fields import flag, line, mapping, mappings, number, stamp, word
from sources.graph.listing import string

FIELDS = (
    "id",
    "subject",
    "from",
    "sender",
    "replyTo",
    "toRecipients",
    "ccRecipients",
    "bccRecipients",
    "sentDateTime",
    "internetMessageId",
    "internetMessageHeaders",
    "body",
    "hasAttachments",
)

TRIES = 3
"""How often it is begun again after an attachment was cut in the middle."""

GROUP = 57
"""Bytes that give one base64 line of 76 characters, the longest that RFC 2045 allows."""

HEADER_NAME = re.compile(r"[!-9;-~]{1,70}")
STRUCTURE = ("content-", "mime-version")
MARKUP = re.compile(rb"<[^>]{0,4096}>|&nbsp;")
OPAQUE = ("application/pkcs7-mime", "application/x-pkcs7-mime")


class _StartOver(Exception):
    """An attachment broke after some of it had been written."""


async def rebuild(client: Client, address: str, draft: Draft, call: Call) -> Sequence[Gap]:
    """Write the message at `address` into `draft`; the parts that could not be taken along.

    Raises Refused or Broken.
    """
    message = await client.sent("GET", f"{address}?$select={','.join(FIELDS)}", call)
    entries = await attachments.listed(client, address, call)
    for _ in range(TRIES):
        if draft.size:
            draft.restart()
        try:
            await _Writer(client, address, draft, call).write(message, entries)
        except _StartOver:
            continue
        return [attachments.gap(each) for each in entries if attachments.is_reference(each)]
    raise Broken(call.what, "an attachment is cut again and again")


class _Writer:
    """Writes one message, its attachments streamed."""

    def __init__(self, client: Client, address: str, draft: Draft, call: Call) -> None:
        self._client = client
        self._address = address
        self._draft = draft
        self._call = call

    async def write(self, message: Json, entries: Sequence[Json]) -> None:
        """Headers, then the S/MIME payload alone, or the body with what hangs on it."""
        self._lines(*_headers(message), "MIME-Version: 1.0")
        held = [each for each in entries if not attachments.is_reference(each)]
        if (payload := _payload(held)) and not _says_something(message):
            await self._secured(payload)
            return
        boundary = f"=_{secrets.token_hex(16)}"
        self._lines(f'Content-Type: multipart/mixed; boundary="{boundary}"', "")
        self._lines(f"--{boundary}")
        self._body(message)
        for each in held:
            self._lines(f"--{boundary}")
            await (self._item(each) if attachments.is_item(each) else self._file(each))
        self._lines(f"--{boundary}--")

    async def _secured(self, entry: Json) -> None:
        """Clear-signed: the payload is a MIME entity. Else it is opaque, and stays base64."""
        if word(entry, "contentType").startswith("multipart/signed"):
            entity, _ = await self._client.raw(self._where(entry), self._call)
            if entity[:13].lower() == b"content-type:":
                self._draft.write(entity)
                return
        self._lines(
            'Content-Type: application/pkcs7-mime; name="smime.p7m"',
            'Content-Disposition: attachment; filename="smime.p7m"',
        )
        await self._coded(entry)

    def _body(self, message: Json) -> None:
        body = mapping(message, "body")
        kind = "html" if word(body, "contentType") == "html" else "plain"
        self._lines(
            f"Content-Type: text/{kind}; charset=utf-8", "Content-Transfer-Encoding: base64", ""
        )
        text = string(body, "content").encode("utf-8", "replace")
        self._draft.write(b"".join(_base64_lines(text)))

    async def _file(self, entry: Json) -> None:
        kind = line(entry, "contentType")
        shown = "inline" if flag(entry, "isInline") else "attachment"
        self._lines(
            f"Content-Type: {kind if _is_plain_type(kind) else 'application/octet-stream'}",
            f"Content-Disposition: {shown}; filename*=utf-8''{quoted(string(entry, 'name'))}",
        )
        if flag(entry, "isInline") and (cid := await self._content_id(entry)):
            self._lines(f"Content-ID: <{cid}>")
        await self._coded(entry)

    async def _item(self, entry: Json) -> None:
        """An attached message stays one; an attached event or contact comes as its text."""
        content, _ = await self._client.raw(self._where(entry), self._call)
        if content[:6].upper() != b"BEGIN:":
            self._lines("Content-Type: message/rfc822", "")
            self._draft.write(content + b"\r\n")
            return
        kind = "vcard" if content[:11].upper() == b"BEGIN:VCARD" else "calendar"
        self._lines(
            f"Content-Type: text/{kind}; charset=utf-8", "Content-Transfer-Encoding: base64", ""
        )
        self._draft.write(b"".join(_base64_lines(content)))

    async def _coded(self, entry: Json) -> None:
        self._lines("Content-Transfer-Encoding: base64", "")
        coder = _Base64Draft(self._draft)
        await self._client.pour(self._where(entry), self._call, coder)
        coder.finish()

    async def _content_id(self, entry: Json) -> str:
        whole = await self._client.sent(
            "GET", self._where(entry).removesuffix("/$value"), self._call
        )
        return "".join(c for c in string(whole, "contentId") if "!" <= c <= "~" and c not in "<>")

    def _where(self, entry: Json) -> str:
        return f"{self._address}/attachments/{quoted(string(entry, 'id'))}/$value"

    def _lines(self, *lines: str) -> None:
        self._draft.write("".join(f"{each}\r\n" for each in lines).encode("utf-8", "replace"))


class _Base64Draft:
    """Codes what is written to it into another draft; it cannot begin again half-way."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._rest = b""
        self.size = 0

    def write(self, data: bytes) -> None:
        """Append `data`, coded, in whole lines."""
        self.size += len(data)
        data = self._rest + data
        whole = len(data) - len(data) % GROUP
        self._rest = data[whole:]
        self._draft.write(b"".join(_base64_lines(data[:whole])))

    def finish(self) -> None:
        """Write the last line."""
        self._draft.write(b"".join(_base64_lines(self._rest)))

    def restart(self) -> None:
        """Begin the whole message again."""
        raise _StartOver

    def close(self) -> None:
        """The draft below is not ours to close."""

    def discard(self) -> None:
        """The draft below is not ours to remove."""


def _headers(message: Json) -> Iterator[str]:
    """The headers as they came by mail; for what was never received, those that matter."""
    received = mappings(message, "internetMessageHeaders")
    if received:
        pairs = [(string(each, "name"), line(each, "value")) for each in received]
    else:
        pairs = list(_made_up(message))
    for name, value in pairs:
        if HEADER_NAME.fullmatch(name) and not name.lower().startswith(STRUCTURE):
            yield f"{name}: {_coded_header(name, value)}"


def _made_up(message: Json) -> Iterator[tuple[str, str]]:
    yield "From", _address(mapping(message, "from") or mapping(message, "sender"))
    for name, key in (("To", "toRecipients"), ("Cc", "ccRecipients"), ("Bcc", "bccRecipients")):
        if people := [_address(each) for each in mappings(message, key)]:
            yield name, ", ".join(people)
    yield "Subject", line(message, "subject")
    if sent := stamp(message, "sentDateTime"):
        yield "Date", format_datetime(sent)
    if message_id := line(message, "internetMessageId"):
        yield "Message-ID", message_id


def _address(recipient: Json) -> str:
    person = mapping(recipient, "emailAddress")
    name, address = line(person, "name"), line(person, "address")
    return formataddr((name, address)) if address.isascii() else name


def _coded_header(name: str, value: str) -> str:
    if value.isascii() and len(value) < 900:  # noqa: PLR2004 - RFC 5322 allows 998 with the name
        return value
    return Header(value, "utf-8", header_name=name).encode(linesep="\r\n")


def _payload(entries: Sequence[Json]) -> Json | None:
    """The attachment that is the whole of an S/MIME message, if this is one."""
    if len(entries) != 1:
        return None
    kind, name = word(entries[0], "contentType"), word(entries[0], "name")
    whole = kind.startswith(OPAQUE) or name == "smime.p7m"
    return entries[0] if whole and number(entries[0], "size") else None


def _says_something(message: Json) -> bool:
    """Whether there is a body beside the payload: then nothing may be left out."""
    return bool(
        MARKUP.sub(
            b"", string(mapping(message, "body"), "content").encode("utf-8", "replace")
        ).strip()
    )


def _is_plain_type(kind: str) -> bool:
    return re.fullmatch(r"[\w.+-]{1,60}/[\w.+-]{1,60}", kind, re.ASCII) is not None


def _base64_lines(data: bytes) -> Iterator[bytes]:
    coded = base64.b64encode(data)
    for start in range(0, len(coded), 76):
        yield coded[start : start + 76] + b"\r\n"
