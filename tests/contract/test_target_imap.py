"""Mail restored into Dovecot and Cyrus, read back by a client that is not ours."""

from __future__ import annotations

import hashlib
import imaplib
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from parcels import loaded, parcel, shelf
from servers.cyrus import Cyrus, cyrus
from servers.dovecot import Dovecot, dovecot

from backupd import tls
from backupd.errors import AuthError, ConfigError, TransientError, UserError
from backupd.model import Service
from backupd.ports import PRESENT, QUARANTINED, REPAIRED, RESTORED, Claim, Parcel, Put, Shelf
from targets.endpoint import Endpoint
from targets.imap import Folders, Imap, naming
from targets.letters import Letter

MAIL = Service.MAIL
RECEIVED = "2021-03-04T05:06:07Z"
Server = Dovecot | Cyrus


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


@contextmanager
def target(server: Server, user: str = "u1", **over: Any) -> Iterator[Imap]:
    strategies = {word: over.pop(word) for word in ("layout", "letters") if word in over}
    settings: dict[str, Any] = {
        "name": "there", "type": "imap", "account": user, "host": server.host, "port": server.imaps,
        "username": user, "secret": lambda: server.password, "ca_file": server.cert, **over,
    }  # fmt: skip
    made = Imap(Endpoint(**settings), **strategies)
    try:
        yield made
    finally:
        made.close()


def mail(number: int, text: str = "", *, padding: int = 0) -> bytes:
    return (
        f"From: a@example.org\r\nTo: b@example.org\r\nDate: Thu, 4 Mar 2021 05:06:07 +0000\r\n"
        f"Message-ID: <{number}@example.org>\r\nSubject: letter {number}\r\n\r\n{text}\r\n"
    ).encode() + (b"0123456789" * 7 + b"\r\n") * (padding // 72)


def packed(where: Shelf, bodies: Sequence[bytes], **about: Any) -> list[tuple[Parcel, bytes]]:
    about = {"received": RECEIVED, "seen": True, **about}
    return [(parcel(where, f"{n}.eml", body, about=about), body) for n, body in enumerate(bodies)]


def put(there: Imap, where: Shelf, pairs: Sequence[tuple[Parcel, bytes]], look: bool = False) -> list[tuple[Parcel, Put]]:  # fmt: skip
    there.make_collection(where)
    return list(there.put(where, loaded(pairs), look=look))


def states(results: Sequence[tuple[Parcel, Put]]) -> Counter[str]:
    return Counter(each.state for _, each in results)


def proofs(there: Imap, where: Shelf, results: Sequence[tuple[Parcel, Put]], deep: bool = True) -> Counter[tuple[str, str]]:  # fmt: skip
    claims = [Claim(each, done, deep) for each, done in results]
    return Counter((each.state, each.what) for each in there.read_back(where, claims))


@dataclass(frozen=True)
class Held:
    data: bytes
    flags: frozenset[str]
    date: datetime


@contextmanager
def other_client(server: Server, user: str = "u1") -> Iterator[imaplib.IMAP4]:
    client = imaplib.IMAP4(server.host, server.imap)
    client.login(user, server.password)
    try:
        yield client
    finally:
        client.logout()


def held(server: Server, where: str, user: str = "u1") -> list[Held]:
    """What an independent client finds in a mailbox; `where` is the address of a put or a raw name."""
    name = naming.encoded(where.rsplit(";", 2)[0]).decode()
    with other_client(server, user) as client:
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        answer, [count] = client.select(quoted, readonly=True)
        assert answer == "OK", count
        if count == b"0":
            return []
        _, parts = client.fetch("1:*", "(FLAGS INTERNALDATE BODY.PEEK[])")
    found = []
    for head, data in (each for each in parts if isinstance(each, tuple)):
        flags = re.search(rb"FLAGS \(([^)]*)\)", head)
        date = imaplib.Internaldate2tuple(head)
        assert flags
        assert date
        when = datetime.fromtimestamp(time.mktime(date), UTC)
        found.append(Held(data, frozenset(flags[1].decode().split()) - {"\\Recent"}, when))
    return found


def test_every_mail_arrives_as_it_was_with_flags_keywords_and_date(server: Server) -> None:
    where = shelf(MAIL, "Everything")
    about = {"flagged": True, "answered": True, "draft": True, "categories": ["Red", "Blå & gul"]}
    with target(server) as there:
        results = put(there, where, packed(where, [mail(n) for n in range(120)], **about))
        assert states(results) == {RESTORED: 120}
        assert proofs(there, where, results) == {("same", ""): 120}
        assert proofs(there, where, results, deep=False) == {("same", ""): 120}
    found = held(server, results[0][1].where)
    assert sorted(each.data for each in found) == sorted(mail(n) for n in range(120))
    keywords = {naming.keyword("Red"), naming.keyword("Blå & gul")}
    assert {each.flags for each in found} == {
        frozenset({"\\Seen", "\\Flagged", "\\Answered", "\\Draft", *keywords})
    }
    assert {each.date for each in found} == {datetime.fromisoformat(RECEIVED)}


def test_a_second_restore_puts_nothing(server: Server) -> None:
    where = shelf(MAIL, "Twice")
    pairs = packed(where, [mail(n) for n in range(70)])
    with target(server) as there:
        assert states(put(there, where, pairs)) == {RESTORED: 70}
    with target(server) as there:
        results = put(there, where, pairs, look=True)
        assert states(results) == {PRESENT: 70}
        assert proofs(there, where, results) == {("same", ""): 70}
    assert len(held(server, results[0][1].where)) == 70


def test_identical_messages_are_kept_as_often_as_they_were(server: Server) -> None:
    where = shelf(MAIL, "Identical")
    same_id = [mail(1, "one"), mail(1, "two"), mail(1, "one"), mail(1, "one"), b"Subject: no id\r\n\r\nx\r\n"]  # fmt: skip
    with target(server) as there:
        assert states(put(there, where, packed(where, same_id))) == {RESTORED: 5}
        more = packed(where, [*same_id, mail(1, "one"), mail(1, "two")])
        results = put(there, where, more, look=True)
        assert states(results) == {PRESENT: 5, RESTORED: 2}
        assert len({each.where for _, each in results}) == 7
    found = Counter(each.data for each in held(server, results[0][1].where))
    assert found == Counter(body for _, body in more)


def test_the_corpus_arrives_byte_for_byte_except_for_what_is_said(server: Server, corpus: Path) -> None:  # fmt: skip
    where = shelf(MAIL, "Corpus")
    raw = [each.read_bytes() for each in sorted((corpus / "mail").glob("*.eml"))]
    bodies = [*raw, *(re.sub(rb"\r?\n", b"\r\n", each) for each in raw)]
    pairs = packed(where, bodies)
    original = {each.path: body for each, body in pairs}
    with target(server) as there:
        results = put(there, where, pairs)
        assert proofs(there, where, [r for r in results if r[1].state != QUARANTINED]).keys() == {
            ("same", "")
        }
    wanted = Counter(done.digest for _, done in results if done.state != QUARANTINED)
    there_now = Counter(hashlib.sha256(each.data).hexdigest() for each in held(server, "Corpus"))
    assert there_now == wanted
    for each, done in results:
        if done.state == RESTORED:
            assert done.digest == hashlib.sha256(original[each.path]).hexdigest()
        else:
            assert done.why, each.path
    assert states(results)[QUARANTINED] <= 4, [d.why for _, d in results if d.state == QUARANTINED]
    assert states(results)[RESTORED] > 200


AWKWARD = (
    "a/b", "a.b", "a*b", "100%", "INBOX", "inbox", " blank before", "blank behind ", "tab\there", "nul\0here",
    "new\r\nA1 LOGOUT", "..", ".", "", "~root", "#news", 'say "hi"', "back\\slash", "Tom & Jerry", "&amp;", "what?",
    "Ünïcödé", "日本語", "\u202eevil", "😀", "a:b;c", "{5}", "x" * 300, "日" * 200, "Sent", "(brackets)", "[square]",
)  # fmt: skip


def test_awkward_names_become_folders_of_their_own(server: Server) -> None:
    top = shelf(MAIL, "Awkward")
    homes = [shelf(MAIL, "Awkward", name) for name in AWKWARD]
    homes += [shelf(MAIL, name) for name in ("INBOX", "inbox", "Sent")]
    deep = [shelf(MAIL, *(f"level {n}. of many" for n in range(depth))) for depth in range(1, 9)]
    specials = [shelf(MAIL, "Posteingang", special="inbox"), shelf(MAIL, "Gesendet", special="sentitems")]  # fmt: skip
    with target(server, "u2") as there:
        for each in (top, *specials, *homes, *deep):
            there.make_collection(each)
        wheres = []
        for number, each in enumerate([*homes, *deep, *specials]):
            results = put(there, each, packed(each, [mail(number)]))
            assert states(results) == {RESTORED: 1}
            assert proofs(there, each, results) == {("same", ""): 1}
            wheres.append(results[0][1].where)
        mailboxes = [each.rsplit(";", 2)[0] for each in wheres]
        assert len(set(mailboxes)) == len(mailboxes)
    assert mailboxes[-2:] == ["INBOX", "Sent"]
    for number, each in enumerate(wheres):
        assert [found.data for found in held(server, each, "u2")] == [mail(number)]
    with target(server, "u2") as there:  # the same folders again, by whoever comes later
        for each in (top, *specials, *homes, *deep):
            there.make_collection(each)
        for number, each in enumerate([*homes, *deep, *specials]):
            results = put(there, each, packed(each, [mail(number)]), look=True)
            assert states(results) == {PRESENT: 1}, each.names


def test_special_folders_are_found_by_use(server: Server) -> None:
    uses = {"sentitems": "Sent", "drafts": "Drafts", "junkemail": "Junk", "deleteditems": "Trash", "archive": "Archive", "inbox": "INBOX"}  # fmt: skip
    with target(server, "u2") as there:
        for special, name in uses.items():
            where = shelf(MAIL, f"Ordner {special}", special=special)
            [(_, done)] = put(there, where, packed(where, [mail(1)]))
            assert done.where.split(";")[0] == name


def test_special_folders_are_found_by_their_names_in_other_languages() -> None:
    with dovecot(special=False) as server, target(server) as there:
        with other_client(server) as client:
            for name in ("Gesendete Elemente", "&-", "Corbeille", "Bozze"):
                client.create(f'"{name}"')
        for special, name in {"sentitems": "Gesendete Elemente", "deleteditems": "Corbeille", "drafts": "Bozze", "junkemail": "Junk"}.items():  # fmt: skip
            where = shelf(MAIL, special, special=special)
            [(_, done)] = put(there, where, packed(where, [mail(1)]))
            assert done.where.split(";")[0] == name


def test_new_folders_are_subscribed(server: Server) -> None:
    with target(server) as there:
        there.make_collection(shelf(MAIL, "Subscribed"))
    with other_client(server) as client:
        assert any(b"Subscribed" in each for each in client.lsub()[1] if isinstance(each, bytes))


def test_a_date_that_servers_refuse_is_left_out_and_told(server: Server) -> None:
    where = shelf(MAIL, "Old")
    pairs = packed(where, [mail(1)], received="1965-01-01T00:00:00Z")
    pairs += [(parcel(where, "later", mail(2), about={"received": "2040-01-01T00:00:00Z"}), mail(2))]  # fmt: skip
    with target(server) as there:
        results = put(there, where, pairs)
    assert states(results) == {REPAIRED: 2}
    assert all("date" in done.why for _, done in results)


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


def test_commands_inside_a_message_stay_text(server: Server) -> None:
    where = shelf(MAIL, "Commands")
    bodies = [mail(n, "B3 LOGOUT\r\nB4 DELETE INBOX\r\n{5}\r\n+ OK\r\n)") for n in range(5)]
    with target(server) as there:
        assert states(put(there, where, packed(where, bodies))) == {RESTORED: 5}
    assert sorted(each.data for each in held(server, "Commands")) == bodies


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


def test_preflight_tells_quota_and_limits(server: Server) -> None:
    with target(server) as there:
        found = {each.subject: each for each in there.preflight()}
    assert {each.level for each in found.values()} == {"ok"}
    assert "free" in found["quota"].message


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
def swallowing(port: int, word: bytes) -> Iterator[int]:
    """A way to a server that is cut once, just when the server's answer with this word comes by."""
    listener = socket.create_server(("127.0.0.1", 0))
    done = threading.Event()

    def pump(source: socket.socket, sink: socket.socket, *, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if answers and word in data and not done.is_set():
                    done.set()
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
                for pair, answers in (((client, to), False), ((to, client), True)):
                    threading.Thread(target=pump, args=pair, kwargs={"answers": answers}, daemon=True).start()  # fmt: skip

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
        assert done.is_set()
    finally:
        listener.close()


def test_what_the_server_took_before_the_line_broke_is_not_put_again(server: Server) -> None:
    where = shelf(MAIL, "Cut")
    bodies = [mail(n, "same" if n % 3 else f"{n}") for n in range(60)] + [mail(1, "same")] * 3
    with (
        swallowing(server.imap, b"APPENDUID") as port,
        target(server, security="plain", port=port) as there,
    ):
        results = put(there, where, packed(where, bodies))
        assert states(results) == {RESTORED: 63}
        assert proofs(there, where, results) == {("same", ""): 63}
    assert sorted(each.data for each in held(server, "Cut")) == sorted(bodies)


POOR = "IMAP4rev1"
PLAIN = "IMAP4rev1 UIDPLUS"
PIPELINED = "IMAP4rev1 UIDPLUS LITERAL+ NAMESPACE"


@pytest.mark.parametrize("capability", [POOR, PLAIN, PIPELINED])
def test_a_poor_server_gets_everything_too(capability: str) -> None:
    with dovecot(capability=capability) as server:
        where = shelf(MAIL, "Poor", "und arm")
        bodies = [mail(n, padding=20 * n) for n in range(75)] + [mail(1)]
        with target(server) as there:
            results = put(there, where, packed(where, bodies))
            assert states(results) == {RESTORED: 76}
            assert proofs(there, where, results) == {("same", ""): 76}
            assert states(put(there, where, packed(where, bodies), look=True)) == {PRESENT: 76}
        assert len(held(server, "Poor/und arm")) == 76


def test_folders_lie_below_the_prefix_where_a_server_wants_it() -> None:
    with dovecot(prefix="INBOX.") as server, target(server) as there:
        inbox = shelf(MAIL, "Boîte", special="inbox")
        homes = [inbox, shelf(MAIL, "Boîte", "A.B"), shelf(MAIL, "A.B"), shelf(MAIL, "C", "D"), shelf(MAIL, "Env", special="sentitems")]  # fmt: skip
        wheres = []
        for each in homes:
            [(_, done)] = put(there, each, packed(each, [mail(1)]))
            wheres.append(done.where.rsplit(";", 2)[0])
        assert wheres[0] == "INBOX"
        assert wheres[3:] == ["INBOX.C.D", "INBOX.Sent"]
        assert len(set(wheres)) == len(wheres)
        assert all(each.startswith("INBOX.A") for each in wheres[1:3])


class Labelled(Folders):
    def labels(self, parcel: Parcel) -> tuple[tuple[str, ...], ...]:
        return tuple(("Labels", each) for each in parcel.about.get("categories", ()))


def test_another_layout_copies_to_labels(server: Server) -> None:
    where = shelf(MAIL, "Labelled")
    with target(server, layout=Labelled(), quirks={"internaldate": "ignored"}) as there:
        results = put(there, where, packed(where, [mail(n) for n in range(3)], categories=["Blau"]))
        assert states(results) == {RESTORED: 3}
        assert {state for state, _ in proofs(there, where, results)} == {"same"}
    assert len(held(server, "Labels/Blau")) == 3


def test_what_was_deleted_or_moved_since_is_told(server: Server) -> None:
    where = shelf(MAIL, "Changed")
    with target(server) as there:
        results = put(there, where, packed(where, [mail(n) for n in range(6)]))
        with other_client(server) as client:
            client.select("Changed")
            client.store("1", "+FLAGS", "\\Deleted")
            client.store("2", "+FLAGS", "\\Flagged")
            client.expunge()
        told = proofs(there, where, results)
        assert told[("missing", "")] == 1
        assert told[("same", "set since: \\Flagged")] == 1
        assert told[("same", "")] == 4
        moved = [(each, Put(RESTORED, "Changed;1;7", digest=done.digest)) for each, done in results]
        assert proofs(there, where, moved) == {("same", ""): 5, ("missing", ""): 1}
        gone = [(each, Put(RESTORED, "Nowhere;1;7", digest=done.digest)) for each, done in results]
        assert proofs(there, where, gone) == {("missing", "its folder is gone"): 6}


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


def test_examine_says_what_put_would_do(server: Server) -> None:
    where = shelf(MAIL, "Examined")
    pairs = packed(where, [mail(1), b"Subject: bare\n\nline feeds\n"])
    with target(server) as there:
        told = [there.examine(each, content) for each, content in loaded(pairs)]
        done = [each for _, each in sorted(put(there, where, pairs), key=lambda r: r[0].path)]
    assert [(each.state, each.why, each.digest) for each in told] == [
        (each.state, each.why, each.digest) for each in done
    ]


def test_repaired_letters_are_found_again_when_their_addresses_are_worth_nothing(
    server: Server,
) -> None:
    where = shelf(MAIL, "Moved")
    bodies = [mail(n, "bare\nline feed") for n in range(5)] + [b"Subject: no id\n\nx\n"] * 2
    pairs = packed(where, bodies)
    for each, body in pairs:
        each.about["message_id"] = (
            f"<{body.split(b'Message-ID: <')[-1].split(b'>')[0].decode()}>"
            if b"Message-ID" in body
            else None
        )  # type: ignore[index]
    with target(server) as there:
        results = put(there, where, pairs)
        assert states(results) == {REPAIRED: 7}
        lost = [
            (each, Put(done.state, "Moved;1;1", done.why, done.digest)) for each, done in results
        ]
        more = [(pairs[-1][0], Put(REPAIRED, "Moved;1;1", digest=results[-1][1].digest))]
        assert proofs(there, where, lost + more) == {("same", ""): 7, ("missing", ""): 1}
