"""What servers refuse and lines that break: nothing is lost, nothing put twice, and it is told."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any

import pytest
from imap_desk import (
    MAIL,
    Server,
    held,
    mail,
    other_client,
    packed,
    proofs,
    put,
    states,
    target,
)
from parcels import loaded, shelf
from servers.cyrus import Cyrus, cyrus
from servers.dovecot import Dovecot, dovecot

from backupd import tls
from backupd.errors import AuthError, ConfigError, TransientError, UserError
from backupd.ports import PRESENT, QUARANTINED, RESTORED, Parcel, Put
from targets.imap import lane
from targets.letters import Letter


@pytest.fixture(scope="module")
def a_dovecot() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture(scope="module")
def a_cyrus() -> Iterator[Cyrus]:
    with cyrus(max_mail=3 << 20) as server:
        yield server


@pytest.fixture(params=["dovecot", "cyrus"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(f"a_{request.param}")
    return found


def test_a_message_that_is_too_large_costs_only_itself() -> None:
    large = mail(1, padding=4 << 20)
    with dovecot(max_mail="3M") as server, target(server) as there:
        where = shelf(MAIL, "Large")
        results = put(there, where, packed(where, [mail(0), large, mail(2)]))
        assert [done.state for _, done in sorted(results, key=lambda r: r[0].path)] == [
            RESTORED, QUARANTINED, RESTORED,
        ]  # fmt: skip
        assert len(held(server, "Large")) == 2


def test_what_the_server_says_is_too_large_is_not_sent(a_cyrus: Cyrus) -> None:
    with target(a_cyrus) as there:
        where = shelf(MAIL, "Large")
        results = put(there, where, packed(where, [mail(0), mail(1, padding=4 << 20), mail(2)]))
        assert states(results) == {RESTORED: 2, QUARANTINED: 1}
        assert any("takes 3145728" in done.why for _, done in results)


def _as_it_is(_: Parcel, content: IO[bytes]) -> Letter:
    data = content.read()
    content.seek(0)
    return Letter(content, len(data), hashlib.sha256(data).hexdigest())


def test_one_bad_message_does_not_take_its_batch_along(a_cyrus: Cyrus) -> None:
    where = shelf(MAIL, "Bad")
    bodies = [mail(n) for n in range(40)]
    bodies[17] = mail(17, "nul \0 here")
    with target(a_cyrus, letters=_as_it_is) as there:
        results = put(there, where, packed(where, bodies))
    assert states(results) == {RESTORED: 39, QUARANTINED: 1}
    [why] = [done.why for _, done in results if done.state == QUARANTINED]
    assert "NUL" in why
    assert sorted(each.data for each in held(a_cyrus, "Bad")) == sorted(bodies[:17] + bodies[18:])


def _fill(server: Server, user: str) -> None:
    """A mailbox that is full after a part of what comes, and whole afterwards as far as it was told."""
    where = shelf(MAIL, "Full")
    pairs = packed(where, [mail(n, padding=20_000) for n in range(250)])
    done: list[tuple[Parcel, Put]] = []
    with target(server, user) as there:
        there.make_collection(where)
        with pytest.raises(UserError) as caught:
            done.extend(there.put(where, loaded(pairs), look=False))
        assert caught.value.reason == "quota"
        assert user in str(caught.value)
        assert caught.value.hint
        assert 0 < len(done) < 250
        assert proofs(there, where, done) == {("same", ""): len(done)}
    assert len(held(server, done[0][1].where, user)) == len(done)


def test_a_full_mailbox_ends_the_run_and_what_was_put_is_known() -> None:
    with dovecot(quota="1M") as server:
        _fill(server, "u1")


def test_a_full_mailbox_ends_the_run_on_cyrus_too(a_cyrus: Cyrus) -> None:
    with target(a_cyrus, "u3") as there:
        list(there.preflight())
    with other_client(a_cyrus, "admin") as admin:
        assert admin.setquota("user/u3", "(STORAGE 900)")[0] == "OK"
    _fill(a_cyrus, "u3")


@pytest.mark.parametrize(
    ("over", "error", "reason"),
    [
        ({"secret": lambda: "wrong"}, AuthError, "credential"),
        ({"secret": lambda: "пароль"}, AuthError, "credential"),
        ({"ca_file": None}, UserError, "certificate"),
        ({"fingerprint": "00" * 32}, UserError, "certificate"),
        ({"host": "localhost.invalid", "security": "plain"}, ConfigError, None),
        ({"security": "starttls"}, TransientError, None),  # to a port that speaks TLS at once
        ({"port": 1}, TransientError, None),
    ],
)
def test_what_is_wrong_with_a_connection_is_told(
    server: Server, over: dict[str, Any], error: type[UserError], reason: str | None
) -> None:
    quick = {"quirks": {"timeout": 2}}
    with target(server, **quick, **over) as there, pytest.raises(error) as caught:
        list(there.preflight())
    assert reason in {None, caught.value.reason}
    assert caught.value.hint
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("security", ["tls", "starttls"])
def test_a_pinned_certificate_needs_no_authority(server: Server, security: str) -> None:
    with socket.create_connection((server.host, server.imaps)) as raw:
        context = tls.context(None, "x")
        with context.wrap_socket(raw, server_hostname="other.example") as shown:
            pin = tls.fingerprint_of(shown.getpeercert(binary_form=True) or b"")
    port = server.imaps if security == "tls" else server.imap
    with target(server, ca_file=None, fingerprint=pin, security=security, port=port) as there:
        assert next(each.level for each in there.preflight()) == "ok"
    wrong = {"fingerprint": pin[:-1] + ("0" if pin[-1] != "0" else "1"), "ca_file": None}
    asked: list[int] = []
    secret = lambda: str(asked.append(1))
    with (
        target(server, security=security, port=port, secret=secret, **wrong) as there,
        pytest.raises(UserError),
    ):
        list(there.preflight())
    assert not asked, "the password was read although the certificate is not the right one"


def test_a_token_logs_in_and_an_expired_one_is_told(a_dovecot: Dovecot) -> None:
    with target(a_dovecot, auth="xoauth2", secret=lambda: a_dovecot.token("u1")) as there:
        assert next(there.preflight()).level == "ok"
    expired = lambda: a_dovecot.token("u1", lifetime=-60)
    with (
        target(a_dovecot, auth="xoauth2", secret=expired) as there,
        pytest.raises(AuthError, match="token") as caught,
    ):
        list(there.preflight())
    assert "401" in str(caught.value) or "invalid" in str(caught.value).lower()


def test_a_server_that_restarts_gets_everything_once(server: Server) -> None:
    where = shelf(MAIL, "Restarted")
    bodies = [mail(n, padding=3000) for n in range(260)]
    pairs = packed(where, bodies)

    def items() -> Iterator[Any]:
        for number, each in enumerate(loaded(pairs)):
            if number == 130:
                server.stop()
                threading.Timer(0.5, server.start).start()
            yield each

    with target(server) as there:
        there.make_collection(where)
        results = list(there.put(where, items(), look=False))
        assert states(results) == {RESTORED: 260}
        assert proofs(there, where, results) == {("same", ""): 260}
    assert sorted(each.data for each in held(server, "Restarted")) == sorted(bodies)


@contextmanager
def cutting(
    port: int, answer: bytes = b"\0", order: bytes = b"\0", *, times: int = 1
) -> Iterator[int]:
    """A way to a server that is cut so often, when a word comes by in an answer or in an order."""
    listener = socket.create_server(("127.0.0.1", 0))
    left = [times]

    def pump(source: socket.socket, sink: socket.socket, word: bytes) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if word in data and left[0]:
                    left[0] -= 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                to = socket.create_connection(("127.0.0.1", port))
                for way in ((client, to, order), (to, client, answer)):
                    threading.Thread(target=pump, args=way, daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
        assert left[0] < times
    finally:
        listener.close()


def test_a_message_at_which_the_connection_ends_every_time_costs_only_itself(
    a_dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lane, "SETTLE", 0.0)
    where = shelf(MAIL, "Poison")
    bodies = [mail(n, "POISON" if n == 5 else "") for n in range(12)]
    with (
        cutting(a_dovecot.imap, order=b"POISON", times=99) as port,
        target(a_dovecot, security="plain", port=port, connections=1) as there,
    ):
        results = put(there, where, packed(where, bodies))
    assert states(results) == {RESTORED: 11, QUARANTINED: 1}
    assert sorted(each.data for each in held(a_dovecot, "Poison")) == sorted(
        bodies[:5] + bodies[6:]
    )


def test_a_run_that_is_killed_and_forgot_everything_puts_nothing_twice(server: Server) -> None:
    where = shelf(MAIL, "Killed")
    pairs = packed(where, [mail(n, padding=5000) for n in range(300)])
    with target(server) as there:
        there.make_collection(where)
        going = there.put(where, loaded(pairs), look=False)
        next(going)
        going.close()  # type: ignore[attr-defined]  # a generator
    some = len(held(server, "Killed"))
    assert 0 < some < 300
    with target(server) as there:
        assert states(put(there, where, pairs, look=True)) == {PRESENT: some, RESTORED: 300 - some}
    assert sorted(each.data for each in held(server, "Killed")) == sorted(b for _, b in pairs)


def test_what_the_server_took_before_the_line_broke_is_not_put_again(server: Server) -> None:
    where = shelf(MAIL, "Cut")
    bodies = [mail(n, "same" if n % 3 else f"{n}") for n in range(60)] + [mail(1, "same")] * 3
    with (
        cutting(server.imap, answer=b"APPENDUID") as port,
        target(server, security="plain", port=port) as there,
    ):
        results = put(there, where, packed(where, bodies))
        assert states(results) == {RESTORED: 63}
        assert proofs(there, where, results) == {("same", ""): 63}
    assert sorted(each.data for each in held(server, "Cut")) == sorted(bodies)


def test_a_folder_that_vanishes_is_created_again(server: Server) -> None:
    where = shelf(MAIL, "Vanishing")

    def items(pairs: Sequence[tuple[Parcel, bytes]]) -> Iterator[Any]:
        for number, each in enumerate(loaded(pairs)):
            if number == 1:
                with other_client(server) as client:
                    client.delete("Vanishing")
            yield each

    with target(server) as there:
        there.make_collection(where)
        pairs = packed(where, [mail(n) for n in range(3)])
        assert states(list(there.put(where, items(pairs), look=False))) == {RESTORED: 3}
    assert len(held(server, "Vanishing")) == 3
