"""The table that says how long snapshots are kept."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import Field

from backupd.config.values import Section, Span
from backupd.model import Service

DAY = 86_400.0
YEAR = 31_557_600.0


@dataclass(frozen=True, slots=True)
class Spans:
    """How far back from an account's newest snapshot which of its snapshots are kept, in seconds.

    Attributes:
        all: every one.
        hourly, daily, weekly, monthly, yearly: one of each hour, day, ISO week, month, year (UTC).
    """

    all: float = 2 * DAY
    hourly: float = 0.0
    daily: float = 30 * DAY
    weekly: float = YEAR
    monthly: float = 10 * YEAR
    yearly: float = 0.0


FIELDS = {
    "all": "keep_within",
    "hourly": "keep_within_hourly",
    "daily": "keep_within_daily",
    "weekly": "keep_within_weekly",
    "monthly": "keep_within_monthly",
    "yearly": "keep_within_yearly",
}


class Rules(Section):
    """What restic calls `--keep-within…`, as far as it is said here."""

    keep_within: Span | None = None
    """Every snapshot not older than this, counted from the newest one."""
    keep_within_hourly: Span | None = None
    keep_within_daily: Span | None = None
    keep_within_weekly: Span | None = None
    keep_within_monthly: Span | None = None
    keep_within_yearly: Span | None = None


class Retention(Rules):
    """Rules for every account, and other ones for accounts that have a service.

    A snapshot holds a whole account, so it cannot be kept for one service and forgotten for another:
    of all the services that an account has, the one that keeps longest decides.
    """

    services: Mapping[Service, Rules] = Field(default_factory=dict)


def spans(services: Iterable[Service], *tables: Retention | None) -> Spans:
    """What holds for an account with these services; of several tables the first that says anything."""
    given = [each for each in tables if each is not None]
    wanted: list[Service | None] = [*services] or [None]
    return Spans(**{
        word: max(_said(field, service, given, getattr(Spans(), word)) for service in wanted)
        for word, field in FIELDS.items()
    })  # fmt: skip


def _said(field: str, service: Service | None, tables: list[Retention], default: float) -> float:
    for table in tables:
        rules = table.services.get(service) if service else None
        for each in (rules, table):
            value = getattr(each, field, None)
            if value is not None:
                return float(value)
    return default
