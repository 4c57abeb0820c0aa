"""What is sent, byte for byte, to servers of several kinds that are scripted."""

from __future__ import annotations

import io
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from imap_script import Script

from backupd.imap.wire import Answer, Dropped, Wire, quoted
from backupd.imap.writer import LARGE, Outcome, Outgoing, Stored, Writer


def letter(data: bytes, *flags: str) -> Outgoing:
    return Outgoing(io.BytesIO(data), len(data), flags, datetime(2023, 1, 2, 3, 4, 5, tzinfo=UTC))


def append(
    said: bytes, letters: Sequence[Outgoing], *, many: bool = False, eager: bool = False
) -> tuple[list[Outcome | None], bytes]:
    script, outcomes = Script(said), list[Outcome | None]([None] * len(letters))
    Writer(Wire(script, "there"), "Box", many=many, eager=eager).append(letters, outcomes)
    return outcomes, script.told


DATE = b'"02-Jan-2023 03:04:05 +0000"'


def test_a_server_without_extensions_is_asked_before_each_message() -> None:
    said = b"+ go\r\nB1 OK [APPENDUID 7 1] done\r\n* 1 EXISTS\r\n+ go\r\nB2 OK done\r\n"
    outcomes, told = append(said, [letter(b"one", "\\Seen"), letter(b"two")])
    assert outcomes == [Stored(7, 1), Stored()]
    assert told == (
        b'B1 APPEND "Box" (\\Seen) ' + DATE + b" {3}\r\none\r\n"
        b'B2 APPEND "Box" ' + DATE + b" {3}\r\ntwo\r\n"
    )


def test_nothing_is_sent_after_a_refusal_of_the_size() -> None:
    said = b"B1 NO [TOOBIG] no\r\n+ go\r\nB2 OK [APPENDUID 7 2] ok\r\n"
    outcomes, told = append(said, [letter(b"one"), letter(b"two")])
    assert outcomes == [Answer("NO", "TOOBIG", "", "no"), Stored(7, 2)]
    assert b"one" not in told


def test_several_messages_share_a_command_and_get_their_uids_in_order() -> None:
    said = b"B1 OK [APPENDUID 7 5:6,9] done\r\n"
    outcomes, told = append(said, [letter(b"a"), letter(b"b"), letter(b"c")], many=True, eager=True)
    assert outcomes == [Stored(7, 5), Stored(7, 6), Stored(7, 9)]
    assert told == b'B1 APPEND "Box"' + b"".join(b" %s {1+}\r\n%s" % (DATE, x) for x in (b"a", b"b", b"c")) + b"\r\n"  # fmt: skip


def test_uids_that_do_not_add_up_are_no_uids() -> None:
    outcomes, _ = append(b"B1 OK [APPENDUID 7 5] ok\r\n", [letter(b"a"), letter(b"b")], many=True, eager=True)  # fmt: skip
    assert outcomes == [Stored(), Stored()]


def test_a_refused_command_is_halved_until_the_bad_message_stands_alone() -> None:
    said = (
        b"B1 NO bad\r\nB2 OK [APPENDUID 7 1:2] ok\r\nB3 NO bad\r\n"
        b"+ go\r\nB4 NO really bad\r\n+ go\r\nB5 OK [APPENDUID 7 3] ok\r\n"
    )
    letters = [letter(each) for each in (b"a", b"b", b"X", b"d")]
    outcomes, _ = append(said, letters, many=True, eager=True)
    assert outcomes == [
        Stored(7, 1),
        Stored(7, 2),
        Answer("NO", "", "", "really bad"),
        Stored(7, 3),
    ]


def test_without_multiappend_commands_go_in_a_row() -> None:
    said = b"B1 OK [APPENDUID 7 1] ok\r\nB2 NO bad\r\nB3 OK [APPENDUID 7 2] ok\r\n"
    outcomes, told = append(said, [letter(b"a"), letter(b"X"), letter(b"c")], eager=True)
    assert outcomes == [Stored(7, 1), Answer("NO", "", "", "bad"), Stored(7, 2)]
    assert told.count(b"APPEND") == 3


def test_a_large_message_is_asked_for_even_where_it_need_not() -> None:
    said = b"B1 OK [APPENDUID 7 1:2] ok\r\nB2 NO [LIMIT] too large\r\nB3 OK [APPENDUID 7 3] ok\r\n"
    letters = [letter(b"a"), letter(b"b"), letter(b"x" * LARGE), letter(b"c")]
    outcomes, told = append(said, letters, many=True, eager=True)
    assert outcomes[2] == Answer("NO", "LIMIT", "", "too large")
    assert len(told) < 1000


def test_what_a_lost_connection_leaves_open_stays_open() -> None:
    outcomes: list[Outcome | None] = [None] * 3
    wire = Wire(Script(b"B1 OK [APPENDUID 7 1] ok\r\nB2 OK [APPE"), "there")
    writer = Writer(wire, "Box", many=False, eager=True)
    with pytest.raises(Dropped):
        writer.append([letter(b"a"), letter(b"b"), letter(b"c")], outcomes)
    assert outcomes == [Stored(7, 1), None, None]


@pytest.mark.parametrize("eager", [True, False])
def test_a_message_that_is_shorter_than_it_says_is_never_filled_with_commands(eager: bool) -> None:
    wrong = Outgoing(io.BytesIO(b"short"), 99)
    with pytest.raises((ValueError, Dropped)):
        append(b"+ go\r\n", [wrong], eager=eager)


@pytest.mark.parametrize(
    ("name", "said"),
    [("Ä", b'"&AMQ-"'), ('a"b\\c', b'"a\\"b\\\\c"'), ("A&B", b'"A&-B"'), ("😀", b'"&2D3eAA-"')],
)
def test_names_are_quoted_in_modified_utf7(name: str, said: bytes) -> None:
    assert quoted(name) == said
