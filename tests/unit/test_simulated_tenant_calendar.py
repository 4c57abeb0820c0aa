"""Calendars of the simulated tenant: series, windows, zones."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import pytest
from tenant_client import TenantClient, q

from backupd.demo import recurrence
from backupd.demo.tenant import SimulatedTenant
from backupd.demo.zones import CUSTOM

if TYPE_CHECKING:
    from collections.abc import Iterator

WHO = "amelia"
BASE = f"users/{WHO}@harbourlight.example"
YEAR = "startDateTime=2026-09-01T00:00:00Z&endDateTime=2027-09-01T00:00:00Z"


@pytest.fixture
def client() -> Iterator[TenantClient]:
    with (
        SimulatedTenant(people=1, messages=0, extras=False) as tenant,
        TenantClient(tenant) as connected,
    ):
        yield connected


def events(client: TenantClient) -> dict[str, dict[str, Any]]:
    found = {}
    for calendar in client.rows(f"{BASE}/calendars"):
        for row in client.rows(f"{BASE}/calendars/{q(calendar['id'])}/events?$top=999"):
            found[row["subject"]] = row | {"calendar": calendar["id"]}
    return found


def spelled(pattern: dict[str, Any], **span: Any) -> list[str]:
    usual = {
        "interval": 1,
        "month": 0,
        "dayOfMonth": 0,
        "firstDayOfWeek": "sunday",
        "index": "first",
    }
    times = {"type": "numbered", "startDate": "2026-01-30", "numberOfOccurrences": 4} | span
    found = recurrence.days({"pattern": usual | pattern, "range": times}, date(2040, 1, 1))
    return [day.isoformat() for day in found]


@pytest.mark.parametrize(
    ("pattern", "days"),
    [
        (
            {"type": "daily", "interval": 3},
            ["2026-01-30", "2026-02-02", "2026-02-05", "2026-02-08"],
        ),
        (
            {"type": "weekly", "interval": 2, "daysOfWeek": ["monday", "friday"]},
            ["2026-01-30", "2026-02-09", "2026-02-13", "2026-02-23"],
        ),
        (
            {"type": "absoluteMonthly", "dayOfMonth": 31},
            ["2026-01-31", "2026-02-28", "2026-03-31", "2026-04-30"],
        ),
        (
            {"type": "relativeMonthly", "daysOfWeek": ["friday"], "index": "last"},
            ["2026-01-30", "2026-02-27", "2026-03-27", "2026-04-24"],
        ),
        (
            {"type": "relativeMonthly", "daysOfWeek": ["saturday", "sunday"], "index": "second"},
            ["2026-02-07", "2026-03-07", "2026-04-05", "2026-05-03"],
        ),
        (
            {"type": "absoluteYearly", "dayOfMonth": 29, "month": 2},
            ["2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28"],
        ),
        (
            {"type": "relativeYearly", "daysOfWeek": ["thursday"], "index": "fourth", "month": 11},
            ["2026-11-26", "2027-11-25", "2028-11-23", "2029-11-22"],
        ),
    ],
)
def test_every_pattern_is_spelled_out(pattern: dict[str, Any], days: list[str]) -> None:
    assert spelled(pattern) == days


def test_a_series_ends_with_its_range() -> None:
    until = {"type": "endDate", "endDate": "2026-02-01"}
    assert spelled({"type": "daily"}, **until) == ["2026-01-30", "2026-01-31", "2026-02-01"]
    assert len(spelled({"type": "daily"}, type="noEnd")) > 4_000


def test_lists_hold_singles_and_masters_of_every_kind(client: TenantClient) -> None:
    found = events(client)
    assert {row["type"] for row in found.values()} == {"singleInstance", "seriesMaster"}
    types = {r["recurrence"]["pattern"]["type"] for r in found.values() if r["recurrence"]}
    assert types == {
        *("daily", "weekly", "absoluteMonthly", "relativeMonthly"),
        *("absoluteYearly", "relativeYearly"),
    }
    spans = {r["recurrence"]["range"]["type"] for r in found.values() if r["recurrence"]}
    assert spans == {"endDate", "noEnd", "numbered"}
    assert found["Custom zone"]["originalStartTimeZone"] == CUSTOM
    assert found["Conference"]["isAllDay"] is True
    assert found["Strategy: harbour workers"]["onlineMeeting"]["joinUrl"].startswith(
        "https://teams"
    )


def test_a_master_brings_its_exceptions_only_when_asked(client: TenantClient) -> None:
    row = events(client)["Monday meeting"]
    path = f"{BASE}/events/{q(row['id'])}"
    assert "exceptionOccurrences" not in client.get(path).json()
    asked = "?$select=subject,cancelledOccurrences&$expand=exceptionOccurrences"
    full = client.get(path + asked).json()
    assert full["cancelledOccurrences"] == [f"OID.{row['id']}.2026-11-23"]
    moved = full["exceptionOccurrences"][0]
    assert moved["originalStart"] == "2026-11-16T09:00:00Z"
    assert moved["start"]["dateTime"] == "2026-11-17T11:00:00.0000000"
    assert client.get(f"{BASE}/events/{q(moved['id'])}").json()["type"] == "exception"


def test_the_window_shows_what_a_person_would_see(client: TenantClient) -> None:
    rows = client.rows(f"{BASE}/calendarView?{YEAR}&$top=500")
    monday = [row for row in rows if (row["subject"] or "").startswith("Monday")]
    starts = [row["start"]["dateTime"][:16] for row in monday]
    assert len(starts) == 11
    assert "2026-10-19T08:00" in starts  # summer time
    assert "2026-11-02T09:00" in starts  # winter time
    assert "2026-11-17T11:00" in starts
    assert not any(start.startswith(("2026-11-16", "2026-11-23")) for start in starts)
    occurrence = next(row for row in monday if row["type"] == "occurrence")
    assert client.get(f"{BASE}/events/{q(occurrence['id'])}").json()["start"] == occurrence["start"]


def test_instances_are_those_of_the_series(client: TenantClient) -> None:
    row = events(client)["Pay the rent"]
    found = client.rows(f"{BASE}/events/{q(row['id'])}/instances?{YEAR}&$top=50")
    days = [each["start"]["dateTime"][:10] for each in found]
    assert days[:3] == ["2026-09-30", "2026-10-31", "2026-11-30"]
    assert "2027-02-28" in days


def test_a_window_needs_both_ends(client: TenantClient) -> None:
    answer = client.get(f"{BASE}/calendarView?startDateTime=2026-09-01T00:00:00Z")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ErrorInvalidParameter")
    assert client.get(f"{BASE}/events/delta").status_code == 400


def test_a_window_can_be_followed(client: TenantClient) -> None:
    rows, link = client.round(f"{BASE}/calendarView/delta?{YEAR}")
    thin = next(row for row in rows if row["type"] == "occurrence")
    assert "subject" not in thin
    master = next(
        e
        for e in client.tenant.state.user(WHO).agenda.events.values()
        if e.data["subject"] == "Client intake"
    )
    client.tenant.state.put_event(WHO, None, {"subject": "Client intake, later"}, master)
    assert [row["subject"] for row in client.round(link)[0]] == ["Client intake, later"]
    client.tenant.state.delete_event(WHO, master)
    assert client.round(link)[0][-1]["@removed"] == {"reason": "deleted"}


def test_the_change_key_moves_with_every_change(client: TenantClient) -> None:
    state = client.tenant.state
    before = events(client)
    agenda = state.user(WHO).agenda
    series = next(e for e in agenda.events.values() if e.data["subject"] == "Monday meeting")
    state.cancel_occurrence(WHO, series, date(2026, 12, 7))
    after = events(client)
    changed = {name for name in after if before[name]["changeKey"] != after[name]["changeKey"]}
    assert changed == {"Monday meeting"}


def test_times_come_in_the_zone_asked_for(client: TenantClient) -> None:
    row = events(client)["Client intake"]
    path = f"{BASE}/events/{q(row['id'])}"
    assert client.get(path).json()["start"] == {
        "dateTime": "2026-11-03T14:00:00.0000000",
        "timeZone": "UTC",
    }
    rome = client.get(path, Prefer='outlook.timezone="Europe/Warsaw"')
    assert rome.json()["start"]["dateTime"] == "2026-11-03T15:00:00.0000000"
    assert "outlook.timezone" in rome.headers["Preference-Applied"]
    assert client.get(path, Prefer='outlook.timezone="Middle Earth"').status_code == 400


def test_attachments_of_an_event(client: TenantClient) -> None:
    row = events(client)["Strategy: harbour workers"]
    path = f"{BASE}/events/{q(row['id'])}/attachments"
    first, second = client.rows(path)
    assert client.get(f"{path}/{q(first['id'])}/$value").content.startswith(b"%PDF")
    assert second["@odata.type"] == "#microsoft.graph.referenceAttachment"


def test_every_person_has_two_calendars() -> None:
    tenant = SimulatedTenant(messages=0)
    assert {len(user.agenda.calendars) for user in tenant.state.directory.users} == {2}


def test_tasks_are_listed_and_followed(client: TenantClient) -> None:
    lists = client.rows(f"{BASE}/todo/lists")
    assert [row["wellknownListName"] for row in lists] == ["defaultList", "flaggedEmails", "none"]
    path = f"{BASE}/todo/lists/{q(lists[0]['id'])}/tasks"
    assert [row["title"] for row in client.rows(path)] == [
        "File the appeal",
        "Call the interpreter",
    ]
    _, link = client.round(f"{path}/delta")
    book = client.tenant.state.user(WHO).tasks
    first = next(iter(book.list_of("Tasks").tasks.values()))
    book.put(book.list_of("Tasks"), {"status": "completed"}, first)
    assert [row["status"] for row in client.round(link)[0]] == ["completed"]
    book.delete(book.list_of("Tasks"), first)
    assert client.round(link)[0][-1]["@removed"] == {"reason": "deleted"}
