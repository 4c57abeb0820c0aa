"""Mail: folders, messages, and their bytes exactly as Exchange hands them out."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from backupd.model import Account, Collection, Gap, Item, Page
from backupd.ports import Draft, Failed, Fetched, Landing
from sources.graph import attachments
from sources.graph.client import Call, Client, Json
from sources.graph.exchange import Mailbox
from sources.graph.failures import Broken, Class, Refused, Scope
from sources.graph.folders import list_folders
from sources.graph.messages import pages
from sources.graph.rebuild import rebuild

REBUILT = "rebuilt-from-json"
UNLISTED = "attachments-unlisted"


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
        """The RFC 5322 bytes of each message; rebuilt where Exchange cannot convert it."""
        mailbox = Mailbox(self._client, account)
        user = self._client.sdk.root.users.by_user_id(account.id)
        letters = _Letters(self._client, user, mailbox.call(Scope.ITEM, "a message"))

        def probe() -> Awaitable[Json]:
            folder = user.mail_folders.by_mail_folder_id(collection.id)
            asked = mailbox.call(Scope.SERVICE, "a folder")
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
        scan = CloudScan() if item.facts.get("hasAttachments") else None
        try:
            await self._client.pour(self._mime(item.id), self._call, draft, scan)
        except (Refused, Broken) as failure:
            if not _convertible_otherwise(failure):
                raise
            return await self._rebuilt(item, draft, failure)
        if scan is None or not scan.suspicious:
            return Fetched(item, draft)
        return await self._with_gaps(item, draft)

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


class CloudScan:
    """Looks, while a message streams by, for signs of attachments that are only links.

    MIME cannot hold a cloud attachment, and asking for the list of attachments doubles the
    requests. So it is asked for only when `hasAttachments` is true and the bytes either hold no
    attachment at all, or an address of a cloud drive. A link inside a base64 body beside a real
    attachment escapes this rule.
    """

    ATTACHED = (b"disposition: attachment", b"content-type: message/rfc822")
    LINKS = (b"sharepoint.com/", b"1drv.ms/", b"onedrive.live.com/")
    LONGEST = 32

    def __init__(self) -> None:
        self._tail = b""
        self._attached = False
        self._link = False

    def __call__(self, chunk: bytes) -> None:
        """See the next chunk; signs that straddle two chunks are found."""
        text = self._tail + chunk.lower()
        self._attached = self._attached or any(each in text for each in self.ATTACHED)
        self._link = self._link or any(each in text for each in self.LINKS)
        self._tail = text[-self.LONGEST :]

    @property
    def suspicious(self) -> bool:
        """Whether the list of attachments is worth a request."""
        return self._link or not self._attached


def _convertible_otherwise(failure: Refused | Broken) -> bool:
    """Whether Exchange fails on this message alone: it cannot convert it, or takes too long."""
    if not isinstance(failure, Refused):
        return False
    too_long = failure.refusal.status == HTTPStatus.GATEWAY_TIMEOUT
    server = failure.refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return too_long or (server and failure.kind is Class.ITEM)
