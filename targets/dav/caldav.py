"""Calendars into a CalDAV server, without a word to anybody who was ever invited."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from backupd.errors import UserError
from backupd.model import Service
from backupd.ports import Finding, Shelf
from targets import quiet
from targets.dav import events
from targets.dav.http import child
from targets.dav.prepared import Prepared
from targets.dav.shelves import CALENDARS
from targets.dav.store import Store
from targets.dav.xml import CALDAV, DAV, asked, element, written
from targets.endpoint import Endpoint

_DONE = frozenset({200, 201, 204})
_WAIT = 3.0
"""Seconds that the canary's event stays: long enough for a server that sends by and by."""


class CalDav(Store):
    """Puts events and tasks; see `backupd.ports.Target`."""

    services = frozenset({Service.CALENDAR})
    wanted = CALENDARS
    suffix = ".ics"
    media = "text/calendar"
    data = f"{CALDAV}calendar-data"
    headers = quiet.HEADERS

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._way = quiet.way(endpoint.scheduling, keep_attendees=endpoint.keep_attendees)

    def prepare(self, key: str, data: bytes, uid: str = "") -> Prepared:
        """Quiet, with one UID."""
        return events.prepare(key, data, self._way, uid)

    def softer(self, prepared: Prepared) -> Iterator[Prepared]:
        """Events with an end behind their start; then without what other programs invented."""
        return events.softer(prepared)

    def meaning_of(self, data: bytes) -> str:
        """What an event says."""
        return events.meaning_of(data)

    def multiget(self) -> str:
        """`calendar-multiget`."""
        return f"{CALDAV}calendar-multiget"

    def query(self, uid: str) -> bytes:
        """A calendar-query for a UID, whatever component has it."""
        match = element(f"{CALDAV}text-match", uid)
        match.set("collation", "i;octet")
        by_uid = element(f"{CALDAV}prop-filter", match)
        by_uid.set("name", "UID")
        inner = element(f"{CALDAV}comp-filter", by_uid)
        inner.set("name", "VEVENT")
        outer = element(f"{CALDAV}comp-filter", inner)
        outer.set("name", "VCALENDAR")
        filtered = element(f"{CALDAV}filter", outer)
        return written(element(f"{CALDAV}calendar-query", asked([f"{DAV}getetag"]), filtered))

    def preflight(self) -> Iterator[Finding]:
        """Find the calendars, say how people are kept from being written to; a canary if asked for."""
        yield from super().preflight()
        if self._way.strip:
            yield Finding("ok", self.name, "organizers and attendees become text of the event")
        else:
            yield Finding(
                "ok",
                self.name,
                "organizers and attendees stay, marked so that the server writes to nobody",
            )
        if address := self._endpoint.quirks.get("canary"):
            yield from self.canary(str(address))

    def steps(self) -> Sequence[str]:
        """What could not be made, and what becomes of meetings."""
        told = list(super().steps())
        if not self._way.strip:
            told.append(
                "Meetings are stored so that the server writes to nobody about them: whoever changes "
                "one later has to tell its attendees himself."
            )
        return tuple(told)

    def canary(self, address: str) -> Iterator[Finding]:
        """Put an event with one attendee, `address`, in the way of this target, and take it away again.

        Whether the server writes to the attendee only the person at that address can see.
        """
        shelf = Shelf(Service.CALENDAR, "calendar/backupd canary", ("backupd canary",), 1, 0)
        listed = self._known().listed()
        made = None if listed else self._known().take(shelf)
        folder = made or listed[0]
        event = events.prepare("canary", _canary(self._endpoint.account, address), self._way)
        url = child(folder.url, self._leaf(event.uid))
        try:
            answer = self._send(url, event)
            if answer.status_code not in _DONE:
                raise UserError(
                    f"{self._http.host} does not take a trial event: status {answer.status_code}.",
                    hint="Look at the calendar in the provider's web application: may it be written to?",
                )
            wait = self._endpoint.quirks.get("canary_wait", _WAIT)
            time.sleep(float(wait) if isinstance(wait, int | float) else _WAIT)
        finally:
            self._http.request("DELETE", url, headers=self.headers)
            if made is not None:
                self._http.request("DELETE", made.url, headers=self.headers)
        yield Finding(
            "warning",
            self.name,
            f"a trial event with {address} as its attendee was put and removed",
            hint=f"Look into the mailbox of {address}: if a mail about “backupd trial event” came, do "
            "not restore with attendees kept.",
        )


def _canary(account: str, address: str) -> bytes:
    begin = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    moments = {"DTSTAMP": begin, "DTSTART": begin, "DTEND": begin + timedelta(hours=1)}
    times = [f"{name}:{when:%Y%m%dT%H%M%SZ}" for name, when in moments.items()]
    people = [f"ORGANIZER:mailto:{account}", f"ATTENDEE;PARTSTAT=NEEDS-ACTION:mailto:{address}"]
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//backupd//canary//EN", "BEGIN:VEVENT",
             f"UID:{uuid.uuid4()}@backupd.invalid", "SUMMARY:backupd trial event", *times, *people,
             "END:VEVENT", "END:VCALENDAR"]  # fmt: skip
    return "".join(f"{each}\r\n" for each in lines if "\n" not in each).encode()
