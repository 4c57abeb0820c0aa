"""Calendars and events are created and changed; whoever is invited to one gets mail."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, date, datetime, timedelta, tzinfo
from html import escape
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo import occurrences, recurrence
from backupd.demo.agenda import Agenda, Event, Occurrence, event_json
from backupd.demo.calls import Answer, Call, Handler, Json, Refused, bad_request, not_found
from backupd.demo.ids import Kind, guid_of
from backupd.demo.mime_facts import Part
from backupd.demo.odata import entity
from backupd.demo.outbox import invitation
from backupd.demo.routes_calendar import calendar_json, calendar_of, event_of
from backupd.demo.routes_mail import attachment_json
from backupd.demo.writing import created, extended, may_write, text, unchanged, writable
from backupd.demo.zones import graph_time, is_known, parse_time, zone

if TYPE_CHECKING:
    from backupd.demo.uploads import Uploads

_PERMISSION = "Calendars.ReadWrite"
_DEFAULTS: Json = {
    "subject": "",
    "body": {"contentType": "html", "content": ""},
    "bodyPreview": "",
    "importance": "normal",
    "sensitivity": "normal",
    "showAs": "busy",
    "isAllDay": False,
    "isCancelled": False,
    "isDraft": False,
    "isOrganizer": True,
    "isReminderOn": True,
    "reminderMinutesBeforeStart": 15,
    "responseRequested": True,
    "allowNewTimeProposals": True,
    "hideAttendees": False,
    "isOnlineMeeting": False,
    "onlineMeetingProvider": "unknown",
    "onlineMeeting": None,
    "onlineMeetingUrl": None,
    "transactionId": None,
    "categories": [],
    "attendees": [],
    "locations": [],
    "location": {"displayName": "", "locationType": "default", "uniqueIdType": "unknown"},
    "recurrence": None,
    "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
}
_WRITABLE = frozenset({
    "subject", "body", "importance", "sensitivity", "showAs", "isAllDay", "isReminderOn", "isDraft",
    "reminderMinutesBeforeStart", "responseRequested", "allowNewTimeProposals", "hideAttendees",
    "isOnlineMeeting", "onlineMeetingProvider", "transactionId", "categories", "attendees", "locations",
    "location", "recurrence", "start", "end",
})  # fmt: skip
_WORDS = {
    "importance": {"low", "normal", "high"},
    "sensitivity": {"normal", "personal", "private", "confidential"},
    "showAs": {"free", "tentative", "busy", "oof", "workingElsewhere", "unknown"},
}
_NEEDS = {
    "daily": (),
    "weekly": ("daysOfWeek",),
    "absoluteMonthly": ("dayOfMonth",),
    "relativeMonthly": ("daysOfWeek",),
    "absoluteYearly": ("dayOfMonth", "month"),
    "relativeYearly": ("daysOfWeek", "month"),
}
_LONGEST_SUBJECT = 255
_LARGEST_ATTACHMENT = 3_000_000
_LARGEST_UPLOAD = 150_000_000
_HEAD = '<html><head>\r\n<meta http-equiv="Content-Type" content="text/html; charset=utf-8"></head>'


def make_calendar(call: Call) -> Answer:
    """A calendar with a name that no other has."""
    body = writable(call, _PERMISSION)
    agenda, name = call.user().agenda, text(body, "name")
    if any(each.name.casefold() == name.casefold() for each in agenda.calendars.values()):
        message = "A folder with the specified name already exists."
        raise Refused(HTTPStatus.CONFLICT, "ErrorFolderExists", message)
    return created(call, calendar_json(call, agenda.create_calendar(name)))


def make_event(call: Call) -> Answer:
    """An event or series; the same `transactionId` makes no second one."""
    body = writable(call, _PERMISSION)
    agenda, marks = call.user().agenda, extended(body)
    calendar = calendar_of(call)
    known = _by_transaction(agenda, body.get("transactionId"))
    if known is not None:
        if call.switches.transaction_conflict:
            message = "An event with this transactionId exists."
            raise Refused(HTTPStatus.CONFLICT, "ErrorDuplicateTransactionId", message)
        return created(call, event_json(agenda, known))
    data = _DEFAULTS | _stored(_checked(body, new=True))
    data["organizer"] = {"emailAddress": {"name": call.user().name, "address": call.user().upn}}
    unique = guid_of(call.user().id, len(agenda.events), body).replace("-", "").upper()
    data["iCalUId"] = f"040000008200E00074C5B7101A82E008{unique}"
    event = agenda.put(calendar, data)
    event.extended = marks
    _tell(call, "request", data)
    return created(call, event_json(agenda, event))


def _by_transaction(agenda: Agenda, name: object) -> Event | None:
    found = (each for each in agenda.events.values() if each.data.get("transactionId") == name)
    return next(found, None) if name else None


def change_event(call: Call) -> Answer:
    """Some properties of an event, of a whole series, or of one of its occurrences."""
    body = writable(call, _PERMISSION)
    agenda, marks = call.user().agenda, extended(body)
    occurrence = _occurrence(call)
    if occurrence is not None:
        event, moved = occurrence
        changes = _stored(_checked(event.data | moved.data, body))
        changed = agenda.move_occurrence(event, moved.original, **(moved.data | changes))
        changed.uid = moved.uid or changed.uid
        _tell(call, "update", event.data | changed.data)
        return Answer(occurrences.find(agenda, agenda.ids.rest(Kind.EVENT, changed.uid)))
    event = event_of(call)
    unchanged(call, event_json(agenda, event)["@odata.etag"])
    event.extended |= marks
    changes = _stored(_checked(event.data, body)) if body else {}
    agenda.put(agenda.calendars[event.calendar], changes, event)
    if body:
        _tell(call, "update", event.data)
    return entity(call, event_json(agenda, event))


def delete_event(call: Call) -> Answer:
    """An event, a whole series, or one occurrence."""
    may_write(call, _PERMISSION)
    agenda = call.user().agenda
    occurrence = _occurrence(call)
    if occurrence is not None:
        event, moved = occurrence
        event.moved = [each for each in event.moved if each.original != moved.original]
        agenda.cancel_occurrence(event, moved.original.astimezone(_zone(event)).date())
    else:
        event = event_of(call)
        agenda.delete(event)
    _tell(call, "cancel", event.data)
    return Answer(b"", HTTPStatus.NO_CONTENT)


def _occurrence(call: Call) -> tuple[Event, Occurrence] | None:
    """The occurrence that the path names, changed before or not; None for another event."""
    agenda, name = call.user().agenda, call.params["event"]
    try:
        row = occurrences.find(agenda, name)
        found = agenda.ids.parse(name)
    except (KeyError, ValueError):
        return None
    if found.kind is Kind.OCCURRENCE:
        return agenda.events[found.uid], Occurrence(0, parse_time(row["start"]), {})
    for event in agenda.events.values():
        for moved in event.moved:
            if moved.uid == found.uid:
                return event, moved
    raise not_found()


def _zone(event: Event) -> tzinfo:
    if event.data.get("isAllDay"):
        return UTC
    return zone(event.data["recurrence"]["range"]["recurrenceTimeZone"])


def add_attachment(call: Call) -> Answer:
    """A file of up to 3 MB on an event."""
    body = writable(call, _PERMISSION)
    user, event = call.user(), event_of(call)
    if body.get("@odata.type") != "#microsoft.graph.fileAttachment":
        raise bad_request("Only files can be attached.", "ErrorInvalidRequest")
    try:
        data = base64.b64decode(str(body.get("contentBytes", "")), validate=True)
    except binascii.Error:
        raise bad_request("contentBytes is not base64.", "RequestBodyRead") from None
    if len(data) > _LARGEST_ATTACHMENT:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "ErrorMessageSizeExceeded", "Too large.")
    kind = str(body.get("contentType") or "application/octet-stream")
    event.attachments.append(Part(text(body, "name"), kind, data))
    user.agenda.touch(event)
    _tell(call, "update", event.data)
    number = len(event.attachments) - 1
    row = attachment_json(user.mailbox, event.uid, number, event.attachments[number])
    return created(call, row)


def open_session(call: Call, uploads: Uploads) -> Answer:
    """An address that takes a file of 3 to 150 MB for an event in pieces."""
    wanted = writable(call, _PERMISSION).get("AttachmentItem") or {}
    user, event, size = call.user(), event_of(call), wanted.get("size")
    name, kind = text(wanted, "name"), str(wanted.get("contentType") or "")
    if wanted.get("attachmentType") != "file" or not isinstance(size, int):
        raise bad_request("Only files can be attached.", "ErrorInvalidRequest")
    if not _LARGEST_ATTACHMENT <= size <= _LARGEST_UPLOAD:
        raise bad_request("The size is not valid for a session.", "ErrorInvalidArgument")

    def finish(data: bytes) -> Json:
        with call.state.lock:
            event.attachments.append(Part(name, kind or "application/octet-stream", data))
            user.agenda.touch(event)
            _tell(call, "update", event.data)
        return {}

    return Answer(uploads.open(finish), HTTPStatus.CREATED)


def _tell(call: Call, kind: str, data: Json) -> None:
    message = invitation(kind, call.user().upn, data)
    if message is not None:
        call.state.outbox.append(message)


def _checked(held: Json, body: Json | None = None, *, new: bool = False) -> Json:
    """The properties that a request sets, once they make sense together with what is held."""
    body, held = (held, {}) if body is None else (body, held)
    if new and not {"start", "end"} <= body.keys():
        raise bad_request("Start and end are required.", "ErrorPropertyValidationFailure")
    _check_words(body)
    if "start" in body or "end" in body:
        _check_span(held | body)
    if body.get("recurrence"):
        _check_recurrence(body)
    return body


def _check_words(body: Json) -> None:
    for name in body:
        if name not in _WRITABLE:
            raise bad_request(f"The property '{name}' cannot be set.", "ErrorInvalidProperty")
    for name, words in _WORDS.items():
        if body.get(name, "normal") not in words | {"normal"}:
            raise bad_request(f"'{body[name]}' is no value of {name}.", "RequestBodyRead")
    if len(str(body.get("subject") or "")) > _LONGEST_SUBJECT:
        raise bad_request("The subject is too long.", "ErrorPropertyValidationFailure")


def _check_span(data: Json) -> None:
    if not all(is_known(str(data[name].get("timeZone"))) for name in ("start", "end")):
        raise bad_request("A valid TimeZone value must be specified.", "TimeZoneNotSupported")
    try:
        start, end = parse_time(data["start"]), parse_time(data["end"])
    except (ValueError, TypeError):
        raise bad_request("A time is not valid.", "RequestBodyRead") from None
    if end < start:
        message = "The end must not lie before the start."
        raise bad_request(message, "ErrorPropertyValidationFailure")
    if data.get("isAllDay"):
        midnights = all("T00:00:00" in data[name]["dateTime"] for name in ("start", "end"))
        if not midnights or end - start < timedelta(days=1):
            message = "A whole day lasts from midnight to midnight."
            raise bad_request(message, "ErrorPropertyValidationFailure")


def _check_recurrence(data: Json) -> None:
    pattern, span = data["recurrence"].get("pattern") or {}, data["recurrence"].get("range") or {}
    needs = _NEEDS.get(str(pattern.get("type")))
    if needs is None or any(not pattern.get(name) for name in needs):
        raise bad_request("The pattern is not complete.", "ErrorRecurrenceInvalid")
    if pattern.get("interval", 0) < 1 or span.get("type") not in {"noEnd", "endDate", "numbered"}:
        raise bad_request("The recurrence is not valid.", "ErrorRecurrenceInvalid")
    begins = date.fromisoformat(span["startDate"])
    if begins != datetime.fromisoformat(data["start"]["dateTime"][:19]).date():
        message = "startDate must be the day of the start."
        raise bad_request(message, "ErrorPropertyValidationFailure")
    whole = {"pattern": _PATTERN | pattern, "range": span}
    if next(recurrence.days(whole, date.max - timedelta(days=900)), None) is None:
        raise bad_request("The series has no occurrence.", "ErrorRecurrenceHasNoOccurrence")


_PATTERN: Json = {
    "interval": 1,
    "month": 0,
    "dayOfMonth": 0,
    "firstDayOfWeek": "sunday",
    "index": "first",
}


def _stored(body: Json) -> Json:
    """The properties as Exchange keeps them: times in UTC, bodies in HTML of its own."""
    data = dict(body)
    for name, original in (("start", "originalStartTimeZone"), ("end", "originalEndTimeZone")):
        if name in data:
            data[original] = data[name]["timeZone"]
            data[name] = graph_time(parse_time(data[name]))
    if data.get("recurrence"):
        pattern, span = data["recurrence"]["pattern"], data["recurrence"]["range"]
        usual = {"endDate": "0001-01-01", "numberOfOccurrences": 0}
        data["recurrence"] = {"pattern": _PATTERN | pattern, "range": usual | span}
    if "body" in data:
        content = str(data["body"].get("content") or "")
        if str(data["body"].get("contentType")).lower() == "text":
            lines = escape(content, quote=False).replace("\r\n", "\n").replace("\n", "<br>\r\n")
            content = f'<body>\r\n<div class="PlainText">{lines}</div>\r\n</body></html>'
        data["body"] = {"contentType": "html", "content": f"{_HEAD}\r\n{content}"}
        data["bodyPreview"] = content[:255]
    return data


_CALENDAR = "users/{user}/calendars/{calendar}"


def routes(uploads: Uploads | None = None) -> dict[str, Handler]:
    """The routes; sessions need the place that serves them."""

    def session(call: Call) -> Answer:
        if uploads is None:
            raise AssertionError(call.route)
        return open_session(call, uploads)

    found: dict[str, Handler] = {"POST users/{user}/calendars": make_calendar}
    for where in ("users/{user}", "users/{user}/calendar", _CALENDAR):
        event = f"{where}/events/{{event}}"
        found |= {
            f"POST {where}/events": make_event,
            f"PATCH {event}": change_event,
            f"DELETE {event}": delete_event,
            f"POST {event}/attachments": add_attachment,
            f"POST {event}/attachments/createUploadSession": session,
        }
    return found
