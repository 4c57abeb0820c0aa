"""`backupd evacuate`: get out what can still be got out, what hurts most first.

Everything else waits: the service sees the lock and stands aside. Nothing is removed, whatever
the source says, and one account that fails does not hold up the others.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

from backupd.app import App, Outcome, Run, matches
from backupd.config import AccountFilter
from backupd.errors import BackupdError, UserError
from backupd.home import Home, home_of
from backupd.locks import exclusive
from backupd.model import Account, Service
from backupd.ports import Source
from backupd.sync import Share

PLAN = (
    ("inbox, sent mail, drafts", Share(Service.MAIL, frozenset({"inbox", "sentitems", "drafts"}))),
    ("calendars", Share(Service.CALENDAR)),
    ("contacts", Share(Service.CONTACTS)),
    ("other mail", Share(Service.MAIL)),
    ("files", Share(Service.FILES)),
)
"""The order, and what people call it."""

BUSY_PATIENCE, BUSY_PAUSE = 120.0, 0.5
"""Seconds that one account is waited for while another process ends its work on it, and between two looks."""

Told = Callable[[str, Account, Outcome], None]
"""Told what was just done: stage, account, outcome."""


@dataclass
class Evacuated:
    """What an evacuation brought out.

    Attributes:
        run: outcomes by account; the error is the first one met.
        ages: seconds since the newest item now protected was received, by account, where one is known.
        protected: accounts of which every storage holds all that was brought out.
    """

    run: Run = field(default_factory=Run)
    ages: dict[str, float] = field(default_factory=dict)
    protected: list[str] = field(default_factory=list)


def lock_of(state_dir: Path) -> Path:
    """The lock that whoever evacuates holds."""
    return state_dir / "evacuation.lock"


def evacuating(state_dir: Path) -> bool:
    """Whether an evacuation is under way, in any process."""
    try:
        with lock_of(state_dir).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def evacuate(app: App, patterns: Sequence[str] = (), told: Told | None = None) -> Evacuated:
    """Take in everything of the accounts that match, stage by stage, then snapshot it everywhere.

    Raises TransientError(reason="busy") when an evacuation is under way, UserError when no account
    matches.
    """
    result = Evacuated()
    app.config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        exclusive(lock_of(app.config.state_dir), "an evacuation"),
        ExitStack() as connections,
        ThreadPoolExecutor(app.config.limits.workers) as workers,
    ):
        sources = {name: connections.enter_context(app.source(name)) for name in app.config.sources}
        accounts = _accounts(app, sources, patterns, result.run)
        outcomes = {_scope(each): Outcome(each.address, each.source) for each in accounts}
        result.run.outcomes = list(outcomes.values())
        for stage, work in _stages(app, sources):
            done = workers.map(lambda each, work=work: (each, work(each)), accounts)
            for account, outcome in done:
                if outcome is not None:
                    _merge(outcomes[_scope(account)], outcome)
                    if told:
                        told(stage, account, outcome)
        for account in accounts:
            _sum_up(app, account, outcomes[_scope(account)], result)
    return result


Work = Callable[[Account], Outcome | None]


def _stages(app: App, sources: dict[str, Source]) -> Iterator[tuple[str, Work]]:
    """What is done for every account before the next thing is done for any."""
    for stage, share in PLAN:

        def take_in(account: Account, share: Share = share) -> Outcome | None:
            wanted = account.services & frozenset(app.config.sources[account.source].services)
            if share.service not in wanted:
                return None
            source = sources[account.source]
            return _patiently(lambda: app.gather_one(source, account, share))

        yield stage, take_in
    yield "snapshots", lambda account: _patiently(lambda: app.snapshot_one(_home(app, account)))


def _accounts(
    app: App, sources: dict[str, Source], patterns: Sequence[str], run: Run
) -> list[Account]:
    """Those that the sources offer; where one does not answer, those that are known of it."""
    found: dict[str, Account] = {}
    for name, source in sources.items():
        try:
            found |= {_scope(each): each for each in source.accounts()}
        except BackupdError as error:
            run.source_errors[name] = error
            found = {_scope(each): each for each in held(app, name)} | found
    chosen = [each for each in found.values() if matches(each.address, patterns)]
    if not chosen:
        raise UserError(
            "There is no account to evacuate.",
            hint="`backupd accounts` lists those that the source offers; what is held here already is "
            "safe, and `backupd restore` needs no source.",
            reason="which-account",
        )
    return chosen


def held(app: App, name: str) -> list[Account]:
    """The accounts of a source that are held here and wanted by the configuration."""
    wanted = AccountFilter(app.config.sources[name].accounts)
    known = [home.account() for home in app.homes() if home.folder.parent.name == name]
    return [each for each in known if each is not None and wanted.takes(each.address)]


def _patiently(work: Callable[[], Outcome]) -> Outcome:
    """Do it as soon as whoever is at the account has ended."""
    until = time.monotonic() + BUSY_PATIENCE
    while True:
        outcome = work()
        busy = outcome.error is not None and outcome.error.reason == "busy"
        if not busy or time.monotonic() >= until:
            return outcome
        time.sleep(BUSY_PAUSE)


def _merge(whole: Outcome, part: Outcome) -> None:
    """Add what a stage did to what was done before it; the same error is kept once."""
    whole.error = whole.error or part.error
    whole.snapshot = part.snapshot or whole.snapshot
    if part.sync is None:
        return
    if whole.sync is None:
        whole.sync = part.sync
        return
    for service, tally in part.sync.tallies.items():
        total = whole.sync.tallies.setdefault(service, type(tally)())
        for each in fields(tally):
            setattr(total, each.name, getattr(total, each.name) + getattr(tally, each.name))
    told = {str(error) for error in whole.errors}
    whole.sync.errors |= {
        service: error for service, error in part.sync.errors.items() if str(error) not in told
    }
    whole.sync.waiting = part.sync.waiting


def _sum_up(app: App, account: Account, outcome: Outcome, result: Evacuated) -> None:
    """How old the newest item is that every storage now holds."""
    snapshot = outcome.snapshot
    whole = snapshot is not None and not snapshot.errors and bool(app.config.storage)
    if not whole:
        return
    result.protected.append(account.address)
    home = _home(app, account)
    with home.reading() as catalog:
        newest = catalog.newest_mail()
    with suppress(ValueError):
        received = datetime.fromisoformat(newest)
        result.ages[account.address] = max(0.0, time.time() - received.timestamp())


def _home(app: App, account: Account) -> Home:
    return home_of(app.config.state_dir, account.source, account.address)


def _scope(account: Account) -> str:
    return f"{account.source}/{account.address}"
