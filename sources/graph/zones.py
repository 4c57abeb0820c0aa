"""Time zone names: what Exchange calls a zone, and what everybody else calls it.

Exchange writes Windows names ("W. Europe Standard Time"), IANA names, `tzone://Microsoft/Utc`,
and for a zone that a sender invented `tzone://Microsoft/Custom`. The table from Windows to IANA
is CLDR's, as the icalendar library carries it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from icalendar import Component, Timezone, TimezoneDaylight, TimezoneStandard
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

UTC_NAME = "UTC"

# Names whose every instant is UTC. One spelling of them all, so that times are written with Z.
_UTC_NAMES = frozenset(
    {"utc", "z", "zulu", "universal", "uct", "etc/utc", "etc/uct", "etc/zulu", "etc/universal"}
    | {"coordinated universal time", "tzone://microsoft/utc"}
)
_PREFIX = "tzone://microsoft/"
_STEP = timedelta(days=5)  # shorter than any time that a zone ever kept
_FARTHEST_EAST, _FARTHEST_WEST = 14, 12  # hours; the range of Etc/GMT-14 … Etc/GMT+12


@cache
def _known() -> dict[str, str]:
    """Every name there is, in lower case, with its IANA name."""
    names = {name.lower(): name for name in available_timezones()}
    windows = {
        name.lower(): olson for name, olson in WINDOWS_TO_OLSON.items() if olson.lower() in names
    }
    return names | windows


def iana(name: str) -> str | None:
    """The IANA name of the zone that `name` means; None when nobody knows.

    `tzone://Microsoft/Custom`, "Customized Time Zone" and invented names are None: the rules of such
    a zone are not in the answer. Callers fall back to UTC, or to `stand_in` where days count.
    """
    wanted = name.strip().lower()
    if wanted in _UTC_NAMES:
        return UTC_NAME
    found = _known().get(wanted.removeprefix(_PREFIX).strip("/"))
    return UTC_NAME if found is not None and found.lower() in _UTC_NAMES else found


def zone(name: str) -> tzinfo:
    """The rules of the zone with this IANA name, as `iana` or `stand_in` gave it."""
    return UTC if name == UTC_NAME else ZoneInfo(name)


def stand_in(start: datetime, first_day: date | None) -> str:
    """A zone for a series whose own zone is unknown.

    That is the fixed offset nearest to UTC at which the first occurrence, `start` (aware), falls on
    `first_day`, the date that the series itself names. Days and instants outside daylight saving
    time are then right; without a usable `first_day` it is UTC.
    """
    utc = start.astimezone(UTC)
    days = (first_day - utc.date()).days if first_day else 0
    seconds = utc.hour * 3600 + utc.minute * 60 + utc.second
    east, west = -(-(86400 - seconds) // 3600), seconds // 3600 + 1
    if days == 1 and east <= _FARTHEST_EAST:
        return f"Etc/GMT-{east}"
    if days == -1 and west <= _FARTHEST_WEST:
        return f"Etc/GMT+{west}"
    return UTC_NAME


@dataclass(frozen=True, slots=True)
class _Observance:
    """One kind of time that a zone keeps: STANDARD or DAYLIGHT in a VTIMEZONE."""

    summer: bool
    before: timedelta
    offset: timedelta
    name: str


@lru_cache(maxsize=256)
def definition(name: str, first: int, last: int) -> Timezone:
    """The VTIMEZONE of the zone `name` from the year `first` (2 at least) to the end of `last`.

    It lists each change by its date. icalendar's own `Timezone.from_tzinfo` would miss Morocco's
    month of winter time, find changes to summer time an hour late, and walk a zone without any
    change to the year 9999.
    """
    observances: dict[_Observance, list[datetime]] = {}
    for onset, observance in _onsets(zone(name), first, last):
        observances.setdefault(observance, []).append(onset)
    defined = Timezone()
    defined.add("TZID", name)
    for observance, onsets in observances.items():
        defined.add_component(_written(observance, onsets))
    return defined


def _onsets(rules: tzinfo, first: int, last: int) -> Iterator[tuple[datetime, _Observance]]:
    """Each change with its onset in the wall time before it, as RFC 5545 wants it."""
    instant = datetime(first, 1, 1, tzinfo=UTC)
    end = datetime(last + 1, 1, 1, tzinfo=UTC)
    before = _offset(instant, rules)
    yield instant.replace(tzinfo=None), _observed(instant, rules, before)
    while instant < end:
        following = instant + _STEP
        if _offset(following, rules) != before:
            following = _change(instant, following, rules)
            yield (following + before).replace(tzinfo=None), _observed(following, rules, before)
            before = _offset(following, rules)
        instant = following


def _change(before: datetime, after: datetime, rules: tzinfo) -> datetime:
    """The first second between two instants at which the offset is no longer that of the first."""
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if _offset(middle, rules) == _offset(before, rules):
            before = middle
        else:
            after = middle
    return after


def _offset(instant: datetime, rules: tzinfo) -> timedelta:
    return instant.astimezone(rules).utcoffset() or timedelta()


def _observed(instant: datetime, rules: tzinfo, before: timedelta) -> _Observance:
    wall = instant.astimezone(rules)
    return _Observance(bool(wall.dst()), before, _offset(instant, rules), wall.tzname() or "")


def _written(observance: _Observance, onsets: list[datetime]) -> Component:
    component = TimezoneDaylight() if observance.summer else TimezoneStandard()
    component.add("DTSTART", onsets[0])
    if onsets[1:]:
        component.add("RDATE", onsets[1:])
    component.add("TZOFFSETFROM", observance.before)
    component.add("TZOFFSETTO", observance.offset)
    if observance.name:
        component.add("TZNAME", observance.name)
    return component
