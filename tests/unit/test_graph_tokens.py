"""Signing in: as an application, as a person, and what is left on the disk."""

from __future__ import annotations

import asyncio
import json
import stat
import threading
import urllib.request
import webbrowser
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from graph_desk import open_desk, write_section

from backupd.demo.tenant import SimulatedTenant
from backupd.errors import AuthError, ConfigError, CutOff
from backupd.model import Service
from sources.graph import signin
from sources.graph.signin import TokenFile
from sources.graph.tokens import merge_claims


@pytest.fixture
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(seed=7, people=2, messages=3) as running:
        running.switches.device_code_interval = 0
        yield running


def token_requests(tenant: SimulatedTenant) -> int:
    return len([r for r in tenant.log.where(door="login") if r.path.endswith("/token")])


def certificate(folder: Path) -> tuple[Path, Path, bytes]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "backupd")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "cert.pem").write_bytes(pem)
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, plain))
    return folder / "cert.pem", folder / "key.pem", pem


class TestApplication:
    def test_one_token_serves_everything(self, tenant: SimulatedTenant, tmp_path: Path) -> None:
        with open_desk(tenant, tmp_path) as desk:
            amelia = desk.account("amelia")
            desk.source.collections(amelia, Service.MAIL)

        assert token_requests(tenant) == 1

    def test_many_callers_without_a_token_ask_once(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        with open_desk(tenant, tmp_path) as desk:
            client = desk.source._client

            async def together() -> list[str]:
                return list(await asyncio.gather(*(client.tokens.bearer() for _ in range(50))))

            assert len(set(client.loop.call(together()))) == 1

        assert token_requests(tenant) == 1

    def test_a_token_is_renewed_before_it_expires(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        tenant.switches.token_lifetime = 60
        with open_desk(tenant, tmp_path) as desk:
            list(desk.source.accounts())
            desk.source._client.tokens._renew_at = 0.0
            list(desk.source.accounts())

        assert token_requests(tenant) == 2
        assert not [r for r in tenant.log if r.status == 401]

    def test_a_certificate_signs_in(self, tenant: SimulatedTenant, tmp_path: Path) -> None:
        cert, key, pem = certificate(tmp_path)
        tenant.register_certificate(pem)
        changes = {"certificate_file": cert, "key_file": key, "client_secret_file": None}

        with open_desk(tenant, tmp_path, **changes) as desk:
            assert list(desk.source.accounts())

    @pytest.mark.parametrize("scenario", ["cert_removed", "clock_skew"])
    def test_a_refused_certificate_says_what_to_do(
        self, tenant: SimulatedTenant, tmp_path: Path, scenario: str
    ) -> None:
        cert, key, pem = certificate(tmp_path)
        tenant.register_certificate(pem)
        tenant.cut_off(scenario)
        changes = {"certificate_file": cert, "key_file": key, "client_secret_file": None}

        with open_desk(tenant, tmp_path, **changes) as desk, pytest.raises(AuthError) as caught:
            list(desk.source.accounts())
        assert ("certificate" if scenario == "cert_removed" else "clock") in caught.value.hint

    def test_an_unreadable_key_is_a_configuration_error(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        cert, key, _ = certificate(tmp_path)
        key.write_text("not a key")
        changes = {"certificate_file": cert, "key_file": key, "client_secret_file": None}

        with open_desk(tenant, tmp_path, **changes) as desk, pytest.raises(ConfigError):
            list(desk.source.accounts())

    def test_a_refusal_is_not_asked_for_again_at_once(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        tenant.cut_off("secret_expired")
        with open_desk(tenant, tmp_path) as desk:
            for _ in range(5):
                with pytest.raises(AuthError):
                    list(desk.source.accounts())

        assert token_requests(tenant) == 1


class TestPerson:
    def test_a_device_code_signs_in_and_the_refresh_token_is_kept(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        said: list[str] = []
        with open_desk(tenant, tmp_path, auth="device-code", prompt=said.append) as desk:
            (me,) = desk.source.accounts()
            desk.source.collections(me, Service.MAIL)
        with open_desk(tenant, tmp_path, auth="device-code", prompt=said.append) as desk:
            assert [a.id for a in desk.source.accounts()] == [me.id]

        file = tmp_path / "tokens" / "harbourlight.json"
        assert len(said) == 1
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700

    def test_the_newest_refresh_token_is_the_one_that_is_kept(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        file = TokenFile(write_section(tenant, tmp_path))
        with open_desk(tenant, tmp_path, auth="device-code", prompt=lambda _: None) as desk:
            list(desk.source.accounts())
            first = file.read()
            desk.source._client.tokens._renew_at = 0.0
            list(desk.source.accounts())

        assert first
        assert file.read() not in {"", first}

    def test_without_a_terminal_nobody_is_asked(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        with (
            open_desk(tenant, tmp_path, auth="device-code") as desk,
            pytest.raises(AuthError) as caught,
        ):
            list(desk.source.accounts())
        assert caught.value.reason == "credential"
        assert "terminal" in caught.value.hint

    def test_a_declined_code_is_told(self, tenant: SimulatedTenant, tmp_path: Path) -> None:
        tenant.switches.device_code_auto = False

        def decline(text: str) -> None:
            tenant.decline_device(text.rpartition(" ")[2])

        with (
            open_desk(tenant, tmp_path, auth="device-code", prompt=decline) as desk,
            pytest.raises(AuthError) as caught,
        ):
            list(desk.source.accounts())
        assert caught.value.reason == "consent"

    def test_a_revoked_refresh_token_asks_the_person_again(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        said: list[str] = []
        for revoke in (False, True):
            if revoke:
                tenant.revoke_refresh_tokens()
            with open_desk(tenant, tmp_path, auth="device-code", prompt=said.append) as desk:
                assert list(desk.source.accounts())

        assert len(said) == 2

    def test_a_disabled_person_is_cut_off(self, tenant: SimulatedTenant, tmp_path: Path) -> None:
        with open_desk(tenant, tmp_path, auth="device-code", prompt=lambda _: None) as desk:
            list(desk.source.accounts())
        tenant.cut_off("user_disabled")

        with (
            open_desk(tenant, tmp_path, auth="device-code") as desk,
            pytest.raises(CutOff) as caught,
        ):
            list(desk.source.accounts())
        assert caught.value.reason == "account"

    def test_a_browser_signs_in_over_loopback(
        self, tenant: SimulatedTenant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        visited: list[str] = []

        def browser(address: str) -> None:
            visited.append(address)
            threading.Thread(target=_visit, args=(address,)).start()

        monkeypatch.setattr(webbrowser, "open", browser)
        with open_desk(tenant, tmp_path, auth="browser", prompt=lambda _: None) as desk:
            assert [a.address for a in desk.source.accounts()] == ["amelia@harbourlight.example"]

        query = parse_qs(urlsplit(visited[0]).query)
        assert query["code_challenge_method"] == ["S256"]
        assert len(query["state"][0]) > 20

    def test_an_answer_with_another_state_is_ignored(self) -> None:
        async def story() -> bool:
            answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            server = await asyncio.start_server(signin._catcher("mine", answer), "127.0.0.1", 0)
            async with server:
                port = server.sockets[0].getsockname()[1]
                for path in ("/?code=x&state=other", "/favicon.ico", "/?state=", "//[", "/?code=x"):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
                    await reader.read()
                    writer.close()
            return answer.done()

        assert asyncio.run(story()) is False


def _visit(address: str) -> None:
    with urllib.request.urlopen(address) as page:  # noqa: S310 - loopback
        page.read()


class TestTokenFile:
    def test_a_token_of_another_application_is_not_used(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        section = write_section(tenant, tmp_path)
        TokenFile(section).write("secret")

        other = section.model_copy(update={"client_id": "another"})

        assert TokenFile(section).read() == "secret"
        assert TokenFile(other).read() == ""

    @pytest.mark.parametrize("content", ["", "[]", "{", '"x"', "null"])
    def test_a_damaged_file_is_no_token(
        self, tenant: SimulatedTenant, tmp_path: Path, content: str
    ) -> None:
        section = write_section(tenant, tmp_path)
        assert section.token_file
        section.token_file.parent.mkdir()
        section.token_file.write_text(content)

        assert TokenFile(section).read() == ""


class TestClaims:
    def test_a_challenge_is_answered_and_our_capability_stays(self) -> None:
        challenge = json.dumps({"access_token": {"nbf": {"essential": True, "value": "1"}}})

        merged = merge_claims(challenge)["access_token"]

        assert merged["nbf"] == {"essential": True, "value": "1"}
        assert merged["xms_cc"] == {"values": ["cp1"]}

    @pytest.mark.parametrize("challenge", ["", "nonsense", "[]", '{"access_token": 5}'])
    def test_nonsense_is_no_challenge(self, challenge: str) -> None:
        assert merge_claims(challenge) == {"access_token": {"xms_cc": {"values": ["cp1"]}}}
