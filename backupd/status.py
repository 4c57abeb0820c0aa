"""The state of what we hold: if we were cut off now, what would be lost, and what is wrong."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field

from backupd.catalog import Catalog
from backupd.home import Home
from backupd.model import Service
from backupd.snapshot import needs_snapshot
from backupd.sync import services_of


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
class AccountStatus:
    """One account.

    Attributes:
        synced: seconds since the last complete sync, by service; None when there was none yet.
        missing: items that vanished at the source and wait for the guard or for certainty.
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

    @property
    def oldest_sync(self) -> int | None:
        """The age of the service that was synced longest ago; None when one never was."""
        ages = list(self.synced.values())
        return None if None in ages or not ages else max(age for age in ages if age is not None)

    @property
    def newest_copy(self) -> int | None:
        """The age of the newest snapshot anywhere."""
        return min((copy.age for copy in self.copies), default=None)


def status_of(home: Home, storages: list[str]) -> AccountStatus:
    """Read the state of one account; a run under way is not disturbed."""
    account = home.account()
    services = services_of(account) if account else list(Service)
    with home.reading() as catalog:
        copies = [copy for name in storages if (copy := _copy(catalog, name))]
        status = AccountStatus(
            address=home.address,
            source=home.folder.parent.name,
            items={service: catalog.totals(service)[0] for service in services},
            size=catalog.totals()[1],
            synced={service: _age(catalog.get(f"synced:{service}")) for service in services},
            copies=copies,
            waiting=_waiting(catalog),
            gaps=dict(Counter(gap.kind for gap in catalog.gaps())),
            notes=catalog.notes(),
            missing=catalog.absent(),
        )
    return _judged(status, storages)


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
    status.problems.extend(problems)
    return status


def _copy(catalog: Catalog, storage: str) -> Copy | None:
    snapshot_id = catalog.get(f"snapshot:{storage}:id")
    age = _age(catalog.get(f"snapshot:{storage}:time"))
    if not snapshot_id or age is None:
        return None
    return Copy(storage, snapshot_id, age, not needs_snapshot(catalog, storage))


def _age(stamp: str) -> int | None:
    return max(0, int(time.time()) - int(stamp)) if stamp else None


def _waiting(catalog: Catalog) -> list[Trouble]:
    groups: dict[str, list[str]] = {}
    for row in catalog.retries():
        groups.setdefault(row.reason, []).append(row.message)
    return [Trouble(reason, len(found), found[0]) for reason, found in sorted(groups.items())]
