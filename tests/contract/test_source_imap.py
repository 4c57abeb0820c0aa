"""The contract of sources on Graph, Dovecot and Cyrus, and what only IMAP has to promise."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
from graph_desk import Desk, bytes_of
from imap_house import client, fill, letter, section, source, watching
from servers.cyrus import Cyrus, cyrus
from servers.dovecot import Dovecot, dovecot
from source_contract import SourceContract, World, graph_world, imap_world

from backupd.errors import AuthError, ConfigError, ItemUnreadable, TransientError, UserError
from backupd.model import Collection, Gap, Item, Service
from backupd.ports import Failed, Fetched
from sources.imap.source import ImapSource

MAIL = Service.MAIL


@pytest.fixture(scope="module")
def dove() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture(scope="module")
def cyr() -> Iterator[Cyrus]:
    with cyrus() as server:
        yield server


class TestGraph(SourceContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[World]:
        with graph_world(tmp_path) as world:
            yield world


class TestDovecot(SourceContract):
    @pytest.fixture
    def world(self, dove: Dovecot, tmp_path: Path) -> Iterator[World]:
        with imap_world(tmp_path, dove, "contract") as world:
            yield world


class TestCyrus(SourceContract):
    @pytest.fixture
    def world(self, cyr: Cyrus, tmp_path: Path) -> Iterator[World]:
        with imap_world(tmp_path, cyr, "u3") as world:
            yield world


def opened(made: ImapSource) -> Desk:
    return Desk(made)  # type: ignore[arg-type]


def everything(desk: Desk, special: str = "inbox") -> list[Fetched | Failed]:
    (account,) = desk.source.accounts()
    return desk.fetch(account, desk.collection(account, MAIL, special))


class TestFolders:
    def test_folders_that_hold_only_folders_are_kept_and_the_prefix_is_not(
        self, tmp_path: Path
    ) -> None:
        with dovecot(prefix="INBOX.") as server, source(tmp_path, server) as made:
            with client(server) as other:
                other.create("INBOX.Deep.er.Box")
                other.append("INBOX.Deep.er.Box", None, None, letter(1))  # type: ignore[arg-type]
            desk = opened(made)
            (account,) = made.accounts()
            found = {each.id: each for each in made.collections(account, MAIL) if isinstance(each, Collection)}  # fmt: skip
            boxed = next(each for each in found.values() if each.name == "Box")
            above = found[boxed.parent or ""]

            assert (above.name, found[above.parent or ""].name) == ("er", "Deep")
            assert found[above.parent or ""].parent is None
            assert desk.pages(account, above)[-1].last
            assert bytes_of(desk.fetch(account, boxed)[0]) == letter(1)

    def test_what_belongs_to_others_is_a_gap(self, cyr: Cyrus, tmp_path: Path) -> None:
        with client(cyr, "u2") as other:
            other.create("Shown")
            other.setacl("Shown", "u1", "lrs")
        with source(tmp_path, cyr) as made:
            (account,) = made.accounts()
            gaps = [each for each in made.collections(account, MAIL) if isinstance(each, Gap)]
        assert "shared-folder" in {gap.kind for gap in gaps}

    def test_a_mailbox_list_makes_an_account_of_each(self, dove: Dovecot, tmp_path: Path) -> None:
        mailboxes = ["Ann@example.org", {"username": "bob", "address": "Bob@Example.org"}, "eve"]
        more = {"username": None, "mailboxes": mailboxes, "accounts": ["*", "!eve"]}
        with source(tmp_path, dove, **more) as made:
            accounts = list(made.accounts())
            assert [each.address for each in accounts] == ["ann@example.org", "bob@example.org"]
            for account in accounts:
                assert made.collections(account, MAIL)


@pytest.fixture(scope="module")
def poor() -> Iterator[Dovecot]:
    """A server that can nothing beyond RFC 3501."""
    with dovecot(capability="IMAP4rev1") as server:
        yield server


class TestPoor:
    def test_flags_and_deletions_are_found_by_comparing(
        self, poor: Dovecot, tmp_path: Path
    ) -> None:
        fill(poor, "INBOX", [letter(n) for n in range(70)])
        with client(poor) as other:
            other.select("INBOX")
            for _ in range(4):
                other.copy("1:*", "INBOX")
        with source(tmp_path, poor) as made:
            desk = opened(made)
            (account,) = made.accounts()
            inbox = desk.collection(account, MAIL, "inbox")
            pages = desk.pages(account, inbox)
            assert [len(page.changes) for page in pages] == [1000, 120]
            with client(poor) as other:
                other.select("INBOX")
                other.store("1100", "+FLAGS", r"(\Flagged)")
                other.store("7", "+FLAGS", r"(\Deleted)")
                other.expunge()

            changed = desk.changes(account, inbox, pages[-1].cursor)

            flagged = [c for c in changed if isinstance(c, Item) and "\\Flagged" in c.facts["flags"]]  # fmt: skip
            assert len(flagged) == 1
            assert len(changed) - 1 <= 512, "more than the blocks of the two messages was looked at"

    def test_a_listing_that_broke_off_goes_on_and_is_made_again_once(
        self, poor: Dovecot, tmp_path: Path
    ) -> None:
        fill(poor, "Broken", [letter(n) for n in range(1119)])
        with source(tmp_path, poor) as made:
            desk = opened(made)
            (account,) = made.accounts()
            where = desk.collection(account, MAIL, "Broken")
            first = next(iter(made.pages(account, where, None)))

            rest = desk.pages(account, where, first.cursor)
            again = desk.pages(account, where, rest[-1].cursor)

            assert [len(page.changes) for page in rest] == [119]
            assert not rest[0].restart
            assert again[0].restart, "it cannot know what vanished meanwhile"
            assert not desk.changes(account, where, again[-1].cursor)


class TestTrust:
    def test_a_certificate_that_does_not_verify_ends_it(
        self, dove: Dovecot, tmp_path: Path
    ) -> None:
        with source(tmp_path, dove, ca_file=None) as made:
            (account,) = made.accounts()
            with pytest.raises(UserError) as caught:
                made.collections(account, MAIL)
            assert caught.value.reason == "certificate"
            assert [f.level for f in made.check()] == ["error"]

    def test_a_wrong_password_is_a_credential_error(self, dove: Dovecot, tmp_path: Path) -> None:
        secret = tmp_path / "wrong"
        secret.write_text("wrong")
        with source(tmp_path, dove, password_file=secret) as made:
            (account,) = made.accounts()
            with pytest.raises(AuthError) as caught:
                made.collections(account, MAIL)
            assert caught.value.reason == "credential"
            assert "wrong" not in str(caught.value).split(":")[-1]

    def test_plain_text_leaves_this_machine_never(self, dove: Dovecot, tmp_path: Path) -> None:
        with source(tmp_path, dove, host="192.0.2.1", security="plain") as made:
            (account,) = made.accounts()
            with pytest.raises(ConfigError):
                made.collections(account, MAIL)

    def test_a_server_that_is_not_there_is_transient(self, dove: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        monkeypatch.setattr("sources.imap.lanes.TRIES", 1)
        with source(tmp_path, dove, port=9) as made:
            (account,) = made.accounts()
            with pytest.raises(TransientError):
                made.collections(account, MAIL)


@dataclass
class TokenDesk:
    """A token endpoint whose tokens Dovecot accepts."""

    issue: Callable[[], tuple[str, int]]
    url: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)


@contextmanager
def token_desk(issue: Callable[[], tuple[str, int]]) -> Iterator[TokenDesk]:
    desk = TokenDesk(issue)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            desk.asked.append(parse_qs(body.decode()))
            token, life = desk.issue()
            status = 200 if token else 401
            said: dict[str, Any] = {"access_token": token, "expires_in": life} if token else {"error": "invalid_client", "error_codes": [7000215]}  # fmt: skip
            data = json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    desk.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield desk
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def oauth(folder: Path, desk: TokenDesk) -> dict[str, Any]:
    secret = folder / "client"
    secret.write_text("app secret")
    return {
        "auth": "xoauth2", "tenant_id": "tenant", "client_id": "app", "client_secret_file": secret,
        "login_url": desk.url, "username": None, "mailboxes": ["tok@example.org"],
    }  # fmt: skip


class TestTokens:
    USER = "tok@example.org"

    def test_an_application_reads_with_a_token(self, dove: Dovecot, tmp_path: Path) -> None:
        fill(dove, "INBOX", [letter(1)], self.USER)
        with (
            token_desk(lambda: (dove.token(self.USER), 3600)) as desk,
            source(tmp_path, dove, **oauth(tmp_path, desk)) as made,
        ):
            assert bytes_of(everything(opened(made))[0]) == letter(1)
            (asked,) = desk.asked
        assert asked["scope"] == ["https://outlook.office365.com/.default"]
        assert asked["client_secret"] == ["app secret"]

    def test_a_token_that_expires_inside_a_folder_is_renewed(
        self, dove: Dovecot, tmp_path: Path
    ) -> None:
        """The server drops the connection, as Exchange does; the old token would not be taken again."""
        bodies = [letter(n, size=30_000) for n in range(80)]
        fill(dove, "Long", bodies, self.USER)
        lives = iter([1, 3600, 3600, 3600])
        with (
            token_desk(lambda: (dove.token(self.USER, lifetime=next(lives)), 3600)) as desk,
            watching(dove.imap) as proxy,
        ):
            more = {"port": proxy.port, "security": "plain", "connections": 1}
            with source(tmp_path, dove, **oauth(tmp_path, desk), **more) as made:
                reader = opened(made)
                (account,) = made.accounts()
                where = reader.collection(account, MAIL, "Long")
                items = reader.items(account, where)
                time.sleep(2.1)
                proxy.cut_after, proxy.most = 1_000_000, 1
                answers = reader.fetch(account, where, items)
                assert proxy.cuts == 1
        assert sorted(map(bytes_of, answers)) == sorted(bodies)
        assert len(desk.asked) == 2

    def test_a_refused_token_is_a_credential_error_and_asked_for_once_more(
        self, dove: Dovecot, tmp_path: Path
    ) -> None:
        tokens = iter([dove.token("somebody@else"), dove.token("other@else")])
        with (
            token_desk(lambda: (next(tokens), 3600)) as desk,
            source(tmp_path, dove, **oauth(tmp_path, desk)) as made,
        ):
            (finding,) = made.check()
        assert finding.level == "error"
        assert "IMAP.AccessAsApp" in finding.hint

    def test_a_refusal_of_the_token_endpoint_says_why(self, dove: Dovecot, tmp_path: Path) -> None:
        with (
            token_desk(lambda: ("", 0)) as desk,
            source(tmp_path, dove, **oauth(tmp_path, desk)) as made,
        ):
            (account,) = made.accounts()
            with pytest.raises(AuthError) as caught:
                made.collections(account, MAIL)
        assert caught.value.reason == "credential"
        assert "app secret" not in str(caught.value)


class TestWaiting:
    def test_wait_returns_when_mail_comes_and_when_time_is_over(
        self, dove: Dovecot, tmp_path: Path
    ) -> None:
        with source(tmp_path, dove, username="waiting") as made:
            (account,) = made.accounts()
            assert not made.wait(account, 0.3)
            timer = threading.Timer(0.3, fill, (dove, "INBOX", [letter(1)], "waiting"))
            timer.start()
            began = time.monotonic()
            assert made.wait(account, 10)
            assert time.monotonic() - began < 8
            timer.join()
            assert made.collections(account, MAIL), "the connection is as good as before"


@dataclass
class Scripted:
    """An IMAP server that says to the byte what a test wants. `answers`: pattern → bytes, `{tag}` filled in."""

    answers: list[tuple[str, bytes]]
    seen: list[bytes] = field(default_factory=list)
    port: int = 0
    logins: int = 0

    def serve(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                peer, _ = listening.accept()
                threading.Thread(target=self._talk, args=(peer,), daemon=True).start()

    def _talk(self, peer: socket.socket) -> None:
        self.logins += 1
        with suppress(OSError, ValueError), peer, peer.makefile("rb") as lines:
            peer.sendall(b"* OK [CAPABILITY IMAP4rev1] hello\r\n")
            for line in lines:
                self.seen.append(line)
                tag, _, command = line.rstrip().partition(b" ")
                said = self._said(command.decode("latin-1"))
                peer.sendall(said.replace(b"{tag} OK\r", b"{tag} OK done\r").replace(b"{tag}", tag))
                if b"{tag}" not in said or command.upper() == b"LOGOUT":
                    return

    def _said(self, command: str) -> bytes:
        for pattern, answer in [*self.answers, *USUAL]:
            if re.match(pattern, command, re.IGNORECASE):
                return answer
        return b"{tag} BAD what\r\n"


USUAL = [
    ("CAPABILITY", b"* CAPABILITY IMAP4rev1\r\n{tag} OK\r\n"),
    ("LOGIN|NOOP", b"{tag} OK\r\n"),
    ("LOGOUT", b"* BYE bye\r\n{tag} OK\r\n"),
    ('LIST "" ""', b'* LIST (\\Noselect) "/" ""\r\n{tag} OK\r\n'),
    ("LIST", b'* LIST () "/" INBOX\r\n{tag} OK\r\n'),
    ("STATUS", b"* STATUS INBOX (MESSAGES 2 UIDNEXT 3 UIDVALIDITY 7)\r\n{tag} OK\r\n"),
    ("EXAMINE", b"* 2 EXISTS\r\n* OK [UIDVALIDITY 7]\r\n* OK [UIDNEXT 3]\r\n{tag} OK [READ-ONLY]\r\n"),
    (r"(UID )?FETCH \S+ \(UID\)", b"* 1 FETCH (UID 1)\r\n* 2 FETCH (UID 2)\r\n{tag} OK\r\n"),
    (r"UID FETCH 1:2 \(UID FLAGS INTERNALDATE", b"* 1 FETCH (UID 1 FLAGS () INTERNALDATE \" 2-Jan-2023 03:04:05 +0000\" RFC822.SIZE 5 BODY[HEADER] {3}\r\nA:\n)\r\n* 2 FETCH (UID 2 FLAGS () INTERNALDATE \" 2-Jan-2023 03:04:05 +0000\" RFC822.SIZE 5 BODY[HEADER] {3}\r\nB:\n)\r\n{tag} OK\r\n"),
    (r"UID FETCH 1 .*BODY", b"* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 5 BODY[] {5}\r\nfirst)\r\n{tag} OK\r\n"),
    (r"UID FETCH 2 .*BODY", b"* 2 FETCH (UID 2 FLAGS () RFC822.SIZE 5 BODY[] {5}\r\nother)\r\n{tag} OK\r\n"),
    (r"UID FETCH 1:2 .*BODY", b"* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 5 BODY[] {5}\r\nfirst)\r\n* 2 FETCH (UID 2 FLAGS () RFC822.SIZE 5 BODY[] {5}\r\nother)\r\n{tag} OK\r\n"),
]  # fmt: skip


@contextmanager
def scripted(tmp_path: Path, *answers: tuple[str, bytes]) -> Iterator[tuple[Scripted, Desk]]:
    server = Scripted(list(answers))
    (tmp_path / "secret").write_text("pw")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server.port = listening.getsockname()[1]
        thread = threading.Thread(target=server.serve, args=(listening,), daemon=True)
        thread.start()
        values = {"host": "127.0.0.1", "port": server.port, "security": "plain", "ca_file": None, "connections": 1}  # fmt: skip
        made = ImapSource(section(tmp_path, _Nobody(), **values))  # type: ignore[arg-type]
        try:
            yield server, opened(made)
        finally:
            made.close()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)


class _Nobody:
    host, imaps, password, cert = "127.0.0.1", 1, "pw", None


class TestBadServers:
    """Answers that no server here gives on demand, to the byte."""

    def test_a_literal_that_ends_early_is_asked_for_again(self, tmp_path: Path) -> None:
        short = b"* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 5 BODY[] {5}\r\nfir"
        with scripted(tmp_path, (r"UID FETCH 1:2 .*BODY\.PEEK\[\]", short)) as (server, desk):
            answers = everything(desk)
            assert all(draft.discarded for draft in desk.landing.drafts if bytes(draft.data) not in {b"first", b"other"})  # fmt: skip
        assert sorted(map(bytes_of, answers)) == [b"first", b"other"]
        assert server.logins > 1

    def test_a_message_at_which_the_server_hangs_up_is_set_aside(self, tmp_path: Path) -> None:
        both = (r"UID FETCH 1:2 .*BODY\.PEEK\[\]", b"")
        with scripted(tmp_path, both, (r"UID FETCH 1 .*BODY", b"")) as (_, desk):
            answers = everything(desk)
        assert [bytes_of(each) for each in answers if isinstance(each, Fetched)] == [b"other"]
        (failed,) = [each for each in answers if isinstance(each, Failed)]
        assert isinstance(failed.error, TransientError)

    def test_a_no_for_one_message_does_not_hide_the_other(self, tmp_path: Path) -> None:
        both = (r"UID FETCH 1:2 .*BODY\.PEEK\[\]", b"{tag} NO broken\r\n")
        with scripted(tmp_path, both, (r"UID FETCH 2 .*BODY", b"{tag} NO broken\r\n")) as (_, desk):
            answers = everything(desk)
        assert [bytes_of(each) for each in answers if isinstance(each, Fetched)] == [b"first"]
        (failed,) = [each for each in answers if isinstance(each, Failed)]
        assert isinstance(failed.error, ItemUnreadable)

    def test_bad_is_no_reason_to_go_on(self, tmp_path: Path) -> None:
        bad = (r"UID FETCH .*BODY\.PEEK\[\]", b"{tag} BAD no\r\n")
        with scripted(tmp_path, bad) as (_, desk), pytest.raises(TransientError):
            everything(desk)

    def test_a_size_that_is_only_estimated_is_a_note(self, tmp_path: Path) -> None:
        told = (
            b"* 1 FETCH (UID 1 FLAGS () RFC822.SIZE 99 BODY[] {5}\r\nfirst)\r\n"
            b"* 2 FETCH (UID 2 FLAGS () RFC822.SIZE 5 BODY[] {5}\r\nother)\r\n{tag} OK\r\n"
        )
        lie = (r"UID FETCH 1:2 .*BODY\.PEEK\[\]", told)
        with scripted(tmp_path, lie) as (_, desk):
            answers = everything(desk)
        assert {bytes_of(each): each.note for each in answers if isinstance(each, Fetched)} == {
            b"first": "size-differs", b"other": "",
        }  # fmt: skip

    def test_a_listing_shorter_than_the_folder_is_completed(self, tmp_path: Path) -> None:
        short = (r"FETCH 1:\* \(UID\)", b"* 1 FETCH (UID 1)\r\n{tag} OK\r\n")
        with scripted(tmp_path, short) as (_, desk):
            (account,) = desk.source.accounts()
            items = desk.items(account, desk.collection(account, MAIL, "inbox"))
        assert [item.id.rpartition("/")[2] for item in items] == ["1", "2"]

    def test_a_message_that_the_listing_leaves_out_is_listed_by_itself(
        self, tmp_path: Path
    ) -> None:
        first = b'* 1 FETCH (UID 1 FLAGS () INTERNALDATE " 2-Jan-2023 03:04:05 +0000" RFC822.SIZE 5 BODY[HEADER] {3}\r\nA:\n)\r\n{tag} OK\r\n'
        short = (r"UID FETCH 1:2 \(UID FLAGS INTERNALDATE", first)
        silent = (r"UID FETCH 2:2 \(UID FLAGS INTERNALDATE", b"{tag} OK\r\n")
        with scripted(tmp_path, short, silent) as (_, desk):
            answers = everything(desk)
        assert sorted(map(bytes_of, answers)) == [b"first", b"other"]

    def test_a_login_that_is_cut_off_is_transient(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
        monkeypatch.setattr("sources.imap.lanes.TRIES", 2)
        with scripted(tmp_path, ("LOGIN", b"")) as (_, desk):
            (account,) = desk.source.accounts()
            with pytest.raises(TransientError):
                desk.source.collections(account, MAIL)

    def test_a_folder_that_exists_and_does_not_open_is_not_gone(self, tmp_path: Path) -> None:
        refused = ("EXAMINE", b"{tag} BAD User is authenticated but not connected.\r\n")
        with scripted(tmp_path, refused) as (_, desk):
            (account,) = desk.source.accounts()
            inbox = desk.collection(account, MAIL, "inbox")
            with pytest.raises(TransientError) as caught:
                desk.pages(account, inbox)
            assert caught.value.reason == "folder"

    def test_nothing_is_ever_marked_or_changed(self, tmp_path: Path) -> None:
        with scripted(tmp_path) as (server, desk):
            everything(desk)
            told = b"".join(server.seen).upper()
        assert not re.search(rb"\b(SELECT|STORE|EXPUNGE|APPEND|CREATE|DELETE|RENAME|MOVE|COPY)\b", told)  # fmt: skip
        assert b"BODY[" not in told
