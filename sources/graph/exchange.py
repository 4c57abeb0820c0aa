"""What mail, calendars and contacts share: one mailbox, its lane, and ids that survive moves."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from backupd.errors import ItemUnreadable
from backupd.model import Account, Item
from backupd.ports import Draft, Failed, Fetched, Landing
from sources.graph.addresses import quoted
from sources.graph.batch import Part, ask_all
from sources.graph.client import Call, Client, Json
from sources.graph.failures import OURS, THEIRS, Broken, Class, Refused, Scope
from sources.graph.listing import next_link, string, values

WIDTH = 4
"""Items fetched at a time per mailbox: as many as Exchange allows in flight."""

TRANSLATED = 1000
"""Ids per translateExchangeIds request; Graph's own limit."""

IMMUTABLE = 'IdType="ImmutableId"'
"""The Prefer header under which an immutable id is understood. Never sent with a delta link: a
message that moves away and back is then reported as deleted for good."""

PROBED_FOR = 10.0
"""Seconds for which one good answer of a collection speaks for its refused items."""

Work = Callable[[Item, Draft], Awaitable[Fetched]]
Probe = Callable[[], Awaitable[Json]]


class Mailbox:
    """One account's mailbox."""

    def __init__(self, client: Client, account: Account) -> None:
        self.client = client
        self.account = account
        self.lane = client.lanes.mailbox(account.id)
        self.path = f"/users/{quoted(account.id)}"

    def call(self, scope: Scope, what: str, *, prefer: str = "", attempts: int = 0) -> Call:
        """A Call in this mailbox's lane."""
        text = f"{what} of {self.account.address}"
        return Call(self.lane, scope, text, prefer=prefer, attempts=attempts)

    def batch(self, scope: Scope, what: str) -> Call:
        """A Call for a batch: all its parts go to this mailbox."""
        return Call(self.lane, scope, f"{what} of {self.account.address}", whole=True)

    def rest_of(self, page: Json, call: Call) -> Iterator[Json]:
        """The objects of a page that came in a batch, and of those behind it."""
        alone = replace(call, whole=False)
        yield from values(page)
        while link := next_link(page):
            page = self.client.follow(link, alone)
            yield from values(page)

    def listings(
        self, paths: Sequence[str], call: Call, *, some_may_be_gone: bool = False
    ) -> list[list[Json]]:
        """The objects of several listings below this mailbox, in one request. Raises Refused.

        Args:
            some_may_be_gone: of a listing that is not found there are none.
        """
        parts = [Part(f"{self.path}/{path}") for path in paths]
        found: list[list[Json]] = []
        for reply in self.client.loop.call(ask_all(self.client, parts, call)):
            if reply.refusal is None:
                found.append(list(self.rest_of(reply.body, call)))
            elif reply.refusal.meaning(call.scope).kind is Class.GONE and some_may_be_gone:
                found.append([])
            else:
                raise Refused(reply.refusal, call.scope, call.what)
        return found

    def keys(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Immutable ids; an id that Exchange does not translate stands for itself."""
        found: dict[str, str] = {}
        for start in range(0, len(ids), TRANSLATED):
            found |= self._translated(ids[start : start + TRANSLATED])
        return {each: found.get(each, each) for each in ids}

    def _translated(self, ids: Sequence[str]) -> Mapping[str, str]:
        body = {
            "inputIds": list(ids),
            "sourceIdType": "restId",
            "targetIdType": "restImmutableEntryId",
        }
        call = self.call(Scope.COLLECTION, "the immutable ids")
        url = f"{self.client.base}{self.path}/translateExchangeIds"
        try:
            answer = self.client.loop.call(self.client.sent("POST", url, call, body))
        except Refused as refused:
            if refused.kind not in {Class.CLIENT, Class.ITEM, Class.GONE}:
                raise
            # One malformed id fails the whole request: halve until it stands alone.
            if len(ids) == 1:
                return {}
            middle = len(ids) // 2
            return {**self._translated(ids[:middle]), **self._translated(ids[middle:])}
        pairs = ((string(each, "sourceId"), string(each, "targetId")) for each in values(answer))
        return {source: target for source, target in pairs if source and target}

    def locate(self, kind: str, parent: str, keys: Sequence[str]) -> Mapping[str, str | None]:
        """Where items of `kind` ("messages") are: the value of `parent`, or None when gone.

        A key whose answer is anything but "here" or "not found" is left out: nobody knows.
        """
        fields = ",".join(dict.fromkeys(("id", parent)))
        parts = [
            Part(
                f"{self.path}/{kind}/{quoted(key)}?$select={fields}",
                {"Prefer": IMMUTABLE},
            )
            for key in keys
        ]
        call = self.batch(Scope.ITEM, f"the whereabouts of {kind}")
        replies = self.client.loop.call(ask_all(self.client, parts, call))
        where: dict[str, str | None] = {}
        for key, reply in zip(keys, replies, strict=True):
            if reply.refusal is None:
                if folder := string(reply.body, parent):
                    where[key] = folder
            elif reply.refusal.meaning(Scope.ITEM).kind is Class.GONE:
                where[key] = None
        return where

    def fetch(
        self,
        items: Iterable[Item],
        landing: Landing,
        work: Work,
        probe: Probe,
    ) -> Iterator[Fetched | Failed]:
        """Do `work` on each item, WIDTH at a time. `probe` asks whether the rest still answers."""
        return fetch_each(self.client, items, landing, work, probe)


def fetch_each(
    client: Client, items: Iterable[Item], landing: Landing, work: Work, probe: Probe
) -> Iterator[Fetched | Failed]:
    """Each item with a draft of its own; a failure leaves none behind."""
    judge = _Judge(probe)

    async def one(item: Item) -> Fetched | Failed:
        draft = landing()
        try:
            return await work(item, draft)
        except (Refused, Broken) as failure:
            draft.discard()
            return await judge.verdict(item, failure)
        except ItemUnreadable as error:
            draft.discard()
            return Failed(item, error)
        except BaseException:
            draft.discard()
            raise

    return client.loop.flow(items, one, WIDTH, drop)


class _Judge:
    """Says what a refused item means, with one probe for many of them."""

    def __init__(self, probe: Probe) -> None:
        self._probe = probe
        self._fine_until = 0.0

    async def verdict(self, item: Item, failure: Refused | Broken) -> Failed:
        """The item's failure. Raises Refused when its collection is refused as well.

        "Access denied" for a single item is a property of that item as long as its collection
        answers: one protected file must not stop the backup of a drive.
        """
        if not isinstance(failure, Refused) or failure.kind not in OURS | THEIRS:
            return Failed(item, failure.error)
        await self._ask()
        return Failed(item, ItemUnreadable(str(failure.error), reason=failure.refusal.word))

    async def _ask(self) -> None:
        if time.monotonic() < self._fine_until:
            return
        try:
            await self._probe()
        except Refused as refused:
            if refused.kind in OURS | THEIRS:
                raise
        self._fine_until = time.monotonic() + PROBED_FOR


def drop(result: Fetched | Failed) -> None:
    """Remove the draft of a result that nobody took."""
    if isinstance(result, Fetched):
        result.draft.discard()
