"""The bell: hears what happens, and tells a person when it matters.

Whoever runs backups says `bell.heard(event)` and goes on at once; a thread gathers what belongs
together, compares it with what was told before (`<state>/alerts.json`), and sends. It never raises,
and a channel that hangs delays nothing but itself.
"""

from __future__ import annotations

import logging
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from backupd.alerts import notices
from backupd.alerts.notices import Failure
from backupd.alerts.sending import Alerts
from backupd.alerts.tidings import Changed, Cycle, Event, Found, Ran, Told, event_of, results_of
from backupd.app import App
from backupd.config import AccountFilter
from backupd.cutoff.incidents import Incidents
from backupd.cutoff.verdict import Case, Cause, State
from backupd.errors import BackupdError
from backupd.home import Home
from backupd.jobs.keeping import overdue
from backupd.marks import mark_of, word
from backupd.ports import Finding
from backupd.report.status import Freshness, freshness

log = logging.getLogger(__name__)

GATHER = 3.0
"""Seconds for which events are gathered, so that a tenant of a thousand accounts is one message."""
LOOK_EVERY = 60.0
"""Seconds between two looks at the age of all copies."""
EARLY_EVERY = 6 * 3600.0
"""Seconds between two questions to the sources about what announces a cut-off."""
ASKING = 20.0
"""Seconds that a run which has ended waits for the answer."""
DAY = 86_400.0
"""Seconds for which a finding that has not changed is told once."""
CLOSING = 45.0
"""Seconds that a run waits at its end for what is still to be told."""
LOW_BYTES, LOW_SHARE = 2 << 30, 0.03
"""Free space below which the disk of the mirrors is a matter: either is enough."""


class Bell:
    """Hears events and tells of them; make one a process, and close it at the end."""

    def __init__(
        self, app: App, *, gather: float = GATHER, clock: Callable[[], float] = time.time
    ) -> None:
        self._app = app
        self._alerts = Alerts(app.config.alerts, app.config.state_dir, clock=clock)
        self._gather = gather
        self._clock = clock
        self._events: queue.SimpleQueue[Event | None] = queue.SimpleQueue()
        self._start = threading.Lock()
        self._thread: threading.Thread | None = None
        self._asking: threading.Thread | None = None
        self._looked = self._pinged = self._asked = float("-inf")

    def heard(self, event: Event) -> None:
        """Take note; returns at once and never raises. May be called from any thread."""
        self._events.put(event)
        with self._start:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="bell", daemon=True)
                self._thread.start()

    def listen(self, told: Told) -> None:
        """Hear what the service tells of itself (the kinds are those of `backupd.daemon.events`)."""
        event = event_of(told)
        if event is not None:
            self.heard(event)
        if told.kind == "minute":
            self._minute()

    def _minute(self) -> None:
        """The service never ends: it is the dead man's proof of life, as often as it syncs."""
        if time.monotonic() - self._pinged >= self._app.config.schedule.sync:
            self._pinged = time.monotonic()
            self.heard(Cycle(good=self._well()))

    def _well(self) -> bool:
        """No account fails again and again, and none is frozen."""
        failing = self._alerts.memory.read().get("failing", {}).values()
        most = max((each["count"] for each in failing), default=0)
        try:
            frozen = any(each.frozen for each in Incidents(self._app.config.state_dir).cases())
        except BackupdError:
            return False
        return not frozen and most < self._app.config.alerts.failures

    def close(self, patience: float = CLOSING) -> None:
        """Wait for what is still to be told, so long; what is not told then is told next time."""
        with self._start:
            thread = self._thread
        if thread is not None:
            until = time.monotonic() + patience
            self._events.put(None)
            thread.join(patience)
            if self._asking is not None and not thread.is_alive():
                self._asking.join(min(ASKING, max(0.0, until - time.monotonic())))
                self._last(until)

    def _last(self, until: float) -> None:
        """What the sources announced while we were closing."""
        with self._start:
            self._thread = threading.Thread(target=self._work, name="bell", daemon=True)
            self._thread.start()
        self._events.put(None)
        self._thread.join(max(0.0, until - time.monotonic()))

    # -- the thread ---------------------------------------------------------------------------

    def _work(self) -> None:
        going = True
        while going:
            batch, going = self._batch()
            steps = (self._cases, self._runs, self._found) if self._alerts.channels() else ()
            for step in (*steps, self._cycle, self._early) if batch else ():
                try:
                    step(batch)
                except Exception as error:  # an alert never breaks a backup, nor another alert
                    log.error("What happened could not be told: %s", type(error).__name__)  # noqa: TRY400
                    log.debug("", exc_info=True)  # its words may name people

    def _batch(self) -> tuple[list[Event], bool]:
        """The next event and those right behind it; and whether there is more to come."""
        first = self._events.get()
        found: list[Event] = [first] if first else []
        until = time.monotonic() + self._gather
        while first is not None:
            try:
                first = self._events.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return found, True
            found += [first] if first else []
        return found, False

    # -- runs that fail -----------------------------------------------------------------------

    def _runs(self, batch: Sequence[Event]) -> None:
        results = [
            each for event in batch if isinstance(event, Ran) for each in results_of(event.run)
        ]
        if not results:
            return
        mended: set[str] = set()
        with self._alerts.memory.change() as stored:
            failing: dict[str, Any] = stored.setdefault("failing", {})
            for tried, error in results:
                if error is not None:
                    _count(failing, tried, error)
                elif failing.pop(tried, {}).get("told"):
                    mended.add(tried)
        for scopes in _by_source(each.partition(" ")[2] for each in sorted(mended)).values():
            self._alerts.tell(notices.of_repairs(scopes, self._fresh(scopes)))
        self._tell_failing(failing)

    def _tell_failing(self, failing: Mapping[str, Any]) -> None:
        """Those that have not been told by their case already: a cut-off fails every run."""
        groups: dict[tuple[str, str, bool], dict[str, Any]] = {}
        incidents = Incidents(self._app.config.state_dir)
        for tried, each in failing.items():
            source, _, address = tried.partition(" ")[2].partition("/")
            if incidents.frozen(source, address):
                continue
            if each["count"] >= self._app.config.alerts.failures:
                key = (_source(tried), each["reason"], bool(each["told"]))
                groups.setdefault(key, {})[tried] = each
        for group in groups.values():
            failures = [
                Failure(verb, scope, each["count"], each["why"], each["hint"])
                for tried, each in sorted(group.items())
                for verb, _, scope in [tried.partition(" ")]
            ]
            scopes = [each.scope for each in failures]
            if self._alerts.tell(notices.of_failures(failures, self._fresh(scopes))):
                with self._alerts.memory.change() as stored:
                    for tried in group:
                        stored["failing"].get(tried, {})["told"] = True

    # -- findings -----------------------------------------------------------------------------

    def _found(self, batch: Sequence[Event]) -> None:
        findings = [each for event in batch if isinstance(event, Found) for each in event.findings]
        grave = [each for each in findings if each.level != "ok"]
        told: dict[str, float] = self._alerts.memory.read().get("findings", {})
        now = self._clock()
        new = [each for each in grave if now - told.get(_words(each), -DAY) >= DAY]
        message = notices.of_findings([(each.subject, each.message, each.hint) for each in new])
        if new and self._alerts.tell(message):
            with self._alerts.memory.change() as stored:
                recent = {words: when for words, when in told.items() if now - when < DAY}
                stored["findings"] = recent | {_words(each): now for each in new}

    def _early(self, batch: Sequence[Event]) -> None:
        """Now and then, in a thread of its own, ask the sources what announces a cut-off."""
        asked = time.monotonic() - self._asked < LOOK_EVERY
        if asked or not batch or not self._alerts.channels():
            return
        self._asked = time.monotonic()
        with self._alerts.memory.change() as stored:
            if 0 <= self._clock() - stored.get("asked", 0.0) < EARLY_EVERY:
                return
            stored["asked"] = self._clock()
        self._asking = threading.Thread(target=self._ask, name="early-warning", daemon=True)
        self._asking.start()

    def _ask(self) -> None:
        try:
            findings = tuple(self._app.warnings())
            self._app.opinions.of_channels(self._app.config.alerts.channels(), ask=True)
        except Exception as error:  # noqa: BLE001 - runs tell what is wrong with a source
            log.info("No source could be asked for early warnings: %s", type(error).__name__)
            return
        if findings:
            self.heard(Found(findings))

    # -- cases --------------------------------------------------------------------------------

    def _cases(self, batch: Sequence[Event]) -> None:
        """What is thought now against what was told last: also what changed while nobody ran."""
        incidents = Incidents(self._app.config.state_dir)
        cases = {case.scope: case for case in incidents.cases()}
        cases |= {
            event.after.scope: event.after
            for event in batch
            if isinstance(event, Changed) and event.after.scope not in cases
        }
        told: dict[str, str] = self._alerts.memory.read().get("cases", {})
        groups: dict[tuple[str, State, Cause], list[Case]] = {}
        for scope, case in cases.items():
            if told.get(scope, State.HEALTHY.value) != case.state.value:
                groups.setdefault((_source(scope), case.state, case.cause), []).append(case)
        frozen = [case for case in cases.values() if case.frozen]
        for group in groups.values():
            self._tell_cases(group, incidents, calm=_calm(group, frozen))
        self._remind([case for case in frozen if told.get(case.scope) == case.state], frozen)

    def _tell_cases(self, group: list[Case], incidents: Incidents, *, calm: bool) -> None:
        scopes = [case.scope for case in group]
        evidence = incidents.evidence(scopes[0], 1)
        said = evidence[-1].said if evidence else ""
        message = notices.of_case(group, self._fresh(scopes), said, calm=calm)
        if group[0].state in {State.RECOVERED, State.HEALTHY}:
            self._alerts.over(f"case:{State.SUSPECTED}:", f"case:{State.CONFIRMED}:", "still:")
        if self._alerts.tell(message):
            with self._alerts.memory.change() as stored:
                known = stored.setdefault("cases", {})
                known.update({case.scope: case.state.value for case in group})
                stored.setdefault("since", {}).update({scope: self._clock() for scope in scopes})

    def _remind(self, told: Sequence[Case], frozen: Sequence[Case]) -> None:
        """Once more, as long as it lasts and nobody has released it."""
        since = self._alerts.memory.read().get("since", {})
        due = [
            case
            for case in told
            if self._clock() - since.get(case.scope, 0.0) >= self._app.config.alerts.repeat
        ]
        for scopes in _by_source(case.scope for case in due).values():
            group = [case for case in due if case.scope in scopes]
            fresh, calm = self._fresh(scopes), _calm(group, frozen)
            self._alerts.tell(notices.still(group, fresh, self._clock(), calm=calm))

    # -- the end of a cycle -------------------------------------------------------------------

    def _cycle(self, batch: Sequence[Event]) -> None:
        cycles = [event.good for event in batch if isinstance(event, Cycle)]
        if cycles:
            self._alerts.ping(good=all(cycles))
        ended = cycles or any(isinstance(event, Ran) for event in batch)
        due = time.monotonic() - self._looked >= LOOK_EVERY
        if ended and due and self._alerts.channels():
            self._looked = time.monotonic()
            self._disk()
            self._stale()
            self._overdue()

    def _overdue(self) -> None:
        """A retention that fails silently fills a storage, or costs money until somebody looks."""
        late = [(each.subject, each.message, each.hint) for each in overdue(self._app)]
        if late:
            self._alerts.tell(notices.of_findings(late))

    def _disk(self) -> None:
        where = self._app.config.state_dir
        usage = shutil.disk_usage(where)
        if usage.free < min(LOW_BYTES, usage.total // 4) or usage.free < LOW_SHARE * usage.total:
            self._alerts.tell(notices.of_disk(str(where), usage.free, usage.total))

    def _stale(self) -> None:
        limit = self._app.config.alerts.stale
        old = [each for home, each in self._wanted() if _is_stale(home, each, limit, self._clock())]
        before = set(self._alerts.memory.read().get("stale", ()))
        new = [each for each in old if each.scope not in before]
        fine = before - {each.scope for each in old}
        told = {each.scope for each in new} if self._told_stale(new, limit) else set()
        self._told_stale([each for each in old if each.scope in before], limit)
        if told or fine:
            with self._alerts.memory.change() as stored:
                stored["stale"] = sorted((before - fine) | told)

    def _told_stale(self, old: Sequence[Freshness], limit: float) -> bool:
        return bool(old) and self._alerts.tell(notices.of_stale(old, limit))

    # -- looking ------------------------------------------------------------------------------

    def _wanted(self) -> list[tuple[Home, Freshness]]:
        """The accounts that are held and still to be saved."""
        sections = self._app.config.sources.items()
        filters = {name: AccountFilter(section.accounts) for name, section in sections}
        return [
            (home, fresh)
            for home in self._app.homes()
            if (chosen := filters.get(home.folder.parent.name)) and chosen.takes(home.address)
            if (fresh := self._freshness(home))
        ]

    def _fresh(self, scopes: Sequence[str]) -> list[Freshness]:
        """How old the copies of the accounts are that scopes mean: one each, or a whole source."""
        chosen = [
            home
            for home in self._app.homes()
            if {f"{home.folder.parent.name}/{home.address}", home.folder.parent.name} & set(scopes)
        ]
        return [fresh for home in chosen if (fresh := self._freshness(home))]

    def _freshness(self, home: Home) -> Freshness | None:
        try:
            return freshness(home, list(self._app.config.storage))
        except BackupdError as error:
            mark = mark_of(home.folder.parent.name, home.address)
            log.warning("account %s: cannot be looked at (%s)", mark, word(error.reason))
            log.debug("account %s: %s", mark, error)
            return None


def _calm(group: Sequence[Case], frozen: Sequence[Case]) -> bool:
    """Whether none of these cases needs to alarm anybody."""
    source = _source(group[0].scope)
    together = sum(_source(case.scope) == source for case in frozen)
    return all(notices.is_calm(case, together) for case in group)


def _count(failing: dict[str, Any], scope: str, error: BackupdError) -> None:
    known = failing.get(scope, {})
    failing[scope] = {
        "count": known.get("count", 0) + 1,
        "reason": error.reason,
        "why": str(error),
        "hint": error.hint,
        "told": known.get("told", False),
    }


def _is_stale(home: Home, fresh: Freshness, limit: float, now: float) -> bool:
    """Too old; or not there yet, long after the account was first seen."""
    if fresh.worst is not None:
        return fresh.worst > limit
    try:
        seen = (home.folder / "account.json").stat().st_mtime
    except OSError:
        return True
    return now - seen > limit


def _words(finding: Finding) -> str:
    return f"{finding.subject}: {finding.message}"


def _source(scope: str) -> str:
    return scope.partition("/")[0].rpartition(" ")[2]


def _by_source(scopes: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for scope in scopes:
        groups.setdefault(_source(scope), []).append(scope)
    return groups
