"""The simulated tenant as a process of its own, its control door, and its appetite."""

from __future__ import annotations

import base64
import gc
import json
import signal
import subprocess
import sys
import tracemalloc
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from tenant_client import SCOPE, TenantClient, q

from backupd.demo.tenant import SimulatedTenant

if TYPE_CHECKING:
    from collections.abc import Iterator

WHO = "amelia"


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Any]]:
    """What the process prints about itself."""
    command = [sys.executable, "-m", "backupd.demo", "--people", "1", "--messages", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def control(told: dict[str, Any], door: str, **asked: Any) -> Any:
    return httpx.post(told["control_url"] + door, json=asked).json()


def token(told: dict[str, Any]) -> httpx.Response:
    form = {
        "grant_type": "client_credentials",
        "client_id": told["client_id"],
        "client_secret": told["client_secret"],
        "scope": SCOPE,
    }
    return httpx.post(f"{told['login_url']}/{told['tenant_id']}/oauth2/v2.0/token", data=form)


def test_a_process_serves_what_it_prints(told: dict[str, Any]) -> None:
    login = {"Authorization": f"Bearer {token(told).json()['access_token']}"}
    users = httpx.get(f"{told['graph_url']}/users", headers=login).json()["value"]
    assert [user["userPrincipalName"] for user in users] == told["users"]


def test_a_person_can_turn_every_switch_with_curl(told: dict[str, Any]) -> None:
    assert "tenant_deleted" in control(told, "cut_off", scenario="tenant_deleted")["active"]
    assert token(told).status_code == 400
    assert control(told, "restore_service")["active"] == []
    assert control(told, "switch", token_lifetime=60)["token_lifetime"] == 60
    assert token(told).json()["expires_in"] == 60
    control(told, "fault", kind="unavailable", route="login/*")
    assert token(told).status_code == 503
    control(told, "clear_faults")
    assert token(told).status_code == 200
    control(told, "expire_cursors", user=WHO)
    mime = base64.b64encode(b"Subject: by curl\r\n\r\n").decode()
    assert control(told, "deliver", user=WHO, mime=mime)["id"].startswith("AAMk")
    assert control(told, "put_file", drive=WHO, path="big.bin", size=5_000_000_000)[
        "id"
    ].startswith("01")
    assert control(told, "truth")["users"][0]["messages"] > 2
    assert control(told, "log", last=1)["requests"][0]["door"] == "login"


def test_the_control_door_says_what_it_does_not_know(told: dict[str, Any]) -> None:
    assert "KeyError" in control(told, "cut_off", scenario="nothing")["error"]
    assert "no switch" in control(told, "switch", colour=1)["error"]
    assert "cut_off" in control(told, "nothing")["known"]
    assert httpx.post(told["control_url"] + "switch", content=b"[").status_code == 400


def test_a_hundred_thousand_messages_are_made_only_when_fetched() -> None:
    gc.collect()
    tracemalloc.start()
    tenant = SimulatedTenant(
        people=1, messages=0, extras=False, oddities=False, bulk_messages=20_000
    )
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    user = tenant.state.directory.users[0]
    assert len(user.mailbox.messages) == 20_000
    assert held / 20_000 < 800  # bytes a message, where the bodies average some 4,000


def test_bulk_messages_are_the_same_each_time_and_say_what_the_listing_says() -> None:
    with (
        SimulatedTenant(
            people=1, messages=0, extras=False, oddities=False, bulk_messages=700
        ) as tenant,
        TenantClient(tenant) as client,
    ):
        folder = f"users/{tenant.state.user(WHO).id}/mailFolders/archive"
        assert client.get(folder).json()["totalItemCount"] == 700
        rows, link = client.round(
            f"{folder}/messages/delta?$select=subject,isRead,internetMessageId",
            Prefer="odata.maxpagesize=500",
        )
        assert len({row["id"] for row in rows}) == 700
        path = f"users/{WHO}@harbourlight.example/messages/{q(rows[0]['id'])}/$value"
        first, second = client.get(path).content, client.get(path).content
        assert first == second
        assert f"Message-ID: {rows[0]['internetMessageId']}\r\n".encode() in first
        message = tenant.state.message(WHO, rows[0]["id"])
        tenant.state.flag(WHO, message, isRead=False)
        assert [row["isRead"] for row in client.round(link)[0]] == [False]
        others = [m for m in tenant.state.user(WHO).mailbox.messages.values() if m is not message]
        assert all(other.props["isRead"] for other in others)
