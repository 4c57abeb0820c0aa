"""Mail folders: every one that exists, hidden ones included, in a handful of requests."""

from __future__ import annotations

import time
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
from sources.graph.listing import string

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

WITH_HIDDEN = f"includeHiddenFolders=true&$top={PER_PAGE}"

BESIDE = frozenset({"recoverableitemsdeletions", "searchfolders"})
"""Well-known folders that no listing of the others shows."""

REMEMBERED = 3600.0
"""Seconds for which it is believed which folders are the well-known ones."""

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


class Memory:
    """The well-known folders of mailboxes, for as long as it can be believed that they are still those."""

    def __init__(self) -> None:
        self._held: dict[str, tuple[float, frozenset[str], Known]] = {}

    def recall(self, mailbox: Mailbox) -> Known | None:
        """What is known of a mailbox, if that is not too long ago."""
        until, _, known = self._held.get(mailbox.account.id, (0.0, frozenset(), None))
        return known if time.monotonic() < until else None

    def fits(self, mailbox: Mailbox, ids: Iterable[str]) -> bool:
        """Whether the mailbox has the folders that it had."""
        held = self._held.get(mailbox.account.id)
        return held is not None and held[1] == frozenset(ids)

    def keep(self, mailbox: Mailbox, ids: Iterable[str], known: Known) -> None:
        """Remember for a while."""
        until = time.monotonic() + REMEMBERED
        self._held[mailbox.account.id] = (until, frozenset(ids), known)


def list_folders(mailbox: Mailbox, memory: Memory) -> list[Collection | Gap]:
    """Every folder, parents before children; search folders as gaps: they are views of others.

    `recoverableitemsdeletions` (what was emptied from Deleted Items) lies outside the tree and
    is listed beside it. Raises Refused.
    """
    remembered = memory.recall(mailbox)
    known, found = _listed(mailbox, remembered)
    if remembered is not None and not memory.fits(mailbox, found):
        known, found = _listed(mailbox, None)  # a new folder may be a well-known one
        remembered = None
    if remembered is None:
        memory.keep(mailbox, found, known)
    return [_entry(each, found, known) for each in found.values()]


def _listed(mailbox: Mailbox, remembered: Known | None) -> tuple[Known, dict[str, Json]]:
    known, first = _first_level(mailbox, remembered)
    return known, {string(each, "id"): each for each in _tree(mailbox, known, first)}


def _first_level(mailbox: Mailbox, remembered: Known | None) -> tuple[Known, list[Json]]:
    """The well-known folders and those at the top in one request; of what is remembered only what counts is asked for."""
    select = f"$select={','.join(FIELDS)}"
    before = remembered.folders if remembered else {name: {} for name in WELL_KNOWN}
    names = [name for name in before if remembered is None or name in BESIDE]
    parts = [Part(f"{mailbox.path}/mailFolders/{name}?{select}") for name in names]
    parts.append(Part(f"{mailbox.path}/mailFolders?{WITH_HIDDEN}&{select}"))
    call = mailbox.batch(Scope.SERVICE, "the mail folders")
    *replies, top = mailbox.client.loop.call(ask_all(mailbox.client, parts, call))
    present = {name: folder for name, folder in before.items() if name not in names}
    for name, reply in zip(names, replies, strict=True):
        if reply.refusal is None:
            present[name] = reply.body
        elif reply.refusal.meaning(Scope.COLLECTION).kind is not Class.GONE:
            raise Refused(reply.refusal, Scope.SERVICE, call.what)
    if top.refusal is not None:
        raise Refused(top.refusal, Scope.SERVICE, call.what)
    return Known(present), list(mailbox.rest_of(top.body, call))


def _tree(mailbox: Mailbox, known: Known, first: Iterable[Json]) -> Iterator[Json]:
    """Breadth first, so that parents come before children; each folder once, whatever is said."""
    seen: set[str] = {"", known.id("searchfolders")}
    outside = [known.folders[n] for n in ("recoverableitemsdeletions",) if n in known.folders]
    level: Iterable[Json] = [*first, *outside]
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


def _children(mailbox: Mailbox, parents: Iterable[Json]) -> Iterator[Json]:
    """The folders one level below; only parents that say they have children are asked."""
    paths = [
        f"mailFolders/{quoted(string(each, 'id'))}/childFolders?{WITH_HIDDEN}&$select={','.join(FIELDS)}"
        for each in parents
        if number(each, "childFolderCount") != 0 and not _is_view(each)
    ]
    call = mailbox.batch(Scope.COLLECTION, "the folders below others")
    for inside in mailbox.listings(paths, call, some_may_be_gone=True):
        yield from inside


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
