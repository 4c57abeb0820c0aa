"""Mail: folders, messages, and their bytes exactly as Exchange hands them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from backupd.model import Account, Collection, Gap, Item, Page
from backupd.ports import Draft, Failed, Fetched, Landing
from sources.graph import attachments
from sources.graph.ahead import Ahead
from sources.graph.client import Call, Client, Json
from sources.graph.exchange import Mailbox
from sources.graph.failures import Broken, Class, Refused, Scope
from sources.graph.folders import Memory, list_folders
from sources.graph.letter import Letter
from sources.graph.messages import pages
from sources.graph.rebuild import rebuild

REBUILT = "rebuilt-from-json"
TRIES = 3
UNLISTED = "attachments-unlisted"


class Mail:
    """The mail of one tenant."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._memory = Memory()
        self._ahead = Ahead()

    def collections(self, account: Account) -> Sequence[Collection | Gap]:
        """Every folder, parents first; search folders as gaps."""
        return list_folders(Mailbox(self._client, account), self._memory)

    def expect(self, account: Account, wanted: Sequence[tuple[Collection, str]]) -> None:
        """Ask for the changes of these folders at once."""
        self._ahead.ask(Mailbox(self._client, account), wanted)

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes of one folder since `cursor`."""
        first = self._ahead.take(account, collection, cursor)
        return pages(Mailbox(self._client, account), collection, cursor, first)

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """The RFC 5322 bytes of each message; rebuilt where Exchange cannot convert it."""
        mailbox = Mailbox(self._client, account)
        user = self._client.sdk.root.users.by_user_id(account.id)
        letters = _Letters(self._client, user, mailbox.call(Scope.ITEM, "a message"))

        def probe() -> Awaitable[Json]:
            folder = user.mail_folders.by_mail_folder_id(collection.id)
            asked = mailbox.call(Scope.COLLECTION, "a folder")
            return self._client.built(self._client.sdk.get(folder, select=["id"]), asked)

        return mailbox.fetch(items, landing, letters.fetch, probe)

    def locate(self, account: Account, keys: Sequence[str]) -> Mapping[str, str | None]:
        """In which folder messages are; folders have the same id in either form."""
        return Mailbox(self._client, account).locate("messages", "parentFolderId", keys)


class _Letters:
    """Fetches messages of one mailbox."""

    def __init__(self, client: Client, user: Any, call: Call) -> None:
        by_id = user.messages.by_message_id
        self._client = client
        self._call = call
        self._mime: Callable[[str], str] = client.sdk.template(lambda id_: by_id(id_).content)
        self._plain: Callable[[str], str] = client.sdk.template(by_id)

    async def fetch(self, item: Item, draft: Draft) -> Fetched:
        """One message; raises Refused or Broken."""
        letter = Letter(has_attachments=item.facts.get("hasAttachments") is True)
        try:
            await self._pour(item, draft, letter)
        except (Refused, Broken) as failure:
            if not _convertible_otherwise(failure):
                raise
            return await self._rebuilt(item, draft, failure)
        if letter.suspicious:
            return await self._with_gaps(item, draft)
        return Fetched(item, draft)

    async def _pour(self, item: Item, draft: Draft, letter: Letter) -> None:
        """Until the message ends as it began to, or two attempts agree that it does not."""
        seen: set[int] = set()
        for _ in range(TRIES):
            await self._client.pour(self._mime(item.id), self._call, draft, letter, least=1)
            if letter.whole or draft.size in seen:
                return
            seen.add(draft.size)
        raise Broken(self._call.what, "it ends somewhere else each time")

    async def _rebuilt(self, item: Item, draft: Draft, failure: Refused | Broken) -> Fetched:
        try:
            gaps = await rebuild(self._client, self._plain(item.id), draft, self._call)
        except (Refused, Broken):
            raise failure from None  # what the ledger must name is why the message has no MIME
        return Fetched(item, draft, gaps=tuple(gaps), note=REBUILT)

    async def _with_gaps(self, item: Item, draft: Draft) -> Fetched:
        """The bytes are whole; only what they cannot hold is asked for."""
        try:
            entries = await attachments.listed(self._client, self._plain(item.id), self._call)
        except (Refused, Broken):
            return Fetched(item, draft, note=UNLISTED)
        gaps = [attachments.gap(each) for each in entries if attachments.is_reference(each)]
        return Fetched(item, draft, gaps=tuple(gaps))


def _convertible_otherwise(failure: Refused | Broken) -> bool:
    """Whether Exchange fails on this message alone: it cannot convert it, or takes too long."""
    if not isinstance(failure, Refused):
        return False
    too_long = failure.refusal.status == HTTPStatus.GATEWAY_TIMEOUT
    server = failure.refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return too_long or (server and failure.kind is Class.ITEM)
