"""What is done over and over, as two tables: for every account, and for no account in particular.

A new job is one more line. Whatever it does, it is stopped through its `Attention` at the next safe
point, and what goes wrong belongs into its outcome.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.app import Outcome
from backupd.config import Config
from backupd.daemon import rounds
from backupd.daemon.attention import Attended, Attention
from backupd.home import home_of
from backupd.model import Account

if TYPE_CHECKING:
    from backupd.daemon.engine import Engine

SYNC, FAST, SNAPSHOT = "sync", "fast", "snapshot"


@dataclass(frozen=True, slots=True)
class Job:
    """Something that is done for every account.

    Attributes:
        verb: its name in the history, in log lines and to those who listen.
        every: seconds between two runs, by the configuration; 0 is never.
        work: does it.
        lane: `slow` shares `limits.workers` threads, `fast` has threads of its own.
        source: needs the source: it ends when the account has vanished there.
        urgent: runs in quiet hours as well, and never waits for another job of the same account.
    """

    verb: str
    every: Callable[[Config], float]
    work: Callable[[Engine, Account, Attention], Outcome]
    lane: str = "slow"
    source: bool = False
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Round:
    """Something that concerns no single account; it has a thread to itself and asks `engine.halted()`."""

    name: str
    every: Callable[[Config], float]
    work: Callable[[Engine], None]


def _sync(engine: Engine, account: Account, attention: Attention) -> Outcome:
    return engine.app.sync_one(Attended(engine.source(account.source), attention), account)


def _glance(engine: Engine, account: Account, attention: Attention) -> Outcome:
    return engine.app.glance_one(Attended(engine.source(account.source), attention), account)


def _snapshot(engine: Engine, account: Account, attention: Attention) -> Outcome:
    home = home_of(engine.app.config.state_dir, account.source, account.address)
    return engine.app.snapshot_one(home, attention.listen)


JOBS = (
    Job(SYNC, lambda config: config.schedule.sync, _sync, source=True),
    Job(FAST, lambda config: config.schedule.fast, _glance, "fast", source=True, urgent=True),
    Job(SNAPSHOT, lambda config: config.schedule.snapshot, _snapshot),
)
"""For every account, the more urgent first."""

ROUNDS = (
    Round("cases", lambda _: rounds.SOON, rounds.after_failures),
    Round("listen", lambda _: rounds.MINUTE, rounds.listen),
    Round("minute", lambda _: rounds.MINUTE, rounds.minute),
    Round("evacuations", lambda _: rounds.SOON, rounds.evacuations),
    Round("forget", lambda _: rounds.RETAIN, rounds.forget),
    Round("verify", lambda _: rounds.MINUTE, rounds.verify),
    Round("prune", lambda _: rounds.RETAIN, rounds.prune),
)
"""For no account in particular."""
