"""What hangs on a message or an event: files, attached items, and links to files elsewhere."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

from backupd.model import Gap
from sources.graph.addresses import quoted
from sources.graph.client import Call, Client, Json
from sources.graph.fields import flag
from sources.graph.ical import Attachment
from sources.graph.listing import next_link, string, values

FIELDS = "id,name,contentType,size,isInline"
"""Without the bytes: their paging is broken, and they come base64-coded inside one JSON."""

REFERENCE = "#microsoft.graph.referenceattachment"
ITEM = "#microsoft.graph.itemattachment"


async def listed(client: Client, owner: str, call: Call) -> Sequence[Json]:
    """The attachments of the message or event at the address `owner`, without their bytes."""
    page = await client.sent("GET", f"{owner}/attachments?$select={FIELDS}", call)
    found = values(page)
    while link := next_link(page):
        page = await client.linked(link, call)
        found += values(page)
    return found


def is_reference(entry: Json) -> bool:
    """Whether it is a link to a file in a cloud drive: there are no bytes to take."""
    return string(entry, "@odata.type").lower() == REFERENCE


def is_item(entry: Json) -> bool:
    """Whether it is another message, event or contact."""
    return string(entry, "@odata.type").lower() == ITEM


def gap(entry: Json) -> Gap:
    """A cloud attachment, which is reported because its link dies with the cloud."""
    why = "It is a link to a file in a cloud drive; the message holds no copy of it."
    return Gap(string(entry, "id"), "cloud-attachment", string(entry, "name"), why)


async def loaded(client: Client, owner: str, entry: Json, call: Call) -> Attachment:
    """An attachment with its bytes; only those shown inside the body need their content id."""
    where = f"{owner}/attachments/{quoted(string(entry, 'id'))}"
    inline, content_id, data = flag(entry, "isInline"), "", b""
    kind = "message/rfc822" if is_item(entry) else string(entry, "contentType")
    if inline and not is_item(entry):
        whole = await client.sent("GET", where, call)
        content_id, data = string(whole, "contentId"), _bytes(string(whole, "contentBytes"))
    if not data:
        data, said = await client.raw(f"{where}/$value", call)
        kind = kind or said
    return Attachment(string(entry, "name"), kind, data, content_id or None, inline)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
