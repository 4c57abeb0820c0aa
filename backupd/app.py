"""Composition: a configuration becomes sources and vaults, and the verbs run over accounts.

The only core module that imports `sources`; `restores` composes what goes the other way.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import sources
from backupd.config import AccountFilter, Config
from backupd.cutoff.incidents import Incidents
from backupd.cutoff.mx import Routes
from backupd.cutoff.opinions import Opinions
from backupd.cutoff.verdict import GRAVE, Case, Patience, cause_of
from backupd.cutoff.vigil import Vigil
from backupd.errors import BackupdError, ConfigError, CutOff, UserError
from backupd.home import Home, home_of, homes, matches, one_home
from backupd.law.acceptance import require_storages
from backupd.mirror.index import write_account
from backupd.model import Account
from backupd.ports import Finding, Probing, Source
from backupd.restore.contents import MirrorContents
from backupd.restore.unpacking import VaultContents, from_vault
from backupd.sync.account import Progress, Share, SyncResult, gather, glance, sync_account
from backupd.sync.guard import Guard
from backupd.sync.recovery import recover
from backupd.vaults.restic import Restic
from backupd.vaults.snapshot import Listener, SnapshotResult, snapshot_account
from backupd.vaults.storages import Storages
from backupd.vaults.vault import Vault, vault_of

T = TypeVar("T", Account, Home)
log = logging.getLogger(__name__)


@dataclass
class Outcome:
    """What a run did for one account: its sync, its snapshots, or the error that ended it."""

    address: str
    source: str
    sync: SyncResult | None = None
    snapshot: SnapshotResult | None = None
    error: BackupdError | None = None
    incident: Case | None = None
    """Why the account is frozen, if it is."""

    @property
    def errors(self) -> list[BackupdError]:
        """Everything that went wrong."""
        found = [self.error] if self.error else []
        found += self.sync.errors.values() if self.sync else ()
        found += self.snapshot.errors.values() if self.snapshot else ()
        return found


@dataclass
class Run:
    """What a run did: per account, and what kept it from finding accounts at all."""

    outcomes: list[Outcome] = field(default_factory=list)
    source_errors: dict[str, BackupdError] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """The gravest of all: integrity, cut-off or guard, failure, try later, items waiting, done."""
        codes = [error.exit_code for error in self.source_errors.values()]
        for outcome in self.outcomes:
            codes += [error.exit_code for error in outcome.errors]
            codes += [3] if outcome.sync and outcome.sync.waiting else []
        return next((code for code in GRAVEST_FIRST if code in codes), 0)


GRAVEST_FIRST = (5, 4, 2, 1, 75, 3)
"""Exit codes by what needs a person most."""


@dataclass(frozen=True)
class App:
    """Everything a configuration describes, made when it is needed.

    Attributes:
        clock: seconds since 1970; what incidents are timed by.
    """

    config: Config
    clock: Callable[[], float] = time.time

    # -- where things are ---------------------------------------------------------------------

    @cached_property
    def restic(self) -> Restic:
        """The configured restic."""
        return Restic(self.config.restic)

    @cached_property
    def storages(self) -> Storages:
        """What is known of every storage, and the gates in front of them."""
        return Storages(self.config.state_dir)

    @cached_property
    def vigil(self) -> Vigil:
        """What hears of every sync, and freezes and probes when it must."""
        patience = Patience(self.config.cutoff.consent, self.config.cutoff.blocked)
        return Vigil(
            self.config.state_dir, self.source, self.vaults, self.clock, patience, self.opinions
        )

    @cached_property
    def opinions(self) -> Opinions:
        """Who else is asked about an account that is refused."""
        routes = Routes(self.config.state_dir, self.config.dns.servers, self.clock)
        return Opinions(self.config.state_dir, self.source, tuple(self.config.sources), routes)

    @property
    def incidents(self) -> Incidents:
        """What is thought of every source and account."""
        return self.vigil.incidents

    def homes(self, patterns: Sequence[str] = ()) -> list[Home]:
        """The accounts held here that match any pattern, or have its mark (all without one)."""
        return homes(self.config.state_dir, patterns)

    def home(self, address: str | None) -> Home:
        """The one account meant. Raises UserError unless exactly one is."""
        return one_home(self.config.state_dir, address)

    def vaults(self, home: Home) -> list[Vault]:
        """The vaults of an account, one a storage."""
        restic, source = self.restic, home.folder.parent.name
        return [
            vault_of(
                storage,
                restic,
                self.config.state_dir,
                (source, home.address),
                self.storages.gate(storage.name),
            )
            for storage in self.config.storage.values()
        ]

    def vault(self, home: Home, storage: str | None = None) -> Vault:
        """The vault in a storage, the first one when none is named. Raises ConfigError."""
        for vault in self.vaults(home):
            if storage in {None, vault.storage}:
                return vault
        named = f"[storage.{storage}]" if storage else "any [storage.NAME]"
        raise ConfigError(f"The configuration has not {named}.", hint="Add it, or name another.")

    @contextmanager
    def source(self, name: str) -> Iterator[Source]:
        """A source by its section, closed at the end."""
        source = sources.connect(self.config.sources[name], self._held_of)
        try:
            yield source
        finally:
            source.close()

    def _held_of(self, name: str) -> Iterator[Account]:
        """The accounts of a source that were ever synced here, whether it still answers or not."""
        for home in self.homes():
            account = home.account() if home.folder.parent.name == name else None
            if account is not None:
                yield account

    # -- the verbs ----------------------------------------------------------------------------

    def accounts(self, patterns: Sequence[str] = ()) -> Iterator[Account]:
        """The accounts that the sources offer and the patterns match."""
        for name in self.config.sources:
            with self.source(name) as source:
                yield from (each for each in source.accounts() if matches(each.address, patterns))

    def sync(
        self,
        patterns: Sequence[str] = (),
        *,
        approved: bool = False,
        progress: Progress | None = None,
        then: Callable[[Home, Account], SnapshotResult] | None = None,
    ) -> Run:
        """Sync every account that matches, several at a time; `then` follows each at once."""
        self._need_sources()
        run = Run()
        for name in self.config.sources:
            with self.source(name) as source:

                def one(account: Account, source: Source = source) -> Outcome:
                    return self.sync_one(
                        source, account, approved=approved, progress=progress, then=then
                    )

                chosen, broken_off = self.listing(source, patterns)
                self._each(one, chosen, run)
                if broken_off:
                    run.source_errors[name] = broken_off
                else:
                    run.outcomes += self.vanished(source, chosen, patterns)
        if patterns and not run.outcomes and not run.source_errors:
            raise UserError(
                f"No account matches {' '.join(patterns)}.", hint="`backupd accounts` lists them."
            )
        return run

    def snapshot(self, patterns: Sequence[str] = (), listen: Listener | None = None) -> Run:
        """Snapshot every account held here that changed."""
        self._need_storage()
        run = Run()
        self._each(lambda home: self.snapshot_one(home, listen), self.homes(patterns), run)
        return run

    def backup(
        self,
        patterns: Sequence[str] = (),
        *,
        approved: bool = False,
        progress: Progress | None = None,
    ) -> Run:
        """Sync and snapshot every account; those whose source is out of reach are snapshotted too."""
        self._need_storage()
        run = self.sync(
            patterns,
            approved=approved,
            progress=progress,
            then=self.then_snapshot,
        )
        if run.source_errors:
            done = {(outcome.source, outcome.address) for outcome in run.outcomes}
            for outcome in self.snapshot(patterns).outcomes:
                if (outcome.source, outcome.address) not in done:
                    run.outcomes.append(outcome)
        return run

    def watch(self, now: float) -> list[Case]:
        """What an incident needs that is due: probes by backoff, pins that failed; cheap when nothing is."""
        self.vigil.patrol(self.config.sources, now)
        return self.vigil.watch(now)

    def warnings(self) -> Iterator[Finding]:
        """What announces a cut-off, from every source that can tell; worth asking for every six hours."""
        for name in self.config.sources:
            held = [home.account() for home in self.homes() if home.folder.parent.name == name]
            with self.source(name) as source:
                if isinstance(source, Probing):
                    yield from source.warnings([account for account in held if account])
        yield from self.opinions.warnings(self.opinions.domains(), self.clock())

    # -- the verbs, for one account; what goes wrong is in the outcome --------------------------

    def listing(
        self, source: Source, patterns: Sequence[str] = ()
    ) -> tuple[list[Account], BackupdError | None]:
        """The accounts that match, and what broke the list off; the incidents hear of it."""
        chosen, broken_off = _listed(source, patterns)
        self.vigil.listed(source, broken_off)
        return chosen, broken_off

    def vanished(
        self, source: Source, seen: Iterable[Account], patterns: Sequence[str] = ()
    ) -> list[Outcome]:
        """An account that we hold, want, and are no longer offered is an incident, not an absence."""
        wanted = AccountFilter(self.config.sources[source.name].accounts)
        offered = {account.address for account in seen}
        outcomes = []
        for home in self.homes(patterns):
            held = home.folder.parent.name == source.name and wanted.takes(home.address)
            if held and home.address not in offered:
                outcome = Outcome(home.address, source.name, error=_vanished(home.address))
                self._heard(source, home.account(), outcome)
                outcomes.append(outcome)
        return outcomes

    def sync_one(
        self,
        source: Source,
        account: Account,
        *,
        approved: bool = False,
        progress: Progress | None = None,
        then: Callable[[Home, Account], SnapshotResult] | None = None,
    ) -> Outcome:
        """Sync an account; `then` follows at once."""
        home = home_of(self.config.state_dir, account.source, account.address)
        outcome = Outcome(account.address, account.source)
        limit = self.config.guard
        guard = Guard(limit.share, limit.items, limit.window, approved)
        services = self.config.sources[account.source].services
        try:
            guard = self.vigil.guard(guard, account.source, account.address)
            outcome.sync = sync_account(source, account, services, home, guard, progress)
        except BackupdError as error:
            outcome.error = error
        self._heard(source, account, outcome)
        try:
            outcome.snapshot = then(home, account) if then and outcome.sync else None
        except BackupdError as error:
            outcome.error = error
        return outcome

    def glance_one(self, source: Source, account: Account) -> Outcome:
        """Take in what is new where it is most urgent; a request or so for each such collection."""
        home = home_of(self.config.state_dir, account.source, account.address)
        outcome = Outcome(account.address, account.source)
        try:
            services = self.config.sources[account.source].services
            outcome.sync = glance(source, account, services, home)
        except BackupdError as error:
            outcome.error = error
        grave = [error for error in outcome.errors if cause_of(error) in GRAVE]
        if grave:  # what goes well is for a whole sync to say
            self.vigil.refused(source, account, grave[0])
        return outcome

    def gather_one(self, source: Source, account: Account, share: Share) -> Outcome:
        """Take in one share of an account, adding only."""
        home = home_of(self.config.state_dir, account.source, account.address)
        outcome = Outcome(account.address, account.source)
        try:
            outcome.sync = gather(source, account, share, home)
        except BackupdError as error:
            outcome.error = error
        return outcome

    def snapshot_one(self, home: Home, listen: Listener | None = None) -> Outcome:
        """Snapshot an account that changed."""
        account = home.account()
        outcome = Outcome(home.address, home.folder.parent.name)
        try:
            if account is not None:
                outcome.snapshot = self.then_snapshot(home, account, listen)
        except BackupdError as error:
            outcome.error = error
        return outcome

    def then_snapshot(
        self, home: Home, account: Account, listen: Listener | None = None
    ) -> SnapshotResult:
        """Snapshot an account into all its vaults; a frozen one never into something emptier."""
        frozen = self.incidents.frozen(home.folder.parent.name, home.address) is not None
        return snapshot_account(home, account, self.vaults(home), listen, frozen=frozen)

    def _heard(self, source: Source, account: Account | None, outcome: Outcome) -> None:
        """Tell the vigil what became of an account; what it thinks goes into the outcome."""
        try:
            if outcome.error and account:
                self.vigil.refused(source, account, outcome.error)
            elif outcome.sync:
                self.vigil.synced(source, outcome.sync.account, outcome.sync)
            outcome.incident = self.incidents.frozen(outcome.source, outcome.address)
        except BackupdError as error:
            outcome.error = outcome.error or error

    @contextmanager
    def held(
        self,
        home: Home,
        *,
        storage: str | None = None,
        snapshot: str | None = None,
        at: str | None = None,
        from_mirror: bool = False,
    ) -> Iterator[MirrorContents | VaultContents]:
        """What can be restored: a snapshot of the vault, or the mirror as it is now."""
        if not from_mirror:
            vault = self.vault(home, storage)
            with from_vault(
                vault, vault.pick(snapshot, at), self.config.state_dir / "tmp"
            ) as contents:
                yield contents
            return
        account = home.account()
        if account is not None:
            with home.writing() as catalog:
                recover(catalog, home.mirror())
                write_account(catalog, home.mirror(), account)
        yield MirrorContents(home.mirror_path)

    # -- helpers ------------------------------------------------------------------------------

    def _each(self, work: Callable[[T], Outcome], things: Iterable[T], run: Run) -> None:
        """Do the work for every account, `limits.workers` at a time; a bug costs one its turn, not the others theirs."""
        with ThreadPoolExecutor(self.config.limits.workers) as workers:
            waiting = {workers.submit(work, thing): thing for thing in things}
            try:
                for done in as_completed(waiting):
                    try:
                        run.outcomes.append(done.result())
                    except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
                        run.outcomes.append(_broken(waiting[done], error))
            except BaseException:
                workers.shutdown(cancel_futures=True)
                raise
        run.outcomes.sort(key=lambda outcome: (outcome.source, outcome.address))

    def _need_sources(self) -> None:
        if not self.config.sources:
            raise ConfigError(
                "The configuration has no [sources.NAME].", hint="`backupd init` writes one."
            )

    def _need_storage(self) -> None:
        if not self.config.storage:
            raise ConfigError(
                "The configuration has no [storage.NAME].", hint="`backupd init` writes one."
            )
        require_storages(self.config)


def _listed(source: Source, patterns: Sequence[str]) -> tuple[list[Account], BackupdError | None]:
    """The accounts that match, and what broke the list off: those before it are saved all the same."""
    chosen: list[Account] = []
    try:
        chosen.extend(each for each in source.accounts() if matches(each.address, patterns))
    except BackupdError as error:
        return chosen, error
    return chosen, None


def _broken(thing: Account | Home, error: Exception) -> Outcome:
    """What nobody foresaw: a disk that does what it should not, or a mistake of ours."""
    log.debug("", exc_info=error)
    source = thing.source if isinstance(thing, Account) else thing.folder.parent.name
    if isinstance(error, OSError):
        what = f"{error.strerror or error}: {error.filename or 'unknown file'}"
        advice = "Check the path, its permissions and its disk."
    else:
        what = f"backupd broke at this account: {type(error).__name__}: {error}"
        advice = "This is a mistake in backupd: please report what the same command says with `backupd --debug`."
    hint = f"The other accounts went on, and what was saved is safe. {advice}"
    named = BackupdError(what, hint=hint, reason="broken")
    return Outcome(thing.address, source, error=named)


def _vanished(address: str) -> CutOff:
    return CutOff(
        f"{address} is no longer among the accounts of the source.",
        hint="All that was saved of it is kept, here and in the vaults. If the account was deleted on "
        f'purpose, exclude it: add "!{address}" to `accounts` of its source.',
        reason="account",
    )
