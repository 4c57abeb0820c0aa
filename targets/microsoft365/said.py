"""What events and contacts say in Graph's JSON, whoever wrote it: Exchange completes and rewrites much."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from bs4 import BeautifulSoup
from bs4.exceptions import ParserRejectedMarkup

from targets.dav.meaning import Said
from targets.microsoft365 import zones

Json = Mapping[str, Any]

LARGEST = 1_000_000
"""Characters of HTML that are compared; more takes many seconds."""
_DEFAULTS = {"showAs": "busy", "sensitivity": "normal", "importance": "normal"}
_BY_TYPE = {
    "daily": (),
    "weekly": ("daysOfWeek", "firstDayOfWeek"),
    "absolutemonthly": ("dayOfMonth",),
    "relativemonthly": ("daysOfWeek", "index"),
    "absoluteyearly": ("dayOfMonth", "month"),
    "relativeyearly": ("daysOfWeek", "index", "month"),
}
_BY_RANGE = {"enddate": ("endDate",), "numbered": ("numberOfOccurrences",), "noend": ()}
_LISTS = ("businessPhones", "homePhones", "imAddresses", "children", "categories")
_ADDRESSES = ("businessAddress", "homeAddress", "otherAddress")
_TEXTS = (
    "displayName", "givenName", "surname", "middleName", "nickName", "title", "generation", "jobTitle",
    "profession", "companyName", "department", "officeLocation", "businessHomePage", "assistantName",
    "manager", "mobilePhone", "spouseName", "yomiGivenName", "yomiSurname", "yomiCompanyName",
)  # fmt: skip


def event(row: Json, where: str = "") -> Iterator[Said]:
    """Everything that a restore writes into an event, or into an occurrence that begins at `where`."""
    yield Said("event", where, "")
    yield from _given("subject", where, _line(row.get("subject")))
    yield from _given("body", where, plain(row.get("body")))
    whole = row.get("isAllDay") is True
    for name in ("start", "end"):
        yield Said(name, where, moment(row.get(name), whole=whole))
    location = row.get("location")
    shown = location.get("displayName") if isinstance(location, dict) else ""
    yield from _given("location", where, _line(shown))
    for name, usual in _DEFAULTS.items():
        if (said := str(row.get(name) or usual)) != usual:
            yield Said(name, where, said)
    if row.get("isReminderOn"):
        yield Said("reminder", where, str(row.get("reminderMinutesBeforeStart")))
    yield from (Said("CATEGORIES", where, str(each)) for each in _listed(row.get("categories")))


def recurrence(row: Json) -> Iterator[Said]:
    """How an event repeats, without what Exchange fills in for other kinds of patterns."""
    said = row.get("recurrence")
    if not isinstance(said, dict):
        return
    pattern, bounds = _object(said.get("pattern")), _object(said.get("range"))
    kind, end = str(pattern.get("type", "")).lower(), str(bounds.get("type", "")).lower()
    told: dict[str, Any] = {"type": kind, "interval": pattern.get("interval"), "ends": end}
    for source, names in ((pattern, _BY_TYPE.get(kind, ())), (bounds, _BY_RANGE.get(end, ()))):
        for name in names:
            value = source.get(name)
            told[name] = sorted(map(str.lower, value)) if isinstance(value, list) else value
    if told["type"] != "weekly" or told["interval"] == 1:
        told.pop("firstDayOfWeek", None)
    yield Said("recurrence", "", json.dumps(told, sort_keys=True))
    yield Said("zone", "", _offsets(str(bounds.get("recurrenceTimeZone", ""))))


def _offsets(name: str) -> str:
    """A zone by the times that it shows: it has several names."""
    rules = zones.zone(name)
    days = (datetime(2026, month, 1, tzinfo=UTC) for month in range(1, 13))
    return " ".join(str(each.astimezone(rules).utcoffset()) for each in days) if rules else name


def contact(row: Json) -> Iterator[Said]:
    """Everything that a restore writes into a contact."""
    yield Said("contact", "", "")
    for name in _TEXTS:
        yield from _given(name, "", _line(row.get(name)))
    yield from _given("personalNotes", "", "".join(str(row.get("personalNotes") or "").split()))
    yield from _given("birthday", "", str(row.get("birthday") or "")[:10])
    yield from _given("fileAs", "", _line(row.get("fileAs")))
    for name in _LISTS:
        said = "CATEGORIES" if name == "categories" else name
        yield from (Said(said, "", _line(each)) for each in _listed(row.get(name)) if each)
    for each in _listed(row.get("emailAddresses")):
        if isinstance(each, dict) and each.get("address"):
            yield Said("emailAddresses", "", str(each["address"]).lower())
    for name in _ADDRESSES:
        address = row.get(name)
        for part, value in (address if isinstance(address, dict) else {}).items():
            yield from _given(name, part, _line(value))


def picture(data: bytes) -> Iterator[Said]:
    """A picture: that there is one, and aside from that its bytes, which a server may write anew."""
    if data:
        yield Said("photo", "", "yes")
        yield Said("X-BACKUPD-PHOTO", "", hashlib.sha256(data).hexdigest())


def plain(body: Any) -> str:
    """The letters of a body without any blank: Exchange wraps, indents and dresses every body anew."""
    if not isinstance(body, dict):
        return ""
    content = str(body.get("content") or "")
    if str(body.get("contentType", "")).lower() == "html":
        content = _text_of(content)
    return "".join(re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "", content).split())


def _text_of(content: str) -> str:
    if len(content) > LARGEST:
        return "large"
    # The element in front keeps bs4 from taking a leading <?xml … for XML, and from warning of it.
    try:
        soup = BeautifulSoup(f"<html>{content}", "lxml")
    except ParserRejectedMarkup:
        return ""
    return soup.body.get_text() if soup.body else ""


def moment(written: Any, *, whole: bool) -> str:
    """A dateTimeTimeZone as an instant; of a whole day its date."""
    if not isinstance(written, dict):
        return ""
    text = str(written.get("dateTime", ""))[:19]
    if whole:
        return text[:10]
    try:
        wall = datetime.fromisoformat(text)
    except ValueError:
        return text
    rules = zones.zone(str(written.get("timeZone", "UTC")))
    try:
        return wall.replace(tzinfo=rules or UTC).astimezone(UTC).isoformat()
    except OverflowError:
        return text


def _given(name: str, where: str, value: str) -> Iterator[Said]:
    if value:
        yield Said(name, where, value)


def _line(value: Any) -> str:
    return " ".join(str(value or "").split())


def _object(value: Any) -> Json:
    return value if isinstance(value, dict) else {}


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else ()
