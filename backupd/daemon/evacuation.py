"""`backupd evacuate`: get out what can still be got out, what hurts most first.

Everything else waits: the service sees the lock and stands aside. Nothing is removed, whatever
the source says, and one account that fails does not hold up the others. People are told when it
begins, and when it has ended whether a snapshot of everything is in every storage.

By [cutoff] evacuate the service begins by itself. When each source was evacuated last is noted in
`<state_dir>/evacuation.json`, so that it does so once a day at most.
"""

from __future__ import annotations

import fcntl
import json
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, fields
from datetime import datetime
from pathlib import Path

from backupd.alerts import notices
from backupd.alerts.sending import Alerts, Message
from backupd.app import App, Outcome, Run
from backupd.config import AccountFilter
from backupd.cutoff.verdict import FROZEN, GRAVE, Cause, State
from backupd.daemon.attention import Attended, Attention
from backupd.errors import BackupdError, UserError
from backupd.home import Home, home_of, matches
from backupd.locks import exclusive
from backupd.model import Account, Service
from backupd.ports import Source
from backupd.sync.account import Share

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

REACHED = {
    "never": frozenset[State](),
    "suspected": FROZEN,
    "degraded": FROZEN | {State.DEGRADED},
}
"""States in which the service evacuates by itself, by [cutoff] evacuate."""
WORTH = GRAVE | {Cause.CONSENT}
"""Causes that make it worth while: an outage, or what we can repair ourselves, does not."""
NOTES = "evacuation.json"
AGAIN = 86_400.0
"""Seconds between two evacuations of one source that nobody asked for."""

Told = Callable[[str, Account, Outcome], None]
"""Told what was just done: stage, account, outcome."""


@dataclass
class Evacuated:
    """What an evacuation brought out.

    Attributes:
        run: outcomes by account; the error is the first one met.
        lacking: accounts (as `SOURCE/ADDRESS`) of which that does not hold, and why.
        ages: seconds since the newest item now protected was received, by account, where one is known.
        protected: accounts of which every storage holds all that was brought out.
    """

    run: Run = field(default_factory=Run)
    lacking: dict[str, str] = field(default_factory=dict)
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


def evacuate(
    app: App,
    patterns: Sequence[str] = (),
    told: Told | None = None,
    *,
    names: Collection[str] | None = None,
    attention: Attention | None = None,
) -> Evacuated:
    """Take in everything of the accounts that match, stage by stage, then snapshot it everywhere.

    Raises TransientError(reason="busy") when an evacuation is under way, UserError when no account
    matches, Stopping when `attention` says so.

    Args:
        names: of the sources; all of them without.
    """
    result, began = Evacuated(), time.time()
    app.config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        exclusive(lock_of(app.config.state_dir), "an evacuation"),
        ExitStack() as connections,
        ThreadPoolExecutor(app.config.limits.workers) as workers,
    ):
        sources: dict[str, Source] = {}
        for name in app.config.sources if names is None else names:
            source = connections.enter_context(app.source(name))
            sources[name] = Attended(source, attention) if attention else source
        accounts = _accounts(app, sources, patterns, result.run)
        crier = Crier(app, [_scope(each) for each in accounts], began)
        outcomes = {_scope(each): Outcome(each.address, each.source) for each in accounts}
        result.run.outcomes = list(outcomes.values())
        for stage, work in _stages(app, sources, attention):
            done = workers.map(lambda each, work=work: (each, work(each)), accounts)
            for account, outcome in done:
                if outcome is not None:
                    _merge(outcomes[_scope(account)], outcome)
                    if told:
                        told(stage, account, outcome)
        for account in accounts:
            _sum_up(app, account, outcomes[_scope(account)], result)
        crier.ended(result)
        if not patterns:
            _note(app, sources, began)
    return result


class Crier:
    """Tells people, over the channels of [alerts]: at once, while the work goes on, and at the end."""

    def __init__(self, app: App, scopes: Sequence[str], began: float) -> None:
        self._alerts = Alerts(app.config.alerts, app.config.state_dir)
        self._scopes, self._began = scopes, began
        self._storages = list(app.config.storage)
        begun = notices.of_evacuation_begun(scopes, self._storages, began)
        self._telling = threading.Thread(target=self._tell, args=(begun,), daemon=True)
        self._telling.start()

    def ended(self, result: Evacuated) -> None:
        """Whether a snapshot of everything is in every storage."""
        self._telling.join()
        seconds = time.time() - self._began
        self._tell(
            notices.of_evacuation(
                self._scopes, result.lacking, self._storages, self._began, seconds
            )
        )

    def _tell(self, message: Message) -> None:
        self._alerts.tell(message)


def wanted(app: App, now: float) -> list[str]:
    """The sources that [cutoff] wants evacuated now."""
    states = REACHED[app.config.cutoff.evacuate]
    if not states:
        return []
    noted = _noted(app)
    found = {
        case.scope.partition("/")[0]
        for case in app.incidents.cases()
        if case.state in states and case.cause in WORTH and not case.released
    }
    recent = {name for name, when in noted.items() if 0 <= now - when < AGAIN}
    return sorted(found & set(app.config.sources) - recent)


def _noted(app: App) -> dict[str, float]:
    """When each source was evacuated last; nothing where that is not known."""
    try:
        return dict(json.loads((app.config.state_dir / NOTES).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def _note(app: App, sources: Iterable[str], began: float) -> None:
    fresh = app.config.state_dir / f".{NOTES}.new"
    fresh.write_text(json.dumps(_noted(app) | dict.fromkeys(sources, began)), encoding="utf-8")
    fresh.replace(app.config.state_dir / NOTES)


Work = Callable[[Account], Outcome | None]


def _stages(
    app: App, sources: dict[str, Source], attention: Attention | None
) -> Iterator[tuple[str, Work]]:
    """What is done for every account before the next thing is done for any."""
    for stage, share in PLAN:

        def take_in(account: Account, share: Share = share) -> Outcome | None:
            wanted = account.services & frozenset(app.config.sources[account.source].services)
            if share.service not in wanted:
                return None
            source = sources[account.source]
            return _patiently(lambda: app.gather_one(source, account, share))

        yield stage, take_in
    listen = attention.listen if attention else None
    yield (
        "snapshots",
        lambda account: _patiently(lambda: app.snapshot_one(_home(app, account), listen)),
    )


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
    """How old the newest item is that every storage now holds; or why not every one does."""
    snapshot = outcome.snapshot
    if outcome.errors or snapshot is None or not app.config.storage:
        first = next(iter(outcome.errors), None)
        result.lacking[_scope(account)] = str(first) if first else "there is nothing of it yet"
    if snapshot is None or snapshot.errors or not app.config.storage:
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
