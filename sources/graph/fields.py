"""Typed reading of JSON that nobody vouches for.

Graph answers hold nulls, unknown enum values, seven-digit fractions, raw control characters and
now and then a number where a text belongs. Every function here takes what it finds and answers
with a value of the type it promises, or with an empty one; none of them raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from types import MappingProxyType
from typing import Any

Json = Mapping[str, Any]

EMPTY: Json = MappingProxyType({})

# Controls have no place in iCalendar or vCard, and half a surrogate pair in no UTF-8 at all.
_BREAK = re.compile("\r\n?|[\u2028\u2029]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SPACE = re.compile(r"\s+")
_MOMENT = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d)?(?:\.\d*)?\s*(Z|[+-]\d\d:?\d\d)?",
    re.ASCII | re.IGNORECASE,
)
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def clean(value: str) -> str:
    """`value` with line breaks as LF, without other controls, encodable as UTF-8."""
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", _BREAK.sub("\n", value)))


def text(source: Json, key: str) -> str:
    """The text under `key`, clean and stripped; "" when there is none."""
    value = source.get(key)
    return clean(value).strip() if isinstance(value, str) else ""


def line(source: Json, key: str) -> str:
    """The text under `key` on one line."""
    return one_line(text(source, key))


def one_line(value: str) -> str:
    """`value` with every run of white space as one blank."""
    return _SPACE.sub(" ", value).strip()


def word(source: Json, key: str) -> str:
    """The enum value under `key` in lower case, for look-ups; "" when there is none."""
    return line(source, key).lower()


def flag(source: Json, key: str) -> bool:
    """True only for a JSON true."""
    return source.get(key) is True


def number(source: Json, key: str) -> int | None:
    """The whole number under `key`; None for anything else, true and false included."""
    value = source.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def coordinate(source: Json, key: str, limit: float) -> float | None:
    """The number under `key` when it lies within ±`limit`."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if -limit <= value <= limit else None


def mapping(source: Json, key: str) -> Json:
    """The object under `key`, or an empty one."""
    value = source.get(key)
    return value if isinstance(value, Mapping) else EMPTY


def mappings(source: Json, key: str) -> list[Json]:
    """The objects in the list under `key`."""
    value = source.get(key)
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list) else []


def texts(source: Json, key: str) -> list[str]:
    """The texts in the list under `key`: each on one line, empty ones left out."""
    value = source.get(key)
    if not isinstance(value, list):
        return []
    found = (one_line(clean(each)) for each in value if isinstance(each, str))
    return [each for each in found if each]


def moment(value: object) -> datetime | None:
    """An ISO 8601 date and time to the second; naive when it names no offset."""
    match = _MOMENT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return None
    day, clock, seconds, offset = match.groups()
    try:
        read = datetime.fromisoformat(f"{day}T{clock}{seconds or ':00'}")
        return read.replace(tzinfo=_offset(offset)) if offset else read
    except ValueError:
        return None


def _offset(written: str) -> timezone:
    if written in "Zz":
        return UTC
    span = timedelta(hours=int(written[1:3]), minutes=int(written[-2:]))
    return timezone(-span if written[0] == "-" else span)


def stamp(source: Json, key: str) -> datetime | None:
    """The moment under `key` in UTC (where Graph names no offset it means UTC)."""
    read = moment(source.get(key))
    if read is None:
        return None
    try:
        return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
    except OverflowError:
        return None


def day(value: object) -> date | None:
    """The date that `value` begins with, taken as it is written."""
    match = _DAY.match(value.strip()) if isinstance(value, str) else None
    try:
        return date.fromisoformat(match.group()) if match else None
    except ValueError:
        return None
