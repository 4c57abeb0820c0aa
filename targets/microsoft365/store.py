"""What calendars and contacts have in common: items that carry our mark, created once, never changed."""

from __future__ import annotations

import hashlib
import threading
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, ClassVar

import httpx
import stamina

from backupd.errors import IntegrityError, ItemError, ItemRefused, Throttled, TransientError
from backupd.model import Service
from backupd.ports import (
    PRESENT,
    REPAIRED,
    RESTORED,
    Claim,
    Finding,
    Pace,
    Parcel,
    Proof,
    Put,
    Reader,
    Shelf,
)
from targets.dav import meaning
from targets.endpoint import Endpoint
from targets.microsoft365.answers import body_of
from targets.microsoft365.graph import AT_ONCE, Graph, Json, objects, segment
from targets.serial import prove_each, put_each, spool

MARK = "String {6f0d3c9e-52a7-4b8f-9c41-7f1a2d8e3b60} Name backupd"
"""The extended property by which we know our own items again; it travels with the item, nobody sees it."""
MARKED = f"singleValueExtendedProperties($filter=id eq '{MARK}')"
_OPEN = ":open"
"""Stands behind the mark of an item that is not complete yet."""
_STORED, _CONFLICT, _NOT_FOUND = frozenset({200, 201}), 409, 404


@dataclass(frozen=True, slots=True)
class Ready:
    """An item as it is handed to Graph.

    Attributes:
        mark: the same for the same parcel in every run.
        body: what is posted.
        original: the id that it had at its source, by which it is recognised where it still is.
        digest: its meaning, see `targets.microsoft365.said`.
        also: other meanings that are as good: with the people that we took out, say.
        more: what is to be done once it is there; None for nothing.
    """

    mark: str
    body: dict[str, Any]
    original: str
    digest: str
    notes: tuple[str, ...] = ()
    also: tuple[str, ...] = ()
    more: Any = None


@dataclass(slots=True)
class There:
    """What a collection holds: our items by their marks, and ids by the names that a source knows them by."""

    marks: dict[str, tuple[str, bool]] = field(default_factory=dict)
    originals: dict[str, str] = field(default_factory=dict)


class Store(ABC):
    """A target of items in a mailbox; see `backupd.ports.Target`."""

    services: frozenset[Service]
    pace = Pace(items=4, bytes=300_000)
    permission: ClassVar[str]
    items: ClassVar[str]
    """The step of the path behind which an item is found by its id."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.name
        self._graph = Graph(endpoint, self.permission)
        self._workers = min(AT_ONCE, max(1, endpoint.connections))
        self._lock = threading.Lock()
        self._places: dict[tuple[str, ...], str] = {}

    @abstractmethod
    def prepare(self, parcel: Parcel, data: bytes) -> Ready:
        """Make an item ready. Raises ItemRefused for what Microsoft 365 cannot express."""

    @abstractmethod
    def place(self, shelf: Shelf) -> str:
        """The path of a collection's items, created where it is missing."""

    @abstractmethod
    def original(self, row: Json) -> str:
        """By what a source knows a listed item; see `Ready.original`."""

    @abstractmethod
    def complete(self, item: str, ready: Ready, *, again: bool) -> Sequence[str]:
        """Do what is left to do for a created item; answers what is worth a word.

        Args:
            item: its path.
            again: some of it may have been done in an earlier run.
        """

    @abstractmethod
    def meaning_at(self, item: str, wanted: str) -> str:
        """What an item at the target says; "" when it is not there.

        Args:
            wanted: the meaning that it is going to be compared with.
        """

    listing: ClassVar[str]
    """The query of a listing: enough for `original`."""

    def preflight(self) -> Iterator[Finding]:
        """The mailbox answers, and the application may read it."""
        yield from self._graph.may_write()
        place = f"{self.items} of {self._graph.account}"
        count = sum(1 for _ in self._graph.pages(self._probe()))
        yield Finding("ok", place, f"can be reached; {count} collections")

    @abstractmethod
    def _probe(self) -> str:
        """The path of a short list."""

    def steps(self) -> Sequence[str]:
        """Nothing has to be done by hand."""
        return ()

    def examine(self, parcel: Parcel, content: Reader) -> Put:
        """What would be put, without asking the server."""
        try:
            with spool(content) as held:
                ready = self.prepare(parcel, held.read())
        except (ItemError, IntegrityError) as error:
            return Put.failed(error)
        return _put("", ready.notes, ready.digest)

    def make_collection(self, shelf: Shelf) -> None:
        """See to it that the collection is there."""
        self._place(shelf)

    def put(
        self, shelf: Shelf, items: Iterable[tuple[Parcel, Reader]], *, look: bool
    ) -> Iterator[tuple[Parcel, Put]]:
        """Create each item, unless it is there."""
        place = self._place(shelf)
        there = self._listed(place) if look else None

        def one(parcel: Parcel, held: IO[bytes]) -> Put:
            ready = self.prepare(parcel, held.read())
            found = self._found(ready, there) if there else None
            if found:
                return found
            with self._graph.sparing_the_run(f"{place}?$select=id&$top=1"):
                item = self._created(place, ready)
            return self._finished(self._path(item), ready, again=False)

        yield from put_each(items, one, self._workers)

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:  # noqa: ARG002
        """Compare by meaning: Exchange keeps no bytes."""
        return prove_each(claims, self._prove, self._workers)

    def close(self) -> None:
        """Close the connections."""
        self._graph.close()

    def _place(self, shelf: Shelf) -> str:
        with self._lock:
            if shelf.names not in self._places:
                self._places[shelf.names] = self.place(shelf)
            return self._places[shelf.names]

    def _listed(self, place: str) -> There:
        there = There()
        for row in self._graph.pages(f"{place}?{self.listing}&$expand={MARKED}&$top=200"):
            item = str(row.get("id", ""))
            if mark := mark_in(row):
                bare = mark.removesuffix(_OPEN)
                there.marks[bare] = (item, bare != mark)
            else:
                there.originals[self.original(row)] = item
        return there

    def _found(self, ready: Ready, there: There) -> Put | None:
        """The item where it is already: put by us, completely or not, or never gone."""
        item, is_open = there.marks.get(ready.mark, ("", False))
        if is_open:
            return self._finished(self._path(item), ready, again=True)
        if ready.original:
            item = item or there.originals.get(ready.original, "")
        if not item:
            return None
        held = self.meaning_at(self._path(item), ready.digest)
        if any(meaning.same(held, each) for each in (ready.digest, *ready.also)):
            return Put(PRESENT, self._path(item), digest=held)
        raise ItemRefused(
            "Another version of the item is at the target and stays as it is; it differs in "
            f"{meaning.differences(held, ready.digest) or 'its being gone'}.",
            hint="Compare both; if the backup is right, delete the one at the target and run again.",
            reason="changed-at-target",
        )

    def _created(self, place: str, ready: Ready) -> str:
        value = f"{ready.mark}{_OPEN if ready.more else ''}"
        body = {**ready.body, "singleValueExtendedProperties": [{"id": MARK, "value": value}]}
        item = ""
        for attempt in stamina.retry_context(
            doubtful, attempts=5, timeout=900.0, wait_initial=0.5, wait_max=60.0
        ):
            with attempt:
                item = self._search(place, ready) if attempt.num > 1 else ""
                item = item or self._posted(place, body, ready)
        return item

    def _posted(self, place: str, body: Json, ready: Ready) -> str:
        answer = self._graph.ask("POST", place, body, once=True)
        if answer.status_code in _STORED:
            return _id_in(answer)
        found = self._search(place, ready) if answer.status_code == _CONFLICT else ""
        if not found:
            self._graph.refuse(answer)
        return found

    def _search(self, place: str, ready: Ready) -> str:
        """The id of the item, if a request whose answer was lost created it."""
        return self._listed(place).marks.get(ready.mark, ("", False))[0]

    def _finished(self, item: str, ready: Ready, *, again: bool) -> Put:
        notes: tuple[str, ...] = ready.notes
        if ready.more:
            notes = (*notes, *self.complete(item, ready, again=again))
            body = {"singleValueExtendedProperties": [{"id": MARK, "value": ready.mark}]}
            self.tell("PATCH", item, body)
        return _put(item, notes, ready.digest)

    def tell(self, method: str, path: str, body: Json | None = None, *, once: bool = False) -> Json:
        """A request that must go well. Raises ItemRefused when it does not; `once`: see `Graph.ask`."""
        answer = self._graph.ask(method, path, body, once=once)
        if method == "DELETE" and answer.status_code == _NOT_FOUND:
            return {}  # the answer to an earlier try was lost
        if answer.status_code not in {200, 201, 202, 204}:
            self._graph.refuse(answer)
        return body_of(answer)

    def _path(self, item: str) -> str:
        return f"{self._graph.user}/{self.items}/{segment(item)}"

    def _prove(self, claim: Claim) -> Proof:
        held = self.meaning_at(claim.put.where, claim.put.digest)
        if not held:
            return Proof(claim, "missing", "is not there")
        told = meaning.differences(held, claim.put.digest)
        if meaning.same(held, claim.put.digest):
            return Proof(claim, "same", f"differs in {told}" if told else "")
        return Proof(claim, "changed", f"differs in {told}")

    def got(self, path: str) -> Json | None:
        """An object, or None when it is not there."""
        answer = self._graph.ask("GET", path)
        if answer.status_code == _NOT_FOUND:
            return None
        if answer.status_code not in _STORED:
            self._graph.refuse(answer)
        return body_of(answer)


def mark_of(parcel: Parcel) -> str:
    """The mark of a parcel."""
    return hashlib.sha256(parcel.key.encode("utf-8", "replace")).hexdigest()[:40]


def transaction_of(mark: str) -> str:
    """The mark in the form of a GUID."""
    return str(uuid.UUID(mark[:32]))


def _id_in(answer: httpx.Response) -> str:
    """The id of what was created. Raises TransientError for an answer that broke off: it may be there."""
    found = body_of(answer).get("id")
    if not isinstance(found, str) or not found:
        raise TransientError("Graph does not say what it created.", reason="answer")
    return found


def mark_in(row: Json) -> str:
    """Our mark on a listed item, or ""."""
    for each in objects(row.get("singleValueExtendedProperties")):
        if str(each.get("id", "")).lower() == MARK.lower():
            return str(each.get("value", ""))
    return ""


def _put(where: str, notes: Sequence[str], digest: str) -> Put:
    return Put(REPAIRED if notes else RESTORED, where, "; ".join(notes), digest)


def doubtful(error: Exception) -> bool:
    """Whether it is unknown if a request was carried out."""
    return isinstance(error, TransientError) and not isinstance(error, Throttled)
