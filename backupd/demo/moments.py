"""Times as Graph writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(2026, 11, 2, 8, 0, tzinfo=UTC)
"""The Monday morning that the written content is told from; fixed, so that a seed means the same for ever."""


def stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with whole seconds, as most properties carry it."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def fine_stamp(moment: datetime) -> str:
    """RFC 3339 in UTC with the seven-digit fraction that .NET writes."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "7Z"


def now() -> datetime:
    """The current time in UTC."""
    return datetime.now(UTC)


def ago(**units: float) -> datetime:
    """A time before EPOCH, for instance `ago(days=3)`."""
    return EPOCH - timedelta(**units)
