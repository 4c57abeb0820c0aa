"""Calendars: listed whole in every run, because v1.0 has no delta that is not a window of time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime

from backupd.model import Account, Collection, Facts, Gap, Item, Page, Service
from backupd.ports import Draft, Failed, Fetched, Landing
from sources.graph import attachments
from sources.graph.addresses import quoted
from sources.graph.batch import Part, ask_all
from sources.graph.client import Client, Json
from sources.graph.exchange import IMMUTABLE, Mailbox
from sources.graph.failures import Class, Scope
from sources.graph.fields import flag, mapping, mappings
from sources.graph.ical import Attachment, event_to_ics
from sources.graph.listing import (
    Cursor,
    Listing,
    outlook_changes,
    string,
    walk,
)

CALENDAR = ("id", "name", "color", "hexColor", "owner", "isDefaultCalendar", "canEdit")
LISTING = f"$select={','.join(CALENDAR)}&$top=100"
LISTED = ("id", "changeKey", "lastModifiedDateTime", "type", "seriesMasterId", "iCalUId")
PER_PAGE = 999
"""Events a page; Graph's own maximum."""

EVENT = (
    "id",
    "iCalUId",
    "changeKey",
    "createdDateTime",
    "lastModifiedDateTime",
    "type",
    "seriesMasterId",
    "subject",
    "body",
    "start",
    "end",
    "originalStartTimeZone",
    "originalEndTimeZone",
    "originalStart",
    "isAllDay",
    "recurrence",
    "location",
    "locations",
    "organizer",
    "attendees",
    "isOrganizer",
    "responseStatus",
    "responseRequested",
    "allowNewTimeProposals",
    "hideAttendees",
    "isCancelled",
    "isDraft",
    "showAs",
    "sensitivity",
    "importance",
    "categories",
    "isReminderOn",
    "reminderMinutesBeforeStart",
    "hasAttachments",
    "isOnlineMeeting",
    "onlineMeetingProvider",
    "onlineMeetingUrl",
    "onlineMeeting",
    "transactionId",
    "webLink",
)
SERIES = (*EVENT, "cancelledOccurrences")
"""`cancelledOccurrences` and `exceptionOccurrences` come only with the GET of one master."""


def version(facts: Facts) -> str:
    """The change key; for a series today's date (UTC) as well.

    It is not known whether Exchange gives a master a new change key when one of its occurrences
    is edited. So every series is fetched once a day, whatever its key says.
    """
    key = str(facts.get("changeKey") or facts.get("lastModifiedDateTime") or "")
    if facts.get("type") == "seriesMaster":
        return f"{key}:{datetime.now(UTC).date().isoformat()}"
    return key


class Calendars:
    """The calendars of one tenant's mailboxes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def collections(self, account: Account) -> Sequence[Collection | Gap]:
        """Every calendar, those in groups included; shared ones are told by their owner."""
        mailbox = Mailbox(self._client, account)
        call = mailbox.batch(Scope.SERVICE, "the calendars")
        own, groups = mailbox.listings(
            [f"calendars?{LISTING}", "calendarGroups?$select=id,name&$top=100"], call
        )
        found = {string(each, "id"): (each, "") for each in own}
        paths = [
            f"calendarGroups/{quoted(string(each, 'id'))}/calendars?{LISTING}" for each in groups
        ]
        for group, inside in zip(groups, mailbox.listings(paths, call), strict=True):
            for each in inside:
                found[string(each, "id")] = (each, string(group, "name"))
        return [_collection(each, group) for each, group in found.values()]

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """Every single event and series master; a run always begins a full listing."""
        mailbox = Mailbox(self._client, account)
        user = self._client.sdk.root.users.by_user_id(account.id)
        events = user.calendars.by_calendar_id(collection.id).events
        call = mailbox.call(Scope.COLLECTION, f"the events in {collection.name}")

        def begin() -> Cursor:
            return Cursor(self._client.sdk.url(events, select=list(LISTED), top=PER_PAGE))

        aged = frozenset({Class.RESTART, Class.CLIENT})
        listing = Listing(call, begin, outlook_changes, aged, repeats=True)
        return walk(self._client, listing, cursor)

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """Each event as one iCalendar file; facts get the answer of Graph under `raw`."""
        mailbox = Mailbox(self._client, account)
        user = self._client.sdk.root.users.by_user_id(account.id)
        template, by_id = self._client.sdk.template, user.events.by_event_id
        single = template(by_id, select=list(EVENT))
        series = template(by_id, select=list(SERIES), expand=["exceptionOccurrences"])
        plain = template(by_id)
        call = mailbox.call(Scope.ITEM, "an event")

        async def work(item: Item, draft: Draft) -> Fetched:
            address = series if item.facts.get("type") == "seriesMaster" else single
            event = await self._client.sent("GET", address(item.id), call)
            files: list[Attachment] = []
            gaps: list[Gap] = []
            for owner in _with_attachments(event):
                where = plain(owner)
                for entry in await attachments.listed(self._client, where, call):
                    if attachments.is_reference(entry):
                        gaps.append(attachments.gap(entry))
                    else:
                        files.append(await attachments.loaded(self._client, where, entry, call))
            draft.write(await asyncio.to_thread(event_to_ics, event, _once_each(files)))
            return Fetched(item, draft, facts={"raw": event}, gaps=tuple(gaps))

        def probe() -> Awaitable[Json]:
            calendar = user.calendars.by_calendar_id(collection.id)
            asked = mailbox.call(Scope.COLLECTION, "a calendar")
            return self._client.built(self._client.sdk.get(calendar, select=["id"]), asked)

        return mailbox.fetch(items, landing, work, probe)

    def locate(self, account: Account, keys: Sequence[str]) -> Mapping[str, str | None]:
        """In which calendar events are; None for one that is in no calendar any more."""
        mailbox = Mailbox(self._client, account)
        present = mailbox.locate("events", "id", keys)
        left = [key for key, where in present.items() if where]
        parts = [
            Part(f"{mailbox.path}/events/{quoted(key)}/calendar?$select=id", {"Prefer": IMMUTABLE})
            for key in left
        ]
        call = mailbox.batch(Scope.ITEM, "the calendars of events")
        replies = self._client.loop.call(ask_all(self._client, parts, call))
        where: dict[str, str | None] = {key: None for key, at in present.items() if at is None}
        for key, reply in zip(left, replies, strict=True):
            if reply.refusal is None:
                where[key] = string(reply.body, "id")
            elif reply.refusal.meaning(Scope.ITEM).kind is Class.GONE:
                where[key] = None
        return where


def _collection(calendar: Json, group: str) -> Collection:
    owner = mapping(calendar, "owner")
    facts = {
        "owner": string(owner, "address"),
        "color": string(calendar, "hexColor") or string(calendar, "color"),
        "group": group,
    }
    return Collection(
        service=Service.CALENDAR,
        id=string(calendar, "id"),
        parent=None,
        name=string(calendar, "name"),
        special="calendar" if flag(calendar, "isDefaultCalendar") else None,
        facts={key: value for key, value in facts.items() if value},
    )


def _with_attachments(event: Json) -> list[str]:
    """The ids of the event and those of its exceptions that have attachments."""
    return [
        string(each, "id")
        for each in (event, *mappings(event, "exceptionOccurrences"))
        if flag(each, "hasAttachments") and string(each, "id")
    ]


def _once_each(files: Sequence[Attachment]) -> list[Attachment]:
    """An exception repeats the attachments of its master: each name with the same bytes once."""
    return list({(each.name, each.data): each for each in files}.values())
