"""Contacts: the default folder, the folders below it, each contact with its photo."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from backupd.model import Account, Collection, Facts, Gap, Item, Page, Service
from backupd.ports import Draft, Failed, Fetched, Landing
from sources.graph.addresses import quoted
from sources.graph.client import Client, Json
from sources.graph.exchange import Mailbox
from sources.graph.failures import Refused, Scope
from sources.graph.listing import (
    Cursor,
    Listing,
    every_at,
    outlook_changes,
    string,
    values,
    walk,
)
from sources.graph.vcard import contact_to_vcard

DEFAULT = "contacts"
"""Our id of the default folder: Graph lists its contacts, but not the folder."""

LISTED = ("id", "changeKey", "parentFolderId", "displayName", "lastModifiedDateTime")
PREFER = "odata.maxpagesize=200"
"""Contacts a page; more are never given."""

DEPTH = 32
"""Levels of contact folders that are followed; people use two or three."""


def version(facts: Facts) -> str:
    """The change key."""
    return str(facts.get("changeKey") or facts.get("lastModifiedDateTime") or "")


class Contacts:
    """The address books of one tenant's mailboxes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def collections(self, account: Account) -> Sequence[Collection | Gap]:
        """The default folder, then all others, parents first."""
        mailbox = Mailbox(self._client, account)
        default = Collection(Service.CONTACTS, DEFAULT, None, "Contacts", special=DEFAULT)
        found = {string(each, "id"): each for each in self._folders(mailbox)}
        return [default, *(_collection(each, found) for each in found.values())]

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes of one folder; a refused cursor begins a full listing."""
        mailbox = Mailbox(self._client, account)
        contacts = self._list(account, collection)
        call = mailbox.call(Scope.COLLECTION, f"the contacts in {collection.name}", prefer=PREFER)

        def begin() -> Cursor:
            return Cursor(self._client.sdk.url(contacts.delta, select=list(LISTED)))

        return walk(self._client, Listing(call, begin, outlook_changes), cursor)

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """Each contact as one vCard with its photo; facts get the answer of Graph under `raw`."""
        mailbox = Mailbox(self._client, account)
        by_id = self._client.sdk.root.users.by_user_id(account.id).contacts.by_contact_id
        whole = self._client.sdk.template(by_id)
        picture = self._client.sdk.template(lambda id_: by_id(id_).photo.content)
        call = mailbox.call(Scope.ITEM, "a contact")

        async def photo_of(item: Item) -> tuple[bytes | None, str | None]:
            try:
                return await self._client.raw(picture(item.id), call)
            except Refused as refused:
                if refused.refusal.status != HTTPStatus.NOT_FOUND:
                    raise
                return None, None

        async def work(item: Item, draft: Draft) -> Fetched:
            contact = await self._client.sent("GET", whole(item.id), call)
            photo, kind = await photo_of(item)
            draft.write(await asyncio.to_thread(contact_to_vcard, contact, photo, kind))
            return Fetched(item, draft, facts={"raw": contact})

        def probe() -> Awaitable[Json]:
            asked = mailbox.call(Scope.COLLECTION, "the contacts")
            information = self._client.sdk.get(
                self._list(account, collection), select=["id"], top=1
            )
            return self._client.built(information, asked)

        return mailbox.fetch(items, landing, work, probe)

    def locate(self, account: Account, keys: Sequence[str]) -> Mapping[str, str | None]:
        """In which folder contacts are."""
        mailbox = Mailbox(self._client, account)
        where = dict(mailbox.locate("contacts", "parentFolderId", keys))
        default = self._default_id(account, mailbox) if any(where.values()) else ""
        return {key: DEFAULT if at and at == default else at for key, at in where.items()}

    def _default_id(self, account: Account, mailbox: Mailbox) -> str:
        """What Exchange calls the default folder: its contacts say so."""
        contacts = self._client.sdk.root.users.by_user_id(account.id).contacts
        call = mailbox.call(Scope.SERVICE, "the contacts")
        page = self._client.ask(contacts, call, select=["id", "parentFolderId"], top=1)
        return next((string(each, "parentFolderId") for each in values(page)), "")

    def _list(self, account: Account, collection: Collection) -> Any:
        user = self._client.sdk.root.users.by_user_id(account.id)
        if collection.id == DEFAULT:
            return user.contacts
        return user.contact_folders.by_contact_folder_id(collection.id).contacts

    def _folders(self, mailbox: Mailbox) -> Iterator[Json]:
        """Breadth first; contact folders do not say whether they have children."""
        call = mailbox.call(Scope.SERVICE, "the contact folders")
        where = f"{self._client.base}{mailbox.path}/contactFolders?$top=100"
        level = list(every_at(self._client, where, call))
        seen: set[str] = set()
        for _ in range(DEPTH):
            level = [each for each in level if string(each, "id") not in seen]
            yield from level
            ids = [string(each, "id") for each in level]
            seen.update(ids)
            paths = [f"contactFolders/{quoted(each)}/childFolders?$top=100" for each in ids]
            below = mailbox.batch(Scope.COLLECTION, "the folders below others")
            inside = mailbox.listings(paths, below, some_may_be_gone=True)
            if not (level := [each for some in inside for each in some]):
                return


def _collection(folder: Json, found: Mapping[str, Json]) -> Collection:
    id_, parent = string(folder, "id"), string(folder, "parentFolderId")
    inside = parent if parent in found and parent != id_ else None
    return Collection(Service.CONTACTS, id_, inside, string(folder, "displayName"))
