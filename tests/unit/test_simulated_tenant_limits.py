"""Throttling and faults of the simulated tenant: each can be had, counted and ended."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tenant_client import TenantClient, q

from backupd.demo.faults import Fault
from backupd.demo.tenant import SimulatedTenant

if TYPE_CHECKING:
    from collections.abc import Iterator

WHO = "amelia"
INBOX = f"users/{WHO}@harbourlight.example/mailFolders/inbox"


@pytest.fixture
def client() -> Iterator[TenantClient]:
    with (
        SimulatedTenant(people=2, messages=6, extras=False, oddities=False) as tenant,
        TenantClient(tenant) as connected,
    ):
        yield connected


def at_once(client: TenantClient, paths: list[str]) -> list[httpx.Response]:
    with ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(client.get, paths))


def test_a_fifth_request_at_once_is_throttled(client: TenantClient) -> None:
    client.tenant.switches.latency = 0.2
    answers = at_once(client, [INBOX] * 6)
    assert sorted(answer.status_code for answer in answers) == [200] * 4 + [429] * 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["error"]["code"] == "ApplicationThrottled"
    assert "MailboxConcurrency" in refused.json()["error"]["message"]
    assert refused.headers["Retry-After"] == "1"
    assert client.tenant.log.most_in_flight() == 6


def test_each_mailbox_has_its_own_four(client: TenantClient) -> None:
    client.tenant.switches.latency = 0.2
    other = INBOX.replace(WHO, "jean-baptiste")
    answers = at_once(client, [INBOX] * 4 + [other] * 4)
    assert {answer.status_code for answer in answers} == {200}
    assert client.tenant.log.most_in_flight(client.tenant.state.user(WHO).id) == 4


def test_four_at_a_time_are_never_throttled(client: TenantClient) -> None:
    gate = threading.Semaphore(4)

    def polite(_: int) -> int:
        with gate:
            return client.get(INBOX).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(polite, range(200))) == {200}


def test_the_window_closes_and_opens_on_the_scaled_clock(client: TenantClient) -> None:
    client.tenant.switches.window_requests = 3
    client.tenant.switches.clock_scale = 600
    statuses = [client.get(INBOX).status_code for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    time.sleep(1.1)
    assert client.get(INBOX).status_code == 200


@pytest.mark.parametrize("style", ["seconds", "date", "none"])
def test_throttling_says_when_to_come_back_in_three_ways(client: TenantClient, style: str) -> None:
    client.tenant.switches.retry_after = style
    client.tenant.switches.window_requests = 0
    said = client.get(INBOX).headers.get("Retry-After")
    if style == "none":
        assert said is None
    elif style == "date":
        assert said is not None
        assert parsedate_to_datetime(said).tzinfo is not None
    else:
        assert said is not None
        assert int(said) > 0


def test_onedrive_warns_before_it_refuses(client: TenantClient) -> None:
    client.tenant.switches.resource_units = 10
    drive = client.tenant.state.drive(WHO).id
    answers = [client.get(f"drives/{drive}/root/children") for _ in range(6)]
    assert "RateLimit-Remaining" not in answers[2].headers
    assert answers[3].headers["RateLimit-Remaining"] == "2"
    assert answers[5].status_code == 429
    assert answers[5].json()["error"]["code"] == "activityLimitReached"
    assert int(answers[5].headers["Retry-After"]) > 0


def expect(client: TenantClient, fault: Fault, path: str = INBOX) -> httpx.Response:
    client.tenant.faults.clear()
    client.tenant.faults.add(fault)
    return client.get(path)


def test_faults_that_replace_the_answer(client: TenantClient) -> None:
    empty = expect(client, Fault("unavailable"))
    assert (empty.status_code, empty.content) == (503, b"")
    html = expect(client, Fault("bad_gateway"))
    assert (html.status_code, html.headers["Content-Type"]) == (502, "text/html")
    assert expect(client, Fault("gateway_timeout")).json()["error"]["code"] == "UnknownError"
    assert expect(client, Fault("throttle", retry_after=7)).headers["Retry-After"] == "7"
    assert "Retry-After" not in expect(client, Fault("throttle", retry_after=-1)).headers
    assert "GMT" in expect(client, Fault("throttle", date=True)).headers["Retry-After"]
    custom = expect(client, Fault("error", status=500, code="ErrorApiQuarantined"))
    assert (custom.status_code, custom.json()["error"]["code"]) == (500, "ErrorApiQuarantined")
    assert expect(client, Fault("expired_token")).status_code == 401
    challenge = expect(client, Fault("claims_challenge"))
    assert 'error="insufficient_claims"' in challenge.headers["WWW-Authenticate"]
    assert expect(client, Fault("empty")).content == b""


def test_faults_on_the_wire(client: TenantClient) -> None:
    whole = client.get(INBOX).content
    for kind in ("cut", "short", "reset"):
        with pytest.raises(httpx.TransportError):
            expect(client, Fault(kind))
    half = expect(client, Fault("cleanly_short"))
    assert half.content == whole[: len(half.content)]
    assert 0 < len(half.content) < len(whole)
    assert int(half.headers["Content-Length"]) == len(half.content)
    other = expect(client, Fault("wrong_bytes")).content
    assert sum(a != b for a, b in zip(other, whole, strict=True)) == 1
    with pytest.raises(ValueError, match=r".+"):
        expect(client, Fault("broken_json")).json()
    began = time.monotonic()
    assert expect(client, Fault("slow", seconds=0.2)).content == whole
    assert expect(client, Fault("hang", seconds=0.2)).content == whole
    assert time.monotonic() - began >= 0.35


def statuses(client: TenantClient, path: str, count: int) -> list[int]:
    return [client.get(path).status_code for _ in range(count)]


def test_a_fault_strikes_as_often_and_where_it_should(client: TenantClient) -> None:
    faults = client.tenant.faults
    faults.add(Fault("unavailable", times=2, skip=1))
    assert statuses(client, INBOX, 5) == [200, 503, 503, 200, 200]
    other = INBOX.replace(WHO, "jean-baptiste")
    faults.clear()
    faults.add(Fault("unavailable", user=WHO))
    assert (client.get(INBOX).status_code, client.get(other).status_code) == (503, 200)
    faults.clear()
    fault = faults.add(Fault("unavailable", route="users/{user}/messages/{message}/$value"))
    message = client.get(f"{INBOX}/messages").json()["value"][0]["id"]
    path = f"users/{WHO}@harbourlight.example/messages/{q(message)}"
    assert statuses(client, path, 1) + statuses(client, f"{path}/$value", 1) == [200, 503]
    faults.remove(fault)
    assert statuses(client, f"{path}/$value", 1) == [200]
    with pytest.raises(ValueError, match="unknown fault"):
        Fault("earthquake")


def test_a_rate_is_kept_and_the_same_seed_strikes_the_same_requests(client: TenantClient) -> None:
    def run() -> list[int]:
        with (
            SimulatedTenant(people=1, messages=0, extras=False, oddities=False) as tenant,
            TenantClient(tenant) as other,
        ):
            tenant.faults.add(Fault("unavailable", rate=0.3, method="GET", route="users/*"))
            return statuses(other, INBOX, 60)

    first, second = run(), run()
    assert first == second
    assert 8 <= first.count(503) <= 28


def test_the_token_endpoint_can_fail_too(client: TenantClient) -> None:
    client.tenant.faults.add(Fault("throttle", route="login/*", times=1))
    assert client.login().status_code == 429
    assert client.login().status_code == 200


def batch(client: TenantClient, parts: list[dict[str, Any]]) -> Any:
    return client.send("POST", "$batch", json={"requests": parts})


def test_a_batch_answers_each_part_by_itself(client: TenantClient) -> None:
    client.tenant.faults.add(Fault("throttle", user="jean-baptiste", retry_after=3))
    other = INBOX.replace(WHO, "jean-baptiste")
    parts = [
        {"id": "a", "method": "GET", "url": f"/{INBOX}"},
        {"id": "b", "method": "GET", "url": f"/{other}"},
        {"id": "c", "method": "GET", "url": f"/{INBOX}", "dependsOn": ["b"]},
    ]
    answer = batch(client, parts)
    assert answer.status_code == 200
    found = {part["id"]: part for part in answer.json()["responses"]}
    assert [found[name]["status"] for name in "abc"] == [200, 429, 424]
    assert found["b"]["headers"]["Retry-After"] == "3"
    assert found["a"]["body"]["displayName"] == "Inbox"
    assert len(client.tenant.log.where(door="batch")) == 2


def test_a_batch_holds_twenty_sound_parts(client: TenantClient) -> None:
    part = {"method": "GET", "url": f"/{INBOX}"}
    assert batch(client, [part | {"id": str(n)} for n in range(20)]).status_code == 200
    assert batch(client, [part | {"id": str(n)} for n in range(21)]).status_code == 400
    for broken in (
        {"id": 1},
        {"id": "1", "url": "https://graph.microsoft.com/v1.0/me"},
        {"id": "1", "method": ""},
    ):
        assert batch(client, [part | broken]).status_code == 400
    circle = [part | {"id": "a", "dependsOn": ["b"]}, part | {"id": "b", "dependsOn": ["a"]}]
    assert batch(client, circle).status_code == 400


def test_the_log_keeps_what_matters_and_no_secret(client: TenantClient) -> None:
    client.tenant.log.clear()
    client.get(INBOX, **{"User-Agent": "NONISV|Demo|backupd/1.0", "Prefer": "odata.maxpagesize=5"})
    client.login()
    record, login = client.tenant.log
    assert record.route == "users/{user}/mailFolders/{folder}"
    assert record.headers["user-agent"] == "NONISV|Demo|backupd/1.0"
    assert record.headers["prefer"] == "odata.maxpagesize=5"
    assert record.headers["authorization"] == "Bearer"
    assert (record.status, record.mailbox) == (200, client.tenant.state.user(WHO).id)
    assert record.end >= record.start > 0
    secrets = (client.token, client.tenant.client_secret)
    assert not any(secret in repr(entry) for entry in (record, login) for secret in secrets)
