"""The token endpoint of the simulated tenant: who gets a token, and how refusals look."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from tenant_client import TenantClient

from backupd.demo.moments import now
from backupd.demo.tenant import SimulatedTenant

if TYPE_CHECKING:
    from collections.abc import Iterator

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(scope="module")
def served() -> Iterator[TenantClient]:
    with (
        SimulatedTenant(people=2, messages=1, extras=False, oddities=False) as tenant,
        TenantClient(tenant) as client,
    ):
        yield client


@pytest.fixture
def client(served: TenantClient) -> Iterator[TenantClient]:
    yield served
    served.tenant.restore_service()
    served.tenant.switches.device_code_auto = True
    served.tenant.switches.device_code_interval = 1
    served.tenant.state.app.roles |= {"Mail.Read"}


def refusal(answer: Any) -> tuple[int, str, int]:
    body = answer.json()
    return answer.status_code, body["error"], body["error_codes"][0]


def test_the_secret_buys_a_token_that_names_its_roles(client: TenantClient) -> None:
    answer = client.login().json()
    claims = jwt.decode(answer["access_token"], options={"verify_signature": False})
    assert answer["token_type"] == "Bearer"
    assert {"Mail.Read", "Files.Read.All"} <= set(claims["roles"])
    assert claims["tid"] == client.tenant.tenant_id


def test_refusals_carry_the_documented_codes(client: TenantClient) -> None:
    assert refusal(client.login(client_secret="wrong")) == (401, "invalid_client", 7000215)
    assert refusal(client.login(client_id=str(uuid.uuid4()))) == (
        400,
        "unauthorized_client",
        700016,
    )
    assert refusal(client.login(scope="Mail.Read")) == (400, "invalid_scope", 70011)
    other = client.http.get(
        f"{client.tenant.login_url}/{uuid.uuid4()}/v2.0/.well-known/openid-configuration"
    )
    assert refusal(other) == (400, "invalid_request", 90002)


def test_the_public_metadata_name_the_token_endpoint(client: TenantClient) -> None:
    tenant = client.tenant
    where = f"{tenant.login_url}/{tenant.tenant_id}/v2.0/.well-known/openid-configuration"
    found = client.http.get(where).json()
    assert found["token_endpoint"] == f"{tenant.login_url}/{tenant.tenant_id}/oauth2/v2.0/token"


def key_and_certificate() -> tuple[rsa.RSAPrivateKey, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "backupd")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name)
    builder = builder.public_key(key.public_key()).serial_number(1)
    builder = builder.not_valid_before(now()).not_valid_after(now().replace(year=2099))
    certificate = builder.sign(key, hashes.SHA256())
    return key, certificate.public_bytes(serialization.Encoding.PEM)


def assertion(
    client: TenantClient, key: rsa.RSAPrivateKey, print_: str, **changes: Any
) -> dict[str, str]:
    tenant = client.tenant
    claims = {
        "aud": f"{tenant.login_url}/{tenant.tenant_id}/oauth2/v2.0/token",
        "iss": tenant.client_id,
        "sub": tenant.client_id,
        "jti": str(uuid.uuid4()),
        "nbf": int(time.time()),
        "exp": int(time.time()) + 300,
    } | changes
    signed = jwt.encode(claims, key, algorithm="PS256", headers={"x5t#S256": print_})
    return {"client_assertion_type": ASSERTION, "client_assertion": signed, "client_secret": ""}


def test_a_registered_certificate_buys_a_token_and_no_other(client: TenantClient) -> None:
    key, pem = key_and_certificate()
    print_ = client.tenant.register_certificate(pem)
    assert client.login(**assertion(client, key, print_)).status_code == 200
    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = client.login(**assertion(client, stranger, print_))
    assert refusal(forged) == (401, "invalid_client", 700027)
    late = client.login(**assertion(client, key, print_, exp=int(time.time()) - 60))
    assert refusal(late) == (401, "invalid_client", 700024)
    elsewhere = client.login(**assertion(client, key, print_, aud="https://elsewhere.example"))
    assert refusal(elsewhere) == (401, "invalid_client", 700027)
    client.tenant.cut_off("cert_removed")
    assert refusal(client.login(**assertion(client, key, print_))) == (
        401,
        "invalid_client",
        700027,
    )


def device_poll(client: TenantClient, code: str) -> Any:
    form = {"grant_type": DEVICE, "client_id": client.tenant.client_id, "device_code": code}
    return client.post_form("token", form)


def ask_device(client: TenantClient) -> dict[str, Any]:
    form = {"client_id": client.tenant.client_id, "scope": "offline_access Mail.Read User.Read"}
    return client.post_form("devicecode", form).json()


def test_a_device_code_waits_for_its_person(client: TenantClient) -> None:
    client.tenant.switches.device_code_auto = False
    client.tenant.switches.device_code_interval = 0
    asked = ask_device(client)
    assert device_poll(client, asked["device_code"]).json()["error"] == "authorization_pending"
    client.tenant.approve_device(asked["user_code"], "jean-baptiste")
    token = device_poll(client, asked["device_code"]).json()
    me = client.http.get(
        f"{client.tenant.graph_url}/me",
        headers={"Authorization": f"Bearer {token['access_token']}"},
    )
    assert me.json()["userPrincipalName"] == "jean-baptiste@harbourlight.example"


def test_a_device_code_can_be_declined_and_polled_too_fast(client: TenantClient) -> None:
    client.tenant.switches.device_code_auto = False
    client.tenant.switches.device_code_interval = 5
    asked = ask_device(client)
    device_poll(client, asked["device_code"])
    assert device_poll(client, asked["device_code"]).json()["error"] == "slow_down"
    client.tenant.decline_device(asked["user_code"])
    assert device_poll(client, asked["device_code"]).json()["error"] == "authorization_declined"
    assert device_poll(client, "unknown").json()["error"] == "bad_verification_code"


def refresh(client: TenantClient, token: str) -> Any:
    form = {"grant_type": "refresh_token", "client_id": client.tenant.client_id}
    return client.post_form("token", form | {"refresh_token": token})


def test_a_refresh_token_works_once(client: TenantClient) -> None:
    first = device_poll(client, ask_device(client)["device_code"]).json()["refresh_token"]
    second = refresh(client, first).json()["refresh_token"]
    assert second != first
    assert refusal(refresh(client, first)) == (400, "invalid_grant", 50173)
    client.tenant.revoke_refresh_tokens()
    assert refusal(refresh(client, second)) == (400, "invalid_grant", 50173)


def test_a_disabled_person_cannot_refresh_but_the_application_goes_on(client: TenantClient) -> None:
    token = device_poll(client, ask_device(client)["device_code"]).json()["refresh_token"]
    client.tenant.cut_off("user_disabled", "amelia")
    assert refusal(refresh(client, token)) == (400, "invalid_grant", 50057)
    assert client.get("users/amelia@harbourlight.example/mailFolders/inbox").status_code == 200


def test_the_browser_login_needs_the_verifier_it_began_with(client: TenantClient) -> None:
    tenant, verifier, back = client.tenant, "v" * 64, "http://localhost:4711"
    digest = hashlib.sha256(verifier.encode()).digest()
    query = {
        "client_id": tenant.client_id,
        "response_type": "code",
        "redirect_uri": back,
        "scope": "offline_access Mail.Read",
        "state": "s",
        "code_challenge_method": "S256",
        "code_challenge": base64.urlsafe_b64encode(digest).decode().rstrip("="),
    }
    where = f"{tenant.login_url}/{tenant.tenant_id}/oauth2/v2.0/authorize"

    def redeem(answer: str) -> Any:
        found = parse_qs(urlsplit(client.http.get(where, params=query).headers["Location"]).query)
        form = {"grant_type": "authorization_code", "client_id": tenant.client_id}
        form |= {"redirect_uri": back, "code": found["code"][0], "code_verifier": answer}
        return client.post_form("token", form)

    assert "refresh_token" in redeem(verifier).json()
    assert redeem("w" * 64).json()["error"] == "invalid_grant"
    assert (
        client.http.get(where, params=query | {"redirect_uri": "https://evil.example"}).status_code
        == 400
    )


def test_a_token_without_the_role_opens_only_the_other_doors(client: TenantClient) -> None:
    client.tenant.state.app.roles.discard("Mail.Read")
    token = client.login().json()["access_token"]
    login = {"Authorization": f"Bearer {token}"}
    base = f"{client.tenant.graph_url}/users/amelia@harbourlight.example"
    refused = client.http.get(f"{base}/mailFolders", headers=login)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "ErrorAccessDenied")
    assert client.http.get(f"{base}/contacts", headers=login).status_code == 200


def test_tokens_expire_and_forged_ones_are_refused(client: TenantClient) -> None:
    client.tenant.switches.token_lifetime = -1
    expired = client.login().json()["access_token"]
    client.tenant.switches.token_lifetime = 3600
    for token in (expired, "forged", jwt.encode({"aud": "x"}, "k" * 32)):
        answer = client.http.get(
            f"{client.tenant.graph_url}/users", headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "InvalidAuthenticationToken"
    assert client.http.get(f"{client.tenant.graph_url}/users").status_code == 401
