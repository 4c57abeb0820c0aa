"""What an event says besides when it is: its properties, alarms and people."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from icalendar import Alarm, Component, Event, vCalAddress, vText, vUri
from icalendar.prop import vCategory

from sources.graph.fields import (
    Json,
    clean,
    coordinate,
    flag,
    line,
    mapping,
    mappings,
    number,
    text,
    texts,
    word,
)
from sources.graph.people import is_smtp, name_and_address, uri
from sources.graph.plaintext import plain

_LONGEST_REMINDER = 10 * 366 * 24 * 60  # minutes

_BUSY = {
    "free": "FREE",
    "tentative": "TENTATIVE",
    "busy": "BUSY",
    "oof": "OOF",
    "workingelsewhere": "WORKINGELSEWHERE",
}
_TRANSPARENT = frozenset({"free", "workingelsewhere"})
_CLASS = {
    "normal": "PUBLIC",
    "personal": "PRIVATE",
    "private": "PRIVATE",
    "confidential": "CONFIDENTIAL",
}
_PRIORITY = {"high": (1, 2), "normal": (5, 1), "low": (9, 0)}  # RFC 5545, Exchange
_ROLE = {
    "required": {"ROLE": "REQ-PARTICIPANT"},
    "optional": {"ROLE": "OPT-PARTICIPANT"},
    "resource": {"ROLE": "NON-PARTICIPANT", "CUTYPE": "RESOURCE"},
}
_ANSWER = {
    "none": "NEEDS-ACTION",
    "notresponded": "NEEDS-ACTION",
    "organizer": "ACCEPTED",
    "accepted": "ACCEPTED",
    "tentativelyaccepted": "TENTATIVE",
    "declined": "DECLINED",
}
_PLACE = {
    "LocationStreet": "street",
    "LocationCity": "city",
    "LocationState": "state",
    "LocationCountry": "countryOrRegion",
    "LocationPostalCode": "postalCode",
}


class Text(vText):
    r"""A TEXT value escaped as RFC 5545 says.

    The library's own escaping takes a backslash before a capital N for a line break, and so
    breaks `C:\Notes`.
    """

    def to_ical(self) -> bytes:
        r"""The value with `\`, `;`, `,` and line breaks escaped."""
        escaped = self.replace("\\", "\\\\").replace(";", r"\;").replace(",", r"\,")
        return escaped.replace("\n", r"\n").encode()


def put_text(component: Component, name: str, value: str, **params: str) -> None:
    """Add a TEXT property unless `value` is empty."""
    if value:
        component.add(name, Text(value, params=params), encode=False)


def put_json(component: Component, name: str, value: Any) -> None:
    """Add `value` as JSON text unless it is empty."""
    if value:
        put_text(component, name, clean(json.dumps(value, ensure_ascii=False, sort_keys=True)))


def note(component: Component, sentence: str) -> None:
    """Say in the event itself what a reader would otherwise not know."""
    put_text(component, "X-BACKUPD-NOTE", sentence)


def describe(component: Event, event: Json) -> None:
    """Add everything the event says that is neither time nor recurrence."""
    put_text(component, "SUMMARY", line(event, "subject"))
    _body(component, event)
    _places(component, event)
    _state(component, event)
    _weight(component, event)
    _people(component, event)
    _meeting(component, event)
    _reminder(component, event)


def _body(component: Event, event: Json) -> None:
    body = mapping(event, "body")
    content = text(body, "content")
    if word(body, "contentType") == "html":
        put_text(component, "DESCRIPTION", clean(plain(content)) or text(event, "bodyPreview"))
        put_text(component, "X-ALT-DESC", content, FMTTYPE="text/html")
    else:
        put_text(component, "DESCRIPTION", content or text(event, "bodyPreview"))


def _places(component: Event, event: Json) -> None:
    main = mapping(event, "location")
    known = mappings(event, "locations") or ([main] if main else [])
    names = [line(each, "displayName") for each in known]
    put_text(component, "LOCATION", line(main, "displayName") or "; ".join(filter(None, names)))
    _coordinates(component, main)
    detailed = [each for each in map(_place, known) if each]
    if len(known) > 1 or any(len(each) > 1 for each in detailed):
        put_json(component, "X-MICROSOFT-LOCATIONS", detailed)


def _coordinates(component: Event, place: Json) -> None:
    where = mapping(place, "coordinates")
    latitude, longitude = coordinate(where, "latitude", 90), coordinate(where, "longitude", 180)
    if latitude is not None and longitude is not None:
        component.add("GEO", (latitude, longitude))


def _place(location: Json) -> dict[str, str]:
    """A location in the words of Exchange's own X-MICROSOFT-LOCATIONS."""
    address = mapping(location, "address")
    found = {
        "DisplayName": line(location, "displayName"),
        "LocationUri": line(location, "locationUri"),
    }
    found["LocationEmailAddress"] = line(location, "locationEmailAddress")
    found |= {theirs: line(address, ours) for theirs, ours in _PLACE.items()}
    return {key: value for key, value in found.items() if value}


def _state(component: Event, event: Json) -> None:
    shown = word(event, "showAs")
    cancelled = flag(event, "isCancelled")
    tentative = "TENTATIVE" if shown == "tentative" else "CONFIRMED"
    put_text(component, "STATUS", "CANCELLED" if cancelled else tentative)
    put_text(component, "TRANSP", "TRANSPARENT" if shown in _TRANSPARENT else "OPAQUE")
    put_text(component, "X-MICROSOFT-CDO-BUSYSTATUS", _BUSY.get(shown, ""))
    if shown not in _BUSY:
        put_text(component, "X-BACKUPD-SHOW-AS", line(event, "showAs"))
    if flag(event, "isAllDay"):
        put_text(component, "X-MICROSOFT-CDO-ALLDAYEVENT", "TRUE")


def _weight(component: Event, event: Json) -> None:
    sensitivity, importance = word(event, "sensitivity"), word(event, "importance")
    put_text(component, "CLASS", _CLASS.get(sensitivity, "PRIVATE" if sensitivity else ""))
    if sensitivity not in {"", "normal", "private"}:
        put_text(component, "X-BACKUPD-SENSITIVITY", line(event, "sensitivity"))
    if importance in _PRIORITY:
        priority, exchange = _PRIORITY[importance]
        component.add("PRIORITY", priority)
        put_text(component, "X-MICROSOFT-CDO-IMPORTANCE", str(exchange))
    else:
        put_text(component, "X-BACKUPD-IMPORTANCE", line(event, "importance"))
    _categories(component, texts(event, "categories"))


def _categories(component: Event, names: Iterable[str]) -> None:
    value = vCategory([])
    value.cats = [Text(name) for name in names]
    if value.cats:
        component.add("CATEGORIES", value, encode=False)


def _people(component: Event, event: Json) -> None:
    """Organiser and attendees. RFC 5545 forbids an organiser where nobody was invited."""
    attendees = mappings(event, "attendees")
    organizer = mapping(event, "organizer")
    if organizer and (attendees or event.get("isOrganizer") is False):
        _person(component, "ORGANIZER", organizer, {})
    asked = flag(event, "responseRequested")
    for attendee in attendees:
        _person(component, "ATTENDEE", attendee, _part(attendee, asked))
    answer = line(mapping(event, "responseStatus"), "response")
    put_text(component, "X-BACKUPD-RESPONSE", answer)


def _part(attendee: Json, asked: bool) -> dict[str, str]:
    kind = word(attendee, "type")
    response = word(mapping(attendee, "status"), "response")
    part = _ANSWER.get(response or "none", "NEEDS-ACTION")
    params = _ROLE.get(kind, _ROLE["required"]) | {"PARTSTAT": part}
    if asked and part == "NEEDS-ACTION":
        params["RSVP"] = "TRUE"
    if kind and kind not in _ROLE:
        params["X-BACKUPD-TYPE"] = kind
    if response and response not in _ANSWER:
        params["X-BACKUPD-RESPONSE"] = response
    return params


def _person(component: Event, name: str, recipient: Json, params: dict[str, str]) -> None:
    shown, address = name_and_address(recipient)
    if not shown and not address:
        return
    if shown:
        params = {"CN": shown, **params}
    if address and not is_smtp(address):
        params = {**params, "X-BACKUPD-ADDRESS": address}
    component.add(name, vCalAddress(uri(shown, address), params=params), encode=False)


def _meeting(component: Event, event: Json) -> None:
    join = line(mapping(event, "onlineMeeting"), "joinUrl") or line(event, "onlineMeetingUrl")
    if join.lower().startswith(("https://", "http://", "sip:", "tel:")) and " " not in join:
        conference = vUri(join, params={"VALUE": "URI", "FEATURE": ["AUDIO", "VIDEO"]})
        component.add("CONFERENCE", conference, encode=False)
    put_text(component, "X-MICROSOFT-SKYPETEAMSMEETINGURL", join)
    if event.get("allowNewTimeProposals") is False:
        put_text(component, "X-MICROSOFT-DISALLOW-COUNTER", "TRUE")


def _reminder(component: Event, event: Json) -> None:
    minutes = number(event, "reminderMinutesBeforeStart")
    if not flag(event, "isReminderOn") or minutes is None:
        return
    if abs(minutes) > _LONGEST_REMINDER:
        note(component, f"a reminder {minutes} minutes ahead is left out")
        return
    alarm = Alarm()
    alarm.add("ACTION", "DISPLAY")
    put_text(alarm, "DESCRIPTION", line(event, "subject") or "Reminder")
    alarm.add("TRIGGER", timedelta(minutes=-minutes))
    component.add_component(alarm)
