"""Mails are repaired as little as possible, never silently, and their stored original stays as it is."""

from __future__ import annotations

import base64
import email
import email.policy
import hashlib
import io
import quopri
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from parcels import parcel, shelf

from backupd.errors import ItemRefused
from backupd.model import Service
from backupd.ports import Parcel
from targets.letters import BRIDGE, PLAIN, Letter, Rules, keep, prepare
from targets.letters.addresses import is_list, is_mailbox, is_mailboxes, readable

INBOX = shelf(Service.MAIL, "Inbox")
RECEIVED = {"received": "2024-03-05T06:07:08Z", "sent": "2024-03-05T06:00:00Z"}
GOOD = (
    b"Received: from a by b; Tue, 5 Mar 2024 06:07:08 +0000\r\nFrom: Ann <ann@example.org>\r\n"
    b"To: bob@example.org\r\nMessage-ID: <1@example.org>\r\nDate: Tue, 5 Mar 2024 06:00:00 +0000\r\nSubject: Hello\r\n\r\nText.\r\n"
)


def of(data: bytes, about: Mapping[str, Any] = RECEIVED) -> Parcel:
    return parcel(INBOX, "x.eml", data, about=about)


def mended(
    data: bytes, rules: Rules = BRIDGE, about: Mapping[str, Any] = RECEIVED
) -> tuple[bytes, tuple[str, ...]]:
    with prepare(of(data, about), io.BytesIO(data), rules) as letter:
        return letter.content.read(), letter.repairs


def header(data: bytes, name: str) -> list[str]:
    return [str(each) for each in email.message_from_bytes(data).get_all(name, [])]


@pytest.mark.parametrize("rules", [PLAIN, BRIDGE])
def test_a_mail_without_faults_is_put_as_the_very_bytes_it_is(rules: Rules) -> None:
    held = io.BytesIO(GOOD)
    letter = prepare(of(GOOD), held, rules)
    assert letter.content is held
    assert (letter.content.read(), letter.repairs, letter.size) == (GOOD, (), len(GOOD))


def test_line_ends_become_those_of_mail_and_nothing_else_changes() -> None:
    got, repairs = mended(GOOD.replace(b"\r\n", b"\n"), PLAIN)
    assert (got, repairs) == (GOOD, ("line ends",))
    assert mended(GOOD.replace(b"\r\n", b"\r"), PLAIN)[0] == GOOD
    assert mended(GOOD.replace(b"\r\n", b"\r\r\n"), PLAIN)[0] == GOOD


def test_a_read_receipt_is_disarmed_and_its_value_kept() -> None:
    asked = b"Disposition-Notification-To: <ann@example.org>\r\nReturn-Receipt-To: a@b.c\r\n" + GOOD
    got, repairs = mended(asked, PLAIN)
    assert repairs == ("read receipt disarmed",)
    assert header(got, "Disposition-Notification-To") == header(got, "Return-Receipt-To") == []
    assert header(got, "X-Backupd-Original-Disposition-Notification-To") == ["<ann@example.org>"]


@pytest.mark.parametrize(
    ("about", "date", "clock"),
    [
        (RECEIVED, "Tue, 05 Mar 2024 06:07:08 +0000", "receipt"),
        ({"sent": "2024-03-05T06:00:00Z"}, "Tue, 05 Mar 2024 06:00:00 +0000", "sending"),
        ({"created": "2020-01-01T00:00:00Z"}, "Wed, 01 Jan 2020 00:00:00 +0000", "creation"),
    ],
)
def test_a_missing_date_comes_from_the_best_clock_there_is(
    about: Mapping[str, Any], date: str, clock: str
) -> None:
    got, repairs = mended(re.sub(rb"Date:[^\n]+\n", b"", GOOD), about=about)
    assert header(got, "Date") == [date]
    assert repairs == (f"Date taken from the time of {clock}",)


def test_a_date_that_nobody_can_read_is_replaced_and_kept() -> None:
    got, _ = mended(GOOD.replace(b"Tue, 5 Mar 2024 06:00:00 +0000", b"last week"))
    assert header(got, "Date") == ["Tue, 05 Mar 2024 06:07:08 +0000"]
    assert header(got, "X-Backupd-Original-Date") == ["last week"]


@pytest.mark.parametrize(
    "bad", ["undisclosed", "MAILER-DAEMON <>", "a@b@c", "<a@b.c", 'x "y <a@b.c>', ", ,"]
)
def test_a_sender_that_is_no_address_becomes_the_name_of_nobody(bad: str) -> None:
    got, repairs = mended(GOOD.replace(b"Ann <ann@example.org>", bad.encode()))
    assert repairs == ("From could not be read",)
    assert is_mailboxes(header(got, "From")[0])
    assert header(got, "From")[0].endswith("<unknown@invalid>")
    assert header(got, "X-Backupd-Original-From") == [bad]


def test_several_authors_get_a_sender_and_a_bad_sender_goes() -> None:
    got, _ = mended(GOOD.replace(b"Ann <ann", b"Eve <eve@example.org>, Ann <ann"))
    assert header(got, "Sender") == ["Eve <eve@example.org>"]
    got, repairs = mended(b"Sender: nobody\r\n" + GOOD)
    assert header(got, "Sender") == []
    assert (header(got, "X-Backupd-Original-Sender"), repairs) == (
        ["nobody"],
        ("Sender could not be read",),
    )


def test_recipients_that_can_be_read_stay() -> None:
    bad = b'bob@example.org, broken@, "Eve, E." <eve@example.org>, <x>'
    got, _ = mended(GOOD.replace(b"bob@example.org", bad))
    assert readable(header(got, "To")[0]) == ["bob@example.org", '"Eve, E." <eve@example.org>']
    assert header(got, "X-Backupd-Original-To") == [bad.decode()]


def test_a_received_mail_is_never_shown_as_sent() -> None:
    bare = GOOD.partition(b"\r\n")[2]
    got, repairs = mended(bare)
    assert repairs == ("Received added",)
    assert header(got, "Received") == ["from unknown by backupd; Tue, 05 Mar 2024 06:07:08 +0000"]
    for rules in (
        BRIDGE.at("inbox"),
        BRIDGE.at("sentitems"),
        replace(BRIDGE, own=("ann@example.org",)),
    ):
        assert mended(bare, rules) == (bare, ())


def test_a_draft_needs_neither_sender_nor_date() -> None:
    draft = b"Subject: unfinished\r\n\r\nDear\r\n"
    got, repairs = mended(draft, BRIDGE.at("drafts"), {"draft": True})
    assert (got.endswith(draft), repairs) == (True, ("Message-ID added",))


def test_what_bridge_would_take_for_its_own_is_renamed() -> None:
    got, _ = mended(b"X-Pm-Gluon-Id: 1234\r\n" + GOOD)
    assert header(got, "X-Pm-Gluon-Id") == []


@pytest.mark.parametrize("raw", ["Größe".encode(), "Größe".encode("latin-1")])
def test_eight_bit_headers_are_encoded(raw: bytes) -> None:
    got, repairs = mended(GOOD.replace(b"Hello", raw).replace(b"Ann <", raw + b" <"))
    assert repairs == ("8-bit header encoded",)
    assert got.isascii()
    read = email.message_from_bytes(got, policy=email.policy.default)
    assert read["Subject"] == "Größe"
    assert read["From"] == "Größe <ann@example.org>"


def test_a_mail_without_a_header_gets_one() -> None:
    got, repairs = mended(b"just text\r\nand more\r\n", PLAIN, {"subject": "Notes"})
    assert repairs == ("header added",)
    assert header(got, "Subject") == ["Notes"]
    assert got.endswith(b"\r\n\r\njust text\r\nand more\r\n")


def test_a_forgotten_empty_line_is_put_and_a_stray_line_in_the_header_renamed() -> None:
    got, repairs = mended(b"Subject: x\r\nDear Bob,\r\nhow are you?\r\n\r\nAnn\r\n", PLAIN)
    assert got == b"Subject: x\r\n\r\nDear Bob,\r\nhow are you?\r\n\r\nAnn\r\n"
    assert repairs == ("empty line between header and body added",)
    got, repairs = mended(b"some rubbish\r\n" + GOOD, PLAIN)
    assert got == b"X-Backupd-Original-Stray-Line: some rubbish\r\n" + GOOD


def test_long_lines_of_text_are_encoded_and_lose_nothing() -> None:
    text = b"ab=\xc3\xbc " * 5_000
    got, repairs = mended(GOOD.replace(b"Text.", text))
    assert repairs == ("lines over 9900 bytes broken",)
    assert max(map(len, got.splitlines())) <= 998
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"Content-Transfer-Encoding: quoted-printable" in head
    assert quopri.decodestring(body) == text + b"\r\n"


def _multipart(part: bytes, kind: bytes = b"mixed") -> bytes:
    return GOOD.replace(
        b"\r\n\r\nText.\r\n",
        b"\r\nContent-Type: multipart/" + kind + b'; boundary="=b"\r\n\r\nPreamble\r\n--=b\r\n'
        b"Content-Type: text/plain\r\n\r\nText.\r\n--=b\r\n" + part + b"\r\n--=b--\r\nEpilogue\r\n",
    )


def test_nul_bytes_of_a_part_are_encoded_in_that_part_only() -> None:
    data = bytes(range(256)) * 300
    mail = _multipart(
        b"Content-Type: application/x\r\nContent-Transfer-Encoding: binary\r\n\r\n" + data
    )
    got, repairs = mended(mail, PLAIN)
    assert "NUL bytes encoded" in repairs
    assert b"\0" not in got
    _, binary = email.message_from_bytes(got).get_payload()
    assert binary.get_payload(decode=True) == data  # type: ignore[union-attr]
    assert b"--=b\r\nContent-Type: text/plain\r\n\r\nText.\r\n--=b\r\n" in got
    assert b"X-Backupd-Original-Content-Transfer-Encoding: binary" in got


def test_a_broken_signature_is_told() -> None:
    long = b"Content-Type: text/plain\r\n\r\n" + b"x" * 20_000
    assert mended(_multipart(long, b"signed"))[1][-1] == "the sender's signature no longer matches"
    assert len(mended(_multipart(long))[1]) == 1


def test_base64_on_one_line_is_broken_without_loss() -> None:
    data = bytes(range(256)) * 100
    part = b"Content-Type: image/x\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.b64encode(
        data
    )
    got, _ = mended(_multipart(part))
    image = email.message_from_bytes(got).get_payload()[1]
    assert image.get_payload(decode=True) == data  # type: ignore[union-attr]


def test_text_that_a_strict_program_cannot_decode_is_encoded_anew() -> None:
    part = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    for broken in (
        b"SGVsb G8s\r\nIHdvcmxk",
        b"SGVsbG8sIHdvcmxk=",
        b"SGVsbG8=LCB3\r\nb3JsZA==",
        b"SGVsbG8sIHdvcmxkQ",
    ):
        got, repairs = mended(_multipart(part + broken))
        assert repairs == ("broken encoding of a text mended",)
        text = email.message_from_bytes(got).get_payload()[1]
        assert text.get_payload(decode=True) == b"Hello, world"  # type: ignore[union-attr]
        assert mended(_multipart(part + broken), PLAIN)[1] == ()
    part = part.replace(b"base64", b"quoted-printable")
    got, repairs = mended(_multipart(part + b"a=20=   \r\nb\x0cc =C3=A4\r\n=\r\nd"))
    assert repairs == ("broken encoding of a text mended",)
    text = email.message_from_bytes(got).get_payload()[1]
    assert text.get_payload(decode=True) == b"a b\x0cc \xc3\xa4\r\nd"  # type: ignore[union-attr]


def test_a_multipart_that_does_not_end_gets_its_end() -> None:
    whole = _multipart(b"Content-Type: text/plain\r\n\r\nx")
    cut = whole.partition(b"--=b--")[0]
    got, repairs = mended(cut)
    assert (got, repairs) == (cut + b"--=b--\r\n", ("missing boundary added",))
    assert mended(cut.removesuffix(b"\r\n"))[0] == got
    inner = b"Content-Type: multipart/mixed; boundary=in\r\n\r\n--in\r\n\r\ny"
    got, _ = mended(_multipart(inner))
    assert b"--in\r\n\r\ny\r\n--in--\r\n--=b--\r\nEpilogue" in got
    assert mended(cut, PLAIN) == (cut, ())


@pytest.mark.parametrize("parameter", [b"", b"; boundary=never"])
def test_a_multipart_whose_parts_cannot_be_told_apart_is_shown_as_text(parameter: bytes) -> None:
    kind = b"Content-Type: multipart/mixed" + parameter + b"\r\n"
    got, repairs = mended(kind + GOOD)
    assert len(repairs) == 1
    assert header(got, "Content-Type") == ["text/plain"]
    assert got.endswith(GOOD[-20:])
    got, _ = mended(_multipart(kind + b"\r\nx"))
    part = email.message_from_bytes(got).get_payload()[1]
    assert part.get_content_type() == "text/plain"  # type: ignore[union-attr]
    assert mended(got)[1] == ()


def test_a_multipart_with_a_malformed_type_keeps_its_parts_and_the_parameters_that_are_good() -> (
    None
):
    loose = b'Content-Type: multipart/mixed; charset; boundary="=b"; type=a/b; x=1'
    got, repairs = mended(
        _multipart(b"Content-Type: text/plain\r\n\r\nx").replace(
            b'Content-Type: multipart/mixed; boundary="=b"', loose
        )
    )
    assert len(repairs) == 1
    assert sorted(header(got, "Content-Type")[0].split("; ")) == [
        'boundary="=b"',
        "multipart/mixed",
        'type="a/b"',
        "x=1",
    ]
    assert len(email.message_from_bytes(got).get_payload()) == 2


def test_an_encoding_that_nobody_knows_is_renamed() -> None:
    part = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x"
    got, repairs = mended(_multipart(part))
    assert repairs == ("unknown encoding of a part renamed",)
    assert b"\r\nX-Backupd-Original-Content-Transfer-Encoding: x-uuencode\r\n\r\nbegin 644 x" in got


def test_headers_of_parts_are_tidied_for_strict_parsers() -> None:
    got, repairs = mended(_multipart(b"Content-Type : text/plain\r\nodd line: x\r\nA::b\r\n\r\nx"))
    assert repairs == ("header of a part tidied",)
    assert (
        b"Content-Type: text/plain\r\nX-Backupd-Original-Stray-Line: odd line: x\r\nA: :b\r\n\r\nx"
        in got
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("=?x-unknown?q?Ann?=", "<ann@example.org>"),
        ("=?utf-8?b?QW5?=", "=?utf-8?q?An?= <ann@example.org>"),
        ("=?cp437?q?Ann?=", "=?utf-8?q?Ann?= <ann@example.org>"),
    ],
)
def test_a_name_that_no_parser_decodes_never_takes_the_address_along(
    name: str, expected: str
) -> None:
    got, repairs = mended(GOOD.replace(b"Ann <", name.encode() + b" <"))
    assert header(got, "From") == [expected]
    assert repairs == ("names in From encoded anew",)


def test_a_mail_that_is_too_large_is_kept_whole_aside_and_stands_as_a_stub(tmp_path: Path) -> None:
    part = (
        b'Content-Type: application/pdf; name="report.pdf"\r\n\r\n' + (b"x" * 70 + b"\r\n") * 3_000
    )
    mail = _multipart(part)
    letter = prepare(of(mail), held := io.BytesIO(mail), replace(BRIDGE, max_bytes=100_000))
    with letter:
        stub = email.message_from_bytes(letter.content.read())
    text = stub.get_payload(decode=True).decode()  # type: ignore[union-attr]
    assert stub["Subject"] == "Hello"
    assert "report.pdf (application/pdf, 0.2 MB)" in text
    assert text.rstrip().endswith("Text.")
    assert letter.leftover in letter.repairs[0]
    assert keep(held, tmp_path, letter.leftover).read_bytes() == mail
    assert keep(held, tmp_path, letter.leftover).read_bytes() == mail
    assert [each.name for each in tmp_path.iterdir()] == [letter.leftover]


def test_a_mail_that_is_too_large_is_refused_where_no_stub_is_wanted() -> None:
    with pytest.raises(ItemRefused, match=r"has 0\.1 MB, and the server takes 0\.0 MB"):
        mended(GOOD + b"x\r\n" * 20_000, Rules(max_bytes=1_000))


def test_a_header_without_end_is_refused() -> None:
    with pytest.raises(ItemRefused, match="header is larger than 1 MiB"):
        mended(b"A: b\r\n" * 300_000)


HOSTILE = {
    "semicolons": b"Content-Type: " + b";" * 100_000,
    "comments": b"To: " + b"(" * 100_000,
    "quotes": b"To: " + b'"\x01' * 100_000,
    "commas": b"From: " + b"," * 100_000,
    "addresses": b"To: " + b"a@b.c, " * 15_000 + b"@",
    "phrases": b"Cc: " + b"a " * 40_000 + b"<",
    "groups": b"To: " + b"a:" * 40_000,
    "folded": b"X: y\r\n" + b" \r\n" * 100_000,
    "fields": b"A:b\r\n" * 50_000,
    "returns": b"X: y" + b"\r" * 100_000,
    "8-bit": b"Subject: " + b"\xff" * 60_000,
    "8-bit names": b"To: " + b'\xff "' * 12_000,
    "stray": b"x\r\n" * 100_000 + b"From: y",
    "encoded": b"Date: " + b"1 " * 40_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_header_takes_long(name: str) -> None:
    mail = HOSTILE[name] + b"\r\n" + GOOD
    begun = time.process_time()
    got, _ = mended(mail)
    assert time.process_time() - begun < 3
    assert mended(got)[1] == ()


PIECES = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b"--b\r\n", b"--b--", b"From: a@b.c", b"To: x", b"a" * 1200,
     b"Content-Type: multipart/mixed; boundary=b", b"Content-Type: text/plain", b"\xff\xe9", b" ", b"x:y",
     b"Content-Transfer-Encoding: base64", b"Content-Transfer-Encoding: binary", b"=", b"Date: ", b"Sender:",
     b"Content-Type: message/rfc822", b"QUJD", b"From x", b"Content-Type: application/x", b"Received: z"]
)  # fmt: skip
MAILS = st.one_of(st.lists(PIECES, max_size=40).map(b"".join), st.binary(max_size=300))
SHORT = replace(BRIDGE, max_line=1_000)


@given(MAILS, st.sampled_from([PLAIN, BRIDGE, SHORT, BRIDGE.at("drafts")]))
def test_a_repaired_mail_needs_no_repair(data: bytes, rules: Rules) -> None:
    once, _ = mended(data, rules)
    twice, repairs = mended(once, rules)
    assert (twice, repairs) == (once, ())


@given(MAILS)
def test_what_the_gate_wants_is_there_afterwards(data: bytes) -> None:
    got, _ = mended(data, SHORT)
    head = got.partition(b"\r\n\r\n")[0]
    assert head.isascii()
    assert b"\0" not in got
    assert re.fullmatch(rb"(?:[^\r\n]|\r\n)*", got)
    assert max(map(len, got.split(b"\r\n"))) <= 1_000
    assert re.search(rb"(?im)^Date: *\S", head)
    assert re.search(rb"(?im)^Received:", head) or b"From: a@b.c" in data
    for name, check in (
        ("From", is_mailboxes),
        ("To", is_list),
        ("Cc", is_list),
        ("Sender", is_mailbox),
    ):
        for found in re.findall(rb"(?im)^" + name.encode() + rb":((?:[^\r]|\r\n[ \t])*)", head):
            assert check(found.decode())


@given(st.binary(max_size=400))
def test_the_body_loses_no_byte_but_those_that_are_told(body: bytes) -> None:
    got, repairs = mended(GOOD.replace(b"Text.\r\n", body), replace(PLAIN, nul_allowed=True))
    if "line ends" in repairs:
        body = re.sub(rb"\r{0,2}\n|\r", b"\r\n", body)
    assert got.partition(b"\r\n\r\n")[2] == body
    assert set(repairs) <= {"line ends"}


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\n"), max_size=60))
def test_whatever_a_list_says_what_stays_can_be_read(text: str) -> None:
    for each in readable(text):
        assert is_list(each)


def test_letters_say_what_they_are() -> None:
    with prepare(of(b"x"), io.BytesIO(b"x"), PLAIN) as letter:
        data = letter.content.read()
        assert isinstance(letter, Letter)
    assert (letter.size, letter.sha256) == (len(data), hashlib.sha256(data).hexdigest())
