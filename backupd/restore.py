"""The verb restore: vault or mirror → target, and the proof that everything arrived.

Every item that the snapshot names ends as restored, present, repaired or quarantined; what a
target holds afterwards is read back and compared with the hash taken when it was fetched.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

from backupd.contents import Selection, Shelf
from backupd.errors import IntegrityError, ItemError
from backupd.model import Service
from backupd.ports import Parcel, Put, Reader, Target

MOST_PROBLEMS = 1000
"""Problems kept for the report; all are counted."""


class Held(Protocol):
    """What can be restored: see `contents.MirrorContents` and `contents.VaultContents`."""

    @property
    def address(self) -> str:
        """The account's address."""
        ...

    def shelves(self, selection: Selection) -> list[Shelf]:
        """The collections that are meant."""
        ...

    def walk(self, selection: Selection) -> Iterator[tuple[Parcel, Reader]]:
        """Every item that is meant, with its bytes."""
        ...


@dataclass(frozen=True, slots=True)
class Problem:
    """An item that is not at the target as it should be; `state` is `quarantined` or `damaged`."""

    path: str
    state: str
    why: str


@dataclass
class RestoreResult:
    """What a restore did.

    Attributes:
        expected: items that the snapshot names, by service.
        states: how many ended as what.
        proven: how many were read back from the target with the right hash.
    """

    address: str
    expected: Counter[Service] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)
    services: Counter[Service] = field(default_factory=Counter)
    proven: int = 0
    size: int = 0
    problems: list[Problem] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def missing(self) -> int:
        """Items the snapshot names and never handed out."""
        return sum(self.expected.values()) - sum(self.states.values())

    @property
    def exit_code(self) -> int:
        """5 when bytes were not what was recorded, 3 when something is quarantined, else 0."""
        if self.states["damaged"] or self.missing:
            return IntegrityError.exit_code
        return ItemError.exit_code if self.states["quarantined"] else 0


class Hashing:
    """A reader that hashes what passes."""

    def __init__(self, inner: Reader) -> None:
        self._inner = inner
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        data = self._inner.read(size)
        self._hash.update(data)
        return data

    @property
    def sha256(self) -> str:
        """Of everything that was read."""
        return self._hash.hexdigest()


def restore(
    held: Held,
    target: Target,
    selection: Selection,
    progress: Callable[[Parcel, RestoreResult], None] | None = None,
) -> RestoreResult:
    """Put what is selected into a target and read it back; nothing there is deleted.

    A second run finds what is there and adds only what is missing.
    """
    began = time.monotonic()
    result = RestoreResult(held.address)
    for shelf in held.shelves(selection):
        result.expected[shelf.service] += shelf.items
        target.make_collection(shelf.service, shelf.path, shelf.names)
    for parcel, content in held.walk(selection):
        _one(parcel, content, target, result)
        if progress:
            progress(parcel, result)
    result.seconds = time.monotonic() - began
    return result


def _one(parcel: Parcel, content: Reader, target: Target, result: RestoreResult) -> None:
    passing = Hashing(content)
    try:
        put = target.put(parcel, passing)
        _prove(parcel, passing, put, target)
    except ItemError as error:
        put = Put("quarantined", "", str(error))
    except IntegrityError as error:
        put = Put("damaged", "", str(error))
    else:
        result.proven += 1
        result.size += parcel.size
    result.states[put.state] += 1
    result.services[parcel.service] += 1
    if put.why and put.state in {"quarantined", "damaged"} and len(result.problems) < MOST_PROBLEMS:
        result.problems.append(Problem(parcel.path, put.state, put.why))


def _prove(parcel: Parcel, passing: Hashing, put: Put, target: Target) -> None:
    """What came out of storage, and what lies at the target, are what was once fetched."""
    if put.state != "present" and passing.sha256 != parcel.sha256:
        raise IntegrityError(
            f"{parcel.path}: the bytes in storage are not those that were fetched."
        )
    if target.read_back(parcel, put) != parcel.sha256:
        raise IntegrityError(f"{parcel.path}: the target holds other bytes than it was given.")
