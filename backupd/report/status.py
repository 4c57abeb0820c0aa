"""The state of what we hold: if we were cut off now, what would be lost, and what is wrong.

Only catalogs and incidents are read, never a vault: it answers in an instant, also when the storage
is out of reach.
"""

from __future__ import annotations

import json
import os
import shlex
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

from backupd.catalog import Catalog
from backupd.cutoff.mx import domain_of
from backupd.cutoff.verdict import Case
from backupd.home import Home
from backupd.model import Service
from backupd.sync.account import services_of
from backupd.vaults.snapshot import needs_snapshot
from backupd.verify.record import Standing, read_record

MINUTE, HOUR, DAY = 60, 3600, 86_400


@dataclass(frozen=True)
class Copy:
    """The newest snapshot in a storage: `age` in seconds, `current` when it holds all the mirror does."""

    storage: str
    snapshot_id: str
    age: int
    current: bool


@dataclass(frozen=True)
class Trouble:
    """Items that could not be had, by reason."""

    reason: str
    items: int
    example: str


@dataclass(frozen=True)
class Freshness:
    """How old what we hold of an account is; quick to know however much it is.

    Attributes:
        synced: seconds since the last complete sync, by service; None when there was none yet.
        protected: seconds since the moment up to which a vault holds everything; None without.
    """

    address: str
    source: str
    synced: dict[Service, int | None]
    copies: list[Copy]
    protected: dict[Service, int | None]

    @property
    def scope(self) -> str:
        """What incidents call it."""
        return f"{self.source}/{self.address}"

    @property
    def newest_copy(self) -> int | None:
        """The age of the newest snapshot anywhere."""
        return min((copy.age for copy in self.copies), default=None)

    @property
    def worst(self) -> int | None:
        """The age of the service that is protected worst; None when one is not at all."""
        return oldest(self.protected.values())


@dataclass(frozen=True)
class AccountStatus:
    """One account.

    Attributes:
        synced, protected: as in `Freshness`.
        missing: items that vanished at the source and wait for the guard or for certainty.
        state: what is thought of it: `healthy`, …, `confirmed` (its own case, or that of its source).
        frozen: nothing of it is removed, forgotten or pruned.
        proofs: what each level of verify last said of each storage, and what was never looked at.
    """

    address: str
    source: str
    items: dict[Service, int]
    size: int
    synced: dict[Service, int | None]
    copies: list[Copy]
    waiting: list[Trouble]
    gaps: dict[str, int]
    notes: dict[str, int]
    missing: int
    problems: list[str] = field(default_factory=list)
    protected: dict[Service, int | None] = field(default_factory=dict)
    state: str = "healthy"
    frozen: bool = False
    proofs: list[Standing] = field(default_factory=list)

    @property
    def oldest_sync(self) -> int | None:
        """The age of the service that was synced longest ago; None when one never was."""
        return oldest(self.synced.values())

    @property
    def newest_copy(self) -> int | None:
        """The age of the newest snapshot anywhere."""
        return min((copy.age for copy in self.copies), default=None)

    @property
    def worst(self) -> int | None:
        """The age of the service that is protected worst; None when one is not at all."""
        return oldest(self.protected.values())

    @property
    def waits(self) -> int:
        """Items that could not be had yet."""
        return sum(trouble.items for trouble in self.waiting)


@dataclass(frozen=True)
class StorageState:
    """The copies in one storage: of how many accounts, and how old the newest and the oldest are."""

    storage: str
    accounts: int
    lacking: int
    newest: int | None
    oldest: int | None


@dataclass(frozen=True)
class CutOffNow:
    """The answer to the first question: if we were cut off now.

    Attributes:
        protected: by service, the age of what a vault holds completely, of the account that is worst
            off among those that have a copy of it; None when nobody has.
        bare: by service, how many accounts have no complete copy of it at all.
        worst: the account whose copy is oldest.
        unprotected: accounts of which no vault holds anything.
        missing: items known of that are not held: they wait in the retry ledgers.
        gaps: what the source holds and nobody can take, by kind.
        vanished: items gone at the source that are kept here.
        frozen: scopes of which nothing is removed, with the reason.
        next: commands to type now, the most urgent first.
    """

    accounts: int
    protected: dict[Service, int | None]
    bare: dict[Service, int]
    worst: str
    unprotected: list[str]
    missing: int
    gaps: int
    vanished: int
    storages: list[StorageState]
    frozen: dict[str, str]
    next: list[str]


def freshness(home: Home, storages: Sequence[str]) -> Freshness:
    """How old what we hold of an account is; a run under way is not disturbed."""
    with home.reading() as catalog:
        return _freshness(home, catalog, storages)


def status_of(
    home: Home, storages: list[str], cases: Mapping[str, Case] | None = None
) -> AccountStatus:
    """Read the state of one account; a run under way is not disturbed."""
    with home.reading() as catalog:
        fresh = _freshness(home, catalog, storages)
        case = _case_of(fresh, cases or {})
        held = _held(home, catalog)
        status = AccountStatus(
            address=home.address,
            source=fresh.source,
            items={service: held.items.get(service, 0) for service in fresh.synced},
            size=held.size,
            synced=fresh.synced,
            copies=fresh.copies,
            waiting=_waiting(catalog),
            gaps=catalog.gap_kinds(),
            notes=held.notes,
            missing=catalog.absent(),
            protected=fresh.protected,
            state=case.state.value,
            frozen=case.frozen,
            proofs=read_record(home).standings(storages, time.time()),
        )
    return _judged(status, storages)


def cut_off_now(
    found: Sequence[AccountStatus],
    storages: Sequence[str],
    cases: Iterable[Case] = (),
    *,
    waiting: bool = False,
) -> CutOffNow:
    """What would be lost, where the copies are, and what to type next.

    Args:
        waiting: a removal that the guard stopped waits for a person.
    """
    frozen = {case.scope: case.cause.value or "unknown" for case in cases if case.frozen}
    ages = {
        service: [each.protected[service] for each in found if service in each.protected]
        for service in Service
    }
    known = [each for each in found if each.worst is not None]
    return CutOffNow(
        accounts=len(found),
        protected={
            service: oldest(age for age in each if age is not None)
            for service, each in ages.items()
            if each
        },
        bare={service: each.count(None) for service, each in ages.items() if None in each},
        worst=max(known, key=lambda each: each.worst or 0).address if known else "",
        unprotected=[each.address for each in found if not each.copies],
        missing=sum(each.waits for each in found),
        gaps=sum(sum(each.gaps.values()) for each in found),
        vanished=sum(each.missing for each in found),
        storages=[_storage_state(name, found) for name in storages],
        frozen=frozen,
        next=_next(found, frozen, waiting),
    )


def domains(homes: Iterable[Home]) -> frozenset[str]:
    """The mail domains of accounts: on the day of a cut-off they receive nothing."""
    return frozenset(domain_of(home.address) for home in homes) - {""}


def oldest(ages: Iterable[int | None]) -> int | None:
    """The greatest age; None when one is None, or when there is none."""
    known = list(ages)
    return (
        None if None in known else max((each for each in known if each is not None), default=None)
    )


def _freshness(home: Home, catalog: Catalog, storages: Sequence[str]) -> Freshness:
    account = home.account()
    services = services_of(account) if account else list(Service)
    synced = {service: _age(catalog.get(f"synced:{service}")) for service in services}
    copies = [copy for name in storages if (copy := _copy(catalog, name))]
    return Freshness(
        address=home.address,
        source=home.folder.parent.name,
        synced=synced,
        copies=copies,
        protected={service: _protected(age, copies) for service, age in synced.items()},
    )


@dataclass(frozen=True)
class _Held:
    items: dict[str, int]
    size: int
    notes: dict[str, int]


def _held(home: Home, catalog: Catalog) -> _Held:
    """The figures of a revision, kept beside the catalog: counting goes through every row of it."""
    revision, kept = catalog.revision, home.folder / "figures.json"
    with suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(kept.read_text(encoding="utf-8"))
        if known.pop("revision") == revision:
            return _Held(**known)
    held = _counted(catalog)
    with suppress(OSError):  # whoever may only look does not keep them
        fresh = kept.with_name(f".{kept.name}.{os.getpid()}.{threading.get_ident()}")
        fresh.write_text(json.dumps({"revision": revision, **asdict(held)}), encoding="utf-8")
        fresh.replace(kept)
    return held


def _counted(catalog: Catalog) -> _Held:
    held = _Held({}, 0, {})
    for service, note, count, size in catalog.figures():
        held.items[service] = held.items.get(service, 0) + count
        held = replace(held, size=held.size + size)
        if note:
            held.notes[note] = held.notes.get(note, 0) + count
    return held


def _protected(synced: int | None, copies: Sequence[Copy]) -> int | None:
    """A copy that lacks nothing is as good as the sync; another one at best as its own age."""
    if synced is None:
        return None
    return min((synced if copy.current else max(synced, copy.age) for copy in copies), default=None)


def _case_of(fresh: Freshness, cases: Mapping[str, Case]) -> Case:
    """The graver of the account's case and that of its source."""
    own = cases.get(fresh.scope, Case(fresh.scope))
    whole = cases.get(fresh.source, Case(fresh.source))
    return whole if whole.frozen and not own.frozen else own


def _judged(status: AccountStatus, storages: list[str]) -> AccountStatus:
    problems = [
        f"{service} was never synced to its end"
        for service, age in status.synced.items()
        if age is None
    ]
    held = {copy.storage for copy in status.copies}
    problems += [f"no snapshot in {name}" for name in storages if name not in held]
    problems += [
        f"{copy.storage} lacks the latest changes" for copy in status.copies if not copy.current
    ]
    if status.missing:
        problems.append(f"{status.missing} items vanished at the source and are kept here")
    problems += [f"{each.words}: DAMAGED" for each in status.proofs if each.verdict == "damaged"]
    if status.state not in {"healthy", "recovered"}:
        problems.insert(0, f"{status.state}{', frozen' if status.frozen else ''}")
    status.problems.extend(problems)
    return status


def _storage_state(name: str, found: Sequence[AccountStatus]) -> StorageState:
    ages = [copy.age for each in found for copy in each.copies if copy.storage == name]
    return StorageState(
        name, len(ages), len(found) - len(ages), min(ages, default=None), max(ages, default=None)
    )


def _next(found: Sequence[AccountStatus], frozen: Mapping[str, str], waiting: bool) -> list[str]:
    if not found:
        return ["backupd backup"]
    commands = ["backupd incidents"] if frozen or waiting else []
    if frozen:
        shut = [each.address for each in found if each.frozen] or [found[0].address]
        commands.append(f"backupd restore --account {shlex.quote(shut[0])} --to TARGET --dry-run")
    if any(not each.copies or not all(copy.current for copy in each.copies) for each in found):
        commands.append("backupd snapshot")
    if any(None in each.synced.values() for each in found) and not frozen:
        commands.append("backupd backup")
    return commands or ["backupd verify"]


def _copy(catalog: Catalog, storage: str) -> Copy | None:
    snapshot_id = catalog.get(f"snapshot:{storage}:id")
    age = _age(catalog.get(f"snapshot:{storage}:time"))
    if not snapshot_id or age is None:
        return None
    return Copy(storage, snapshot_id, age, not needs_snapshot(catalog, storage))


def _age(stamp: str) -> int | None:
    return max(0, int(time.time()) - int(stamp)) if stamp else None


def _waiting(catalog: Catalog) -> list[Trouble]:
    return [Trouble(*each) for each in catalog.troubles()]


def in_words(seconds: int | None) -> str:
    """A span for people: `45 s`, `3 min`, `2 h`, `5 days`."""
    if seconds is None:
        return "never"
    if seconds < 2 * MINUTE:
        return f"{seconds} s"
    if seconds < 2 * HOUR:
        return f"{seconds // MINUTE} min"
    return f"{seconds // HOUR} h" if seconds < 2 * DAY else f"{seconds // DAY} days"
