"""Files into a OneDrive: never over another file, complete or not at all, with their dates."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO, Any

import stamina

from backupd.errors import ItemRefused, TransientError
from backupd.mirror import names
from backupd.mirror.files import BUFFER
from backupd.model import Service
from backupd.ports import PRESENT, Claim, Finding, Pace, Parcel, Proof, Put, Reader, Shelf
from backupd.quickxor import QuickXor
from targets import paths
from targets.endpoint import Endpoint
from targets.microsoft365.answers import body_of
from targets.microsoft365.drive import Drive, Folder, Held, held
from targets.microsoft365.graph import AT_ONCE, Graph, Json, segment
from targets.microsoft365.upload import SESSIONS, Ended, Upload
from targets.serial import prove_each, put_each

PERMISSION = "Files.ReadWrite.All"
SIMPLE = 4_000_000
"""Bytes up to which a file goes in one request."""
SLACK = 2.0
"""Seconds by which a date may be off: servers round."""
_CONFLICT = "@microsoft.graph.conflictBehavior"
_TAKEN, _NOT_FOUND = 409, 404
_STORED = frozenset({200, 201})
_RULES = paths.Rules(forbidden='"*:<>?\\|', refused=re.compile(r"(?i)\.lock|desktop\.ini"))
_REWRITTEN = re.compile(r"(?i)\.(doc|dot|xls|xlt|ppt|pot|pps|vsd|pub|mpp)[xmb]?$|\.html?$|\.aspx$")
"""Kinds of files into which SharePoint writes properties of its own."""


class Files:
    """Puts files into the OneDrive of an account; see `backupd.ports.Target`.

    It always looks before it puts: one listing of a folder answers for all files in it. A drive
    of the same name as the target's own goes to its root, any other into a folder of its name.
    """

    services = frozenset({Service.FILES})
    pace = Pace(items=2.0, bytes=3e6)

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.name
        self._graph = Graph(endpoint, PERMISSION)
        self._drive = Drive(self._graph)
        self._workers = min(AT_ONCE, max(1, endpoint.connections))

    def preflight(self) -> Iterator[Finding]:
        """The OneDrive is there, and has room."""
        yield from self._graph.may_write()
        said = self._drive.facts
        place = f"OneDrive of {self._graph.account}"
        yield Finding("ok", place, f"is there, called {said.get('name', 'nothing')}")
        quota = said.get("quota")
        free = quota.get("remaining") if isinstance(quota, dict) else None
        if isinstance(free, int):
            level, hint = ("ok", "") if free > 0 else ("error", "Make room, or raise the quota.")
            yield Finding(level, place, f"{free >> 20} MiB free", hint)

    def steps(self) -> Sequence[str]:
        """Nothing has to be done by hand."""
        return ()

    def examine(self, parcel: Parcel, content: Reader) -> Put:  # noqa: ARG002 - content is never changed
        """The name it gets."""
        put = _place(parcel).stored(parcel.sha256)
        return Put(put.state, why=put.why, digest=put.digest)

    def make_collection(self, shelf: Shelf) -> None:
        """Create the folder of a drive that is not the target's own."""
        self._drive.folder(self._drive.below(_mended(paths.collection(shelf, _RULES))))

    def put(
        self,
        shelf: Shelf,  # noqa: ARG002 - a parcel says where it belongs
        items: Iterable[tuple[Parcel, Reader]],
        *,
        look: bool,  # noqa: ARG002 - see the class
    ) -> Iterator[tuple[Parcel, Put]]:
        """Put files, some at a time."""
        self._drive.forget()
        return put_each(items, self._put, self._workers)

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:  # noqa: ARG002
        """Size and checksum as OneDrive has them; the bytes themselves for deep claims."""
        return prove_each(claims, self._prove, self._workers)

    def close(self) -> None:
        """Close the connections."""
        self._graph.close()

    def _put(self, parcel: Parcel, content: IO[bytes]) -> Put:
        digest = f"{parcel.sha256} {_quick_xor(content)}"
        own = _place(parcel)
        for place in (own, paths.beside(own, parcel)):
            below = replace(place, path=self._drive.below(place.path))
            folder = self._drive.folder(below.folder)
            there = folder.get(below.leaf)
            if there is None:
                stored = self._stored(folder, below, parcel, content)
                if stored is not None:
                    folder.remember(below.leaf, stored[0])
                    return self._receipt(replace(place, why=stored[1]), stored[0], digest)
                there = self._drive.look_again(below.folder).get(below.leaf)
                if there is not None and self._is_same(there, parcel, digest):
                    self._dated(there, parcel)  # it is ours: the answer was lost
            if there is not None and self._is_same(there, parcel, digest):
                return Put(PRESENT, self._where(there), digest=digest)
        raise ItemRefused(
            f"{parcel.path}: other files have both names it could get.", reason="twin"
        )

    def _receipt(self, place: paths.Place, there: Held, digest: str) -> Put:
        return replace(place.stored(digest), where=self._where(there))

    def _where(self, there: Held) -> str:
        return f"{self._drive.place}/{segment(there.id)}"

    def _stored(
        self, folder: Folder, place: paths.Place, parcel: Parcel, content: IO[bytes]
    ) -> tuple[Held, str] | None:
        """The stored file and what is to be said of it; None when something is in the way."""
        small = parcel.size <= SIMPLE
        with self._graph.sparing_the_run(f"{self._graph.user}/drive"):
            row = (self._at_once if small else self._in_pieces)(folder, place, parcel, content)
        if row is None:
            return None
        there, notes = held(row), [place.why] if place.why else []
        if small and not self._dated(there, parcel):
            notes.append("its dates were not kept")
        if not _agree(there, parcel, _quick_xor(content)):
            if not _REWRITTEN.search(place.leaf):
                raise ItemRefused(
                    f"{parcel.path}: OneDrive says it got other bytes than were sent.",
                    hint="Compare the file there with the one in the backup.",
                    reason="hash",
                )
            notes.append("OneDrive writes properties of its own into files of this kind")
        return there, "; ".join(notes)

    def _at_once(
        self,
        folder: Folder,
        place: paths.Place,
        parcel: Parcel,  # noqa: ARG002 - see _in_pieces
        content: IO[bytes],
    ) -> Json | None:
        content.seek(0)
        path = f"{self._address(folder, place.leaf)}/content?{_CONFLICT}=fail"
        answer = self._graph.send("PUT", path, content.read(), "application/octet-stream")
        if answer.status_code == _TAKEN:
            return None  # perhaps ours: the answer to an earlier try was lost
        if answer.status_code not in _STORED:
            self._graph.refuse(answer)
        return body_of(answer)

    def _in_pieces(
        self, folder: Folder, place: paths.Place, parcel: Parcel, content: IO[bytes]
    ) -> Json | None:
        path = f"{self._address(folder, place.leaf)}/createUploadSession"
        facts: dict[str, Any] = {_CONFLICT: "fail", "name": place.leaf}
        if dates := _dates(parcel):
            facts["fileSystemInfo"] = dates
        for _ in range(SESSIONS):
            try:
                return Upload(self._graph, content).run(path, {"item": facts})
            except Ended:
                if self._drive.look_again(place.folder).get(place.leaf) is not None:
                    return None  # the last piece had arrived
        raise TransientError(f"{parcel.path}: upload sessions end before the file is complete.")

    def _address(self, folder: Folder, leaf: str) -> str:
        return f"{self._drive.place}/{segment(folder.id)}:/{segment(leaf)}:"

    def _dated(self, there: Held, parcel: Parcel) -> bool:
        """Give a stored file its dates; whether it has them."""
        dates = _dates(parcel)
        if not dates:
            return True
        answer = self._graph.ask("PATCH", self._where(there), {"fileSystemInfo": dates})
        return answer.status_code in _STORED

    def _is_same(self, there: Held, parcel: Parcel, digest: str) -> bool:
        """Whether a file that is there is the parcel: by its checksum, else by its bytes."""
        if not there.file or there.size != parcel.size:
            return False
        if there.quick_xor or not there.size:
            return _agree(there, parcel, digest.partition(" ")[2])
        return self._fetched(self._where(there), parcel.size) == (parcel.size, parcel.sha256)

    def _prove(self, claim: Claim) -> Proof:
        answer = self._graph.ask("GET", claim.put.where)
        if answer.status_code == _NOT_FOUND:
            return Proof(claim, "missing", "is not there")
        if answer.status_code not in _STORED:
            self._graph.refuse(answer)
        row = body_of(answer)
        there = held(row)
        aside = _aside(row)
        if there.size != claim.parcel.size:
            told = f"{there.size} bytes instead of {claim.parcel.size}{aside}"
            return Proof(claim, "changed", told)
        digest, _, checksum = claim.put.digest.partition(" ")
        same = _agree(there, claim.parcel, checksum)
        if same and claim.deep:
            size = claim.parcel.size
            same = self._fetched(claim.put.where, size) == (size, digest)
        return Proof(claim, "same", _date(claim, row)) if same else Proof(claim, "changed", f"the content differs{aside}")  # fmt: skip

    def _fetched(self, where: str, expected: int) -> tuple[int, str]:
        """Size and SHA-256 of what OneDrive hands out, which is read only as far as it can be ours."""
        for attempt in stamina.retry_context(TransientError, attempts=4, wait_max=20.0):
            with attempt:
                size, hashed = 0, hashlib.sha256()
                with self._graph.download(f"{where}/content") as chunks:
                    for data in chunks:
                        size += len(data)
                        hashed.update(data)
                        if size > expected:
                            break
                return size, hashed.hexdigest()
        raise AssertionError  # the loop ends by itself


def _place(parcel: Parcel) -> paths.Place:
    place = paths.place(parcel, _RULES)
    path = _mended(place.path)
    if path == place.path:
        return place
    return paths.Place(path, f"stored as {path.rpartition('/')[2]}")


def _mended(path: str) -> str:
    """Names that only SharePoint dislikes: owners' files of Office, and its own inner folders."""
    return "/".join(
        re.sub(r"(?i)_(vti_)", r"%5F\1", re.sub(r"^~\$", "%7E$", each)) for each in path.split("/")
    )


def _quick_xor(content: IO[bytes]) -> str:
    checksum = QuickXor()
    content.seek(0)
    while data := content.read(BUFFER):
        checksum.update(data)
    return checksum.base64()


def _agree(there: Held, parcel: Parcel, checksum: str) -> bool:
    """Whether OneDrive's own words about a file fit the parcel; it has no checksum of empty files."""
    return there.size == parcel.size and there.quick_xor in {"", checksum}


def _dates(parcel: Parcel) -> dict[str, str]:
    found = {}
    for word, name in (("created", "createdDateTime"), ("modified", "lastModifiedDateTime")):
        moment = names.parse_time(parcel.about.get(word))
        if moment:
            found[name] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    return found


def _aside(row: Json) -> str:
    """Why a file may have changed without anybody touching it."""
    rewritten = _REWRITTEN.search(str(row.get("name", "")))
    return " (SharePoint writes properties of its own into such files)" if rewritten else ""


def _date(claim: Claim, row: Json) -> str:
    """What is to be said about the date of a file that is otherwise as it was."""
    wanted = names.parse_time(claim.parcel.about.get("modified"))
    info = row.get("fileSystemInfo")
    told = names.parse_time(info.get("lastModifiedDateTime")) if isinstance(info, dict) else None
    if wanted is None or told is None or abs((wanted - told).total_seconds()) < SLACK:
        return ""
    return "its date was not kept"
