"""IMAP as at Exchange Online: the simulated login gives out tokens, and Dovecot has it say whose they are."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import parse_qs
from urllib.request import Request, urlopen

import jwt
import pytest
from imap_house import fill
from servers.dovecot import Dovecot, dovecot

from backupd.app import App
from backupd.config import Config, Imap
from backupd.demo.tenant import SimulatedTenant
from backupd.errors import AuthError
from backupd.model import Account, AccountKind, Service
from backupd.ports import Source
from backupd.sync.account import Share
from sources.imap.source import ImapSource

LETTER = b"Subject: by token\r\nMessage-ID: <1@example>\r\n\r\nhello\r\n"

CONTACTS = Share(Service.CONTACTS)


@dataclass
class Exchange:
    """A tenant, an IMAP server that asks it about tokens, and whom an application is let in to."""

    tenant: SimulatedTenant
    server: Dovecot
    person: str

    def section(self, folder: Path, **over: Any) -> dict[str, Any]:
        """What stands under `[sources.second]`."""
        secret = folder / "client_secret"
        secret.write_text(self.tenant.client_secret)
        return {
            "type": "imap", "host": self.server.host, "port": self.server.imap, "security": "plain",
            "auth": "xoauth2", "tenant_id": self.tenant.tenant_id, "client_id": self.tenant.client_id,
            "login_url": self.tenant.login_url, "client_secret_file": str(secret), "connections": 1,
        } | over  # fmt: skip


def upn_of(tenant: SimulatedTenant, token: str, person: str) -> str:
    """Whose a token is, if the tenant takes it: whatever it forbids, it answers 401 to a bad one."""
    claims = jwt.decode(token, options={"verify_signature": False})
    where = f"{tenant.graph_url}/users/{claims.get('oid') or person}"
    try:
        urlopen(Request(where, headers={"Authorization": f"Bearer {token}"}), timeout=5).close()  # noqa: S310
    except HTTPError as error:
        with error:
            if error.code == HTTPStatus.UNAUTHORIZED:
                return ""
    if "oid" in claims:
        scopes = claims["scp"].split()
        return tenant.state.directory.find(claims["oid"]).upn if "IMAP.AccessAsUser.All" in scopes else ""  # fmt: skip
    return person


@contextmanager
def exchange() -> Iterator[Exchange]:
    tenant = SimulatedTenant(11, people=3, messages=0, oddities=False)
    person = tenant.state.user("amelia").upn

    class Desk(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            upn = upn_of(tenant, asked["token"][0], person)
            data = json.dumps({"active": bool(upn), "upn": upn}).encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    desk = ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    thread = threading.Thread(target=desk.serve_forever, args=(0.05,))
    thread.start()
    try:
        with tenant, dovecot(introspection=f"http://127.0.0.1:{desk.server_address[1]}/") as server:
            fill(server, "INBOX", [LETTER], person)
            yield Exchange(tenant, server, person)
    finally:
        desk.shutdown()
        desk.server_close()
        thread.join()


@pytest.fixture(scope="module", name="house")
def a_house() -> Iterator[Exchange]:
    with exchange() as made:
        yield made


def pulled(source: ImapSource) -> int:
    """How many messages the inbox of its one account says that it has."""
    (account,) = source.accounts()
    folders = source.collections(account, Service.MAIL)
    return next(each.count or 0 for each in folders if getattr(each, "special", "") == "inbox")


class TestAPersonSignsIn:
    def test_once_and_then_never_again(self, house: Exchange, tmp_path: Path) -> None:
        said: list[str] = []
        section = Imap.model_validate(self.values(house, tmp_path))
        for _ in range(2):
            source = ImapSource(section, prompt=said.append)
            try:
                assert pulled(source) == 1
            finally:
                source.close()
        assert len(said) == 1
        assert (tmp_path / "token.json").stat().st_mode & 0o777 == 0o600

    def test_without_a_terminal_it_says_what_to_do(self, house: Exchange, tmp_path: Path) -> None:
        source = ImapSource(Imap.model_validate(self.values(house, tmp_path)))
        with pytest.raises(AuthError) as caught:
            pulled(source)
        source.close()
        assert "doctor" in caught.value.hint

    def test_into_nobody_elses_mailbox(self, house: Exchange, tmp_path: Path) -> None:
        other = next(u.upn for u in house.tenant.state.directory.users if u.upn != house.person)
        values = self.values(house, tmp_path) | {"username": other}
        source = ImapSource(Imap.model_validate(values), prompt=lambda _: None)
        with pytest.raises(AuthError) as caught:
            pulled(source)
        source.close()
        assert caught.value.reason == "credential"

    def values(self, house: Exchange, folder: Path) -> dict[str, Any]:
        house.tenant.switches.device_code_interval = 0
        over = {
            "name": "second",
            "sign_in": "device-code",
            "token_file": str(folder / "token.json"),
        }
        return house.section(folder, client_secret_file=None, username=house.person, **over)


class TestLikeAnotherSource:
    def app(self, house: Exchange, folder: Path, **over: Any) -> App:
        secret = folder / "client_secret"
        secret.write_text(house.tenant.client_secret)
        graph = {
            "type": "microsoft365", "tenant_id": house.tenant.tenant_id, "client_id": house.tenant.client_id,
            "client_secret_file": str(secret), "graph_url": house.tenant.graph_url,
            "login_url": house.tenant.login_url, "services": ["contacts", "files"],
        }  # fmt: skip
        second = house.section(folder, like="contoso", **over)
        stored = {"contoso": graph, "second": second}
        return App(Config.model_validate({"state_dir": str(folder / "state"), "sources": stored}))

    def test_the_mailboxes_are_those_held_and_globs_choose_among_them(
        self, house: Exchange, tmp_path: Path
    ) -> None:
        app = self.app(house, tmp_path)
        with app.source("second") as source:
            assert not list(source.accounts())
            finding, *_ = source.check()
            assert "[sources.contoso]" in finding.hint
        with app.source("contoso") as source:
            offered = {account.kind: account for account in source.accounts()}
            chosen = [offered[AccountKind.SHARED], offered[AccountKind.SITE]]
            for account in (*chosen, next(self.person_of(house, source))):
                assert app.gather_one(source, account, CONTACTS).sync
        with app.source("second") as source:
            mailboxes = {each.address for each in source.accounts()}
        assert mailboxes == {chosen[0].address, house.person}
        assert len(app.homes()) == len(mailboxes) + 1

        only = self.app(house, tmp_path, accounts=[house.person, "!nobody*"])
        with only.source("second") as source:
            (account,) = source.accounts()
            outcome = only.sync_one(source, account)
            assert not outcome.errors
        (message,) = (tmp_path / "state/accounts/second").rglob("*.eml")
        assert message.read_bytes() == LETTER

    def person_of(self, house: Exchange, source: Source) -> Iterator[Account]:
        return (each for each in source.accounts() if each.address == house.person)

    def test_it_must_name_a_source_that_is_there(self, house: Exchange, tmp_path: Path) -> None:
        section = house.section(tmp_path, like="nobody")
        with pytest.raises(ValueError, match="names no source"):
            Config.model_validate({"state_dir": str(tmp_path), "sources": {"second": section}})
