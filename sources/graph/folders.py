"""Mail folders: every one that exists, hidden ones included, in a handful of requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from backupd.model import Collection, Gap, Service
from sources.graph.addresses import quoted
from sources.graph.batch import Part, ask_all
from sources.graph.client import Json
from sources.graph.exchange import Mailbox
from sources.graph.failures import Class, Refused, Scope
from sources.graph.fields import flag, number
from sources.graph.listing import every, string

WELL_KNOWN = (
    "archive",
    "clutter",
    "conflicts",
    "conversationhistory",
    "deleteditems",
    "drafts",
    "inbox",
    "junkemail",
    "localfailures",
    "msgfolderroot",
    "outbox",
    "recoverableitemsdeletions",
    "scheduled",
    "searchfolders",
    "sentitems",
    "serverfailures",
    "syncissues",
)
"""Names by which v1.0 knows folders; the display names are in the owner's language."""

FIELDS = ("id", "displayName", "parentFolderId", "childFolderCount", "totalItemCount", "isHidden")

PER_PAGE = 250
"""Graph's default is 10; 250 is documented to work for folders and their children."""

SEARCH = "#microsoft.graph.mailsearchfolder"


@dataclass(frozen=True, slots=True)
class Known:
    """The well-known folders of a mailbox: name → folder, and the other way round."""

    folders: Mapping[str, Json] = field(default_factory=dict)

    def id(self, name: str) -> str:
        """The id of a well-known folder, or ""."""
        return string(self.folders.get(name, {}), "id")

    def name(self, id_: str) -> str | None:
        """The well-known name of a folder, if it has one."""
        return next((name for name in self.folders if self.id(name) == id_), None)


def list_folders(mailbox: Mailbox) -> list[Collection | Gap]:
    """Every folder, parents before children; search folders as gaps: they are views of others.

    `recoverableitemsdeletions` (what was emptied from Deleted Items) lies outside the tree and
    is listed beside it. Raises Refused.
    """
    known = well_known(mailbox)
    found = {string(each, "id"): each for each in _tree(mailbox, known)}
    return [_entry(each, found, known) for each in found.values()]


def well_known(mailbox: Mailbox) -> Known:
    """The well-known folders that this mailbox has, asked for in one request."""
    select = ",".join(FIELDS)
    parts = [Part(f"{mailbox.path}/mailFolders/{name}?$select={select}") for name in WELL_KNOWN]
    call = mailbox.batch(Scope.COLLECTION, "the well-known folders")
    replies = mailbox.client.loop.call(ask_all(mailbox.client, parts, call))
    present = {}
    for name, reply in zip(WELL_KNOWN, replies, strict=True):
        if reply.refusal is None:
            present[name] = reply.body
        elif reply.refusal.meaning(Scope.COLLECTION).kind is not Class.GONE:
            raise Refused(reply.refusal, Scope.SERVICE, call.what)
    return Known(present)


def _tree(mailbox: Mailbox, known: Known) -> Iterator[Json]:
    """Breadth first, so that parents come before children; each folder once, whatever is said."""
    seen: set[str] = {"", known.id("searchfolders")}
    level: Iterable[Json] = _first_level(mailbox)
    outside = [known.folders[n] for n in ("recoverableitemsdeletions",) if n in known.folders]
    level = [*level, *outside]
    yield from _new(level, seen)
    if views := known.folders.get("searchfolders"):
        level = [*level, views]
    while level := list(_children(mailbox, level)):
        level = list(_new(level, seen))
        yield from level


def _new(folders: Iterable[Json], seen: set[str]) -> Iterator[Json]:
    for each in folders:
        if (id_ := string(each, "id")) not in seen:
            seen.add(id_)
            yield each


def _first_level(mailbox: Mailbox) -> Iterator[Json]:
    root = mailbox.client.sdk.root.users.by_user_id(mailbox.account.id).mail_folders
    call = mailbox.call(Scope.SERVICE, "the mail folders")
    return every(
        mailbox.client,
        root,
        call,
        include_hidden_folders="true",
        top=PER_PAGE,
        select=list(FIELDS),
    )


def _children(mailbox: Mailbox, parents: Iterable[Json]) -> Iterator[Json]:
    """The folders one level below; only parents that say they have children are asked."""
    query = f"includeHiddenFolders=true&$top={PER_PAGE}&$select={','.join(FIELDS)}"
    parts = [
        Part(f"{mailbox.path}/mailFolders/{quoted(string(each, 'id'))}/childFolders?{query}")
        for each in parents
        if number(each, "childFolderCount") != 0 and not _is_view(each)
    ]
    call = mailbox.batch(Scope.COLLECTION, "the folders below others")
    for reply in mailbox.client.loop.call(ask_all(mailbox.client, parts, call)):
        if reply.refusal is None:
            yield from mailbox.rest_of(reply.body, call)
        elif reply.refusal.meaning(Scope.COLLECTION).kind is not Class.GONE:
            raise Refused(reply.refusal, Scope.COLLECTION, call.what)


def _entry(folder: Json, found: Mapping[str, Any], known: Known) -> Collection | Gap:
    id_, name = string(folder, "id"), string(folder, "displayName")
    if _is_view(folder):
        return Gap(
            id_, "search-folder", name, "A search folder shows messages that lie in other folders."
        )
    parent = string(folder, "parentFolderId")
    return Collection(
        service=Service.MAIL,
        id=id_,
        parent=parent if parent in found and parent != id_ else None,
        name=name,
        count=number(folder, "totalItemCount"),
        special=known.name(id_),
        facts={"hidden": True} if flag(folder, "isHidden") else {},
    )


def _is_view(folder: Json) -> bool:
    return string(folder, "@odata.type").lower() == SEARCH
