"""Retention over all accounts and storages: the rounds, whether they are on time, and what is wrong.

A round that ended well for every account is noted per storage. That it ended well lately is an
aim of its own, since a forget that silently fails fills a storage, and a prune that silently fails
costs money until somebody looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from backupd.app import App
from backupd.config import Storage
from backupd.config.retention import Spans, spans
from backupd.errors import BackupdError
from backupd.home import Home
from backupd.model import Service
from backupd.ports import Finding
from backupd.report.status import in_words
from backupd.sync.account import services_of
from backupd.vaults.forget import ForgetResult, PruneResult, Terms, forget_account, prune_account
from backupd.vaults.locations import parse
from backupd.vaults.locked import lock_account, look_at_all
from backupd.vaults.storages import Health, Round
from backupd.vaults.vault import Vault

FORGET, PRUNE = "forget", "prune"

LATE = 3
"""So many intervals without a good round are too many."""

AGAIN = 3600.0
"""Seconds after which a round that failed is tried again."""

Result = ForgetResult | PruneResult


@dataclass
class Rounds:
    """What a forget or prune did, account by account."""

    verb: str
    results: list[Result] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """4 when something is held back that a person must look at, 1 or what failed, else 0."""
        codes = [error.exit_code for each in self.results for error in each.errors.values()]
        return next((code for code in (5, 4, 2, 1, 75) if code in codes), max(codes, default=0))


def forget_all(
    app: App,
    patterns: Sequence[str] = (),
    *,
    approved: bool = False,
    dry_run: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Rounds:
    """Forget what [retention] does not keep, and lock again what stays, frozen or not.

    `check` is called between accounts and may raise.
    """
    if not dry_run:
        look_at_all(app)

    def one(home: Home) -> ForgetResult:
        terms = Terms(_spans(app, home), why_held(app, home), approved, dry_run, app.clock())
        vaults = _begun(app, home)
        locked, failed = ({}, {}) if dry_run else lock_account(app, home, vaults)
        result = forget_account(home, vaults, terms)
        result.locked.update(locked)
        result.errors = failed | result.errors
        return result

    return _round(app, FORGET, one, patterns, check, noted=not patterns and not dry_run)


def prune_all(
    app: App,
    patterns: Sequence[str] = (),
    *,
    every_vault: bool = False,
    check: Callable[[], None] = lambda: None,
) -> Rounds:
    """Remove what no snapshot needs, where something was forgotten (or from `every_vault`)."""
    done: set[str] = set()

    def one(home: Home) -> PruneResult:
        vaults = [each for each in _begun(app, home) if each.repository.location not in done]
        done.update(each.repository.location for each in vaults)
        shared = any(each.shared for each in vaults)
        held = why_held(app, home) or (anybody_held(app) if shared else "")
        return prune_account(home, vaults, held, due=every_vault, beat=check)

    return _round(app, PRUNE, one, patterns, check, noted=not patterns)


def why_held(app: App, home: Home) -> str:
    """Why nothing of an account may be removed now, or "". What cannot be read counts as a reason."""
    source = home.folder.parent.name
    try:
        case = app.incidents.frozen(source, home.address)
        removal = app.incidents.removal(source, home.address)
    except BackupdError as error:
        return str(error)
    if case:
        return f"{home.address} is frozen ({case.state}): `backupd incidents` says why"
    if removal and not removal.used:
        return f"a removal of {home.address} waits for a person: `backupd incidents` shows it"
    return ""


def anybody_held(app: App) -> str:
    """One vault for all: nothing goes while anybody in it is frozen."""
    return next((why for home in app.homes() if (why := why_held(app, home))), "")


def due(app: App, verb: str) -> bool:
    """Whether it is time for a round, by the storage that had its last good one the longest ago."""
    every, now = _interval(app, verb), app.clock()
    rounds = [_last(app.storages.health(each.name), verb) for each in _removable(app)]
    return any(
        not 0 <= now - each.good < every and not 0 <= now - each.ended < AGAIN for each in rounds
    )


def findings(app: App) -> Iterator[Finding]:
    """What is wrong with storages and retention, from what was noted: nobody is asked."""
    for name, storage in app.config.storage.items():
        health = app.storages.health(name)
        yield from _reach(health, app.clock())
        if storage.object_lock and health.object_lock not in {"", "locks"}:
            yield Finding("error", f"storage.{name}", f"NOT locked: {health.object_lock_said}", "`backupd doctor` says more.")  # fmt: skip
    yield from overdue(app)


def overdue(app: App) -> Iterator[Finding]:
    """Where a forget or prune failed, or has not ended well for too long."""
    for name, storage in app.config.storage.items():
        yield from _late(app, storage, app.storages.health(name))


def settings(app: App) -> Iterator[Finding]:
    """What a storage's configuration means that its owner may not have meant."""
    for name, storage in app.config.storage.items():
        if parse(storage.repository).in_clear:
            yield Finding(
                "warning", f"storage.{name}", "its keys and passwords cross the network unencrypted",
                "Use https:// (ca_file names the authority of a certificate of your own).",
            )  # fmt: skip
        health = app.storages.health(name)
        if health.object_lock_said:
            fine = health.object_lock == "locks" or not storage.object_lock
            yield Finding(
                "ok" if fine else "error", f"storage.{name}", health.object_lock_said,
                "object_lock is set, and nothing is locked: make a new bucket with Object Lock.",
            )  # fmt: skip
        if storage.append_only:
            yield Finding(
                "ok", f"storage.{name}",
                "append-only: this machine forgets and prunes nothing there. Run `backupd forget` and "
                "`backupd prune` on a machine whose key may remove, with the same [retention]",
            )  # fmt: skip


# -- parts ------------------------------------------------------------------------------------


def _round(
    app: App,
    verb: str,
    one: Callable[[Home], Result],
    patterns: Sequence[str],
    check: Callable[[], None],
    *,
    noted: bool,
) -> Rounds:
    rounds = Rounds(verb)
    for home in app.homes(patterns):
        check()
        rounds.results.append(one(home))
    for storage in _removable(app) if noted else ():
        note = partial(_noted, verb, storage.name, rounds.results, app.clock())
        app.storages.change(storage.name, note)
    return rounds


def _noted(
    verb: str, storage: str, results: Sequence[Result], now: float, health: Health
) -> Health:
    failed = [each.errors[storage] for each in results if storage in each.errors]
    before = _last(health, verb)
    after = Round(
        ended=now,
        good=before.good if failed else now,
        since=before.since or now,
        removed=sum(_count(each, storage) for each in results),
        held=sum(storage in each.held for each in results),
        failed=len(failed),
        said=str(failed[0]) if failed else "",
    )
    return replace(health, forget=after) if verb == FORGET else replace(health, prune=after)


def _count(result: Result, storage: str) -> int:
    if isinstance(result, PruneResult):
        return int(storage in result.pruned)
    return len(result.chosen[storage].drop) if storage in result.chosen else 0


def _begun(app: App, home: Home) -> list[Vault]:
    """The vaults that hold something of an account."""
    with home.reading() as catalog:
        return [each for each in app.vaults(home) if catalog.get(f"snapshot:{each.storage}:id")]


def _spans(app: App, home: Home) -> dict[str, Spans]:
    """What holds for an account in each storage, by the services that are saved of it."""
    account, section = home.account(), app.config.sources.get(home.folder.parent.name)
    wanted = section.services if section else Service
    services = services_of(account, wanted) if account else []
    return {
        name: spans(services, storage.retention, app.config.retention)
        for name, storage in app.config.storage.items()
    }


def _removable(app: App) -> list[Storage]:
    return [each for each in app.config.storage.values() if not each.append_only]


def _interval(app: App, verb: str) -> float:
    return app.config.schedule.forget if verb == FORGET else app.config.schedule.prune


def _last(health: Health, verb: str) -> Round:
    return health.forget if verb == FORGET else health.prune


def _reach(health: Health, now: float) -> Iterator[Finding]:
    if health.well:
        return
    since = f"last reached {in_words(max(0, int(now - health.reached)))} ago" if health.reached else "never reached"  # fmt: skip
    yield Finding(
        "warning", f"storage.{health.storage}", f"{health.said} ({health.failures} times in a row, {since})",
        health.hint,
    )  # fmt: skip


def _late(app: App, storage: Storage, health: Health) -> Iterator[Finding]:
    if storage.append_only:
        return
    for verb in (FORGET, PRUNE):
        last = _last(health, verb)
        began = last.good or last.since
        waited = app.clock() - began
        if last.failed:
            yield Finding(
                "warning", f"storage.{storage.name}",
                f"the last {verb} failed for {last.failed} accounts, for one of them: {last.said}",
                f"`backupd {verb}` says it of each, with what to do.",
            )  # fmt: skip
        elif began and waited > LATE * _interval(app, verb):
            yield Finding(
                "warning", f"storage.{storage.name}",
                f"no {verb} has ended well there for {in_words(int(waited))}",
                f"Run `backupd {verb}` and look at what it says; does `backupd run` run?",
            )  # fmt: skip
