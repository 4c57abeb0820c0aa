"""The streaming reader on a byte-exact script: nothing is lost, nothing invented, nothing hangs."""

from __future__ import annotations

import random
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from imap_script import Script

from backupd.errors import TransientError
from backupd.imap.reader import Digest, fetch_bodies, fetch_headers, moment, uid_set, uids_of
from backupd.imap.wire import Answer, Dropped, Wire, words


class Bytes(bytearray):
    def write(self, data: bytes, /) -> object:
        self.extend(data)
        return None


def fetched(said: bytes, uids: Sequence[int]) -> dict[int, bytes]:
    wire = Wire(Script(said), "there")
    return {each.uid: bytes(each.sink) for each in fetch_bodies(wire, uids, Bytes)}


def literal(data: bytes) -> bytes:
    return b"{%d}\r\n%s" % (len(data), data)


BODIES = st.lists(
    st.one_of(
        st.binary(max_size=200),
        st.sampled_from(
            [b"", b"B1 OK\r\n", b"* BYE\r\n", b")\r\n", b"{5}\r\n", b'"', b"\r\n* 1 FETCH (UID 1 BODY[] {1}\r\nx)\r\n"]
        ),
    ),
    min_size=1, max_size=6,
)  # fmt: skip
USUAL = (
    b"UID 7", b"FLAGS (\\Seen Red \\Recent)", b'INTERNALDATE " 2-Jan-2023 03:04:05 +0130"',
    b"RFC822.SIZE 5", b"BODY[] {5}\r\nhello",
)  # fmt: skip


@pytest.mark.parametrize("more", [b"", b" MODSEQ (12)", b" X {3}\r\na)b"])
@pytest.mark.parametrize("turn", range(5))
def test_the_usual_answer_says_what_any_other_order_says(turn: int, more: bytes) -> None:
    answers = []
    for pairs in (USUAL, (*USUAL[turn:], *USUAL[:turn])):
        said = b"* 1 FETCH (%s%s)\r\nB1 OK\r\n" % (b" ".join(pairs), more)
        [message] = fetch_bodies(Wire(Script(said), "there"), [7], Bytes)
        answers.append((message.uid, message.flags, message.date, message.size, message.sink))
    assert answers[0] == answers[1]
    assert answers[0][1] == {"\\Seen", "Red", "\\Recent"}


@pytest.mark.parametrize("after", [b"", b"nonsense\r\n", b")) \r\n", b"* 2 FETCH (UID 8)\r\n"])
def test_a_usual_answer_that_does_not_end_as_one_is_not_believed(after: bytes) -> None:
    said = b"* 1 FETCH (%s" % b" ".join(USUAL) + after
    with pytest.raises(TransientError):
        list(fetch_bodies(Wire(Script(said), "there"), [7], Bytes))


NOISE = (
    b"* 23 EXISTS\r\n", b"* 5 EXPUNGE\r\n", b"* 0 RECENT\r\n", b"* OK [HIGHESTMODSEQ 7] and {12}\r\n",
    b"* 3 FETCH (FLAGS (\\Seen $Forwarded))\r\n", b"* 3 FETCH (UID 1 FLAGS (\\Seen) MODSEQ (12))\r\n",
    b"* OK Still here\r\n", b"* FLAGS (\\Answered foo[bar)\r\n", b"+ idling\r\n", b"* LIST () \"/\" {3}\r\na)b\r\n",
    b"* 9 FETCH (UID 99 BODY[] {4}\r\nUID9)\r\n", b"* NO [ALERT] disk (almost full\r\n", b"* ESEARCH (TAG \"B1\") UID\r\n",
)  # fmt: skip


@given(BODIES, st.randoms(use_true_random=False))
def test_every_message_is_read_whatever_comes_between(
    bodies: list[bytes], chance: random.Random
) -> None:
    said = b""
    for uid, body in enumerate(bodies, 1):
        said += b"".join(chance.choices(NOISE, k=chance.randrange(3)))
        pairs = [b"UID %d" % uid, b"FLAGS (\\Seen Red)", b"RFC822.SIZE %d" % len(body), b'INTERNALDATE " 2-Jan-2023 03:04:05 +0130"']  # fmt: skip
        shown = literal(body)
        if body.isalnum() and chance.random() < 0.5:
            shown = b'"%s"' % body
        pairs.append(b"BODY[] " + shown)
        chance.shuffle(pairs)
        said += b"* %d FETCH (%s)\r\n" % (uid, b" ".join(pairs))
    said += chance.choice([b"", *NOISE]) + b"B1 OK [whatever] done\r\n"
    wire = Wire(Script(said), "there")
    found = list(fetch_bodies(wire, range(1, len(bodies) + 1), Bytes))
    assert [bytes(each.sink) for each in sorted(found, key=lambda f: f.uid)] == bodies
    assert {each.date for each in found} == {datetime(2023, 1, 2, 1, 34, 5, tzinfo=UTC)}
    assert all(each.flags == {"\\Seen", "Red"} for each in found)
    assert [each.size for each in sorted(found, key=lambda f: f.uid)] == [len(b) for b in bodies]


WHOLE = (
    b"* 1 EXISTS\r\n* 1 FETCH (UID 1 FLAGS (\\Seen) BODY[] " + literal(b"first\r\nmessage")
    + b" RFC822.SIZE 14)\r\n* 2 FETCH (BODY[] " + literal(b"second") + b" UID 2)\r\nB1 OK done\r\n"
)  # fmt: skip


@given(st.integers(0, len(WHOLE) - 1))
def test_a_connection_that_is_cut_anywhere_is_no_end_of_a_message(cut: int) -> None:
    seen: list[bytes] = []
    wire = Wire(Script(WHOLE[:cut]), "there")
    with pytest.raises(TransientError):
        seen.extend(bytes(each.sink) for each in fetch_bodies(wire, [1, 2], Bytes))
    assert seen == [b"first\r\nmessage", b"second"][: len(seen)]


PIECES = st.sampled_from(
    [
        b"* ", b"1 FETCH ", b"(", b")", b"UID 1 ", b"BODY[] ", b"{3}\r\n", b"{99999999999999999999}\r\n", b"{0}\r\n", b"~{2}\r\n",
        b"\r\n", b"\n", b'"', b"\\", b"B1 ", b"OK", b"NO ", b"BAD x\r\n", b"* BYE\r\n", b"NIL", b"[", b"]", b"FLAGS (", b"\x00", b"\xff", b"* OK [",
        b"RFC822.SIZE -1 ", b'INTERNALDATE "99-Foo-2023 25:00:00 +9999" ', b"+ \r\n", b"((((((((((", b"BODY[HEADER.FIELDS (X)] ",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(PIECES, st.binary(max_size=8)), max_size=40))
def test_whatever_a_server_says_ends_in_an_answer_or_a_transient_error(pieces: list[bytes]) -> None:
    for finish in (b"", b"\r\nB1 OK\r\n"):
        said = b"".join(pieces) + finish
        with suppress(TransientError):
            list(fetch_bodies(Wire(Script(said), "there"), [1], Digest))
        with suppress(TransientError):
            list(fetch_headers(Wire(Script(said), "there"), 1, "Message-ID"))


def test_a_size_beyond_all_measure_is_a_short_message_not_a_full_memory() -> None:
    with pytest.raises(Dropped):
        fetched(b"* 1 FETCH (UID 1 BODY[] {999999999999999}\r\nshort", [1])
    with pytest.raises(Dropped):  # a name of a gigabyte
        fetched(b'* LIST () "/" {999999999}\r\nx', [1])


def test_a_message_that_nobody_asked_for_is_no_answer() -> None:
    assert fetched(b"* 1 FETCH (UID 7 BODY[] {1}\r\nx)\r\nB1 OK\r\n", [1]) == {}


def test_a_message_is_answered_once() -> None:
    twice = b"* 1 FETCH (UID 1 BODY[] {1}\r\nx)\r\n" * 2
    wire = Wire(Script(twice + b"B1 OK\r\n"), "there")
    assert len(list(fetch_bodies(wire, [1], Bytes))) == 1


def test_one_broken_message_does_not_hide_the_others() -> None:
    said = (
        b"* 1 FETCH (UID 1 BODY[] {1}\r\na)\r\nB1 NO [SERVERBUG] cannot read\r\n"
        b"B2 NO cannot read\r\n"
        b"* 3 FETCH (UID 3 BODY[] {1}\r\nc)\r\nB3 OK\r\n"
    )
    assert fetched(said, [1, 2, 3]) == {1: b"a", 3: b"c"}


def test_the_end_of_a_connection_is_told_in_the_words_of_the_server() -> None:
    with pytest.raises(Dropped, match="shutting down"):
        fetched(b"* BYE server \x07 shutting down\r\n", [1])


def test_headers_before_the_first_uid_are_left_out() -> None:
    said = b"* 4 FETCH (UID 4 RFC822.SIZE 9 BODY[HEADER.FIELDS (MESSAGE-ID)] {4}\r\n\r\n\r\n)\r\nB1 OK\r\n"
    assert list(fetch_headers(Wire(Script(said), "there"), 5, "Message-ID")) == []
    [found] = fetch_headers(Wire(Script(said), "there"), 4, "Message-ID")
    assert (found.uid, found.size, found.field) == (4, 9, b"\r\n\r\n")


def test_an_answer_keeps_code_and_words_apart() -> None:
    wire = Wire(Script(b"B1 NO [OVERQUOTA] no \x1b[31mroom\r\n"), "there")
    answer, _ = wire.command(b"NOOP")
    assert answer == Answer("NO", "OVERQUOTA", "", "no ?[31mroom")


def test_words_are_short_and_printable() -> None:
    assert words(b"a\r\nb\x00" + b"x" * 1000, 10) == "a b?xxxxx…"


@given(st.sets(st.integers(1, 400), min_size=1))
def test_sets_of_uids_say_the_same_both_ways(uids: set[int]) -> None:
    assert uids_of(uid_set(uids).decode()) == tuple(sorted(uids))


@pytest.mark.parametrize(
    "text", ["", "x", "1:", "1:99999999", "1,,2", "9" * 50, "1:2:3", "-1", "*"]
)
def test_what_is_no_set_has_no_uids(text: str) -> None:
    assert uids_of(text) == ()


def test_what_is_no_date_is_none() -> None:
    for text in (b"", b"1-Jan-2023", b"1-Xyz-2023 00:00:00 +0000", b"99-Jan-2023 00:00:00 +0000", b"1-Jan-0001 00:00:00 +2359"):  # fmt: skip
        assert moment(text) is None
