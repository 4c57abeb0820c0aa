"""Events and tasks on their way into a CalDAV server: quiet, with one UID, and what they mean."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import Any

import icalendar
from icalendar import Component

from backupd.errors import ItemRefused
from targets import quiet
from targets.dav import meaning
from targets.dav.lines import Block, Line, cleaned, escaped, folded, line, parse, serialize
from targets.dav.meaning import Said
from targets.dav.prepared import Prepared, derived_uid
from targets.quiet import Way

warnings.filterwarnings("ignore", module="icalendar")  # a guessed time zone is no news for anybody

KINDS = frozenset({"VEVENT", "VTODO", "VJOURNAL", "VFREEBUSY"})
HOSTILE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What the libraries raise on input that nobody foresaw."""

_UNSAID = frozenset({
    "BEGIN", "END", "CALSCALE", "CREATED", "DTSTAMP", "DURATION", "LAST-MODIFIED", "METHOD", "PRODID",
    "REQUEST-STATUS", "SEQUENCE", "VERSION", "ACKNOWLEDGED", "TZID", "RECURRENCE-ID",
})  # fmt: skip
"""What servers write by themselves, or what is told in another way."""
_TEXTS = frozenset({"SUMMARY", "DESCRIPTION", "LOCATION", "COMMENT", "CONTACT"})
_WORDS = frozenset({
    "CATEGORIES", "CLASS", "EXDATE", "GEO", "PRIORITY", "RDATE", "RRULE", "STATUS", "TRANSP", "URL",
})  # fmt: skip
_BARE = re.compile(r"(\\.)|([,;])")
_DEFAULTS = {"CLASS": "PUBLIC", "TRANSP": "OPAQUE", "PRIORITY": "0"}
_TELLING = {
    "CUTYPE": "INDIVIDUAL", "PARTSTAT": "NEEDS-ACTION", "ROLE": "REQ-PARTICIPANT", "CN": "",
    "RANGE": "", "RELATED": "START", "RELTYPE": "PARENT",
}  # fmt: skip
"""Parameters that mean something, and what it means to leave them out."""


def prepare(key: str, data: bytes, way: Way, uid: str = "") -> Prepared:
    """A calendar item made ready for any CalDAV server.

    Args:
        key: of the parcel; what a missing UID is derived from.
        data: as it was backed up.
        way: how people in it are kept from being written to.
        uid: to be put in place of the item's own.

    Raises:
        ItemRefused: it is no calendar item (`broken`), holds nothing (`empty`) or several events
            that have nothing to do with each other (`several-uids`).
    """
    data, notes = cleaned(data)
    calendars, unreadable = parse(data)
    calendar = _one(calendars)
    if unreadable:
        notes.append(f"unreadable lines kept as text: {unreadable}")
    notes += _identify(calendar, key, uid)
    notes += quiet.silence([calendar], way)
    _tidy(calendar)
    return _finished(calendar, notes)


def softer(prepared: Prepared) -> Iterator[Prepared]:
    """Other forms of an item, for a server that refuses it as it is: each changes a little more.

    First events get an end that lies behind their start; then what only some programs understand
    is left out.
    """
    mended = _mended(prepared)
    if mended is not None:
        yield mended
    (calendar,), _ = parse((mended or prepared).data)
    if _plainer(calendar):
        notes = (mended or prepared).notes
        yield _finished(calendar, [*notes, "what the server does not understand left out"])


def _mended(prepared: Prepared) -> Prepared | None:
    """The item with exactly one end for each event, behind its start; None when all is well."""
    (calendar,), _ = parse(prepared.data)
    events = [each for each in calendar.blocks if each.name == "VEVENT"]
    parsed = read(prepared.data).walk("VEVENT")
    notes = {_lengthen(block, each) for block, each in zip(events, parsed, strict=False)} - {""}
    return _finished(calendar, [*prepared.notes, *sorted(notes)]) if notes else None


def _lengthen(block: Block, event: Component) -> str:
    """Mend the end of an event, in place; answers what was done, "" for nothing."""
    if _is_short(event):
        block.drop(lambda each: each.name in {"DTEND", "DURATION"})
        if isinstance(_moment(event, "DTSTART"), datetime):
            block.add(line("DURATION", "PT1M"))
            return "made a minute long: the server takes no event without length"
        return "an end that was no end left out"
    if block.first("DTEND") and block.drop(lambda each: each.name == "DURATION"):
        return "one of its two ends left out"
    return ""


def _plainer(block: Block) -> bool:
    """Leave out what other programs invented, in place; answers whether there was any."""
    before = len(block.inside)
    block.inside = [x for x in block.inside if not x.name.startswith("X-") or _is_ours(x.name)]
    changed = len(block.inside) != before
    for each in block.lines:
        changed |= _without_inventions(each)
    for inner in block.blocks:
        changed |= _plainer(inner)
    return changed


def _is_ours(name: str) -> bool:
    return name.startswith(("X-BACKUPD-", "X-NC-", "X-MICROSOFT-", "X-ALT-DESC"))


def _without_inventions(each: Line) -> bool:
    params = each.params
    inventions = [name for name in params if name.startswith("X-") or name == "EMAIL"]
    for name in inventions:
        params.pop(name)
    if inventions:
        each.raw = line(each.name, each.value, params).raw
    return bool(inventions)


def read(data: bytes) -> Component:
    """The one VCALENDAR of a file. Raises ItemRefused (reason `broken`) when it is none.

    Files inside it are read as their hash alone: the library takes them letter by letter.
    """
    calendars, _ = parse(cleaned(data)[0])
    return _parsed(calendars)


def _parsed(calendars: Sequence[Block]) -> Component:
    try:
        return icalendar.Calendar.from_ical(serialize(map(_slim, calendars)))
    except HOSTILE as error:
        raise ItemRefused(
            f"The item is no calendar item that can be read ({type(error).__name__}).",
            reason="broken",
        ) from error


def _slim(block: Block) -> Block:
    inside = [_slim(x) if isinstance(x, Block) else _hashed(x) for x in block.inside]
    return Block(block.name, inside)


def _hashed(each: Line) -> Line:
    if each.name != "ATTACH" or not each.is_binary:
        return each
    value = "".join(each.value.split())
    return line("ATTACH", f"urn:sha256:{hashlib.sha256(value.encode()).hexdigest()}")


def meaning_of(data: bytes) -> str:
    """What a calendar item says. Raises ItemRefused (reason `broken`)."""
    return _meaning(read(data))


def _meaning(calendar: Component) -> str:
    try:
        return meaning.word(_statements(calendar))
    except HOSTILE as error:
        raise ItemRefused(
            f"The item cannot be compared ({type(error).__name__}).", reason="broken"
        ) from error


def _finished(calendar: Block, notes: Sequence[str]) -> Prepared:
    parsed = _parsed([calendar])
    uid = next((str(x["UID"]) for x in parsed.walk() if x.name in KINDS and "UID" in x), "")
    return Prepared(serialize([calendar]), uid, tuple(notes), _meaning(parsed))


def _tidy(block: Block) -> None:
    """Escape what texts must not hold bare: some servers drop all that stands behind a comma.

    And leave out words without a value, which some servers refuse.
    """
    block.drop(lambda each: each.name in _WORDS and not each.value.strip())
    for each in block.lines:
        if each.name in _TEXTS:
            value = each.value
            mended = _BARE.sub(lambda found: found[1] or f"\\{found[2]}", value)
            if mended != value:
                each.raw = folded(f"{each.head}{mended}")
    for inner in block.blocks:
        _tidy(inner)


def _one(calendars: Sequence[Block]) -> Block:
    """The calendar object; of several the first, with the components of all."""
    if not calendars or any(each.name != "VCALENDAR" for each in calendars):
        raise ItemRefused("The item is no calendar item.", reason="broken")
    whole = calendars[0]
    for other in calendars[1:]:
        whole.inside += other.blocks
    if not any(each.name in KINDS for each in whole.blocks):
        raise ItemRefused("The item holds no event, task or journal entry.", reason="empty")
    for name, value in (("VERSION", "2.0"), ("PRODID", "-//backupd//restore//EN")):
        if whole.first(name) is None:
            whole.inside.insert(0, line(name, value))
    return whole


def _identify(calendar: Block, key: str, uid: str) -> list[str]:
    """See to it that all components carry one UID; answers what was repaired for it."""
    main = [each for each in calendar.blocks if each.name in KINDS]
    found = {each.value for block in main for each in block.lines if each.name == "UID"} - {""}
    nameless = [block for block in main if not (x := block.first("UID")) or not x.value]
    alone = [block for block in nameless if block.first("RECURRENCE-ID") is None]
    if len(found) + len(alone) > 1:
        raise ItemRefused(
            "The item holds several events that have nothing to do with each other.",
            hint="Import it by hand in the web application of the target.",
            reason="several-uids",
        )
    if not nameless and not uid:
        return []
    value = escaped(uid) if uid else next(iter(found), derived_uid(key))
    for each in main if uid else nameless:
        each.drop(lambda one: one.name == "UID")
        each.inside.insert(0, line("UID", value))
    return [] if uid else ["it had no UID and was given one"]


def _is_short(event: Component) -> bool:
    start, end = _moment(event, "DTSTART"), _end(event)
    if not isinstance(start, datetime) or not isinstance(end, datetime):
        return isinstance(start, date) and isinstance(end, date) and end <= start
    return end.replace(tzinfo=None) <= start.replace(tzinfo=None)


def _moment(component: Component, name: str) -> Any:
    held = component.get(name)
    return getattr(held, "dt", None)


def _end(event: Component) -> Any:
    """When it ends, however that is said."""
    start = _moment(event, "DTSTART")
    if "DTEND" in event or start is None:
        return _moment(event, "DTEND")
    if "DURATION" in event:
        return start + _moment(event, "DURATION")
    return start if isinstance(start, datetime) else start + timedelta(days=1)


def _statements(calendar: Component) -> Iterator[Said]:
    for each in calendar.subcomponents:
        if each.name in KINDS:
            replaced = _moment(each, "RECURRENCE-ID")
            yield from _component(each, f"{each.name} {_time(replaced) if replaced else ''}")


def _component(component: Component, where: str) -> Iterator[Said]:
    yield Said("BEGIN", where, "")
    start = _moment(component, "DTSTART")
    for name, value in component.property_items(recursive=False):
        name = str(name).upper()  # noqa: PLW2901
        if name not in _UNSAID and name != "DTEND":
            yield from (Said(name, where, each) for each in _values(name, value, start))
    if component.name == "VEVENT":
        yield Said("DTEND", where, _time(_end(component)))
    elif "DURATION" in component and component.name != "VALARM":
        yield Said("DURATION", where, str(_moment(component, "DURATION")))
    for inner in component.subcomponents:
        said = sorted(f"{x.name} {x.value}" for x in _component(inner, "") if _counts(inner, x))
        yield Said(str(inner.name), where, "\n".join(said))


def _counts(inner: Component, said: Said) -> bool:
    """Of an alarm its time and kind; servers add UIDs and default texts."""
    return inner.name != "VALARM" or said.name in {"ACTION", "TRIGGER", "REPEAT"}


def _values(name: str, value: Any, start: Any) -> Iterator[str]:
    for each in _plain(name, value, start):
        text = each.strip()
        if text and text != _DEFAULTS.get(name):
            yield f"{text}{_parameters(value)}"


def _plain(name: str, value: Any, start: Any) -> Iterator[str]:
    """The value or values of a property in one spelling each."""
    if name in {"EXDATE", "RDATE"} and hasattr(value, "dts"):
        yield from (_time(_alike(each.dt, start)) for each in value.dts)
    elif name == "CATEGORIES" and hasattr(value, "cats"):
        yield from (str(each) for each in value.cats)
    elif isinstance(value, icalendar.vRecur):
        rule = sorted((str(k), sorted(map(_rule, v))) for k, v in value.items())
        yield str([each for each in rule if each not in _WEEKLY])
    elif hasattr(value, "dt"):
        yield _time(value.dt)
    elif name in {"ATTENDEE", "ORGANIZER"}:
        yield str(value).lower()
    elif isinstance(value, str):
        text = re.sub(r'\\([",;:])', r"\1", str(value))
        yield "\n".join(each.rstrip() for each in text.splitlines())
    else:
        yield value.to_ical().decode("utf-8", "replace")


_WEEKLY: list[tuple[str, list[str]]] = [("INTERVAL", ["1"]), ("WKST", ["MO"])]
"""Parts of a recurrence rule that say what goes without saying."""


def _alike(when: Any, start: Any) -> Any:
    """A day or moment in the form of the start: what is left out of a series may be told either way."""
    if isinstance(when, tuple) or not isinstance(start, date):
        return when
    if isinstance(start, datetime) and not isinstance(when, datetime):
        return datetime.combine(when, start.timetz())
    timed = isinstance(when, datetime) and not isinstance(start, datetime)
    return when.date() if timed else when


def _rule(part: Any) -> str:
    return _time(part) if isinstance(part, date) else str(part).lstrip("+")


def _time(when: Any) -> str:
    """A moment with its offset, a day, a span or a period."""
    if isinstance(when, tuple):
        return "/".join(_time(each) for each in when)
    return when.isoformat() if isinstance(when, date) else str(when)


def _parameters(value: Any) -> str:
    params = getattr(value, "params", None) or {}
    told = {str(name).upper(): str(said) for name, said in params.items()}
    return "".join(
        f";{name}={told[name]}"
        for name in sorted(_TELLING)
        if name in told and told[name].upper() != _TELLING[name]
    )
