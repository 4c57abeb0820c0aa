"""Time zone names: what Exchange calls a zone, and what everybody else calls it.

Exchange writes Windows names ("W. Europe Standard Time"), IANA names, `tzone://Microsoft/Utc`,
and for a zone that a sender invented `tzone://Microsoft/Custom`. The table from Windows to IANA
is CLDR's, as the icalendar library carries it.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from zoneinfo import ZoneInfo, available_timezones

from icalendar import Timezone
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

UTC_NAME = "UTC"

# Names whose every instant is UTC. One spelling of them all, so that times are written with Z.
_UTC_NAMES = frozenset(
    {"utc", "z", "zulu", "universal", "uct", "etc/utc", "etc/uct", "etc/zulu", "etc/universal"}
    | {"coordinated universal time", "tzone://microsoft/utc"}
)
_PREFIX = "tzone://microsoft/"
_ANY = datetime(2000, 1, 1, tzinfo=UTC)
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


class _Onset(tzinfo):
    """A zone in which a skipped wall time already counts as after the change.

    `Timezone.from_tzinfo` walks wall times. Python reads one that the clock skipped with the old
    offset, so the change would be found an hour late; RFC 5545 wants it where it begins.
    """

    def __init__(self, rules: tzinfo) -> None:
        self._rules = rules

    def _at(self, when: datetime | None) -> datetime:
        wall = (when or _ANY).replace(tzinfo=self._rules)
        before, after = wall.replace(fold=0), wall.replace(fold=1)
        return (
            after
            if (after.utcoffset() or timedelta()) > (before.utcoffset() or timedelta())
            else before
        )

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return self._at(when).utcoffset()

    def dst(self, when: datetime | None) -> timedelta | None:
        return self._at(when).dst()

    def tzname(self, when: datetime | None) -> str | None:
        return self._at(when).tzname()


@lru_cache(maxsize=256)
def definition(name: str, first: int, last: int) -> Timezone:
    """The VTIMEZONE of the zone `name` from the year `first` to the end of the year `last`."""
    return Timezone.from_tzinfo(
        _Onset(zone(name)), name, first_date=date(first, 1, 1), last_date=date(last + 1, 1, 1)
    )
