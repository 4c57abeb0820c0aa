"""Appointments: one of every shape that calendars know."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING

from backupd.demo.content_people import OUTSIDERS, SHARED
from backupd.demo.ids import guid_of
from backupd.demo.letters import pdf
from backupd.demo.mime_facts import Part
from backupd.demo.zones import CUSTOM, at, graph_time

if TYPE_CHECKING:
    from backupd.demo.agenda import Agenda, Calendar, Event
    from backupd.demo.calls import Json
    from backupd.demo.directory import User

_UID_HEAD = "040000008200E00074C5B7101A82E008000000000000000000000000000000001000000"
_ALL_DAYS = ["monday", "tuesday", "wednesday", "thursday", "friday"]
_NOWHERE = {"displayName": "", "locationType": "default", "uniqueIdType": "unknown"}


@dataclass(frozen=True)
class Plan:
    """An appointment in its own zone: `hours` from `start`, or whole `days`."""

    subject: str
    day: date
    start: float = 9
    hours: float = 1
    days: int = 0
    zone: str = ""


class Diary:
    """The calendars of one person, being filled."""

    def __init__(self, user: User) -> None:
        self._user = user
        self._agenda: Agenda = user.agenda

    def add(self, calendar: Calendar, plan: Plan, **more: object) -> Event:
        """Write an appointment; `more` are properties that replace the usual ones."""
        return self._agenda.put(calendar, self._base(plan) | dict(more))

    def series(self, calendar: Calendar, plan: Plan, pattern: Json, span: Json) -> Event:
        """Write a series."""
        recurrence = {
            "pattern": _PATTERN | pattern,
            "range": {
                "startDate": plan.day.isoformat(),
                "endDate": "0001-01-01",
                "recurrenceTimeZone": plan.zone or self._user.zone,
                "numberOfOccurrences": 0,
            }
            | span,
        }
        return self.add(calendar, plan, recurrence=recurrence)

    def _base(self, plan: Plan) -> Json:
        zone = plan.zone or self._user.zone
        unique = guid_of(self._user.id, plan.subject, plan.day.isoformat()).replace("-", "").upper()
        me = {"name": self._user.name, "address": self._user.upn}
        return {
            "subject": plan.subject,
            "bodyPreview": plan.subject,
            "body": {"contentType": "html", "content": f"<html><body>{plan.subject}</body></html>"},
            "iCalUId": _UID_HEAD + unique,
            "originalStartTimeZone": zone,
            "originalEndTimeZone": zone,
            "reminderMinutesBeforeStart": 15,
            "isReminderOn": True,
            "importance": "normal",
            "sensitivity": "normal",
            "isCancelled": False,
            "isOrganizer": True,
            "responseRequested": True,
            "showAs": "busy",
            "categories": [],
            "isOnlineMeeting": False,
            "onlineMeetingProvider": "unknown",
            "onlineMeeting": None,
            "onlineMeetingUrl": None,
            "allowNewTimeProposals": True,
            "isDraft": False,
            "hideAttendees": False,
            "transactionId": None,
            "responseStatus": {"response": "organizer", "time": "0001-01-01T00:00:00Z"},
            "location": dict(_NOWHERE),
            "locations": [],
            "recurrence": None,
            "attendees": [],
            "organizer": {"emailAddress": me},
        } | _times(plan, zone)


def _times(plan: Plan, zone: str) -> Json:
    if plan.days:
        start = at(plan.day, 0, "UTC")
        whole = {"isAllDay": True, "end": graph_time(start + timedelta(days=plan.days))}
        return whole | {"start": graph_time(start)}
    start = at(plan.day, plan.start, zone)
    end = start + timedelta(hours=plan.hours)
    return {"isAllDay": False, "start": graph_time(start), "end": graph_time(end)}


_PATTERN: Json = {
    "interval": 1,
    "month": 0,
    "dayOfMonth": 0,
    "firstDayOfWeek": "sunday",
    "index": "first",
}


def _person(pair: tuple[str, str], kind: str, response: str) -> Json:
    return {
        "type": kind,
        "status": {"response": response, "time": "2026-10-30T09:12:44.1234567Z"},
        "emailAddress": {"name": pair[0], "address": pair[1]},
    }


def write_calendars(user: User, *, thorough: bool) -> None:
    """Fill both calendars of a person; with `thorough`, one of every shape."""
    diary = Diary(user)
    main = user.agenda.calendar()
    court = user.agenda.create_calendar("Court dates / Gericht")
    court.color = "lightRed"
    diary.add(main, Plan("Client intake", date(2026, 11, 3), 14))
    diary.add(main, Plan("Office closed", date(2026, 11, 11), days=1), showAs="free")
    diary.add(court, Plan("Hearing Novak", date(2026, 11, 19), 10.5, 2), sensitivity="private")
    _weekly(diary, user, main)
    if thorough:
        _meetings(diary, main)
        _patterns(diary, court)
        _odd(diary, main)


def _weekly(diary: Diary, user: User, main: Calendar) -> None:
    """A series over the end of summer time, with a moved and a cancelled occurrence."""
    plan = Plan("Monday meeting", date(2026, 10, 5), 9, zone=user.zone)
    pattern = {"type": "weekly", "daysOfWeek": ["monday"], "firstDayOfWeek": "monday"}
    series = diary.series(main, plan, pattern, {"type": "endDate", "endDate": "2026-12-21"})
    original = at(date(2026, 11, 16), 9, user.zone)
    moved = original + timedelta(hours=26)
    user.agenda.move_occurrence(
        series,
        original,
        subject="Monday meeting (moved to Tuesday)",
        start=graph_time(moved),
        end=graph_time(moved + timedelta(hours=1)),
    )
    user.agenda.cancel_occurrence(series, date(2026, 11, 23))


def _meetings(diary: Diary, main: Calendar) -> None:
    room = {
        "displayName": "Room Athena",
        "locationUri": "room.athena@harbourlight.example",
        "locationType": "conferenceRoom",
        "uniqueId": "room.athena@harbourlight.example",
        "uniqueIdType": "directory",
    }
    people = [
        _person(OUTSIDERS[0], "required", "accepted"),
        _person(OUTSIDERS[2], "optional", "tentativelyAccepted"),
        _person(OUTSIDERS[5], "required", "declined"),
        _person((SHARED[1].name, "room.athena@harbourlight.example"), "resource", "accepted"),
        _person(
            ("Old account", "/o=ExchangeLabs/ou=Group/cn=Recipients/cn=0f"), "required", "none"
        ),
    ]
    join = "https://teams.microsoft.com/l/meetup-join/19%3ameeting_demo/0?context=%7b%7d"
    meeting = diary.add(
        main,
        Plan("Strategy: harbour workers", date(2026, 11, 5), 15, 1.5),
        attendees=people,
        location=room,
        locations=[room],
        isOnlineMeeting=True,
        onlineMeetingProvider="teamsForBusiness",
        onlineMeeting={"joinUrl": join},
        categories=["Urgent", "Grün"],
        importance="high",
    )
    meeting.attachments = [
        Part("Agenda.pdf", "application/pdf", pdf("Agenda")),
        Part("Shared notes", "", b"", kind="reference", url="https://harbourlight.example/notes"),
    ]
    other = {"name": OUTSIDERS[1][0], "address": OUTSIDERS[1][1]}
    diary.add(
        main,
        Plan("Mediation", date(2026, 11, 12), 9.5),
        isOrganizer=False,
        organizer={"emailAddress": other},
        responseStatus={"response": "tentativelyAccepted", "time": "2026-10-30T10:00:00Z"},
        showAs="tentative",
    )


def _patterns(diary: Diary, court: Calendar) -> None:
    """Every type of pattern, every type of range."""
    forever, ten = {"type": "noEnd"}, {"type": "numbered", "numberOfOccurrences": 10}
    day = date(2026, 9, 1)
    for subject, pattern, span in (
        ("Check the post", {"type": "daily", "interval": 2}, ten),
        (
            "Duty lawyer",
            {
                "type": "weekly",
                "interval": 2,
                "daysOfWeek": ["tuesday", "thursday"],
                "firstDayOfWeek": "monday",
            },
            {"type": "endDate", "endDate": "2027-01-31"},
        ),
        ("Pay the rent", {"type": "absoluteMonthly", "dayOfMonth": 31}, forever),
        (
            "Board",
            {"type": "relativeMonthly", "daysOfWeek": ["friday"], "index": "last"},
            forever,
        ),
        (
            "First working day",
            {"type": "relativeMonthly", "daysOfWeek": _ALL_DAYS, "index": "first"},
            ten,
        ),
        ("Leap day", {"type": "absoluteYearly", "dayOfMonth": 29, "month": 2}, forever),
        (
            "Thanksgiving call",
            {"type": "relativeYearly", "daysOfWeek": ["thursday"], "index": "fourth", "month": 11},
            {"type": "numbered", "numberOfOccurrences": 5},
        ),
    ):
        diary.series(
            court, Plan(subject, day, 8.25, 0.5, zone="Eastern Standard Time"), pattern, span
        )
    birthday = {"type": "absoluteYearly", "dayOfMonth": 14, "month": 3}
    diary.series(court, Plan("Founders' day", date(2024, 3, 14), days=1), birthday, forever)


def _odd(diary: Diary, main: Calendar) -> None:
    diary.add(main, Plan("Custom zone", date(2026, 11, 6), 7), originalStartTimeZone=CUSTOM)
    diary.add(main, Plan("Call Mumbai", date(2026, 11, 6), 16, zone="India Standard Time"))
    diary.add(main, Plan("Conference", date(2026, 12, 3), days=3), showAs="oof")
    diary.add(main, Plan("No length", date(2026, 11, 9), 12, hours=0), isReminderOn=False)
    diary.add(main, Plan("Cancelled: dinner", date(2026, 11, 9), 19), isCancelled=True)
    diary.add(main, Plan("Bell \x07 and\u202e marks", date(2026, 11, 10), 11))
    diary.add(main, Plan("Untitled", date(2026, 11, 10), 12), subject=None)
    diary.add(main, Plan("From a newer Outlook", date(2026, 11, 10), 13), showAs="focusTime")
