"""Mail restored into Dovecot and Cyrus, read back by a client that is not ours."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from imap_desk import (
    MAIL,
    RECEIVED,
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
from parcels import loaded, parcel, shelf
from servers.cyrus import Cyrus, cyrus
from servers.dovecot import Dovecot, dovecot

from backupd.ports import PRESENT, QUARANTINED, REPAIRED, RESTORED, Parcel, Put
from targets.imap import Folders, naming


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


def test_commands_inside_a_message_stay_text(server: Server) -> None:
    where = shelf(MAIL, "Commands")
    bodies = [mail(n, "B3 LOGOUT\r\nB4 DELETE INBOX\r\n{5}\r\n+ OK\r\n)") for n in range(5)]
    with target(server) as there:
        assert states(put(there, where, packed(where, bodies))) == {RESTORED: 5}
    assert sorted(each.data for each in held(server, "Commands")) == bodies


def test_preflight_tells_quota_and_limits(server: Server) -> None:
    with target(server) as there:
        found = {each.subject: each for each in there.preflight()}
    assert {each.level for each in found.values()} == {"ok"}
    assert "free" in found["quota"].message


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
