"""Mail: folders, messages, and their bytes exactly as Exchange hands them out."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence

from backupd.model import Account, Collection, Gap, Item, Page
from backupd.ports import Draft, Failed, Fetched, Landing
from sources.graph.client import Client, Json
from sources.graph.exchange import Mailbox
from sources.graph.failures import Scope
from sources.graph.folders import list_folders
from sources.graph.messages import pages


class Mail:
    """The mail of one tenant."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def collections(self, account: Account) -> Sequence[Collection | Gap]:
        """Every folder, parents first; search folders as gaps."""
        return list_folders(Mailbox(self._client, account))

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes of one folder since `cursor`."""
        return pages(Mailbox(self._client, account), collection, cursor)

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """The RFC 5322 bytes of each message."""
        mailbox = Mailbox(self._client, account)
        user = self._client.sdk.root.users.by_user_id(account.id)
        address = self._client.sdk.template(lambda id_: user.messages.by_message_id(id_).content)
        call = mailbox.call(Scope.ITEM, "a message")

        async def work(item: Item, draft: Draft) -> Fetched:
            await self._client.pour(address(item.id), call, draft)
            return Fetched(item, draft)

        def probe() -> Awaitable[Json]:
            folder = user.mail_folders.by_mail_folder_id(collection.id)
            asked = mailbox.call(Scope.SERVICE, "a folder")
            return self._client.built(self._client.sdk.get(folder, select=["id"]), asked)

        return mailbox.fetch(items, landing, work, probe)

    def locate(self, account: Account, keys: Sequence[str]) -> Mapping[str, str | None]:
        """In which folder messages are; folders have the same id in either form."""
        return Mailbox(self._client, account).locate("messages", "parentFolderId", keys)
