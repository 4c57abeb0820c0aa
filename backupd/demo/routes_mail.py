"""Mail folders, messages and their attachments."""

from __future__ import annotations

import base64
import itertools
import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo import mime_facts
from backupd.demo.calls import Answer, Call, Handler, Json, Refused, bad_request, key, not_found
from backupd.demo.chance import Chance
from backupd.demo.ids import Kind
from backupd.demo.mailbox import (
    FIRST_FOLDER,
    FOLDERS,
    Mailbox,
    MailFolder,
    Message,
    message_json,
    messages_in,
)
from backupd.demo.odata import EXTENDED, Feed, collection, delta, entity, in_text, paged, selection

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backupd.demo.changes import Change

_TYPE = "#microsoft.graph.message"
_MOST_TRANSLATED = 1_000
_SIZE_PROPERTY = "0x0e08"
_CLASS_PROPERTY = "0x001a"
_BOUNDARY = re.compile(rb'boundary="?([^";\r\n]+)"?')


def folder_of(call: Call) -> MailFolder:
    """The folder named in the path; refuses as Outlook does."""
    try:
        return call.user().mailbox.folder(call.params["folder"])
    except KeyError:
        raise not_found("ErrorItemNotFound") from None


def message_of(call: Call) -> Message:
    """The message named in the path; refuses as Outlook does."""
    try:
        return call.user().mailbox.message(call.params["message"])
    except KeyError:
        raise not_found() from None


def folder_json(mailbox: Mailbox, folder: MailFolder, *, immutable: bool = False) -> Json:
    """A folder as Graph shows it."""
    shown = mailbox.shown(folder).values()
    row: Json = {
        "id": mailbox.folder_id(folder.uid, immutable=immutable),
        "displayName": folder.name,
        "parentFolderId": mailbox.folder_id(folder.parent, immutable=immutable),
        "childFolderCount": len(mailbox.children(folder.uid, hidden=True)),
        "unreadItemCount": sum(not message.props.get("isRead") for message in shown),
        "totalItemCount": len(shown),
        "isHidden": folder.hidden,
    }
    if folder.is_search:
        sources = [mailbox.folder_id(source) for source in folder.sources]
        row["@odata.type"] = "#microsoft.graph.mailSearchFolder"
        row |= {"isSupported": True, "includeNestedFolders": True, "sourceFolderIds": sources}
        row["filterQuery"] = "isRead eq false"
    return row


def list_folders(call: Call) -> Answer:
    """The folders right below one; hidden ones only with `includeHiddenFolders=true`."""
    mailbox = call.user().mailbox
    parent = folder_of(call).uid if "folder" in call.params else FIRST_FOLDER
    hidden = call.query.get("includeHiddenFolders", "").lower() == "true"
    found = mailbox.children(parent, hidden=hidden)
    return collection(call, [folder_json(mailbox, f, immutable=call.immutable) for f in found])


def get_folder(call: Call) -> Answer:
    """One folder."""
    return entity(call, folder_json(call.user().mailbox, folder_of(call), immutable=call.immutable))


def folders_delta(call: Call) -> Answer:
    """Every folder, flat, and what changes about them."""
    user = call.user()
    box = user.mailbox

    def rows(change: Change) -> list[Json]:
        if change.gone:
            return [_removed("#microsoft.graph.mailFolder", box.folder_id(change.subject), change)]
        folder = box.folders.get(change.subject)
        return [folder_json(box, folder, immutable=call.immutable)] if folder else []

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        inside = [uid for uid, folder in box.folders.items() if folder.parent]
        found = sorted(uid for uid in inside if uid > after)[:limit]
        return [
            (uid, folder_json(box, box.folders[uid], immutable=call.immutable)) for uid in found
        ]

    path = f"users('{key(user.id)}')/mailFolders/delta"
    return delta(call, Feed(f"mailFolder:{user.id}", user.log, FOLDERS, listing, rows, path))


def _full(call: Call, mailbox: Mailbox, message: Message) -> Json:
    """A message with whatever was asked for."""
    if message.fault == "page":
        raise _unconvertible("ErrorContentConversionFailed")
    row = message_json(mailbox, message, immutable=call.immutable)
    if (kind := message.props.get("@odata.type")) is not None:
        row = {"@odata.type": kind} | row
    wanted = selection(call)
    if not wanted or {"body", "bodyPreview"} & set(wanted):
        row["body"] = mime_facts.body_of(message.content.mime())
        row["bodyPreview"] = mime_facts.preview(row["body"])
        row = in_text(call, row)
    if "internetMessageHeaders" in wanted:
        row["internetMessageHeaders"] = mime_facts.headers_of(message.content.mime())
    return row | _extended(call, message)


def _extended(call: Call, message: Message) -> Json:
    """`singleValueExtendedProperties`, of which size and message class are known."""
    expand = call.query.get("$expand", "").lower()
    if EXTENDED.lower() not in expand:
        return {}
    found = []
    if _SIZE_PROPERTY in expand:
        name = "Long 0xe08" if "long 0x0e08" in expand else "Integer 0xe08"
        found.append({"id": name, "value": str(len(message.content.mime()))})
    if _CLASS_PROPERTY in expand:
        value = mime_facts.item_class(message.content.mime())
        found.append({"id": "String 0x1a", "value": value})
    return {EXTENDED: found}


def _shown(call: Call, mailbox: Mailbox, messages: Iterable[Message]) -> Answer:
    """A list of messages, newest first unless `$orderby` says so; only those on the page are read."""
    name, _, direction = call.query.get("$orderby", "receivedDateTime desc").partition(" ")
    if name != "receivedDateTime" or direction not in {"", "asc", "desc"}:
        raise bad_request("Messages are ordered by receivedDateTime here.", "ErrorInvalidUrlQuery")
    ordered = sorted(messages, key=lambda m: (m.received, m.uid), reverse=direction == "desc")
    page, body = paged(call, ordered)
    names = selection(call)
    body["value"] = [_selected(_full(call, mailbox, message), names) for message in page]
    return Answer(body)


def _selected(row: Json, names: tuple[str, ...]) -> Json:
    if not names:
        return row
    keep = {*names, "id", EXTENDED}
    return {name: value for name, value in row.items() if name in keep or name.startswith("@")}


def list_messages(call: Call) -> Answer:
    """The messages of a folder, or of the whole mailbox."""
    mailbox = call.user().mailbox
    if "folder" in call.params:
        return _shown(call, mailbox, mailbox.shown(folder_of(call)).values())
    inside = [f.messages.values() for f in mailbox.folders.values() if f.parent]
    return _shown(call, mailbox, itertools.chain.from_iterable(inside))


def messages_delta(call: Call) -> Answer:
    """What changes in one folder."""
    user, folder = call.user(), folder_of(call)
    box = user.mailbox
    if box.over_quota:
        message = "Mailbox has exceeded maximum mailbox size"
        raise Refused(HTTPStatus.FORBIDDEN, "ErrorQuotaExceeded", message)

    def rows(change: Change) -> list[Json]:
        return _message_change(call, box, folder, change)

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        return _numbered(call, box, folder, after, limit)

    path = f"users('{key(user.id)}')/mailFolders('{key(box.folder_id(folder.uid))}')/messages/delta"
    scope = f"message:{user.id}/{folder.uid}"
    return delta(call, Feed(scope, user.log, messages_in(folder.uid), listing, rows, path))


def _numbered(
    call: Call, box: Mailbox, folder: MailFolder, after: int, limit: int
) -> list[tuple[int, Json]]:
    page = folder.after(after, limit)
    return [(m.uid, {"@odata.type": _TYPE} | _full(call, box, m)) for m in page]


def _message_change(call: Call, box: Mailbox, folder: MailFolder, change: Change) -> list[Json]:
    if change.gone:
        if call.immutable:
            return [_removed(_TYPE, box.ids.immutable(Kind.MESSAGE, change.subject), change)]
        gone = box.ids.rest(Kind.MESSAGE, change.subject, change.incarnation)
        return [_removed(_TYPE, gone, change)]
    message = folder.messages.get(change.subject)
    if message is None or message.incarnation != change.incarnation:
        return []
    if change.arrived and call.immutable and call.switches.immutable_id_defect:
        return []
    return [{"@odata.type": _TYPE} | _full(call, box, message)]


def _removed(kind: str, name: str, change: Change) -> Json:
    return {"@odata.type": kind, "id": name, "@removed": {"reason": change.reason}}


def get_message(call: Call) -> Answer:
    """One message."""
    row = _full(call, call.user().mailbox, message_of(call))
    answer = entity(call, row)
    if isinstance(answer.body, dict):
        answer.body |= {name: row[name] for name in (EXTENDED,) if name in row}
    return answer


def get_mime(call: Call) -> Answer:
    """The message as RFC 5322, where Exchange can make it."""
    message = message_of(call)
    if message.fault:
        raise _unconvertible("ErrorCorruptData")
    mime = message.content.mime()
    if mime_facts.is_encrypted(mime):
        raise _unconvertible("ErrorMimeContentConversionFailed")
    if len(mime) > call.switches.mime_limit:
        raise Refused(HTTPStatus.GATEWAY_TIMEOUT, "UnknownError", "")
    if call.switches.unstable_mime:
        mime = _other_boundaries(mime)
    return Answer(mime, content_type="text/plain")


def _unconvertible(code: str) -> Refused:
    message = {
        "ErrorCorruptData": "Data is corrupt., Invalid global object ID: some object id",
        "ErrorMimeContentConversionFailed": "The conversion of the MIME content failed.",
    }.get(code, "Content conversion failed.")
    return Refused(HTTPStatus.INTERNAL_SERVER_ERROR, code, message)


_fetches = Chance("boundaries")


def _other_boundaries(mime: bytes) -> bytes:
    for old in set(_BOUNDARY.findall(mime)):
        mime = mime.replace(old, b"_000_" + _fetches.octets(8).hex().encode() + b"_")
    return mime


def list_attachments(call: Call) -> Answer:
    """The attachments of a message; paging of this list does not work at Microsoft either."""
    mailbox, message = call.user().mailbox, message_of(call)
    rows = [
        attachment_json(mailbox, message.uid, number, part)
        for number, part in enumerate(message.content.parts())
    ]
    return collection(call, rows, default=len(rows) or 1)


def attachment_json(mailbox: Mailbox, owner: int, number: int, part: mime_facts.Part) -> Json:
    """An attachment as Graph shows it, with its content when it is a file."""
    row: Json = {
        "@odata.type": f"#microsoft.graph.{part.kind}Attachment",
        "@odata.mediaContentType": part.content_type,
        "id": mailbox.ids.rest(Kind.ATTACHMENT, owner, number),
        "lastModifiedDateTime": "2026-11-02T08:00:00Z",
        "name": part.name,
        "contentType": part.content_type if part.kind == "file" else None,
        "size": len(part.content),
        "isInline": part.inline,
    }
    if part.kind == "file":
        content = base64.b64encode(part.content).decode()
        row |= {"contentId": part.content_id or None, "contentLocation": None}
        row["contentBytes"] = content
    if part.kind == "reference":
        row |= {"sourceUrl": part.url, "providerType": "oneDriveBusiness"}
    return row


def part_of(call: Call, owner: int, parts: list[mime_facts.Part]) -> tuple[int, mime_facts.Part]:
    """The attachment named in the path."""
    try:
        found = call.user().ids.parse(call.params["attachment"])
        if found.kind is Kind.ATTACHMENT and found.uid == owner:
            return found.incarnation or 0, parts[found.incarnation or 0]
    except (ValueError, IndexError):
        pass
    raise not_found()


def get_attachment(call: Call) -> Answer:
    """One attachment; an attached item is shown when `$expand` asks for it."""
    mailbox, message = call.user().mailbox, message_of(call)
    number, part = part_of(call, message.uid, message.content.parts())
    row = attachment_json(mailbox, message.uid, number, part)
    if part.kind == "item" and "item" in call.query.get("$expand", "").lower():
        item = mime_facts.describe(part.content) | {"body": mime_facts.body_of(part.content)}
        row["item"] = {"@odata.type": _TYPE, "id": ""} | item
    return entity(call, row)


def get_attachment_bytes(call: Call) -> Answer:
    """The raw bytes of an attachment; a cloud link has none."""
    message = message_of(call)
    _, part = part_of(call, message.uid, message.content.parts())
    return raw_part(part)


def raw_part(part: mime_facts.Part) -> Answer:
    """The bytes of an attachment as an answer."""
    if part.kind == "reference":
        message = "Reference attachments do not support $value."
        raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "ErrorInvalidRequest", message)
    kind = "text/plain" if part.kind == "item" else part.content_type
    return Answer(part.content, content_type=kind)


def translate_ids(call: Call) -> Answer:
    """Default ids to immutable ones and back, at most 1,000 a call."""
    asked = call.json()
    names, target = asked.get("inputIds"), asked.get("targetIdType")
    if not isinstance(names, list) or len(names) > _MOST_TRANSLATED:
        raise bad_request("The number of ids is out of range.", "ErrorInvalidParameter")
    if target not in {"restId", "restImmutableEntryId"}:
        raise bad_request(f"Unsupported targetIdType {target!r}.", "ErrorInvalidParameter")
    rows = [_translated(call, str(name), target == "restImmutableEntryId") for name in names]
    return Answer({"@odata.context": f"{call.base}/$metadata#Collection", "value": rows})


def _translated(call: Call, name: str, to_immutable: bool) -> Json:
    user = call.user()
    try:
        found = user.ids.parse(name)
    except ValueError:
        error = {"code": "ErrorInvalidIdMalformed", "message": "Id is malformed."}
        return {"sourceId": name, "errorDetails": error}
    if to_immutable:
        return {"sourceId": name, "targetId": user.ids.immutable(found.kind, found.uid)}
    message = user.mailbox.messages.get(found.uid) if found.kind is Kind.MESSAGE else None
    moves = message.incarnation if message else 0
    return {"sourceId": name, "targetId": user.ids.rest(found.kind, found.uid, moves)}


def no_mime_here(call: Call) -> Answer:
    """The bytes are to be had by `/messages/{id}/$value` alone."""
    del call
    message = "The OData request is not supported."
    raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "ErrorInvalidRequest", message)


def no_root_delta(call: Call) -> Answer:
    """Messages can be followed by folder only."""
    del call
    raise bad_request("Change tracking is not supported against 'microsoft.graph.message'.")


def count_attachments(call: Call) -> Answer:
    """How many attachments a message has, as plain text."""
    return Answer(str(len(message_of(call).content.parts())).encode(), content_type="text/plain")


def message_rules(call: Call) -> Answer:
    """The rules of the inbox: nobody has made any."""
    folder_of(call)
    return collection(call, [])


_FOLDER = "users/{user}/mailFolders/{folder}"
_MESSAGE = "users/{user}/messages/{message}"
_IN_FOLDER = f"{_FOLDER}/messages/{{message}}"

ROUTES: dict[str, Handler] = {
    "GET users/{user}/mailFolders": list_folders,
    "GET users/{user}/mailFolders/delta": folders_delta,
    f"GET {_FOLDER}": get_folder,
    f"GET {_FOLDER}/childFolders": list_folders,
    f"GET {_FOLDER}/messages": list_messages,
    f"GET {_FOLDER}/messages/delta": messages_delta,
    f"GET {_FOLDER}/messageRules": message_rules,
    f"GET {_IN_FOLDER}": get_message,
    f"GET {_IN_FOLDER}/$value": no_mime_here,
    f"GET {_IN_FOLDER}/attachments/$count": count_attachments,
    f"GET {_IN_FOLDER}/attachments": list_attachments,
    f"GET {_IN_FOLDER}/attachments/{{attachment}}": get_attachment,
    "GET users/{user}/messages": list_messages,
    "GET users/{user}/messages/delta": no_root_delta,
    f"GET {_MESSAGE}": get_message,
    f"GET {_MESSAGE}/$value": get_mime,
    f"GET {_MESSAGE}/attachments": list_attachments,
    f"GET {_MESSAGE}/attachments/{{attachment}}": get_attachment,
    f"GET {_MESSAGE}/attachments/{{attachment}}/$value": get_attachment_bytes,
    "POST users/{user}/translateExchangeIds": translate_ids,
}
