"""Contacts as vCard 3.0 from whatever they were, and what they mean."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

import pytest
import vobject
from hypothesis import given
from hypothesis import strategies as st

from backupd.errors import ItemRefused
from targets import vcards
from targets.dav import meaning


def card(*lines: str, version: str = "3.0") -> bytes:
    whole = [
        "BEGIN:VCARD",
        f"VERSION:{version}",
        "UID:u",
        "FN:Max",
        "N:M;Max;;;",
        *lines,
        "END:VCARD",
    ]
    return "".join(f"{each}\r\n" for each in whole).encode()


def lines(data: bytes) -> list[str]:
    return re.sub(rb"\r\n[ \t]", b"", data).decode().split("\r\n")


def made(*properties: str, version: str = "3.0") -> list[str]:
    return lines(vcards.prepare("key", card(*properties, version=version)).data)


def means(*properties: str) -> str:
    return vcards.meaning_of(card(*properties))


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("PHOTO:data:image/jpeg;base64,/9j/4A==", "PHOTO;ENCODING=b;TYPE=JPEG:/9j/4A=="),
        ("PHOTO:data:image/png;base64\\,aa==", "PHOTO;ENCODING=b;TYPE=PNG:aa=="),
        ("PHOTO:https://x.test/a.png", "PHOTO;VALUE=uri:https://x.test/a.png"),
        ("TEL;VALUE=uri;TYPE=home:tel:+49-1", "TEL;TYPE=home:+49-1"),
        ("EMAIL;PREF=1:a@x.test", "EMAIL;TYPE=PREF:a@x.test"),
        ("KIND:individual", "X-BACKUPD-KIND:individual"),
        ("KIND:group", "X-ADDRESSBOOKSERVER-KIND:group"),
        ("MEMBER:urn:uuid:1", "X-ADDRESSBOOKSERVER-MEMBER:urn:uuid:1"),
        ("BDAY:19850412", "BDAY:1985-04-12"),
        ("BDAY:--0412", "BDAY;X-APPLE-OMIT-YEAR=1604:1604-04-12"),
        ("BDAY:19850412T102030Z", "BDAY:1985-04-12T10:20:30Z"),
        ("BDAY:circa 1800", "X-BACKUPD-BDAY:circa 1800"),
        ("ANNIVERSARY:20090808", "X-ANNIVERSARY:2009-08-08"),
        ("GENDER:F", "X-GENDER:F"),
        ("NOTE:a\\nb\\, c", "NOTE:a\\nb\\, c"),
        ("item1.X-ODD;P=1:as it is", "item1.X-ODD;P=1:as it is"),
    ],
)
def test_version_four_in_the_words_of_three(written: str, wanted: str) -> None:
    found = made(written, version="4.0")
    assert wanted in found
    assert "VERSION:3.0" in found


@pytest.mark.parametrize(
    ("written", "wanted"),
    [
        ("TEL;HOME;VOICE:+1", "TEL;TYPE=HOME,VOICE:+1"),
        ("NOTE;ENCODING=QUOTED-PRINTABLE:a=0D=0Ab, c;=\r\nd", "NOTE:a\\nb\\, c\\;d"),
        ("ORG;CHARSET=ISO-8859-1;QUOTED-PRINTABLE:M=FCller, AG;R", "ORG:Müller\\, AG;R"),
        ("TITLE;QUOTED-PRINTABLE:Reid=92s", "TITLE:Reid\u2019s"),
        ("PHOTO;JPEG;ENCODING=BASE64:/9j/\r\n 4A==\r\n", "PHOTO;TYPE=JPEG;ENCODING=b:/9j/4A=="),
        ("URL:https://x.test/?a=1", "URL:https://x.test/?a=1"),
    ],
)
def test_version_two_in_the_words_of_three(written: str, wanted: str) -> None:
    found = made(written, version="2.1")
    params = {re.sub("^[^;:]*[;:]", "", wanted), wanted}
    assert any(each == wanted or set(each.split(";")) == set(wanted.split(";")) or each in params
               for each in found) or _alike(found, wanted)  # fmt: skip


def _alike(found: list[str], wanted: str) -> bool:
    """The same line with its parameters in another order."""
    head, _, value = wanted.partition(":")
    return any(
        sorted(each.partition(":")[0].split(";")) == sorted(head.split(";"))
        and each.partition(":")[2] == value
        for each in found
    )


def test_a_card_of_version_three_travels_line_by_line() -> None:
    data = card('X-ODD;P="a;b":\\N raw \\\\', "NOTE:" + "ü" * 30 + "\r\n " + "ü" * 30)
    ready = vcards.prepare("key", data)
    assert ready.notes == ()
    assert ready.data == data


def test_what_some_servers_cut_off_is_escaped() -> None:
    found = made("NOTE:a, b; c\\, d", "URL:https://x.test/?a=1,2", "TITLE:x\\;y")
    assert "NOTE:a\\, b\\; c\\, d" in found
    assert "URL:https://x.test/?a=1%2C2" in found
    assert "TITLE:x\\;y" in found


def test_a_card_without_anything_gets_what_it_must_have() -> None:
    ready = vcards.prepare("key", b"BEGIN:VCARD\nVERSION:3.0\nORG:Fabrikam;R\nEND:VCARD")
    found = vobject.readOne(ready.data.decode())
    assert (found.fn.value, found.uid.value) == ("Fabrikam R", ready.uid)
    assert ready.uid == vcards.prepare("key", b"BEGIN:VCARD\nORG:x\nEND:VCARD").uid
    assert len(ready.notes) == 3


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("TEL;TYPE=WORK;TYPE=VOICE:1", "NOTE:a"), ("NOTE:a", "tel;type=voice,work:1")),
        (("ADR:;;1;2;;;",), ("ADR:;;1;2",)),
        (("CATEGORIES:a,b",), ("CATEGORIES:b,a",)),
        (("BDAY:1985-04-12",), ("BDAY:19850412",)),
        (("URL:https://x.test/a%2Cb",), ("URL:https\\://x.test/a\\,b",)),
        (("X-SERVER:1", "REV:20260101T000000Z", "PRODID:x"), ()),
        (("item1.TEL:1", "item1.X-ABLabel:A"), ("item7.TEL:1", "item7.X-ABLabel:A")),
        (("PHOTO;ENCODING=b;TYPE=JPEG:/9j/4A==",), ("PHOTO:data:image/jpeg;base64\\,/9j/4A==",)),
    ],
)
def test_the_same_said_in_other_words(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    assert meaning.same(means(*one), means(*other))


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        (("NOTE:a",), ("NOTE:b",), "NOTE"),
        (("TEL;TYPE=WORK:1",), ("TEL;TYPE=HOME:1",), "TEL"),
        (("TEL:1", "EMAIL:a@x"), ("EMAIL:b@x",), "EMAIL, TEL"),
        (("PHOTO;ENCODING=b:AAAA",), ("PHOTO;ENCODING=b:AAAB",), "PHOTO"),
    ],
)
def test_a_change_is_named(one: tuple[str, ...], other: tuple[str, ...], told: str) -> None:
    assert not meaning.same(means(*one), means(*other))
    assert meaning.differences(means(*one), means(*other)) == told


def test_a_lost_decoration_is_told_and_no_change() -> None:
    one, other = means("X-BACKUPD-OFFICE:3", "CATEGORIES:a"), means()
    assert meaning.same(one, other)
    assert meaning.differences(one, other) == "CATEGORIES, X- properties"


def test_every_real_contact_can_be_read_by_another_program(corpus: Path) -> None:
    readable = 0
    for path in sorted((corpus / "vcf").glob("*.vcf")):
        with suppress(ItemRefused):
            ready = vcards.prepare(path.name, path.read_bytes())
            again = vcards.prepare(path.name, ready.data)
            assert (again.digest, again.data) == (ready.digest, ready.data), path.name
            with suppress(ValueError):  # a picture that is no base64
                assert vobject.readOne(ready.data.decode()).version.value == "3.0"
                readable += 1
    assert readable > 30


NAMES = st.sampled_from(
    ["FN", "N", "TEL", "PHOTO", "BDAY", "UID", "NOTE", "KIND", "X-A", "item1.EMAIL"]
)
PARAMS = st.sampled_from(["", ";TYPE=a", ";BASE64", ";ENCODING=b", ";ENCODING=QUOTED-PRINTABLE", ";CHARSET=x", ";PREF=1"])  # fmt: skip
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=25)


@given(
    st.lists(st.tuples(NAMES, PARAMS, VALUES), max_size=6), st.sampled_from(["2.1", "3.0", "4.0"])
)
def test_no_contact_is_too_odd(written: list[tuple[str, str, str]], version: str) -> None:
    data = card(*(f"{name}{params}:{value}" for name, params, value in written), version=version)
    with suppress(ItemRefused):
        ready = vcards.prepare("key", data)
        again = vcards.prepare("key", ready.data)
        assert meaning.same(again.digest, ready.digest)
        assert again.uid == ready.uid


@given(st.binary(max_size=200))
def test_no_bytes_are_too_odd(data: bytes) -> None:
    for whole in (data, b"BEGIN:VCARD\r\n" + data + b"\r\nEND:VCARD\r\n"):
        with suppress(ItemRefused):
            vcards.prepare("key", whole)
