"""The verb sync: source → mirror, for one account.

Services go one after the other and fail one by one: a calendar that cannot be read does not
keep the mail from being saved. Whatever happens, the mirror only ever gains until `removal` has
asked the source and the guard.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from backupd.catalog import Catalog, loads
from backupd.catalog.rows import FolderRow, GapRow, id_of
from backupd.cutoff.verdict import GRAVE, cause_of
from backupd.errors import BackupdError, UserError
from backupd.home import Home
from backupd.mirror.files import Mirror
from backupd.mirror.tree import Tree
from backupd.model import Account, Collection, Gap, Service
from backupd.ports import Expecting, Source
from backupd.sync.guard import Guard
from backupd.sync.intake import Intake
from backupd.sync.placing import Tally, gap_of_service
from backupd.sync.recovery import recover
from backupd.sync.removal import settle

Progress = Callable[[Account, Service, str, Tally], None]
"""Told what is being worked on, after every collection: account, service, folder, what was done."""


@dataclass
class SyncResult:
    """What a sync of one account did.

    Attributes:
        errors: the services that could not be finished, and why.
        waiting: items in the retry ledger afterwards.
        revision: of the mirror afterwards.
    """

    account: Account
    tallies: dict[Service, Tally] = field(default_factory=dict)
    errors: dict[Service, BackupdError] = field(default_factory=dict)
    waiting: int = 0
    revision: int = 0
    seconds: float = 0.0


def sync_account(
    source: Source,
    account: Account,
    services: Iterable[Service],
    home: Home,
    guard: Guard,
    progress: Progress | None = None,
) -> SyncResult:
    """Bring the mirror of an account up to date.

    Raises TransientError(reason="busy") when another run is at it, UserError when the disk is
    full; everything else that goes wrong is in the result.
    """
    began = time.monotonic()
    result = SyncResult(account)
    with disk_errors(home), home.writing() as catalog, closing(home.mirror()) as mirror:
        chosen = services_of(account, services)
        home.remember(replace(account, services=frozenset(chosen)))
        recover(catalog, mirror)
        sync = _ServiceSync(source, account, catalog, mirror, guard, progress)
        for service in chosen:
            result.tallies[service] = Tally()
            try:
                sync.run(service, result.tallies[service])
            except BackupdError as error:
                result.errors[service] = error
                sync.heed(error)
        sync.close()
        result.waiting = len(catalog.retries())
        result.revision = catalog.revision
    result.seconds = time.monotonic() - began
    return result


def services_of(account: Account, wanted: Iterable[Service] = Service) -> list[Service]:
    """The services of an account that are wanted, in the order in which they are saved."""
    chosen = set(wanted)
    return [service for service in Service if service in account.services & chosen]


URGENT: Mapping[Service, frozenset[str]] = {
    Service.MAIL: frozenset({"inbox", "sentitems"}),
    Service.CALENDAR: frozenset({"calendar"}),
}
"""The special collections where loss hurts first."""

GLANCE_ITEMS = 1_000
"""A collection that is listed whole each time (a calendar) is looked at often only up to this size."""


def glance(source: Source, account: Account, services: Iterable[Service], home: Home) -> SyncResult:
    """Take in the changes of the urgent collections that are known: a request or so for each.

    No collection is looked for and nothing is removed: that is the next sync's. An account that
    was never synced is left to it altogether. Raises as `sync_account` does.
    """
    began = time.monotonic()
    result = SyncResult(account)
    if not home.catalog_path.exists():
        return result
    with disk_errors(home), home.writing() as catalog, closing(home.mirror()) as mirror:
        recover(catalog, mirror)
        taking = _Taking(source, account, catalog, mirror)
        for service in services_of(account, services):
            for row in catalog.collections(service):
                if _urgent(row, catalog):
                    taking.run(_as_listed(row), row, result)
        result.revision = catalog.revision
    result.seconds = time.monotonic() - began
    return result


@dataclass(frozen=True, slots=True)
class Share:
    """A part of an account: the collections of one service whose `special` is among these.

    Attributes:
        special: None stands for every collection.
    """

    service: Service
    special: frozenset[str] | None = None

    def takes(self, collection: Collection) -> bool:
        """Whether a collection belongs to it."""
        return self.special is None or collection.special in self.special


def gather(source: Source, account: Account, share: Share, home: Home) -> SyncResult:
    """Take in one share of an account and remove nothing. Raises as `sync_account` does."""
    began = time.monotonic()
    result = SyncResult(account)
    with disk_errors(home), home.writing() as catalog, closing(home.mirror()) as mirror:
        if home.account() is None:
            home.remember(account)
        recover(catalog, mirror)
        taking, tree = _Taking(source, account, catalog, mirror), Tree(catalog, mirror)
        try:
            listed = source.collections(account, share.service)
            for each in listed:
                if isinstance(each, Collection):
                    row = tree.collection(each)
                    if share.takes(each):
                        taking.run(each, row, result)
        except BackupdError as error:
            result.errors[share.service] = error
        result.waiting = len(catalog.retries())
        result.revision = catalog.revision
    result.seconds = time.monotonic() - began
    return result


def _urgent(row: FolderRow, catalog: Catalog) -> bool:
    """Whether a collection is urgent, was listed to its end once, and costs little to look at."""
    if row.special not in URGENT.get(row.service, ()) or not row.complete:
        return False
    return row.service is Service.MAIL or catalog.held(id_of(row)) <= GLANCE_ITEMS


def _as_listed(row: FolderRow) -> Collection:
    """A collection as the source told it last."""
    facts = loads(row.facts)
    return Collection(row.service, row.source_id, None, row.name, row.count, row.special, facts)


class _Taking:
    """Takes in collections of one account; the services fail one by one."""

    def __init__(self, source: Source, account: Account, catalog: Catalog, mirror: Mirror) -> None:
        self._place = source, account, catalog, mirror

    def run(self, collection: Collection, row: FolderRow, result: SyncResult) -> None:
        """The changes of one collection; errors go into `result`."""
        service = collection.service
        if service in result.errors:
            return
        tally = result.tallies.setdefault(service, Tally())
        try:
            Intake(*self._place, tally).run(collection, row)
        except BackupdError as error:
            result.errors[service] = error


class disk_errors:  # noqa: N801 - used as a context manager, like contextlib's own
    """Turns a disk that takes no more, or is not ours to write to, into words for a person."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise self._full() from error
        if isinstance(error, OSError) and error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise UserError(
                f"Cannot write {error.filename or self._home.folder}: {error.strerror}.",
                hint="The user running backupd must own state_dir and everything in it.",
                reason="not-writable",
            ) from error

    def _full(self) -> UserError:
        problem = UserError(
            f"No space left on the disk of {self._home.folder}.",
            hint="Free some space or move state_dir, then run this again. Nothing that was saved is "
            "lost; the next run goes on where this one stopped.",
            reason="disk-full",
        )
        problem.exit_code = 1
        return problem


class _ServiceSync:
    """Syncs the services of one account, one at a time."""

    def __init__(
        self,
        source: Source,
        account: Account,
        catalog: Catalog,
        mirror: Mirror,
        guard: Guard,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._account = account
        self._catalog = catalog
        self._mirror = mirror
        self._guard = guard
        self._progress = progress or (lambda *_: None)
        self._due = catalog.due_collections(int(time.time()))
        self._synced: dict[Service, int] = {}

    def close(self) -> None:
        """Note when each service was last synced well: one transaction, which waits for the disk, for all."""
        with self._catalog.transaction():
            for service, when in self._synced.items():
                self._catalog.put(f"synced:{service}", str(when))

    def heed(self, error: BackupdError) -> None:
        """One service is refused to us: what vanishes from the others in this run stays."""
        if cause_of(error) in GRAVE:
            self._guard = replace(self._guard, frozen=True)

    def run(self, service: Service, tally: Tally) -> None:
        """Every collection, then what left; and note the time when all of it went well."""
        intake = Intake(self._source, self._account, self._catalog, self._mirror, tally)
        found = self._collections(service)
        if isinstance(self._source, Expecting):
            known = [(each, row.cursor) for each, row in found if row.cursor]
            self._source.expect(self._account, known)
        for collection, row in found:
            self._progress(self._account, service, collection.name, tally)
            intake.run(collection, row)
            if row.id in self._due:
                intake.retry(collection, row)
            self._progress(self._account, service, collection.name, tally)
        counted = [(each, row) for each, row in found if each.count is not None and not row.gone]
        held = self._catalog.held_counts(service) if counted else {}
        for collection, row in counted:
            self._compare_counts(intake, collection, row, held.get(id_of(row), 0))
        source, account = self._source, self._account
        tally.removed = settle(source, account, service, self._catalog, self._mirror, self._guard)
        self._synced[service] = int(time.time())

    def _collections(self, service: Service) -> list[tuple[Collection, FolderRow]]:
        """The collections that exist now; those that no longer do are marked, and what they held."""
        listed = self._source.collections(self._account, service)
        seen = [each for each in listed if isinstance(each, Collection)]
        rows = Tree(self._catalog, self._mirror).collections(service, seen)
        alive = {each.id for each in seen}
        left = [row for row in self._catalog.collections(service) if row.source_id not in alive]
        gaps = [gap_of_service(service, gap) for gap in listed if isinstance(gap, Gap)]
        before = self._catalog.service_gaps(service)
        if left or sorted(map(_shown, gaps)) != sorted(map(_shown, before)):
            with self._catalog.transaction() as session:
                for row in left:
                    row.gone = True
                    session.add(row)
                    self._catalog.miss_all(id_of(row))
                self._catalog.drop_service_gaps(service)
                session.add_all(gaps)
        return list(zip(seen, rows, strict=True))

    def _compare_counts(
        self, intake: Intake, collection: Collection, row: FolderRow, held: int
    ) -> None:
        """Delta streams are known to omit items: where counts differ, list everything again.

        The counts were taken before the changes, so mail that arrives meanwhile makes us hold
        more: that is looked into only when it lasts. A difference that a full listing has
        confirmed (the source counts what it does not list) is remembered and left alone.
        """
        told = collection.count or 0
        drift = held - told
        if drift in {0, row.drift}:
            suspect, confirmed = False, drift
        elif drift < 0 or row.suspect:
            intake.run(collection, row, relist=True)
            suspect, confirmed = False, self._catalog.held(id_of(row)) - told
        else:
            suspect, confirmed = True, row.drift
        if (row.suspect, row.drift) != (suspect, confirmed):
            with self._catalog.transaction() as session:
                row.suspect, row.drift = suspect, confirmed
                session.merge(row)


def _shown(gap: GapRow) -> tuple[str, str, str, str]:
    return gap.source_id, gap.kind, gap.name, gap.why
