"""Contacts as vCard: what an address book reads back is what Graph said."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vobject
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.errors import ItemUnreadable
from sources.graph.vcard import contact_to_vcard

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20


def contact(**fields: Any) -> dict[str, Any]:
    return {
        "id": "AAMkAG=",
        "displayName": "Pavel Bansky",
        "givenName": "Pavel",
        "surname": "Bansky",
    } | fields


def read(source: dict[str, Any], photo: bytes | None = None, photo_type: str | None = None) -> Any:
    return vobject.readOne(contact_to_vcard(source, photo, photo_type).decode())


def lines(source: dict[str, Any]) -> list[str]:
    return contact_to_vcard(source).decode().replace("\r\n ", "").split("\r\n")


def test_names_come_with_all_their_parts() -> None:
    card = read(contact(title="Dr.", middleName="J;R", generation="Jr.", nickName="Pav"))
    name = card.n.value
    assert (name.prefix, name.given, name.additional, name.family, name.suffix) == (
        "Dr.",
        "Pavel",
        "J;R",
        "Bansky",
        "Jr.",
    )
    assert (card.fn.value, card.nickname.value, card.version.value) == (
        "Pavel Bansky",
        "Pav",
        "3.0",
    )


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"givenName": "Ann", "surname": "Lee"}, "Ann Lee"),
        ({"fileAs": "Lee, Ann"}, "Lee, Ann"),
        ({"companyName": "Contoso"}, "Contoso"),
        ({"emailAddresses": [{"address": "ann@example.org"}]}, "ann@example.org"),
        ({"displayName": "\x00\x1f \u2028"}, "(no name)"),
        ({}, "(no name)"),
    ],
)
def test_a_contact_without_a_name_is_shown_by_what_it_has(
    fields: dict[str, Any], shown: str
) -> None:
    assert read(fields).fn.value == shown


def test_addresses_of_every_kind() -> None:
    card = read(
        contact(
            emailAddresses=[
                {"name": 'Pavel "P" B', "address": "pavel@example.org"},
                {"name": "x@example.org", "address": "x@example.org"},
                {"name": "Old", "address": "/o=ExchangeLabs/cn=old"},
                {"name": None, "address": None},
            ],
            businessPhones=["+1 732 555 0102"],
            homePhones=["+1 732 555 0103", ""],
            mobilePhone="+1 732 555 0104",
            imAddresses=["sip:pavel@example.org", "pavel on the old one"],
            businessHomePage="https://example.org/a;b,c",
        )
    )
    assert [each.value for each in card.email_list] == ["pavel@example.org", "x@example.org"]
    assert card.email_list[0].params == {"TYPE": ["INTERNET"], "X-CN": ["Pavel 'P' B"]}
    assert card.contents["x-backupd-email"][0].value == "/o=ExchangeLabs/cn=old"
    assert [(each.value, each.params["TYPE"]) for each in card.tel_list] == [
        ("+1 732 555 0102", ["WORK", "VOICE"]),
        ("+1 732 555 0103", ["HOME", "VOICE"]),
        ("+1 732 555 0104", ["CELL", "VOICE"]),
    ]
    assert card.impp.value == "sip:pavel@example.org"
    assert card.contents["x-backupd-im"][0].value == "pavel on the old one"
    assert "URL:https://example.org/a;b,c" in lines(
        contact(businessHomePage="https://example.org/a;b,c")
    )


def test_places_of_every_kind() -> None:
    place = {
        "street": "1 Main; St\nFloor 2",
        "city": "Redmond",
        "state": "WA",
        "postalCode": "98052",
        "countryOrRegion": "USA",
    }
    card = read(contact(businessAddress=place, homeAddress={"city": "Home"}, otherAddress={}))
    work, home = card.adr_list
    assert (work.params["TYPE"], home.params["TYPE"]) == (["WORK"], ["HOME"])
    assert work.value.street.replace("\n", "|") == "1 Main; St|Floor 2"
    assert (work.value.city, work.value.region, work.value.code, work.value.country) == (
        "Redmond",
        "WA",
        "98052",
        "USA",
    )
    assert home.value.city == "Home"


def test_work_notes_and_relations() -> None:
    card = read(
        contact(
            companyName="Contoso, Ltd",
            department="R&D",
            jobTitle="Head",
            profession="Chemist",
            personalNotes="C:\\New\r\nsecond; line",
            categories=["red", "a,b"],
            spouseName="Sam",
            children=["Kim", "Jo"],
            manager="Max",
            yomiGivenName="パベル",
        )
    )
    assert (card.org.value, card.title.value, card.role.value) == (
        ["Contoso, Ltd", "R&D"],
        "Head",
        "Chemist",
    )
    assert card.note.value == "C:\\New\nsecond; line"
    assert card.categories.value == ["red", "a,b"]
    assert card.contents["x-phonetic-first-name"][0].value == "パベル"
    labels = {each.group: each.value for each in card.contents["x-ablabel"]}
    related = {each.value: labels[each.group] for each in card.contents["x-abrelatednames"]}
    assert related == {
        "Sam": "_$!<Spouse>!$_",
        "Max": "_$!<Manager>!$_",
        "Kim": "_$!<Child>!$_",
        "Jo": "_$!<Child>!$_",
    }


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("1974-07-22T00:00:00Z", "BDAY:1974-07-22"),
        ("1974-07-22T23:59:00Z", "BDAY:1974-07-22"),
        ("1604-02-29T11:59:00Z", "BDAY;X-APPLE-OMIT-YEAR=1604:1604-02-29"),
        ("0001-01-01T00:00:00Z", "BDAY:0001-01-01"),
        ("in May", "X-BACKUPD-BIRTHDAY:in May"),
    ],
)
def test_a_birthday_is_a_date_even_without_its_year(written: str, line: str) -> None:
    assert line in lines(contact(birthday=written))


@pytest.mark.parametrize(
    ("named", "kind"),
    [
        ("image/jpeg", "JPEG"),
        (None, "JPEG"),
        ("image/png; q=1", "PNG"),
        ("nonsense", "JPEG"),
        ('image/a":;\r\nX', "A"),
    ],
)
def test_a_photo_is_kept_byte_for_byte(named: str | None, kind: str) -> None:
    card = read(contact(), JPEG, named)
    assert card.photo.value == JPEG
    assert card.photo.params["TYPE"][0] == kind


def test_the_same_contact_gives_the_same_bytes() -> None:
    source = contact(
        lastModifiedDateTime="2026-02-01T10:11:12.1234567Z", categories=["b", "a"], homePhones=["1"]
    )
    assert contact_to_vcard(source, JPEG) == contact_to_vcard(dict(reversed(source.items())), JPEG)
    assert "REV:2026-02-01T10:11:12Z" in lines(source)
    assert contact_to_vcard({}) == contact_to_vcard({})


def test_texts_cannot_add_lines_or_properties() -> None:
    evil = 'x\r\nNOTE:evil\nEND:VCARD\u2028\x85\x0b;TYPE="A":^n\ud800'
    fields = [
        "id",
        "displayName",
        "surname",
        "jobTitle",
        "companyName",
        "fileAs",
        "spouseName",
        "mobilePhone",
        "businessHomePage",
        "birthday",
    ]
    source = dict.fromkeys(fields, evil) | {
        "imAddresses": [evil, f"sip:{evil}"],
        "categories": [evil],
        "homeAddress": {"street": evil},
        "emailAddresses": [
            {"name": evil, "address": evil},
            {"name": evil, "address": "a@example.org"},
        ],
    }
    card = read(source)
    assert "note" not in card.contents
    assert [each.value for each in card.email_list] == ["a@example.org"]


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["\x00\x1b", "\ud800", "1604-01-01", '"', "a@b"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["name", "address", "street", "city"]), inner, max_size=3)
    ),
    max_leaves=6,
)
FIELD_NAMES = """
    id displayName givenName surname middleName title generation nickName companyName department jobTitle
    profession emailAddresses businessPhones homePhones mobilePhone imAddresses businessAddress homeAddress
    otherAddress birthday personalNotes categories businessHomePage spouseName children manager
    assistantName yomiGivenName fileAs lastModifiedDateTime primaryEmailAddress
"""


@given(
    st.dictionaries(st.sampled_from(FIELD_NAMES.split()), JSON, max_size=8),
    st.none() | st.binary(max_size=9),
    st.none() | st.text(max_size=9),
)
@settings(max_examples=300)
def test_whatever_a_field_holds_the_contact_is_written_or_unreadable(
    fields: dict[str, Any], photo: bytes | None, photo_type: str | None
) -> None:
    try:
        written = contact_to_vcard(fields, photo, photo_type)
    except ItemUnreadable:
        return
    card = vobject.readOne(written.decode())
    assert card.fn.value
    assert card.uid.value


@given(st.text(max_size=60))
def test_any_note_comes_back_but_for_its_controls(note: str) -> None:
    card = read(contact(personalNotes=f"<{note}>"))
    kept = "".join(each for each in note if unicodedata.category(each) != "Cc" or each in "\t\r\n")
    assert "".join(card.note.value.split()) == "".join(f"<{kept}>".split())


# --- the corpus ----------------------------------------------------------------------------------


def graph_people(found: Any) -> Iterator[dict[str, Any]]:
    """Every object in a Graph answer that is a contact, or a user, who has the same fields."""
    if isinstance(found, dict):
        if {"givenName", "surname", "emailAddresses", "fileAs"} & found.keys():
            yield found
        for value in found.values():
            yield from graph_people(value)
    elif isinstance(found, list):
        for value in found:
            yield from graph_people(value)


def test_every_person_that_graph_ever_showed_us_is_written(corpus: Path) -> None:
    people = []
    for each in sorted((corpus / "graph-json").glob("*.json")):
        try:
            people += graph_people(json.loads(each.read_text("utf-8", "replace"), strict=False))
        except ValueError:
            continue  # shortened by the documentation it comes from
    assert people
    for person in people:
        assert read(person).fn.value


def as_graph(card: Any) -> dict[str, Any]:
    """The simple fields of a real vCard, as Graph would hold them."""

    def values(name: str) -> list[str]:
        return [each.value for each in card.contents.get(name, []) if isinstance(each.value, str)]

    return {
        "id": "x",
        "displayName": next(iter(values("fn")), None),
        "surname": getattr(
            getattr(card.contents.get("n", [None])[0], "value", None), "family", None
        ),
        "personalNotes": "\n".join(values("note")),
        "homePhones": values("tel"),
        "jobTitle": next(iter(values("title")), None),
        "emailAddresses": [{"address": each} for each in values("email")],
    }


def test_real_address_books_go_through_unharmed(corpus: Path) -> None:
    seen = 0
    for path in sorted((corpus / "vcf").glob("*.vcf")):
        try:
            cards = list(
                vobject.readComponents(path.read_text("utf-8", "replace"), ignoreUnreadable=True)
            )
        except Exception:  # noqa: BLE001, S112 - what vobject cannot read is none of our cards
            continue
        for source in map(as_graph, cards):
            written, seen = read(source), seen + 1
            if isinstance(source["displayName"], str) and source["displayName"].isprintable():
                assert written.fn.value.split() == (source["displayName"] or "(no name)").split()
            phones = [" ".join(each.split()) for each in source["homePhones"] if each.strip()]
            assert [each.value for each in written.contents.get("tel", [])] == phones
    assert seen >= 30
