"""On a server that does send invitations, a restore sends none; and the server does send them."""

from __future__ import annotations

import imaplib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest
from parcels import loaded, parcel, shelf
from servers.cyrus import Cyrus, cyrus

from backupd.model import Service
from targets.dav import xml
from targets.dav.caldav import CalDav
from targets.endpoint import Endpoint

SETTLE = 1.0
"""Seconds that a server gets to deliver what it must not."""


def meeting(uid: str, *, twice: bool = False) -> bytes:
    """A meeting that u1 calls u2 to, in the future; a series with an exception if told."""
    people = (
        "ORGANIZER;CN=One:mailto:u1@localhost\r\n"
        "ATTENDEE;CN=One;PARTSTAT=ACCEPTED:mailto:u1@localhost\r\n"
        "ATTENDEE;CN=Two;ROLE=REQ-PARTICIPANT;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:u2@localhost\r\n"
    )
    one = (
        f"BEGIN:VEVENT\r\nUID:{uid}\r\nDTSTAMP:20260101T000000Z\r\nSUMMARY:Budget {uid}\r\n"
        f"DTSTART:20300102T100000Z\r\nDTEND:20300102T110000Z\r\n{people}"
    )
    rule = "RRULE:FREQ=DAILY;COUNT=4\r\n" if twice else ""
    other = one.replace("DTSTART:20300102T10", "DTSTART:20300103T12").replace(
        "DTEND:20300102T11", "RECURRENCE-ID:20300103T100000Z\r\nDTEND:20300103T13"
    )
    events = f"{one}{rule}END:VEVENT\r\n" + (f"{other}END:VEVENT\r\n" if twice else "")
    return (
        "BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//t//t//EN\r\nMETHOD:REQUEST\r\n"
        f"{events}END:VCALENDAR\r\n"
    ).encode()


@dataclass(frozen=True)
class House:
    server: Cyrus

    def client(self, user: str) -> httpx.Client:
        return httpx.Client(auth=(user, self.server.password), timeout=30)

    def calendars(self, user: str) -> set[str]:
        """Everything in the calendars and the scheduling inbox of a user."""
        home = self.server.calendars(user)
        found: set[str] = set()
        with self.client(user) as client:
            answer = client.request("PROPFIND", home, headers={"Depth": "1"})
            for folder in xml.multistatus(answer.content):
                inside = client.request(
                    "PROPFIND", f"{self.server.url}{folder.href}", headers={"Depth": "1"}
                )
                hrefs = {each.href for each in xml.multistatus(inside.content)}
                found |= {each for each in hrefs if not each.endswith("/")}
        return found

    def mails(self, user: str) -> int:
        with imaplib.IMAP4(self.server.host, self.server.imap) as session:
            session.login(user, self.server.password)
            return int((session.select("INBOX", readonly=True)[1][0] or b"0").decode())

    def got(self, user: str) -> tuple[set[str], int]:
        return self.calendars(user), self.mails(user)


@pytest.fixture(scope="module")
def house() -> Iterator[House]:
    with cyrus(scheduling=True) as server:
        for user in server.users[:3]:  # the first login makes the mailbox, calendars need it
            with imaplib.IMAP4(server.host, server.imap) as session:
                session.login(user, server.password)
        made = House(server)
        made.got("u2")  # the first look makes the calendars
        with imaplib.IMAP4(server.host, server.imap) as session:
            session.login("admin", server.password)
            # Cyrus 3.6 delivers an invitation with the rights of who sends it.
            default = "user/u2/#calendars/Default"
            assert session.setacl(default, "anyone", "lrswipkxtecdan9")[0] == "OK"
        yield made


def restored(house: House, uid: str, **how: object) -> list[str]:
    """Restore a meeting, a series and an accepted invitation twice; answers the states of both runs."""
    where = shelf(Service.CALENDAR, f"Restored {uid}")
    swapped = meeting(f"{uid}-answered").replace(b"u1@", b"u0@").replace(b"u2@", b"u1@")
    answered = swapped.replace(b"u0@", b"u2@").replace(b"NEEDS-ACTION", b"ACCEPTED")
    items = [meeting(uid), meeting(f"{uid}-series", twice=True), answered]
    pairs = [(parcel(where, f"{n}.ics", data), data) for n, data in enumerate(items)]
    states = []
    for look in (False, True):
        target = CalDav(
            Endpoint("t", "caldav", account="u1@localhost", url=house.server.url + "/", username="u1",
                     secret=lambda: "pw", **how)  # type: ignore[arg-type]
        )  # fmt: skip
        list(target.preflight())
        states += [put.state for _, put in target.put(where, loaded(pairs), look=look)]
        target.close()
    return states


def test_the_server_does_invite_when_nobody_stops_it(house: House) -> None:
    before = house.got("u2")
    data = meeting("control").replace(b"METHOD:REQUEST\r\n", b"")
    with house.client("u1") as client:
        kind = {"Content-Type": "text/calendar; charset=utf-8"}
        place = f"{house.server.calendars('u1')}Default/control.ics"
        assert client.put(place, content=data, headers=kind).status_code == 201
    deadline = time.monotonic() + 10
    while house.got("u2") == before and time.monotonic() < deadline:
        time.sleep(0.1)
    arrived = house.calendars("u2") - before[0]
    assert any("/Inbox/" in each for each in arrived), arrived
    assert any("/Default/" in each for each in arrived), arrived


@pytest.mark.parametrize(
    ("profile", "keep", "state"),
    [
        ("cyrus", False, "restored"),
        ("strip", False, "repaired"),
        ("sabre", False, "restored"),
        ("nextcloud", False, "restored"),
        ("agent", False, "restored"),
        ("none", False, "restored"),
        ("strip", True, "restored"),
        ("unheard-of", False, "repaired"),
    ],
)
def test_a_restore_invites_nobody(house: House, profile: str, keep: bool, state: str) -> None:
    before = house.got("u2"), house.mails("u1")
    states = restored(house, f"{profile}-{keep}", scheduling=profile, keep_attendees=keep)
    assert states == [state] * 3 + ["present"] * 3
    time.sleep(SETTLE)
    assert (house.got("u2"), house.mails("u1")) == before


def test_a_canary_does_not_reach_its_attendee_either(house: House) -> None:
    before = house.got("u2")
    target = CalDav(
        Endpoint("t", "caldav", account="u1@localhost", url=house.server.url + "/", username="u1",
                 secret=lambda: "pw", scheduling="cyrus",
                 quirks={"canary": "u2@localhost", "canary_wait": 0})
    )  # fmt: skip
    held = house.calendars("u1")
    list(target.preflight())
    target.close()
    time.sleep(SETTLE)
    assert house.got("u2") == before
    assert house.calendars("u1") == held
