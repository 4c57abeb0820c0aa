"""Files on any WebDAV server.

A file is sent under a name of ours and moved to its own when it is complete (`Overwrite: F`): a
connection that breaks leaves nothing that a later run, or a person, could take for the file. It
also keeps from overwriting on servers that do not know `If-None-Match`, of which there are many.
Where a server cannot move, files are sent to their name at once, after a look.
"""

from __future__ import annotations

import email.utils
import hashlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO
from urllib.parse import unquote, urlsplit

import httpx
import stamina

from backupd.errors import BackupdError, ItemError, ItemRefused, UserError
from backupd.mirror import names
from backupd.mirror.files import BUFFER
from backupd.model import Service
from backupd.ports import PRESENT, Claim, Finding, Pace, Parcel, Proof, Put, Reader, Shelf
from targets import paths
from targets.dav.http import Body, Http, child
from targets.dav.xml import DAV, Entry
from targets.endpoint import Endpoint
from targets.serial import prove_each, put_each

LENGTH, TYPE = f"{DAV}getcontentlength", f"{DAV}resourcetype"
MODIFIED, AVAILABLE = f"{DAV}getlastmodified", f"{DAV}quota-available-bytes"

DONE = frozenset({200, 201, 204})
FORBIDDEN, NOT_FOUND, NOT_ALLOWED, CONFLICT = 403, 404, 405, 409
IN_THE_WAY, LOCKED = 412, 423
CANNOT_MOVE = frozenset({NOT_ALLOWED, 501})

NAMES = 100_000
"""Files whose presence is remembered, of some folders together."""

TURNS = 64
"""Locks that keep files apart whose names a server could take for the same."""

REFUSALS = 25
"""Files refused in a row, none taken in between, after which it is no matter of the files."""

DAY = 86_400
"""Seconds; dates before 2 January 1970 are no dates to Nextcloud."""

SLACK = 2.0
"""Seconds by which a date may differ: some file systems count in twos."""

SAME, REMNANT, OTHER = "same", "remnant", "other"


@dataclass(frozen=True, slots=True)
class Held:
    """What a server says of one resource."""

    size: int | None
    modified: float | None
    folder: bool


class _Locked(ItemRefused):
    """Somebody else works on the file; usually for a moment."""


class WebDav:
    """Puts files into a WebDAV folder; see `backupd.ports.Target`.

    It always looks before it puts: one listing of a folder answers for all files in it.
    """

    services = frozenset({Service.FILES})
    pace = Pace(items=3.0, bytes=3e6)
    rules = paths.Rules(refused=re.compile(r"(?i)\.ht(access|passwd|group)s?"))
    """A server must not take restored files for its own configuration."""

    atomic = False
    """Whether the server shows a file only when it is complete."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.name
        self._http = Http(endpoint, read_timeout=600.0)
        self._root = str(self._http.base)
        self._workers = endpoint.connections
        self._moves = not self.atomic and endpoint.quirks.get("move", True) is not False
        self._incoming = f".backupd-{names.short_key(f'{endpoint.name} {endpoint.state}')}"
        self._incoming_there = self._to_be_swept = False
        self._listed: OrderedDict[str, dict[str, Held]] = OrderedDict()
        self._lock = threading.RLock()
        self._turns = [threading.Lock() for _ in range(TURNS)]
        self._refusals = 0

    def preflight(self) -> Iterator[Finding]:
        """The folder answers as WebDAV, with these credentials, and has room."""
        entries = self._http.propfind(self._root, [TYPE, AVAILABLE], 0)
        if not entries or f"{DAV}collection" not in entries[0].names(TYPE):
            raise UserError(
                f"{self._root} is not a WebDAV folder.",
                hint="Check `url`: it must lead to the folder that files are restored into.",
                reason="no-dav",
            )
        yield Finding("ok", self._root, "is a WebDAV folder")
        free = _number(entries[0].props.get(AVAILABLE))
        if free is not None and free >= 0:  # negative: unknown or unlimited, says Nextcloud
            level, hint = ("ok", "") if free else ("error", "Make room, or raise the quota.")
            yield Finding(level, self._root, f"{free >> 20} MiB free", hint)

    def steps(self) -> Sequence[str]:
        """Nothing has to be done by hand."""
        return ()

    def examine(self, parcel: Parcel, content: Reader) -> Put:  # noqa: ARG002 - content is never changed
        """The name it gets."""
        put = paths.place(parcel, self.rules).stored(parcel.sha256)
        return Put(put.state, why=put.why, digest=put.digest)

    def make_collection(self, shelf: Shelf) -> None:
        """Create the folder of a drive."""
        self._listing(paths.collection(shelf, self.rules))

    def put(
        self,
        shelf: Shelf,  # noqa: ARG002 - a parcel says where it belongs
        items: Iterable[tuple[Parcel, Reader]],
        *,
        look: bool,  # noqa: ARG002 - see the class
    ) -> Iterator[tuple[Parcel, Put]]:
        """Put files, some at a time; see `backupd.ports.Target`."""
        self._listed.clear()
        self._to_be_swept = not self.atomic  # a run that was killed may have left something, too
        return put_each(items, self._counted, self._workers)

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:  # noqa: ARG002
        """What is there: fetched and hashed for deep claims, else as the listings say."""
        self._listed.clear()
        return prove_each(claims, self._prove, self._workers)

    def close(self) -> None:
        """Remove the folder that files were sent to before they got their name."""
        if self._to_be_swept:
            with suppress(BackupdError):
                self._http.request("DELETE", self._url(self._incoming) + "/")
        self._http.close()

    def _counted(self, parcel: Parcel, held: IO[bytes]) -> Put:
        try:
            put = self._put(parcel, held)
        except ItemError as error:
            self._refusals += 1
            if self._refusals < REFUSALS:
                raise
            raise UserError(
                f"{self._http.host} refuses one file after the other: {error}",
                hint="Check what this account may do there, then run the same restore again.",
                reason="refused",
            ) from error
        self._refusals = 0
        return put

    def _put(self, parcel: Parcel, held: IO[bytes]) -> Put:
        own = paths.place(parcel, self.rules)
        with self._turns[hash(names.fold(own.path)) % len(self._turns)]:
            return self._put_first(own, parcel, held)

    def _put_first(self, own: paths.Place, parcel: Parcel, held: IO[bytes]) -> Put:
        """Put a file at its own place, or beside another one there."""
        for place in (own, paths.beside(own, parcel)):
            there = self._listing(place.folder).get(place.leaf)
            if there is None:
                if self._upload(place, parcel, held):
                    self._remember(place, parcel)
                    return place.stored(parcel.sha256)
                there = self._held(place)
            verdict = self._compare(place, there, parcel, held)
            if verdict == SAME:
                return Put(PRESENT, place.path, digest=parcel.sha256)
            if verdict == REMNANT and self._send(place.path, parcel, held, {}):
                return place.stored(parcel.sha256)
        raise ItemRefused(
            f"{parcel.path}: other files have both names it could get.", reason="twin"
        )

    def _upload(self, place: paths.Place, parcel: Parcel, held: IO[bytes]) -> bool:
        """Bring a file to its place; False when something is in the way there."""
        if self._by_moving(place):
            answer = self._by_way_of_incoming(place, parcel, held)
            if answer is not None:
                return answer
            self._moves = False
        if not self.atomic and self._held(place) is not None:
            return False
        return self._send(place.path, parcel, held, {"If-None-Match": "*"})

    def _by_way_of_incoming(
        self, place: paths.Place, parcel: Parcel, held: IO[bytes]
    ) -> bool | None:
        """Send and move; None when the server cannot move."""
        self._make_incoming()
        waiting = f"{self._incoming}/{names.short_key(place.path + parcel.sha256)}"
        self._send(waiting, parcel, held, {})
        headers = {"Destination": self._url(place.path), "Overwrite": "F"}
        answer = self._ask("MOVE", self._url(waiting), headers)
        if answer.status_code in DONE:
            return True
        if answer.status_code == NOT_FOUND and self._held(place) is not None:
            return False  # probably ours: the answer to an earlier try was lost
        with suppress(BackupdError):
            self._http.request("DELETE", self._url(waiting))
        if answer.status_code in CANNOT_MOVE:
            return None
        return self._taken(answer, parcel)

    def _send(self, path: str, parcel: Parcel, held: IO[bytes], headers: Mapping[str, str]) -> bool:
        """PUT a file; False when something is in the way and the server was told to mind."""
        answer = self._ask("PUT", self._url(path), {**headers, **facts_of(parcel, held)}, held)
        return answer.status_code in DONE or self._taken(answer, parcel)

    def _taken(self, answer: httpx.Response, parcel: Parcel) -> bool:
        """False when an answer means that something is there already. Raises ItemRefused for others."""
        if answer.status_code == IN_THE_WAY:
            return False
        raise ItemRefused(
            f"{parcel.path}: {self._http.host} answers {answer.status_code}.",
            reason=f"http-{answer.status_code}",
        )

    def _ask(
        self, method: str, url: str, headers: Mapping[str, str], content: Body | None = None
    ) -> httpx.Response:
        """A request that waits for a while when somebody holds a lock, then raises ItemRefused."""
        for attempt in stamina.retry_context(
            on=_Locked, attempts=6, timeout=45.0, wait_initial=0.2, wait_max=10.0
        ):
            with attempt:
                answer = self._http.request(method, url, headers=headers, content=content)
                if answer.status_code == LOCKED:
                    raise _Locked(f"{self._http.host} holds a lock on {url}.", reason="locked")
                return answer
        raise AssertionError  # the loop ends by itself

    def _compare(
        self, place: paths.Place, there: Held | None, parcel: Parcel, held: IO[bytes]
    ) -> str:
        """What is at a place, by its bytes: read only as far as they are ours."""
        if there is None or there.folder or (there.size or 0) > parcel.size:
            return OTHER
        if (there.size or 0) < parcel.size and (self.atomic or self._by_moving(place)):
            return OTHER  # no upload of ours that broke
        held.seek(0)
        with self._http.stream("GET", self._url(place.path)) as answer:
            if answer.status_code not in DONE:
                return OTHER
            for data in answer.iter_bytes(BUFFER):
                if data != held.read(len(data)):
                    return OTHER
        return REMNANT if held.read(1) else SAME

    def _by_moving(self, place: paths.Place) -> bool:
        """Whether to send a file elsewhere first. In `Destination` some servers cut names at a semicolon."""
        return self._moves and ";" not in place.path

    def _prove(self, claim: Claim) -> Proof:
        if claim.deep:
            size, modified, digest = self._fetched(claim.put.where)
        else:
            folder, _, leaf = claim.put.where.rpartition("/")
            there = self._listing(folder, make=False).get(leaf)
            size, modified = (there.size, there.modified) if there else (None, None)
            digest = ""
        return paths.proof(claim, size, digest, _date(claim.parcel, modified))

    def _fetched(self, path: str) -> tuple[int | None, float | None, str]:
        size, hashed = 0, hashlib.sha256()
        with self._http.stream("GET", self._url(path)) as answer:
            if answer.status_code not in DONE:
                return None, None, ""
            for data in answer.iter_bytes(BUFFER):
                size += len(data)
                hashed.update(data)
        return size, _moment(answer.headers.get("last-modified")), hashed.hexdigest()

    def _listing(self, folder: str, *, make: bool = True) -> dict[str, Held]:
        """What lies in a folder, by name; the folder is created when it is not there."""
        with self._lock:
            if folder not in self._listed:
                entries = self._http.propfind(self._url(folder) + "/", [LENGTH, TYPE, MODIFIED], 1)
                if not entries and make:
                    self._make(folder)
                self._listed[folder] = dict(self._children(folder, entries))
                while len(self._listed) > 1 and sum(map(len, self._listed.values())) > NAMES:
                    self._listed.popitem(last=False)
            self._listed.move_to_end(folder)
            return self._listed[folder]

    def _remember(self, place: paths.Place, parcel: Parcel) -> None:
        with self._lock:
            if place.folder in self._listed:
                self._listed[place.folder][place.leaf] = Held(parcel.size, None, folder=False)

    def _held(self, place: paths.Place) -> Held | None:
        """What is at one place now; servers may find it under a name that differs in case."""
        entries = self._http.propfind(self._url(place.path), [LENGTH, TYPE, MODIFIED], 0)
        return _held(entries[0]) if entries else None

    def _children(self, folder: str, entries: Iterable[Entry]) -> Iterator[tuple[str, Held]]:
        above = _path_of(self._url(folder))
        for entry in entries:
            url = self._http.resolve(self._root, entry.href)
            parent, _, leaf = _path_of(url or "").rpartition("/")
            if leaf and parent == above:
                yield leaf, _held(entry)

    def _make(self, folder: str) -> None:
        """Create a folder, and those above it where the server says that they are missing."""
        answer = self._ask("MKCOL", self._url(folder) + "/", {})
        if answer.status_code in DONE or answer.status_code == NOT_ALLOWED or not folder:
            return
        above = folder.rpartition("/")[0]
        if above and answer.status_code in {CONFLICT, NOT_FOUND, FORBIDDEN}:
            self._make(above)
            answer = self._ask("MKCOL", self._url(folder) + "/", {})
        if answer.status_code not in {*DONE, NOT_ALLOWED}:
            raise ItemRefused(
                f"The folder {folder} cannot be created: {self._http.host} answers {answer.status_code}.",
                reason=f"http-{answer.status_code}",
            )

    def _make_incoming(self) -> None:
        with self._lock:
            if not self._incoming_there:
                self._make(self._incoming)
                self._incoming_there = True

    def _url(self, path: str) -> str:
        url = self._root.rstrip("/")
        for part in filter(None, path.split("/")):
            url = child(url, part)
        return url


def facts_of(parcel: Parcel, held: IO[bytes]) -> dict[str, str]:
    """Headers that tell date and hash to servers that know these; the others ignore them."""
    headers = {"Content-Type": "application/octet-stream"}
    moment = names.parse_time(parcel.about.get("modified"))
    if moment and moment.timestamp() > DAY:
        headers["X-OC-Mtime"] = str(int(moment.timestamp()))
    hashed = hashlib.sha1(usedforsecurity=False)
    held.seek(0)
    while data := held.read(BUFFER):
        hashed.update(data)
    return {**headers, "OC-Checksum": f"SHA1:{hashed.hexdigest()}"}


def _held(entry: Entry) -> Held:
    folder = f"{DAV}collection" in entry.names(TYPE)
    return Held(_number(entry.props.get(LENGTH)), _moment(entry.props.get(MODIFIED)), folder)


def _date(parcel: Parcel, modified: float | None) -> str:
    """What is to be said about the date of a file that is otherwise as it was."""
    wanted = names.parse_time(parcel.about.get("modified"))
    if wanted is None or modified is None or abs(wanted.timestamp() - modified) < SLACK:
        return ""
    return "its date was not kept"


def _moment(text: str | None) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> int | None:
    try:
        return int(text or "")
    except ValueError:
        return None


def _path_of(url: str) -> str:
    return unquote(urlsplit(url).path.rstrip("/"))
