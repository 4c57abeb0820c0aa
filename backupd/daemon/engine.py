"""The schedule of one configuration: jobs for every account, and the few workers that do them.

Two lanes with threads of their own: `slow` (sync, snapshot; `limits.workers` of them) and `fast`
(a glance at what is most urgent), so that the glances of many accounts never wait behind the long
first sync of a few. In a lane jobs are done in the order in which they fell due, and none can
queue twice: however many accounts share a worker, each gets its turn before any gets a second.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial

from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from backupd.app import GRAVEST_FIRST, App, Outcome
from backupd.cutoff.verdict import Case
from backupd.daemon import rounds
from backupd.daemon.attention import Attention, Stopping
from backupd.daemon.ears import Ears
from backupd.daemon.evacuation import evacuating
from backupd.daemon.events import Bulletin
from backupd.daemon.history import Ended, History
from backupd.daemon.jobs import FAST, JOBS, ROUNDS
from backupd.errors import BackupdError
from backupd.marks import mark_of, word
from backupd.model import Account
from backupd.ports import Source

log = logging.getLogger(__name__)

FAST_WORKERS = 4
"""A glance waits for the network, not for the machine."""
PATIENCE = 5.0
"""Seconds that a sync waits for a glance at the same account to end."""
STUCK = 3600.0
"""Seconds without any progress after which a job hangs: longer than every pause a server may ask for."""
TICK = 5.0
"""Seconds between two signs of life of the scheduler."""
LATE = 60.0
"""Seconds without such a sign after which the scheduler hangs."""


@dataclass
class Ward:
    """An account in the care of the service.

    Attributes:
        turn: held by the job that is at it.
        owed: verbs that fell due meanwhile; whoever ends does them.
    """

    account: Account
    turn: threading.Lock = field(default_factory=threading.Lock)
    owed: set[str] = field(default_factory=set)

    @property
    def scope(self) -> str:
        """How incidents and history name it."""
        return f"{self.account.source}/{self.account.address}"

    @property
    def mark(self) -> str:
        """How log lines name it."""
        return mark_of(self.account.source, self.account.address)


class Engine:
    """Runs the jobs of one configuration until it is stopped."""

    def __init__(self, app: App, history: History, bulletin: Bulletin) -> None:
        self.app, self.history, self.bulletin = app, history, bulletin
        self.jobs = {job.verb: job for job in JOBS}
        self.ears = Ears()
        self.wards: dict[str, Ward] = {}
        self.cases: dict[str, Case] = {}
        self.alarmed = False
        self.disk_low = False
        self.stuck_after = STUCK
        self._stop, self._pause = threading.Event(), threading.Event()
        self._lock = threading.RLock()
        self._running: set[Attention] = set()
        self._sources: dict[str, Source] = {}
        self._connections = ExitStack()
        self._ticked = time.monotonic()
        self._scheduler = BackgroundScheduler(
            timezone=UTC,
            executors={
                "slow": ThreadPoolExecutor(app.config.limits.workers),
                "fast": ThreadPoolExecutor(FAST_WORKERS),
                "rounds": ThreadPoolExecutor(len(app.config.sources) + 6),
                "tick": ThreadPoolExecutor(1),
            },
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )

    # -- beginning and end --------------------------------------------------------------------

    def start(self) -> None:
        """Schedule everything that is known; the jobs begin at once."""
        self._every(TICK, self._tick, "tick", "tick")
        for name in self.app.config.sources:
            for account in rounds.held(self.app, name):
                self.take_in(account)
            again = max(self.app.config.schedule.sync, 1.0)
            self._every(again, partial(rounds.discover, self, name), f"discover:{name}", "rounds")
        self.cases = {case.scope: case for case in self.app.incidents.cases()}
        for each in ROUNDS:
            self._every(each.every(self.app.config), partial(each.work, self), each.name, "rounds")
        self._scheduler.start()

    def stop(self, seconds: float) -> bool:
        """End every job at its next safe point; False when some did not within `seconds`."""
        until = time.monotonic() + seconds
        self._stop.set()
        with suppress(RuntimeError):  # a scheduler that never started has nothing to end
            self._scheduler.shutdown(wait=False)
        _wait(lambda: not self._running, until - seconds * 0.25)
        closer = threading.Thread(target=self._connections.close, name="close", daemon=True)
        closer.start()  # what still waits for an answer is woken by this
        closer.join(max(0.1, until - time.monotonic()))
        return _wait(lambda: not self._running, until) and not closer.is_alive()

    # -- accounts -----------------------------------------------------------------------------

    def take_in(self, account: Account) -> bool:
        """Take care of an account; False when it is already."""
        with self._lock:
            ward = Ward(account)
            if ward.scope in self.wards:
                self.wards[ward.scope].account = account
                return False
            self.wards[ward.scope] = ward
        log.debug("account %s is %s", ward.mark, ward.scope)
        for job in self.jobs.values():
            if seconds := job.every(self.app.config):
                run, name = partial(self._run, ward, job.verb), f"{job.verb} {ward.mark}"
                self._every(seconds, run, f"{job.verb}:{ward.scope}", job.lane, name=name)
        return True

    def let_go(self, scope: str) -> None:
        """No longer sync an account that vanished; what is held of it is still snapshotted."""
        for job in self.jobs.values():
            with suppress(JobLookupError):
                if job.source:
                    self._scheduler.remove_job(f"{job.verb}:{scope}")
        with self._lock:
            self.wards.pop(scope, None)

    def hasten(self, ward: Ward) -> None:
        """Something changed at an account: its next glance is due once whoever is at it has ended."""
        if ward.turn.acquire(timeout=STUCK):
            ward.turn.release()
        with suppress(JobLookupError):
            self._scheduler.modify_job(f"{FAST}:{ward.scope}", next_run_time=datetime.now(UTC))

    def source(self, name: str) -> Source:
        """The one connection to a source, made when first needed."""
        with self._lock:
            if name not in self._sources:
                self._sources[name] = self._connections.enter_context(self.app.source(name))
            return self._sources[name]

    # -- being looked after -------------------------------------------------------------------

    def look(self) -> None:
        """Called every second: stand aside while somebody evacuates."""
        if evacuating(self.app.config.state_dir):
            if not self._pause.is_set():
                log.warning("an evacuation is under way: everything else waits")
            self._pause.set()
        elif self._pause.is_set():
            log.info("the evacuation has ended")
            self._pause.clear()

    @property
    def healthy(self) -> bool:
        """Whether the scheduler lives and no job is stuck."""
        now = time.monotonic()
        return now - self._ticked < LATE and not any(
            now - each.seen > self.stuck_after for each in tuple(self._running)
        )

    def halted(self) -> bool:
        """Whether nothing new may begin: the end is near, or somebody evacuates."""
        return self._stop.is_set() or self._pause.is_set()

    @property
    def working(self) -> int:
        """Jobs at work."""
        return len(self._running)

    @property
    def words(self) -> str:
        """One line for `systemctl status`."""
        doing = f"{self.working} at work, {self.history.failing} failing"
        waiting = ", waiting for an evacuation" if self._pause.is_set() else ""
        return f"{len(self.wards)} accounts, {doing}{waiting}"

    @contextmanager
    def attention(self, what: str, mark: str, *, pauses: bool = True) -> Iterator[Attention]:
        """Watch over a job until it ends; one that does not pause goes on while somebody evacuates."""
        stops = (self._stop, self._pause) if pauses else (self._stop,)
        attention = Attention(what, mark, *stops)
        self._running.add(attention)
        try:
            yield attention
        finally:
            self._running.discard(attention)

    # -- one job ------------------------------------------------------------------------------

    def _run(self, ward: Ward, verb: str) -> None:
        """One verb for one account, unless it is not the time for it."""
        while verb and not self._waits(verb):
            urgent = self.jobs[verb].urgent
            if not ward.turn.acquire(timeout=0 if urgent else PATIENCE):
                if not urgent:
                    ward.owed.add(verb)
                return
            try:
                self._perform(ward, verb)
            finally:
                ward.turn.release()
            verb = ward.owed.pop() if not urgent and ward.owed else ""

    def _waits(self, verb: str) -> bool:
        quiet = self.app.config.schedule.quiet_now()
        return self.halted() or (quiet and not self.jobs[verb].urgent)

    def _perform(self, ward: Ward, verb: str) -> None:
        began = time.monotonic()
        with self.attention(verb, ward.mark) as attention:
            try:
                outcome = self.jobs[verb].work(self, ward.account, attention)
            except Stopping:
                return
            except Exception as error:  # a bug costs one job of one account, not the service
                log.error(  # noqa: TRY400 - the message may name people, so the traceback is for --debug
                    "account %s: %s broke: %s", ward.mark, verb, type(error).__name__
                )
                log.debug("", exc_info=True)
                if self.halted():
                    return  # its connection was closed under it
                named = BackupdError(f"{verb} broke: {type(error).__name__}", reason="broken")
                outcome = Outcome(ward.account.address, ward.account.source, error=named)
        for each in outcome.errors:
            _without_frames(each)
        self._ended(ward, verb, outcome, time.monotonic() - began)

    def _ended(self, ward: Ward, verb: str, outcome: Outcome, seconds: float) -> None:
        """Note what became of it, log it, and tell those who listen."""
        errors = [each for each in outcome.errors if each.reason != "busy"]
        if not errors and outcome.errors:
            return  # another process is at this account
        if not errors and outcome.sync is None and outcome.snapshot is None:
            return  # never synced: there is nothing to snapshot yet
        gravest = min(errors, key=_gravity, default=None)
        new = _new(outcome)
        run = Ended(
            ended=time.time(),
            seconds=round(seconds, 3),
            ok=gravest is None,
            code=gravest.exit_code if gravest else 0,
            reason=gravest.reason if gravest else "",
            new=new,
        )
        run = self.history.ended(ward.scope, verb, run)
        self.alarmed = self.alarmed or not run.ok
        _log(ward.mark, verb, run, gravest)
        facts = {"verb": verb, "seconds": seconds, "ok": run.ok, "code": run.code, "new": new}
        account = ward.account
        self.bulletin.tell(
            "run-ended",
            account.source,
            account.address,
            **facts,
            reason=run.reason,
            error=gravest,
            outcome=outcome,
        )

    # -- the scheduler ------------------------------------------------------------------------

    def _tick(self) -> None:
        self._ticked = time.monotonic()

    def _every(
        self, seconds: float, job: Callable[[], None], id_: str, lane: str, *, name: str = ""
    ) -> None:
        """Do a job now, or soon, and then every so often, give or take the jitter."""
        jitter = seconds * self.app.config.schedule.jitter if name else 0.0
        soon = random.uniform(0, jitter)  # noqa: S311 - spreads load, keeps no secret
        with suppress(RuntimeError):  # stopped meanwhile
            self._scheduler.add_job(
                job,
                IntervalTrigger(seconds=seconds - jitter / 2, jitter=jitter or None, timezone=UTC),
                id=id_,
                name=name or id_,
                executor=lane,
                replace_existing=True,
                next_run_time=datetime.now(UTC) + timedelta(seconds=soon),
            )


def _wait(until_true: Callable[[], bool], until: float) -> bool:
    """Wait for a condition, up to a moment of the monotonic clock; whether it came true."""
    while not until_true():
        if time.monotonic() >= until:
            return False
        time.sleep(0.05)
    return True


def _without_frames(error: BaseException | None) -> None:
    """An error that is kept must not keep what was open when it was raised.

    Its traceback holds the frames, and these hold the error: such a ring, with the files of a mirror
    in it, is found by the garbage collector only once in a long while.
    """
    if error is not None and error.__traceback__ is not None:
        error.__traceback__ = None
        _without_frames(error.__cause__)
        _without_frames(error.__context__)


def _gravity(error: BackupdError) -> int:
    return GRAVEST_FIRST.index(error.exit_code) if error.exit_code in GRAVEST_FIRST else 0


def _new(outcome: Outcome) -> int:
    if outcome.snapshot is not None:
        return len(outcome.snapshot.made)
    tallies = outcome.sync.tallies.values() if outcome.sync else ()
    return sum(each.fetched for each in tallies)


def _log(mark: str, verb: str, run: Ended, error: BackupdError | None) -> None:
    if error is None:
        level = logging.INFO if run.new else logging.DEBUG
        log.log(level, "account %s: %s: %d new, %.1f s", mark, verb, run.new, run.seconds)
        return
    known = run.failures > 1
    log.log(
        logging.INFO if known else logging.WARNING,
        "account %s: %s failed (%s), %d times in a row; `backupd status %s` says more",
        mark,
        verb,
        word(run.reason),
        run.failures,
        mark,
    )
    log.debug("account %s: %s", mark, error)
