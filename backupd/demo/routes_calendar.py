"""Calendars and events."""

from __future__ import annotations

from backupd.demo import occurrences
from backupd.demo.agenda import (
    Agenda,
    Calendar,
    Event,
    cancelled_json,
    event_json,
    exceptions_json,
)
from backupd.demo.calls import Answer, Call, Handler, Json, bad_request, not_found
from backupd.demo.ids import Kind
from backupd.demo.odata import collection, entity, in_text, selection
from backupd.demo.routes_mail import attachment_json, part_of, raw_part
from backupd.demo.writing import expanded
from backupd.demo.zones import graph_time, is_known, parse_time

_MOST = 999


def calendar_of(call: Call) -> Calendar:
    """The calendar of the path, or the default one."""
    try:
        return call.user().agenda.calendar(call.params.get("calendar"))
    except KeyError:
        raise not_found() from None


def event_of(call: Call) -> Event:
    """The event of the path: a single one or a master."""
    try:
        return call.user().agenda.event(call.params["event"])
    except KeyError:
        raise not_found() from None


def calendar_json(call: Call, calendar: Calendar) -> Json:
    """A calendar as Graph shows it."""
    user = call.user()
    return {
        "id": user.ids.rest(Kind.CALENDAR, calendar.uid),
        "name": calendar.name,
        "color": calendar.color,
        "hexColor": "",
        "isDefaultCalendar": calendar.default,
        "changeKey": user.ids.change_key(calendar.uid, 1),
        "canShare": True,
        "canViewPrivateItems": True,
        "canEdit": calendar.editable,
        "isTallyingResponses": calendar.default,
        "isRemovable": not calendar.default,
        "owner": {"name": user.name, "address": user.upn},
    }


def list_calendars(call: Call) -> Answer:
    """Every calendar, or those of a group."""
    agenda = call.user().agenda
    found = list(agenda.calendars.values())
    if "group" in call.params:
        found = [c for c in found if c.group == _group(call)]
    return collection(call, [calendar_json(call, calendar) for calendar in found])


def get_calendar(call: Call) -> Answer:
    """One calendar."""
    return entity(call, calendar_json(call, calendar_of(call)))


def list_groups(call: Call) -> Answer:
    """The calendar groups."""
    user = call.user()
    rows = [
        {
            "id": user.ids.rest(Kind.CALENDAR_GROUP, uid),
            "name": name,
            "changeKey": user.ids.change_key(uid, 1),
            "classId": "0006f0b7-0000-0000-c000-000000000046",
        }
        for uid, name in user.agenda.groups.items()
    ]
    return collection(call, rows)


def _group(call: Call) -> int:
    try:
        return call.user().ids.parse(call.params["group"]).uid
    except ValueError:
        raise not_found() from None


def list_events(call: Call) -> Answer:
    """Single events and masters; occurrences and exceptions are not listed."""
    agenda = call.user().agenda
    found = agenda.in_calendar(calendar_of(call))
    rows = [in_zone(call, event_json(agenda, each, immutable=call.immutable)) for each in found]
    return expanded(call, rows, [event.extended for event in found], most=_MOST)


def get_event(call: Call) -> Answer:
    """One event; a master brings its exceptions and cancelled days when they are asked for."""
    agenda = call.user().agenda
    try:
        return entity(call, in_zone(call, occurrences.find(agenda, call.params["event"])))
    except KeyError:
        event = event_of(call)
    row = in_zone(call, event_json(agenda, event, immutable=call.immutable))
    return _with_series(call, agenda, event, row)


def in_zone(call: Call, row: Json) -> Json:
    """The row with its times and body as the client prefers them: UTC and HTML unless it says so."""
    name = call.preference("outlook.timezone") or "UTC"
    if not is_known(name):
        raise bad_request(f"The time zone '{name}' is not supported.", "ErrorInvalidTimeZone")
    if name != "UTC":
        call.applied.append(f'outlook.timezone="{name}"')
        row = row | {end: graph_time(parse_time(row[end]), name) for end in ("start", "end")}
    return in_text(call, row)


def _with_series(call: Call, agenda: Agenda, event: Event, row: Json) -> Answer:
    extra: Json = {}
    if event.recurring and "cancelledOccurrences" in selection(call):
        row["cancelledOccurrences"] = cancelled_json(agenda, event)
    if event.recurring and "exceptionoccurrences" in call.query.get("$expand", "").lower():
        extra["exceptionOccurrences"] = [
            in_zone(call, moved)
            for moved in exceptions_json(agenda, event, immutable=call.immutable)
        ]
    answer = entity(call, row)
    if isinstance(answer.body, dict):
        answer.body |= extra
    return answer


def calendar_of_event(call: Call) -> Answer:
    """The calendar that an event lies in."""
    event = event_of(call)
    return entity(call, calendar_json(call, call.user().agenda.calendars[event.calendar]))


def list_attachments(call: Call) -> Answer:
    """The attachments of an event."""
    user, event = call.user(), event_of(call)
    rows = [
        attachment_json(user.mailbox, event.uid, number, part)
        for number, part in enumerate(event.attachments)
    ]
    return collection(call, rows, default=len(rows) or 1)


def get_attachment(call: Call) -> Answer:
    """One attachment of an event."""
    event = event_of(call)
    number, part = part_of(call, event.uid, event.attachments)
    return entity(call, attachment_json(call.user().mailbox, event.uid, number, part))


def get_attachment_bytes(call: Call) -> Answer:
    """The raw bytes of an attachment of an event."""
    event = event_of(call)
    return raw_part(part_of(call, event.uid, event.attachments)[1])


_CALENDAR = "users/{user}/calendars/{calendar}"

ROUTES: dict[str, Handler] = {
    "GET users/{user}/calendar": get_calendar,
    "GET users/{user}/events/{event}/calendar": calendar_of_event,
    "GET users/{user}/calendars": list_calendars,
    f"GET {_CALENDAR}": get_calendar,
    "GET users/{user}/calendarGroups": list_groups,
    "GET users/{user}/calendarGroups/{group}/calendars": list_calendars,
}
for _where in ("users/{user}", "users/{user}/calendar", _CALENDAR):
    ROUTES |= {
        f"GET {_where}/events": list_events,
        f"GET {_where}/events/{{event}}": get_event,
        f"GET {_where}/events/{{event}}/attachments": list_attachments,
        f"GET {_where}/events/{{event}}/attachments/{{attachment}}": get_attachment,
        f"GET {_where}/events/{{event}}/attachments/{{attachment}}/$value": get_attachment_bytes,
    }
