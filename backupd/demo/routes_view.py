"""The calendar as a person sees it: every occurrence in a window of time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from backupd.demo.agenda import Agenda, Calendar, events_in
from backupd.demo.calls import Answer, Call, Handler, Json, bad_request, key
from backupd.demo.ids import Kind
from backupd.demo.occurrences import Window, occurrences
from backupd.demo.odata import Feed, collection, delta, peek
from backupd.demo.routes_calendar import calendar_of, event_of, in_zone
from backupd.demo.zones import parse_time

if TYPE_CHECKING:
    from backupd.demo.changes import Change

_SHIFT = 20  # bits left for the number of an occurrence within its series


def _window(query: dict[str, str]) -> Window:
    names = ("startDateTime", "endDateTime")
    missing = [name for name in names if name not in query]
    if missing:
        message = f"This request requires a time window specified by the query string parameters {' and '.join(names)}."
        raise bad_request(message, "ErrorInvalidParameter")
    try:
        start, end = (datetime.fromisoformat(query[name].replace(" ", "+")) for name in names)
    except ValueError:
        raise bad_request("The time window is not valid.", "ErrorInvalidParameter") from None
    return Window(_utc(start), _utc(end))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _in_window(agenda: Agenda, calendar: Calendar, window: Window) -> list[Json]:
    return [
        row for event in agenda.in_calendar(calendar) for row in occurrences(agenda, event, window)
    ]


def list_view(call: Call) -> Answer:
    """Everything in the window, earliest first."""
    rows = _in_window(call.user().agenda, calendar_of(call), _window(call.query))
    rows.sort(key=lambda row: parse_time(row["start"]))
    return collection(call, [in_zone(call, row) for row in rows])


def list_instances(call: Call) -> Answer:
    """The occurrences of one series in the window."""
    window = _window(call.query)
    event = event_of(call)
    if not event.recurring:
        raise bad_request("The event is not a recurring one.", "ErrorInvalidRequest")
    rows = occurrences(call.user().agenda, event, window)
    return collection(call, [in_zone(call, row) for row in rows])


def view_delta(call: Call) -> Answer:
    """What changes in the window; occurrences are thin, as at Microsoft."""
    user, calendar = call.user(), calendar_of(call)
    kept = peek(call)
    window = _window(dict(part.split("=", 1) for part in kept.split("&")) if kept else call.query)
    agenda = user.agenda

    def rows(change: Change) -> list[Json]:
        event = agenda.events.get(change.subject)
        shown = occurrences(agenda, event, window) if event is not None else []
        if shown:
            return [_thin(in_zone(call, row)) for row in shown]
        gone = agenda.ids.rest(Kind.EVENT, change.subject, change.incarnation)
        return [{"@odata.type": _TYPE, "id": gone, "@removed": {"reason": "deleted"}}]

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        found = [
            (event.uid << _SHIFT | number, _thin(in_zone(call, row)))
            for event in agenda.in_calendar(calendar)
            for number, row in enumerate(occurrences(agenda, event, window), 1)
        ]
        return [entry for entry in found if entry[0] > after][:limit]

    named = "calendar" in call.params
    within = f"/calendars('{key(call.params['calendar'])}')" if named else ""
    path = f"users('{key(user.id)}'){within}/calendarView/delta"
    scope = f"event:{user.id}/{calendar.uid}"
    feed = Feed(scope, user.log, events_in(calendar.uid), listing, rows, path)
    span = f"startDateTime={window.start.isoformat()}&endDateTime={window.end.isoformat()}"
    return delta(call, feed, span)


_TYPE = "#microsoft.graph.event"
_THIN = ("@odata.type", "@odata.etag", "id", "seriesMasterId", "type", "start", "end")


def _thin(row: Json) -> Json:
    typed = {"@odata.type": _TYPE} | row
    if row["type"] != "occurrence":
        return typed
    return {name: typed[name] for name in _THIN}


def no_events_delta(call: Call) -> Answer:
    """In v1.0 events can only be followed through a window."""
    del call
    message = "The request requires the parameters startDateTime and endDateTime."
    raise bad_request(message, "ErrorInvalidParameter")


ROUTES: dict[str, Handler] = {
    "GET users/{user}/events/delta": no_events_delta,
    "GET users/{user}/calendars/{calendar}/events/delta": no_events_delta,
    "GET users/{user}/calendar/events/delta": no_events_delta,
}
for _where in ("users/{user}", "users/{user}/calendar", "users/{user}/calendars/{calendar}"):
    ROUTES |= {
        f"GET {_where}/calendarView": list_view,
        f"GET {_where}/calendarView/delta": view_delta,
        f"GET {_where}/events/{{event}}/instances": list_instances,
    }
