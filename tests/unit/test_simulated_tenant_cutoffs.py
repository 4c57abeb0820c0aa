"""Every cut-off scenario of the simulated tenant shows the codes it is documented with, and ends."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING

import pytest
from tenant_client import TenantClient

from backupd.demo.cutoffs import SCENARIOS
from backupd.demo.tenant import SimulatedTenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

WHO = "amelia"
BASE = f"users/{WHO}@harbourlight.example"
MAIL = f"{BASE}/mailFolders/inbox"
DRIVE = f"{BASE}/drive"


@pytest.fixture(scope="module")
def served() -> Iterator[TenantClient]:
    with (
        SimulatedTenant(people=2, messages=2, extras=False, oddities=False) as tenant,
        TenantClient(tenant) as connected,
    ):
        yield connected


@pytest.fixture
def client(served: TenantClient) -> Iterator[TenantClient]:
    yield served
    served.tenant.restore_service()
    served.tenant.faults.clear()
    served.token = served.login().json()["access_token"]


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def number(answer: httpx.Response) -> tuple[int, int]:
    return answer.status_code, answer.json()["error_codes"][0]


@pytest.mark.parametrize(
    ("scenario", "status", "aadsts"),
    [
        ("tenant_deleted", 400, 90002),
        ("tenant_fraud_block", 400, 5000224),
        ("subscription_lapsed", 400, 500014),
        ("app_deleted", 400, 700016),
        ("secret_expired", 401, 7000222),
    ],
)
def test_the_token_endpoint_names_the_reason(
    client: TenantClient, scenario: str, status: int, aadsts: int
) -> None:
    client.tenant.cut_off(scenario)
    assert number(client.login()) == (status, aadsts)
    client.tenant.restore_service()
    assert client.login().status_code == 200


def test_a_deleted_tenant_is_gone_without_logging_in(client: TenantClient) -> None:
    where = (
        f"{client.tenant.login_url}/{client.tenant.tenant_id}/v2.0/.well-known/openid-configuration"
    )
    assert client.http.get(where).status_code == 200
    client.tenant.cut_off("tenant_deleted")
    assert number(client.http.get(where)) == (400, 90002)


def test_a_lapsed_subscription_shows_in_the_skus(client: TenantClient) -> None:
    assert client.rows("subscribedSkus")[0]["capabilityStatus"] == "Enabled"
    client.tenant.cut_off("subscription_lapsed")
    assert client.rows("subscribedSkus")[0]["capabilityStatus"] == "Suspended"


def test_a_disabled_application_is_refused_by_graph_first_and_then_at_login(
    client: TenantClient,
) -> None:
    client.tenant.cutoffs.stage_seconds = 60
    client.tenant.cut_off("app_disabled_two_stage")
    assert code(client.get("users")) == (401, "Authorization_IdentityDisabled")
    assert client.login().status_code == 200
    client.tenant.cutoffs.stage_seconds = 0
    assert number(client.login()) == (400, 7000112)


def test_revoked_consent_leaves_a_token_without_roles(client: TenantClient) -> None:
    client.tenant.cut_off("consent_revoked")
    assert client.login().status_code == 200
    assert code(client.get("users")) == (403, "Authorization_RequestDenied")
    assert code(client.get(MAIL)) == (403, "ErrorAccessDenied")
    assert code(client.get(DRIVE)) == (403, "accessDenied")


def test_an_access_policy_closes_one_mailbox(client: TenantClient) -> None:
    client.tenant.cut_off("access_policy", WHO)
    answer = client.get(MAIL)
    assert code(answer) == (403, "ErrorAccessDenied")
    assert "[RAOP]" in answer.json()["error"]["message"]
    assert client.get(MAIL.replace(WHO, "jean-baptiste")).status_code == 200
    assert client.get(DRIVE).status_code == 200


def test_a_disabled_user_can_still_be_read_by_the_application(client: TenantClient) -> None:
    client.tenant.cut_off("user_disabled", WHO)
    assert client.get(f"{BASE}?$select=accountEnabled").json()["accountEnabled"] is False
    assert client.get(MAIL).status_code == 200


def test_a_deleted_user_is_in_the_recycle_bin(client: TenantClient) -> None:
    user = client.tenant.state.user(WHO)
    drive = user.drives[0].id
    client.tenant.cut_off("user_deleted", WHO)
    assert code(client.get(BASE)) == (404, "Request_ResourceNotFound")
    assert code(client.get(MAIL)) == (404, "Request_ResourceNotFound")
    assert client.get(f"drives/{drive}/root").status_code == 404
    assert client.get(f"directory/deletedItems/{user.id}").json()["deletedDateTime"]
    assert user.upn not in {row["userPrincipalName"] for row in client.rows("users")}
    client.tenant.restore_service()
    assert client.get(BASE).status_code == 200


def test_a_removed_licence_takes_mailbox_and_onedrive(client: TenantClient) -> None:
    client.tenant.cut_off("licence_removed", WHO)
    assert code(client.get(MAIL)) == (404, "MailboxNotEnabledForRESTAPI")
    answer = client.get(DRIVE)
    assert answer.status_code == 404
    assert "mysite" in answer.json()["error"]["message"]
    assert client.get(BASE).status_code == 200


def test_a_locked_onedrive_leaves_the_mailbox(client: TenantClient) -> None:
    drive = client.tenant.state.drive(WHO).id
    client.tenant.cut_off("onedrive_locked", WHO)
    for path in (DRIVE, f"drives/{drive}/root/delta"):
        answer = client.get(path)
        assert code(answer) == (423, "notAllowed")
        assert answer.json()["error"]["innerError"]["code"] == "resourceLocked"
    assert client.get(MAIL).status_code == 200


def test_a_revoked_token_is_challenged_until_it_is_renewed(client: TenantClient) -> None:
    client.tenant.cut_off("cae_revoked")
    answer = client.get("users")
    assert answer.status_code == 401
    claims = re.search(r'claims="([^"]+)"', answer.headers["WWW-Authenticate"])
    assert claims is not None
    assert json.loads(base64.b64decode(claims[1]))["access_token"]["nbf"]["essential"] is True
    client.token = client.login().json()["access_token"]
    assert client.get("users").status_code == 200


def test_a_suspended_personal_account_says_so(client: TenantClient) -> None:
    client.tenant.cut_off("msa_suspended", WHO)
    assert code(client.get(MAIL)) == (403, "ErrorAccountSuspend")


def test_an_outage_is_503_everywhere(client: TenantClient) -> None:
    client.tenant.cut_off("regional_outage")
    assert [client.login().status_code, client.get("users").status_code] == [503, 503]
    assert client.get(MAIL).content == b""


def test_a_blocked_application_loses_sharepoint_alone(client: TenantClient) -> None:
    client.tenant.cut_off("spo_app_block")
    assert client.get(DRIVE).status_code == 503
    assert client.get(MAIL).status_code == 200


def test_the_clock_skew_befalls_certificates_only(client: TenantClient) -> None:
    client.tenant.cut_off("clock_skew")
    assert client.login().status_code == 200
    refused = client.login(client_assertion="x", client_assertion_type="y")
    assert number(refused) == (401, 700024)


def test_imap_alone_leaves_graph_fine(client: TenantClient) -> None:
    client.tenant.cut_off("imap_auth_failed", WHO)
    assert client.get(MAIL).status_code == 200
    assert "imap_auth_failed" in client.tenant.cutoffs.active


def test_every_scenario_can_begin_and_end(client: TenantClient) -> None:
    for name in SCENARIOS:
        client.tenant.cut_off(name)
        client.tenant.restore_service()
        client.token = client.login().json()["access_token"]
        assert (client.get(MAIL).status_code, client.get(DRIVE).status_code) == (200, 200), name
    with pytest.raises(KeyError):
        client.tenant.cut_off("alien_invasion")
