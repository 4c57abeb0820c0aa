"""Where items go at providers that have no discovery, or that let nobody make a calendar."""

from __future__ import annotations

import pytest
from parcels import loaded, parcel, shelf
from servers.scripted import Answer, scripted

from backupd.errors import UserError
from backupd.model import Service
from targets.dav.caldav import CalDav
from targets.dav.carddav import CardDav
from targets.dav.shelves import shown
from targets.endpoint import Endpoint

_HEAD = (
    '<d:multistatus xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav" '
    'xmlns:a="urn:ietf:params:xml:ns:carddav">'
)


def entry(href: str, *props: str) -> str:
    return (
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop>{''.join(props)}</d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
    )


def answer(*entries: str) -> Answer:
    return 207, {}, f"{_HEAD}{''.join(entries)}</d:multistatus>".encode()


def calendar(href: str, name: str, *more: str) -> str:
    kind = "<d:resourcetype><d:collection/><c:calendar/></d:resourcetype>"
    return entry(href, kind, f"<d:displayname>{name}</d:displayname>", *more)


COLLECTION = "<d:resourcetype><d:collection/></d:resourcetype>"
EVENT = (
    b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:x\r\nBEGIN:VEVENT\r\nUID:u\r\nDTSTAMP:20260101T000000Z\r\n"
    b"DTSTART:20260101T000000Z\r\nDTEND:20260101T010000Z\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"
)
CARD = b"BEGIN:VCARD\r\nVERSION:3.0\r\nUID:u\r\nFN:x\r\nN:x;;;;\r\nEND:VCARD\r\n"


def made(url: str, kind: type[CalDav | CardDav] = CalDav) -> CalDav | CardDav:
    return kind(Endpoint("t", "dav", account="u", url=url, secret=lambda: "pw"))


def test_where_nobody_may_make_a_calendar_the_default_one_takes_all_and_a_person_is_told() -> None:
    inbox = entry(
        "/cal/inbox/", "<d:resourcetype><d:collection/><c:schedule-inbox/></d:resourcetype>",
        "<c:schedule-default-calendar-URL><d:href>/cal/b/</d:href></c:schedule-default-calendar-URL>",
    )  # fmt: skip

    def script(method: str, path: str, body: bytes) -> Answer:
        if method == "PROPFIND":
            both = calendar("/cal/a/", "A"), calendar("/cal/b/", "B")
            return answer(entry("/cal/", COLLECTION), *both, inbox)
        return (201, {}, b"") if method == "PUT" else (403, {}, b"")

    with scripted(script) as (server, _):
        target = made(f"{server.url}cal/")
        where = shelf(Service.CALENDAR, "Work")
        ((_, put),) = target.put(
            where, loaded([(parcel(where, "a.ics", EVENT), EVENT)]), look=False
        )
        assert put.where.startswith(f"{server.url}cal/b/")
        assert "“Work” is in “B”" in target.steps()[0]
        target.close()


def test_where_nobody_may_make_a_calendar_and_there_is_none_a_person_must() -> None:
    def script(method: str, path: str, body: bytes) -> Answer:
        return answer(entry("/cal/", COLLECTION)) if method == "PROPFIND" else (405, {}, b"")

    with scripted(script) as (server, _):
        target = made(f"{server.url}cal/")
        with pytest.raises(UserError) as caught:
            target.make_collection(shelf(Service.CALENDAR, "Work"))
        assert caught.value.reason == "collection"
        target.close()


def test_an_address_book_without_discovery_or_queries_is_written_to_by_its_address() -> None:
    held: dict[str, bytes] = {}

    def script(method: str, path: str, body: bytes) -> Answer:
        if method == "PROPFIND":
            kind = "<d:resourcetype><d:collection/><a:addressbook/></d:resourcetype>"
            return answer(entry("/dav/u/contacts/", kind), *(entry(each) for each in held))
        if method == "PUT":
            new = path not in held
            held.setdefault(path, body)
            return (201 if new else 412, {}, b"")
        if method == "GET":
            return (200, {}, held[path]) if path in held else (404, {}, b"")
        return 501, {}, b""

    with scripted(script) as (server, _):
        where = shelf(Service.CONTACTS, "Contacts")
        pair = (parcel(where, "a.vcf", CARD), CARD)
        for wanted, look in (("restored", True), ("present", True), ("present", False)):
            target = made(f"{server.url}dav/u/contacts/", CardDav)
            ((_, put),) = target.put(where, loaded([pair]), look=look)
            assert put.state == wanted
            target.close()
    assert len(held) == 1


def test_an_address_that_leads_nowhere_says_what_to_do() -> None:
    with scripted(lambda *_: (404, {}, b"")) as (server, _):
        target = made(server.url)
        with pytest.raises(UserError) as caught:
            list(target.preflight())
        assert (caught.value.reason, bool(caught.value.hint)) == ("discovery", True)
        target.close()


def test_a_principal_that_leads_to_another_host_is_not_followed() -> None:
    away = "<d:current-user-principal><d:href>https://evil.example/p/</d:href></d:current-user-principal>"
    with scripted(lambda *_: answer(entry("/", COLLECTION, away))) as (server, _):
        target = made(server.url)
        with pytest.raises(UserError):
            list(target.preflight())
        target.close()


def test_a_listing_that_names_other_hosts_gives_nothing_there() -> None:
    def script(method: str, path: str, body: bytes) -> Answer:
        return answer(entry("/cal/", COLLECTION), calendar("https://evil.example/x/", "Work"),
                      calendar("/cal/ok/", "Work"))  # fmt: skip

    with scripted(script) as (server, _):
        target = made(f"{server.url}cal/")
        assert [each.url for each in target._known().listed()] == [f"{server.url}cal/ok/"]
        target.close()


@pytest.mark.parametrize(
    ("names", "wanted"),
    [(("A", "B"), "A / B"), ((" a\n b ",), "a b"), (("\x00\u202e",), "(no name)"), (("x" * 999,), "x" * 200)],
)  # fmt: skip
def test_a_name_is_one_short_line(names: tuple[str, ...], wanted: str) -> None:
    assert shown(shelf(Service.CALENDAR, *names)) == wanted
