"""Which snapshots of an account are kept, and why. Pure: nothing is read or removed here.

Ages count from the newest snapshot, not from now: an account of which nothing new is saved loses
nothing. A clock that went wrong must not empty a vault either:

* a snapshot whose time lies in the future is kept, and no age is counted from it;
* what would remove most of an account's snapshots at once is not done unless a person looked at it
  (`Choice.excessive`), which is what one snapshot made in a wrong year would lead to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from backupd.config.retention import Spans
from backupd.mirror.names import parse_time
from backupd.model import Snapshot
from backupd.vaults.vault import COMPLETE, PINNED

AHEAD = timedelta(hours=1)
"""A snapshot may be so much newer than now: clocks of two machines differ."""

FEW, MOST = 10, 0.5
"""More snapshots than this, and more than this share of all, are not removed at once without a person."""

BUCKETS: dict[str, Callable[[datetime], tuple[int, ...]]] = {
    "hourly": lambda t: (t.year, t.month, t.day, t.hour),
    "daily": lambda t: (t.year, t.month, t.day),
    "weekly": lambda t: tuple(t.isocalendar())[:2],
    "monthly": lambda t: (t.year, t.month),
    "yearly": lambda t: (t.year,),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a retention comes to.

    Attributes:
        keep: id → why, of everything that stays.
        drop: what goes, oldest first.
        ahead: how many of those that stay lie in the future.
    """

    keep: dict[str, str] = field(default_factory=dict)
    drop: tuple[Snapshot, ...] = ()
    ahead: int = 0

    @property
    def excessive(self) -> bool:
        """Whether so much would go at once that a person should look first."""
        count = len(self.drop)
        return count > FEW and count > MOST * (count + len(self.keep))


def choose(found: Sequence[Snapshot], spans: Spans, now: datetime) -> Choice:
    """Sort the snapshots of one account into those that stay and those that go.

    One whose time cannot be read stays.
    """
    timed = sorted(((_time(each), each) for each in found), key=lambda pair: pair[0])
    past = [pair for pair in timed if pair[0] <= now + AHEAD]
    keep = {each.id: "lies in the future" for time, each in timed if time > now + AHEAD}
    ahead = len(keep)
    if past:
        newest = past[-1][0]
        _keep_what_counts(past, keep)
        for _, each in (pair for pair in past if _within(newest, pair[0], spans.all)):
            keep.setdefault(each.id, "recent")
        for word, bucket in BUCKETS.items():
            span = getattr(spans, word)
            if span:
                _keep_one_each(
                    [pair for pair in past if _within(newest, pair[0], span)], bucket, word, keep
                )
    drop = tuple(each for _, each in past if each.id not in keep)
    return Choice(keep, drop, ahead)


def _keep_what_counts(past: Sequence[tuple[datetime, Snapshot]], keep: dict[str, str]) -> None:
    """The newest one, the newest in which nothing is missing, and whatever is pinned: always."""
    keep[past[-1][1].id] = "newest"
    complete = [each for _, each in past if COMPLETE in each.tags]
    if complete:
        keep.setdefault(complete[-1].id, "newest complete")
    for _, each in past:
        if PINNED in each.tags:
            keep.setdefault(each.id, "pinned")


def _keep_one_each(
    pairs: Sequence[tuple[datetime, Snapshot]],
    bucket: Callable[[datetime], tuple[int, ...]],
    word: str,
    keep: dict[str, str],
) -> None:
    """Of each hour, day, …: the newest complete one, or the newest if none is complete."""
    best: dict[tuple[int, ...], Snapshot] = {}
    for time, each in pairs:
        key = bucket(time)
        if key not in best or COMPLETE in each.tags or COMPLETE not in best[key].tags:
            best[key] = each
    for each in best.values():
        keep.setdefault(each.id, word)


def _within(newest: datetime, time: datetime, span: float) -> bool:
    return (newest - time).total_seconds() <= span


def _time(snapshot: Snapshot) -> datetime:
    return parse_time(snapshot.time) or datetime.max.replace(tzinfo=UTC)
