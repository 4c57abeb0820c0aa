"""Flags, keywords and the date of a message, from what the index says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from targets.imap.naming import keyword

EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)
"""Cyrus refuses a date before 1970 and stores its first day as now."""
LATEST = datetime(2038, 1, 19, tzinfo=UTC)
"""Zimbra refuses what is later."""

FLAGS = {"seen": "\\Seen", "flagged": "\\Flagged", "answered": "\\Answered", "draft": "\\Draft"}
SYSTEM = frozenset(FLAGS.values())


@dataclass(frozen=True, slots=True)
class Marks:
    """What goes along with the bytes; `notes` say what could not."""

    flags: tuple[str, ...]
    date: datetime | None
    notes: tuple[str, ...] = ()


def marks(about: Mapping[str, Any], keywords: frozenset[str] | None, *, dated: bool) -> Marks:
    """Flags and date for a server that keeps these keywords (None: any) and dates, or not."""
    notes: list[str] = []
    flags = [flag for word, flag in FLAGS.items() if about.get(word)]
    for wanted, what in _wanted(about):
        if keywords is None or wanted.lower() in {each.lower() for each in keywords}:
            flags.append(wanted)
        else:
            notes.append(f"{what} not kept, for the server takes no such keyword")
    date = moment(about) if dated else None
    if date is not None and not EARLIEST <= date < LATEST:
        notes.append(f"date of receipt left out, for servers refuse {date:%Y-%m-%d}")
        date = None
    return Marks(tuple(dict.fromkeys(flags)), date, tuple(notes))


def _wanted(about: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if about.get("forwarded"):
        yield "$Forwarded", "mark as forwarded"
    categories = about.get("categories")
    for each in categories if isinstance(categories, (list, tuple)) else ():
        if isinstance(each, str) and each.strip():
            yield keyword(each), f"category {each[:60]!r}"


def moment(about: Mapping[str, Any]) -> datetime | None:
    """When the message was received, else sent; None when nobody knows."""
    for word in ("received", "sent"):
        try:
            found = datetime.fromisoformat(str(about.get(word) or ""))
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            continue
    return None


def differences(wanted: Marks, flags: frozenset[str], date: datetime | None) -> str:
    """What the server did not keep, in words; empty when it kept everything."""
    held = {each.lower() for each in flags}
    lost = [each for each in wanted.flags if each.lower() not in held]
    more = [each for each in SYSTEM if each.lower() in held and each not in wanted.flags]
    said = [f"not kept: {', '.join(lost)}"] if lost else []
    said += [f"set since: {', '.join(sorted(more))}"] if more else []
    if (
        wanted.date
        and date
        and abs((wanted.date.replace(microsecond=0) - date).total_seconds()) >= 1
    ):
        said.append(f"received {wanted.date:%Y-%m-%d %H:%M:%S}, held as {date:%Y-%m-%d %H:%M:%S}")
    return "; ".join(said)
