"""Events into the calendars of a mailbox, and no word to anybody.

Graph sends invitations for every event that has attendees, and knows no way not to. So no request
of this module ever names one: people are text of the body.
"""

from __future__ import annotations

import base64
import io
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import chain
from typing import Any
from urllib.parse import quote

import stamina
from icalendar import Component

from backupd.errors import ConfigError, ItemRefused, TransientError, UserError
from backupd.mirror import names
from backupd.model import Service
from backupd.ports import Parcel, Shelf
from targets.dav import events as quietly
from targets.dav import meaning
from targets.dav.lines import parse
from targets.dav.meaning import Said
from targets.endpoint import Endpoint
from targets.microsoft365 import said
from targets.microsoft365.answers import body_of
from targets.microsoft365.events import File, Made, attach, convert
from targets.microsoft365.graph import Json, objects, segment
from targets.microsoft365.recurrence import Start
from targets.microsoft365.store import Ready, Store, doubtful, mark_of, transaction_of
from targets.microsoft365.upload import SESSIONS, SMALL_PIECE, Ended, Upload
from targets.quiet import Way

DEFAULT = "calendar"
"""What a source calls the calendar that every mailbox has."""
_PEOPLE = re.compile(rb"^(ORGANIZER|ATTENDEE)\b", re.MULTILINE | re.IGNORECASE)
_SELECT = (
    "$select=id,subject,body,start,end,isAllDay,location,showAs,sensitivity,importance,categories,"
    "isReminderOn,reminderMinutesBeforeStart,recurrence,type,hasAttachments,originalStartTimeZone"
)
AT_ONCE_FILE = 2_990_000
"""Bytes of a file that goes along in one request; larger ones go in pieces."""
_FILES = re.compile(r"\battachments=")
_MINUTE = timedelta(minutes=1)


class Calendars(Store):
    """The calendars of an account; see `backupd.ports.Target`."""

    services = frozenset({Service.CALENDAR})
    permission = "Calendars.ReadWrite"
    items = "events"
    listing = "$select=id,iCalUId"

    def __init__(self, endpoint: Endpoint) -> None:
        if endpoint.keep_attendees or endpoint.scheduling not in {"strip", "file"}:
            raise ConfigError(
                f"[targets.{endpoint.name}]: Microsoft 365 cannot keep people in events.",
                hint="It sends them invitations whenever an event with attendees is written. Leave out "
                "keep_attendees and scheduling: people become text of the event.",
            )
        super().__init__(endpoint)

    def prepare(self, parcel: Parcel, data: bytes) -> Ready:
        """An iCalendar item as an event or series of Graph."""
        quiet = quietly.prepare(parcel.key, data, Way(strip=True))
        calendar = quietly.read(quiet.data)
        loud = calendar
        if _PEOPLE.search(data):
            loud = quietly.read(quietly.prepare(parcel.key, data, Way(strip=False)).data)
        told = list(_told(calendar, loud))
        try:
            made = convert(calendar, told)
            before = convert(loud, None)
            attach(made, parse(quiet.data)[0])
            before.files = made.files
        except quietly.HOSTILE as error:
            raise ItemRefused(
                f"The item is no event that can be read ({type(error).__name__}).", reason="broken"
            ) from error
        mark = mark_of(parcel)
        body = {**made.body, "transactionId": transaction_of(mark)}
        notes = tuple(each for each in quiet.notes if "given one" not in each)
        more = made if made.changed or made.cancelled or made.files else None
        return Ready(
            mark, body, quiet.uid, _meaning(made), (*notes, *made.notes), (_meaning(before),), more
        )

    def place(self, shelf: Shelf) -> str:
        """The default calendar, or one of its name."""
        if shelf.special == DEFAULT:
            return f"{self._graph.user}/calendar/events"
        calendar = self._calendar(" / ".join(shelf.names) or DEFAULT)
        return f"{self._graph.user}/calendars/{segment(calendar)}/events"

    def original(self, row: Json) -> str:
        """Its UID."""
        return str(row.get("iCalUId", ""))

    def complete(self, item: str, ready: Ready, *, again: bool) -> Sequence[str]:
        """Occurrences that differ or do not happen, and attached files."""
        made: Made = ready.more
        there = self._exceptions(item) if again else {}
        for original, body in made.changed.items():
            occurrence = there.get(_key(original)) or self._occurrence(item, original)
            if not occurrence:
                raise ItemRefused(
                    f"Its occurrence of {original} is not there.", reason="occurrence"
                )
            self.tell("PATCH", self._path(occurrence), _different(body, made.body))
        for original in made.cancelled:
            if occurrence := self._occurrence(item, original):
                self.tell("DELETE", self._path(occurrence))
        held = Counter(self._attached(item) if again else ())
        for name, files in _by_name(made.files).items():
            for number, file in enumerate(files, 1):
                if held[name] < number:
                    self._attach(item, file, number)
        return ()

    def _attach(self, item: str, file: File, number: int) -> None:
        """Add a file, once: `number` are to be there of its name."""
        if len(file.data) > AT_ONCE_FILE:
            self._upload(item, file, number)
            return
        attachment = {
            "@odata.type": "#microsoft.graph.fileAttachment",
            "name": file.name,
            "contentType": file.kind,
            "contentBytes": base64.b64encode(file.data).decode(),
        }
        for attempt in stamina.retry_context(doubtful, attempts=5, timeout=600.0, wait_max=60.0):
            with attempt:
                if attempt.num > 1 and self._attached(item).count(file.name) >= number:
                    return
                self.tell("POST", f"{item}/attachments", attachment, once=True)

    def _upload(self, item: str, file: File, number: int) -> None:
        """Add a large file in pieces, which may take several tries."""
        facts = {
            "attachmentType": "file",
            "name": file.name,
            "contentType": file.kind,
            "size": len(file.data),
        }
        path = f"{item}/attachments/createUploadSession"
        for _ in range(SESSIONS):
            try:
                upload = Upload(self._graph, io.BytesIO(file.data), SMALL_PIECE)
                upload.run(path, {"AttachmentItem": facts})
            except Ended:
                if self._attached(item).count(file.name) < number:
                    continue
            return
        raise TransientError(f"Uploads of {file.name} end before the file is complete.")

    def meaning_at(self, item: str, wanted: str) -> str:
        """What an event says, with its occurrences, and its files where some are wanted."""
        row = self.got(f"{item}?{_SELECT}")
        if row is None:
            return ""
        if row.get("recurrence"):
            whole = f"{item}?{_SELECT},cancelledOccurrences&$expand=exceptionOccurrences"
            row = self.got(whole) or row
        files = self._attached(item) if _FILES.search(wanted) else []
        return meaning.word(chain(_row(row), _files(files)))

    def _probe(self) -> str:
        return f"{self._graph.user}/calendars?$top=50"

    def _calendar(self, name: str) -> str:
        wanted, calendars = names.fold(name), f"{self._graph.user}/calendars"
        for attempt in range(2):
            for each in self._graph.pages(f"{calendars}?$top=100"):
                if names.fold(str(each.get("name", ""))) == wanted:
                    return str(each.get("id", ""))
            if attempt == 0:
                made = self._graph.ask("POST", calendars, {"name": name})
                if made.status_code == 201:  # noqa: PLR2004
                    return str(body_of(made).get("id", ""))
        raise UserError(
            f"The calendar {name!r} cannot be created for {self._graph.account}.",
            hint="Create it in Outlook, then run the same restore again.",
            reason="calendar",
        )

    def _occurrence(self, item: str, original: Start) -> str:
        """The id of the occurrence that begins at its time by the rule; "" when there is none."""
        begins = _instant(original)
        window = f"startDateTime={_stamp(begins)}&endDateTime={_stamp(begins + _MINUTE)}"
        for each in self._graph.pages(f"{item}/instances?{window}&$select=id,start,type"):
            at = said.moment(each.get("start"), whole=not isinstance(original, datetime))
            if at == _key(original) and each.get("type") != "exception":
                return str(each.get("id", ""))
        return ""

    def _exceptions(self, item: str) -> dict[str, str]:
        """The ids of occurrences that differ already, by when they were to begin."""
        row = self._graph.get(f"{item}?$select=id,isAllDay&$expand=exceptionOccurrences")
        whole = row.get("isAllDay") is True
        rows = objects(row.get("exceptionOccurrences"))
        return {_original(each, whole=whole): str(each.get("id", "")) for each in rows}

    def _attached(self, item: str) -> list[str]:
        rows = self._graph.pages(f"{item}/attachments?$select=id,name")
        files = (each for each in rows if "fileAttachment" in str(each.get("@odata.type")))
        return [str(each.get("name", "")) for each in files]


def _by_name(files: Iterable[File]) -> dict[str, list[File]]:
    found: dict[str, list[File]] = {}
    for each in files:
        found.setdefault(each.name, []).append(each)
    return found


def _told(quiet: Component, loud: Component) -> Iterator[str]:
    """For each event, what was put behind its description in place of its people."""
    pairs = zip(_events(quiet), _events(loud), strict=True)
    for one, other in pairs:
        before = str(other.get("DESCRIPTION", ""))
        yield (
            str(one.get("DESCRIPTION", "")).removeprefix(before).strip() if one is not other else ""
        )


def _events(calendar: Component) -> list[Component]:
    return [each for each in calendar.subcomponents if each.name == "VEVENT"]


def _different(body: dict[str, Any], master: dict[str, Any]) -> dict[str, Any]:
    """Of an occurrence what its series does not say: Exchange changes nothing else of one."""
    always = ("start", "end")
    return {k: v for k, v in body.items() if k in always or v != master.get(k)}


def _meaning(made: Made) -> str:
    """What an event says before it is put."""
    files = [each.name for each in made.files]
    return meaning.word(chain(_made(made), _files(files)))


def _made(made: Made) -> Iterator[Said]:
    yield from said.event(made.body)
    yield from said.recurrence(made.body)
    for original, body in made.changed.items():
        yield from said.event(body, _key(original))
    yield from (Said("cancelled", "", _day(original)) for original in made.cancelled)


def _row(row: Json) -> Iterator[Said]:
    yield from said.event(row)
    yield from said.recurrence(row)
    whole = row.get("isAllDay") is True
    for each in objects(row.get("exceptionOccurrences")):
        yield from said.event(each, _original(each, whole=whole))
    cancelled = row.get("cancelledOccurrences")
    for name in cancelled if isinstance(cancelled, list) else ():
        yield Said("cancelled", "", str(name).rpartition(".")[2])


def _files(names_: Sequence[str]) -> Iterator[Said]:
    yield from (Said("attachments", "", each) for each in names_)


def _original(row: Json, *, whole: bool) -> str:
    """When an exception was to begin; of a whole day the date."""
    text = str(row.get("originalStart", ""))
    when = names.parse_time(text)
    if whole or when is None:
        return text[:10]
    return when.astimezone(UTC).isoformat()


def _key(original: Start) -> str:
    if isinstance(original, datetime):
        return original.astimezone(UTC).isoformat()
    return original.isoformat()


def _day(original: Start) -> str:
    """The day in the zone of the series, as Graph names a cancelled occurrence."""
    return (original.date() if isinstance(original, datetime) else original).isoformat()


def _instant(original: Start) -> datetime:
    if isinstance(original, datetime):
        return original.astimezone(UTC)
    return datetime(original.year, original.month, original.day, tzinfo=UTC)


def _stamp(when: datetime) -> str:
    return quote(when.strftime("%Y-%m-%dT%H:%M:%SZ"), safe="")
