"""The simulated tenant takes what a restore writes, and refuses it the way Microsoft does."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tenant_client import TenantClient, q

from backupd.demo.tenant import SimulatedTenant
from backupd.demo.uploads import GRAIN

WHEN = {
    "start": {"dateTime": "2026-11-02T08:00:00", "timeZone": "Europe/Rome"},
    "end": {"dateTime": "2026-11-02T09:00:00", "timeZone": "Europe/Rome"},
}
WEEKLY = {
    "pattern": {"type": "weekly", "interval": 1, "daysOfWeek": ["monday"]},
    "range": {"type": "numbered", "startDate": "2026-11-02", "numberOfOccurrences": 5, "recurrenceTimeZone": "Europe/Rome"},
}  # fmt: skip
NOVEMBER = "startDateTime=2026-11-01T00:00:00Z&endDateTime=2026-12-31T00:00:00Z"


@pytest.fixture(scope="module")
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(people=1, messages=1, extras=False) as running:
        running.state.app.roles |= {"Calendars.ReadWrite", "Contacts.ReadWrite", "Files.ReadWrite.All"}  # fmt: skip
        yield running


@pytest.fixture
def client(tenant: SimulatedTenant) -> Iterator[TenantClient]:
    with TenantClient(tenant) as connected:
        yield connected


@pytest.fixture
def user(tenant: SimulatedTenant, request: pytest.FixtureRequest) -> str:
    """A person without anything."""
    alias = f"u{abs(hash(request.node.name))}"
    return f"users/{tenant.state.add_user(alias, 'New Person').id}"


def items(client: TenantClient, user: str) -> str:
    return f"drives/{client.get(f'{user}/drive').json()['id']}/items"


def session(client: TenantClient, where: str, name: str, **facts: Any) -> str:
    root = client.get(f"{where}/root").json()["id"]
    path = f"{where}/{root}:/{name}:/createUploadSession"
    answer = client.send("POST", path, json={"item": facts})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["uploadUrl"])


def piece(url: str, start: int, data: bytes, total: int) -> httpx.Response:
    said = f"bytes {start}-{start + len(data) - 1}/{total}"
    return httpx.put(url, content=data, headers={"Content-Range": said})


class TestFiles:
    def test_a_name_that_is_taken_is_a_conflict_whatever_its_case(
        self, client: TenantClient, user: str
    ) -> None:
        where = items(client, user)
        how = "@microsoft.graph.conflictBehavior=fail"
        first = client.send("PUT", f"{where}/root:/a.txt:/content?{how}", content=b"one")
        assert first.status_code == 201
        other = client.send("PUT", f"{where}/root:/A.TXT:/content?{how}", content=b"two")
        assert (other.status_code, other.json()["error"]["code"]) == (409, "nameAlreadyExists")
        folder = client.send("POST", f"{where}/root/children", json={"name": "A.txt", "folder": {}})
        assert folder.status_code == 409

    @pytest.mark.parametrize("name", ["a:b", "CON", "~$x.docx", "dot.", "x" * 401])
    def test_names_that_onedrive_does_not_take_are_refused(
        self, client: TenantClient, user: str, name: str
    ) -> None:
        where = items(client, user)
        answer = client.send("POST", f"{where}/root/children", json={"name": name, "folder": {}})
        assert answer.status_code == 400

    def test_a_full_drive_says_507(
        self, client: TenantClient, user: str, tenant: SimulatedTenant
    ) -> None:
        where = items(client, user)
        tenant.state.directory.find(user.removeprefix("users/")).drives[0].quota = 10
        answer = client.send("PUT", f"{where}/root:/a.txt:/content", content=b"x" * 11)
        assert (answer.status_code, answer.json()["error"]["code"]) == (507, "quotaLimitReached")
        assert client.get(f"{user}/drive").json()["quota"]["remaining"] == 10

    def test_another_version_is_a_failed_precondition(
        self, client: TenantClient, user: str
    ) -> None:
        where = items(client, user)
        row = client.send("PUT", f"{where}/root:/a.txt:/content", content=b"1").json()
        info = {"fileSystemInfo": {"lastModifiedDateTime": "2019-01-01T00:00:00Z"}}
        wrong = client.send("PATCH", f"{where}/{row['id']}", json=info, headers={"If-Match": '"x"'})
        right = client.send("PATCH", f"{where}/{row['id']}", json=info, headers={"If-Match": row["eTag"]})  # fmt: skip
        assert (wrong.status_code, right.status_code) == (412, 200)
        assert right.json()["fileSystemInfo"]["lastModifiedDateTime"] == "2019-01-01T00:00:00Z"


class TestSessions:
    def test_pieces_make_a_file_and_say_what_is_missing(
        self, client: TenantClient, user: str
    ) -> None:
        data = bytes(range(256)) * 2560  # two grains
        where = items(client, user)
        url = session(client, where, "big.bin")
        first = piece(url, 0, data[:GRAIN], len(data))
        assert (first.status_code, first.json()["nextExpectedRanges"]) == (202, [f"{GRAIN}-"])
        assert httpx.get(url).json()["nextExpectedRanges"] == [f"{GRAIN}-"]
        last = piece(url, GRAIN, data[GRAIN:], len(data))
        assert (last.status_code, last.json()["size"]) == (201, len(data))
        assert httpx.get(url).status_code == 404

    def test_what_came_before_is_not_satisfiable(self, client: TenantClient, user: str) -> None:
        url = session(client, items(client, user), "big.bin")
        piece(url, 0, b"x" * GRAIN, 3 * GRAIN)
        assert piece(url, 0, b"x" * GRAIN, 3 * GRAIN).status_code == 416
        assert piece(url, 2 * GRAIN, b"x" * GRAIN, 3 * GRAIN).status_code == 416

    def test_pieces_of_odd_sizes_and_tokens_are_refused(
        self, client: TenantClient, user: str
    ) -> None:
        url = session(client, items(client, user), "big.bin")
        assert piece(url, 0, b"x" * 1000, 3 * GRAIN).status_code == 400
        assert httpx.get(url, headers={"Authorization": "Bearer x"}).status_code == 401

    def test_a_session_ends_by_itself_or_by_request(
        self, client: TenantClient, user: str, tenant: SimulatedTenant
    ) -> None:
        where = items(client, user)
        first, second = session(client, where, "a"), session(client, where, "b")
        assert httpx.delete(first).status_code == 204
        assert piece(first, 0, b"x", 1).status_code == 404
        tenant.expire_uploads()
        assert piece(second, 0, b"x", 1).status_code == 404

    def test_a_name_that_was_taken_meanwhile_is_a_conflict_at_the_end(
        self, client: TenantClient, user: str
    ) -> None:
        where = items(client, user)
        url = session(client, where, "a", **{"@microsoft.graph.conflictBehavior": "fail"})
        client.send("PUT", f"{where}/root:/a:/content", content=b"first")
        assert piece(url, 0, b"second", 6).status_code == 409


class TestEvents:
    def test_an_event_is_kept_as_exchange_keeps_it(self, client: TenantClient, user: str) -> None:
        body = {"subject": "x", "body": {"contentType": "text", "content": "a < b\nc"}, **WHEN}
        made = client.send("POST", f"{user}/events", json=body)
        assert made.status_code == 201
        row = client.get(f"{user}/events/{q(made.json()['id'])}").json()
        assert row["start"] == {"dateTime": "2026-11-02T07:00:00.0000000", "timeZone": "UTC"}
        assert row["originalStartTimeZone"] == "Europe/Rome"
        assert "a &lt; b<br>" in row["body"]["content"]
        assert row["iCalUId"].startswith("040000008200E00074C5B7101A82E008")

    def test_the_same_transaction_makes_one_event(
        self, client: TenantClient, user: str, tenant: SimulatedTenant
    ) -> None:
        body = {"subject": "x", "transactionId": "t-1", **WHEN}
        ids = {client.send("POST", f"{user}/events", json=body).json()["id"] for _ in range(2)}
        assert len(ids) == 1
        tenant.switches.transaction_conflict = True
        again = client.send("POST", f"{user}/events", json=body)
        tenant.switches.transaction_conflict = False
        assert again.status_code == 409

    def test_occurrences_are_changed_and_dropped_one_by_one(
        self, client: TenantClient, user: str
    ) -> None:
        body = {"subject": "x", "recurrence": WEEKLY, **WHEN}
        master = f"{user}/events/{q(client.send('POST', f'{user}/events', json=body).json()['id'])}"
        rows = client.rows(f"{master}/instances?{NOVEMBER}")
        assert len(rows) == 5
        client.send("PATCH", f"{user}/events/{q(rows[1]['id'])}", json={"subject": "y"})
        assert client.send("DELETE", f"{user}/events/{q(rows[2]['id'])}").status_code == 204
        seen = client.get(f"{master}?$select=id,cancelledOccurrences&$expand=exceptionOccurrences").json()  # fmt: skip
        assert [each["subject"] for each in seen["exceptionOccurrences"]] == ["y"]
        assert seen["cancelledOccurrences"][0].endswith(".2026-11-16")
        assert len(client.rows(f"{master}/instances?{NOVEMBER}")) == 4

    @pytest.mark.parametrize(
        "wrong",
        [
            {"start": {"dateTime": "2026-11-02T08:00:00", "timeZone": "Mars/Olympus"}},
            {"end": {"dateTime": "2026-11-01T08:00:00", "timeZone": "UTC"}},
            {"isAllDay": True},
            {"iCalUId": "mine"},
            {"showAs": "asleep"},
            {"recurrence": {**WEEKLY, "pattern": {"type": "weekly", "interval": 1}}},
            {"recurrence": {**WEEKLY, "range": {**WEEKLY["range"], "startDate": "2026-11-03"}}},
            {"subject": "x" * 256},
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, client: TenantClient, user: str, wrong: dict[str, Any]
    ) -> None:
        assert client.send("POST", f"{user}/events", json={**WHEN, **wrong}).status_code == 400

    def test_people_are_written_to_and_nobody_else(
        self, client: TenantClient, user: str, tenant: SimulatedTenant
    ) -> None:
        tenant.state.outbox.clear()
        client.send("POST", f"{user}/events", json={"subject": "alone", **WHEN})
        assert tenant.state.outbox == []
        people = [{"emailAddress": {"address": "ann@example.org"}}]
        client.send("POST", f"{user}/events", json={"subject": "x", "attendees": people, **WHEN})
        (sent,) = tenant.state.outbox
        assert (sent.kind, sent.recipients) == ("request", ("ann@example.org",))

    def test_attachments_have_a_limit(self, client: TenantClient, user: str) -> None:
        event = client.send("POST", f"{user}/events", json=WHEN).json()["id"]

        def attach(data: bytes) -> int:
            file = {"@odata.type": "#microsoft.graph.fileAttachment", "name": "a", "contentBytes": base64.b64encode(data).decode()}  # fmt: skip
            return client.send("POST", f"{user}/events/{q(event)}/attachments", json=file).status_code  # fmt: skip

        assert (attach(b"small"), attach(b"x" * 3_050_000)) == (201, 413)


class TestContacts:
    def test_a_contact_has_room_for_three_addresses(self, client: TenantClient, user: str) -> None:
        many = [{"address": f"a{n}@example.org"} for n in range(4)]
        few = client.send("POST", f"{user}/contacts", json={"emailAddresses": many[:3]})
        assert few.status_code == 201
        answer = client.send("POST", f"{user}/contacts", json={"emailAddresses": many})
        assert answer.status_code == 400

    def test_extended_properties_are_shown_to_whoever_asks_for_them(
        self, client: TenantClient, user: str
    ) -> None:
        mark = {"id": "String {6f0d3c9e-52a7-4b8f-9c41-7f1a2d8e3b60} Name x", "value": "7"}
        body = {"givenName": "A", "surname": "B", "singleValueExtendedProperties": [mark]}
        client.send("POST", f"{user}/contacts", json=body)
        (plain,) = client.rows(f"{user}/contacts?$select=id,displayName")
        assert plain.keys() >= {"displayName"}
        assert "singleValueExtendedProperties" not in plain
        asked = f"$expand=singleValueExtendedProperties($filter=id eq '{mark['id']}')"
        (marked,) = client.rows(f"{user}/contacts?$select=id&{asked}")
        assert marked["singleValueExtendedProperties"] == [mark]

    def test_folders_of_one_name_are_a_conflict(self, client: TenantClient, user: str) -> None:
        first, second = (
            client.send("POST", f"{user}/contactFolders", json={"displayName": "A"}).status_code
            for _ in range(2)
        )
        assert (first, second) == (201, 409)


@pytest.mark.parametrize("path", ["events", "contacts", "calendars", "contactFolders"])
def test_who_may_only_read_may_not_write(
    client: TenantClient, user: str, tenant: SimulatedTenant, path: str
) -> None:
    held = set(tenant.state.app.roles)
    tenant.state.app.roles -= {"Calendars.ReadWrite", "Contacts.ReadWrite"}
    client.token = client.login().json()["access_token"]
    answer = client.send("POST", f"{user}/{path}", json=WHEN)
    tenant.state.app.roles |= held
    assert answer.status_code == 403
