"""What CalDAV and CardDAV have in common: one resource for each item, never overwritten."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import IO, ClassVar
from urllib.parse import unquote, urlsplit

import httpx

from backupd.errors import ItemError, ItemRefused, TransientError, UserError
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
from targets.dav import meaning, xml
from targets.dav.discovery import Place, Wanted, find
from targets.dav.http import Http, child, full
from targets.dav.prepared import Prepared, derived_uid
from targets.dav.readback import UNREADABLE, fetched, path_of, proof
from targets.dav.shelves import Collection, Shelves
from targets.dav.xml import DAV
from targets.endpoint import Endpoint
from targets.serial import put_each, spool

_DONE, _GONE = frozenset({200, 201, 204}), frozenset({404, 410})
_THERE = 412
_CONFLICT = frozenset({400, 403, 409, 412, 415, 422, 500})
"""With these servers say that they have the UID already, or do not like the item."""
_AT_ONCE = 50
_LARGE = 64 << 10
_LONGEST = 48 << 20
"""Bytes of an item; it is held in memory while it is taken apart."""
_FREE = f"{DAV}quota-available-bytes"
_OUR_NAME = re.compile(r"[0-9a-f]{40}\.(ics|vcf)")


class Store(ABC):
    """A target of items that have UIDs; see `backupd.ports.Target`."""

    services: frozenset[Service]
    pace = Pace(items=8, bytes=400_000)
    wanted: ClassVar[Wanted]
    suffix: ClassVar[str]
    media: ClassVar[str]
    data: ClassVar[str]
    """The property that holds an item in a REPORT, by Clark name."""
    headers: Mapping[str, str]
    """Sent with whatever changes something."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.name
        self._endpoint = endpoint
        self._http = Http(endpoint)
        self._lock = threading.Lock()
        self._shelves: Shelves | None = None
        self._made: dict[bytes, bytes] = {}
        self._locks = [threading.Lock() for _ in range(64)]

    @abstractmethod
    def prepare(self, key: str, data: bytes, uid: str = "") -> Prepared:
        """Make an item ready, under another UID if told. Raises ItemRefused."""

    @abstractmethod
    def meaning_of(self, data: bytes) -> str:
        """What an item says. Raises ItemRefused."""

    @abstractmethod
    def query(self, uid: str) -> bytes:
        """The REPORT that finds an item by its UID."""

    @abstractmethod
    def multiget(self) -> str:
        """The name of the REPORT that hands out many items."""

    def softer(self, prepared: Prepared) -> Iterator[Prepared]:  # noqa: ARG002
        """Other forms of an item, for a server that refused it as it is."""
        return iter(())

    def preflight(self) -> Iterator[Finding]:
        """Find the collections, and say what the server says of its room."""
        listed = self._known().listed()
        names = ", ".join(f"“{each.name}”" for each in listed[:5]) or "none yet"
        yield Finding("ok", self.name, f"{self.wanted.word} at {self._http.host}: {names}")
        free = self._room(self._place().home or self._place().only)
        if free is not None:
            level, hint = (
                ("ok", "") if free > _LARGE else ("error", "Make room or raise the quota.")
            )
            yield Finding(level, self.name, f"{free >> 20} MiB free", hint)

    def steps(self) -> Sequence[str]:
        """What could not be made, and where its items are instead."""
        return tuple(self._shelves.told) if self._shelves else ()

    def examine(self, parcel: Parcel, content: Reader) -> Put:
        """What would be put, without asking the server."""
        try:
            with spool(content) as held:
                prepared = self._prepared(parcel, held)
        except ItemError as error:
            return Put.failed(error)
        return _put("", prepared)

    def make_collection(self, shelf: Shelf) -> None:
        """See to it that the collection is there."""
        self._known().take(shelf)

    def put(
        self, shelf: Shelf, items: Iterable[tuple[Parcel, Reader]], *, look: bool
    ) -> Iterator[tuple[Parcel, Put]]:
        """Put each item as a resource of its own that nobody else has the name of."""
        folder = self._known().take(shelf)
        there = self._listing(folder) if look else frozenset()

        def one(parcel: Parcel, held: IO[bytes]) -> Put:
            return self._put_one(folder, parcel, self._prepared(parcel, held), there)

        yield from put_each(items, one, max(1, self._endpoint.connections))

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:  # noqa: ARG002
        """Compare by meaning, many at a time."""
        rest = iter(claims)
        while batch := list(islice(rest, _AT_ONCE)):
            yield from self._proofs(batch)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Finding things

    def _known(self) -> Shelves:
        with self._lock:
            if self._shelves is None:
                place = find(self._http, self._endpoint.url, self.wanted)
                self._shelves = Shelves(self._http, place, self.wanted)
            return self._shelves

    def _place(self) -> Place:
        return self._known().place

    def _listing(self, folder: Collection) -> frozenset[str] | None:
        """The names of the resources of a collection; None when the server lists nothing."""
        entries = self._http.propfind(folder.url, [f"{DAV}getetag"], 1)
        return frozenset(map(_leaf, (each.href for each in entries))) - {""} if entries else None

    def _by_uid(self, folder: Collection, uid: str) -> str:
        """The address of the resource that has a UID, else ""; what is found is looked into by the caller."""
        for each in self._http.report(folder.url, self.query(uid)):
            where = self._http.resolve(folder.url, each.href)
            if where and where.rstrip("/") != folder.url.rstrip("/"):
                return where
        return ""

    def _meaning_at(self, url: str) -> str:
        """What is at an address; "" when nothing is, or nothing that can be read."""
        answer = self._http.request("GET", url, headers={"Accept": self.media})
        if answer.status_code not in _DONE:
            return ""
        try:
            return self.meaning_of(answer.content)
        except ItemRefused:
            return UNREADABLE

    # Putting

    def _prepared(self, parcel: Parcel, held: IO[bytes]) -> Prepared:
        told = self._endpoint.quirks.get("max_bytes")
        limit = min(told, _LONGEST) if isinstance(told, int) else _LONGEST
        size = held.seek(0, os.SEEK_END)
        held.seek(0)
        if size > limit:
            raise ItemRefused(
                f"{size} bytes are more than the {limit} that the target takes.", reason="too-large"
            )
        return self.prepare(parcel.key, held.read())

    def _put_one(
        self, folder: Collection, parcel: Parcel, ready: Prepared, there: frozenset[str] | None
    ) -> Put:
        url = child(folder.url, self._leaf(ready.uid))
        with self._one_at_a_time(url):
            return self._put_at(folder, url, parcel, ready, there)

    def _one_at_a_time(self, url: str) -> threading.Lock:
        """Namesakes wait for each other: not every server takes If-None-Match in one step."""
        return self._locks[int.from_bytes(_short(url)) % len(self._locks)]

    def _put_at(
        self,
        folder: Collection,
        url: str,
        parcel: Parcel,
        ready: Prepared,
        there: frozenset[str] | None,
    ) -> Put:
        found = self._looked(folder, url, ready, there)
        if found is not None:
            return found
        answer = self._send(url, ready)
        if answer.status_code in _DONE:
            return self._put_there(url, parcel, ready)
        if answer.status_code == _THERE:
            return self._met(folder, url, parcel, ready)
        return self._refused(folder, url, parcel, ready, answer)

    def _looked(
        self, folder: Collection, url: str, ready: Prepared, there: frozenset[str] | None
    ) -> Put | None:
        """The item when it is there already under our name, or under somebody else's."""
        if there is None or _leaf(url) in there:
            found = self._recognised(url, self._meaning_at(url), ready)
            if found is not None:
                return found
        if there is None or any(not _OUR_NAME.fullmatch(each) for each in there):
            other = self._by_uid(folder, ready.uid)
            return self._recognised(other, self._meaning_at(other), ready) if other else None
        return None

    def _recognised(self, url: str, held: str, ready: Prepared) -> Put | None:
        """The item as it was put, or as it had to be put for this server, by its meaning."""
        if not held or held == UNREADABLE:
            return None
        if meaning.same(held, ready.digest):
            return _present(url, ready)
        forms = (each for each in self.softer(ready) if meaning.same(held, each.digest))
        return next((_present(url, each) for each in forms), None)

    def _met(self, folder: Collection, url: str, parcel: Parcel, ready: Prepared) -> Put:
        """Something has our name: the item itself, a namesake of this run, or what a person changed."""
        held = self._meaning_at(url)
        if not held:
            return self._conflict(folder, parcel, ready, "")
        found = self._recognised(url, held, ready)
        if found is not None:
            return found
        ours = _short(parcel.key)
        if self._made.get(_short(path_of(url)), ours) != ours:
            return self._derived(folder, parcel, ready)
        told = meaning.differences(held, ready.digest)
        raise ItemRefused(
            f"Another version of the item is at the target and stays as it is; it differs in {told}.",
            hint="Compare both; if the backup is right, delete the one at the target and run again.",
            reason="changed-at-target",
        )

    def _refused(
        self, folder: Collection, url: str, parcel: Parcel, ready: Prepared, answer: httpx.Response
    ) -> Put:
        """The server does not take it: because it has the UID, or because it does not like the item."""
        if answer.status_code in _CONFLICT:
            other = self._other(folder, url, ready, answer)
            if other:
                return self._conflict(folder, parcel, ready, other)
            for each in self.softer(ready):
                again = self._send(url, each)
                if again.status_code in _DONE:
                    return self._put_there(url, parcel, each)
                if again.status_code == _THERE:
                    return self._met(folder, url, parcel, each)
        raise self._refusal(folder, ready, answer)

    def _other(self, folder: Collection, url: str, ready: Prepared, answer: httpx.Response) -> str:
        """Where else the UID is: as the server's refusal says, or as a query finds."""
        said = xml.conflict(answer.content)
        named = self._http.resolve(url, said) if said else None
        return named or self._by_uid(folder, ready.uid)

    def _conflict(self, folder: Collection, parcel: Parcel, ready: Prepared, other: str) -> Put:
        other = other or self._by_uid(folder, ready.uid)
        found = self._recognised(other, self._meaning_at(other), ready) if other else None
        if found is not None:
            return found
        if ready.uid == derived_uid(parcel.key):
            raise ItemRefused(
                f"{self._http.host} has another item of this name.", reason="conflict"
            )
        return self._derived(folder, parcel, ready)

    def _derived(self, folder: Collection, parcel: Parcel, ready: Prepared) -> Put:
        """The item under a UID of its own, beside the one that has its UID."""
        other = self.prepare(parcel.key, ready.data, derived_uid(parcel.key))
        notes = (*ready.notes, "another item had its UID: it was given a new one")
        url, other = child(folder.url, self._leaf(other.uid)), replace(other, notes=notes)
        first = self._send(url, other)
        for each in chain([other], self.softer(other)):
            answer = first if each is other else self._send(url, each)
            if answer.status_code in _DONE:
                return self._put_there(url, parcel, each)
            found = self._recognised(url, self._meaning_at(url), each)
            if found is not None:
                return found
        raise self._refusal(folder, other, first)

    def _put_there(self, url: str, parcel: Parcel, ready: Prepared) -> Put:
        self._made[_short(path_of(url))] = _short(parcel.key)
        return _put(url, ready)

    def _send(self, url: str, ready: Prepared) -> httpx.Response:
        kind = f"{self.media}; charset=utf-8"
        headers = {"Content-Type": kind, "If-None-Match": "*", **self.headers}
        try:
            return self._http.request("PUT", url, headers=headers, content=ready.data)
        except TransientError as error:
            if error.reason == "timeout" and len(ready.data) > _LARGE:
                raise ItemRefused(
                    f"{self._http.host} takes too long over {len(ready.data) >> 10} KiB.",
                    reason="timeout",
                ) from error
            raise

    def _refusal(
        self, folder: Collection, ready: Prepared, answer: httpx.Response
    ) -> ItemRefused | UserError:
        """Why the server took no form of an item: there is no room, or it does not like it."""
        room = self._room(folder.url)
        if room is not None and room < len(ready.data):
            return full(self._http.host)
        said = xml.condition(answer.content)
        told = xml.explanation(answer.content) or said
        status = f"{answer.status_code} ({told})" if told else f"{answer.status_code}"
        return ItemRefused(
            f"{self._http.host} does not take the item: status {status}.",
            hint="It is kept in the backup; import it by hand if it matters.",
            reason=said or f"status-{answer.status_code}",
        )

    def _room(self, url: str) -> int | None:
        """Bytes that are free, where the server says so: not every one answers 507 when it is full."""
        for each in self._http.propfind(url, [_FREE], 0):
            free = each.props.get(_FREE, "").strip()
            return int(free) if free.isdecimal() else None
        return None

    def _leaf(self, uid: str) -> str:
        """The name of a resource: UIDs are long and hold odd characters."""
        return f"{hashlib.sha256(uid.encode('utf-8', 'replace')).hexdigest()[:40]}{self.suffix}"

    # Proving

    def _proofs(self, claims: Sequence[Claim]) -> Iterator[Proof]:
        held = fetched(self._http, self.multiget(), self.data, [each.put.where for each in claims])
        for each in claims:
            found = held.get(path_of(each.put.where))
            yield proof(each, self._meaning_or(found, each.put.where))

    def _meaning_or(self, found: bytes | None, where: str) -> str:
        """The meaning of what a REPORT handed out; what it left out is asked for by itself."""
        if found:
            try:
                return self.meaning_of(found)
            except ItemRefused:
                pass
        url = self._http.resolve(str(self._http.base), where) if where else None
        return self._meaning_at(url) if url else ""


def _put(where: str, ready: Prepared) -> Put:
    state = REPAIRED if ready.notes else RESTORED
    return Put(state, where, "; ".join(ready.notes), ready.digest)


def _present(where: str, ready: Prepared) -> Put:
    return Put(PRESENT, where, digest=ready.digest)


def _leaf(href: str) -> str:
    return unquote(urlsplit(href).path.rpartition("/")[2])


def _short(text: str) -> bytes:
    """A short stand-in for an address or a key: a run may put a hundred thousand."""
    return hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]
