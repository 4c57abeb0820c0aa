"""A Graph contact as vCard 3.0, the version that every address book reads.

The same contact gives the same bytes. What vCard 3.0 has no property for is written the way
Apple's and most other address books write it, else under an X-BACKUPD- name.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from itertools import count
from typing import Any

import vobject
from vobject.base import VObjectError
from vobject.vcard import Address, Name

from backupd.errors import ItemUnreadable
from sources.graph.fields import Json, day, line, mapping, mappings, stamp, text, texts
from sources.graph.people import is_smtp

_HOSTILE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
    VObjectError,
)
"""What the libraries raise on input that nobody foresaw."""
_NO_YEAR = 1604
"""The year that Exchange puts where a birthday has none: a leap year before any living person."""

_PHOTO_TYPES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"GIF8": "GIF",
    b"BM": "BMP",
}
_SINGLE = {
    "nickName": "NICKNAME",
    "jobTitle": "TITLE",
    "profession": "ROLE",
    "businessHomePage": "URL",
    "fileAs": "X-FILE-AS",
    "initials": "X-BACKUPD-INITIALS",
    "officeLocation": "X-BACKUPD-OFFICE",
    "yomiGivenName": "X-PHONETIC-FIRST-NAME",
    "yomiSurname": "X-PHONETIC-LAST-NAME",
    "yomiCompanyName": "X-PHONETIC-ORG",
}
_ADDRESSES = {"businessAddress": ["WORK"], "homeAddress": ["HOME"], "otherAddress": []}
_ADDRESS_PARTS = ("street", "city", "state", "postalCode", "countryOrRegion")
_MAIN_ADDRESSES = ("primaryEmailAddress", "secondaryEmailAddress", "tertiaryEmailAddress")
_RELATED = {"spouseName": "Spouse", "manager": "Manager", "assistantName": "Assistant"}
_URIS = frozenset({"URL", "IMPP"})  # no TEXT: nothing in them is escaped
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{1,20}:\S+", re.IGNORECASE)
_PARAMETER = str.maketrans({'"': "'", "^": " "})


def contact_to_vcard(
    contact: Mapping[str, Any], photo: bytes | None = None, photo_type: str | None = None
) -> bytes:
    """One vCard 3.0 with everything the contact says.

    Args:
        contact: a Graph contact with all its properties.
        photo: its picture, if it has one.
        photo_type: the picture's media type, `image/jpeg` say; guessed from the bytes when None.

    Raises:
        ItemUnreadable: nothing true can be made of it (reason `conversion`).
    """
    try:
        written: str = _card(contact, photo, photo_type).serialize()
        return written.encode()
    except _HOSTILE as error:
        raise ItemUnreadable(
            f"The contact cannot be written as vCard ({type(error).__name__}).", reason="conversion"
        ) from error


def _card(contact: Json, photo: bytes | None, photo_type: str | None) -> Any:
    card = vobject.vCard()
    _identity(card, contact)
    _work(card, contact)
    for key, name in _SINGLE.items():
        _put(card, name, line(contact, key))
    _emails(card, contact)
    _phones(card, contact)
    for key, kinds in _ADDRESSES.items():
        _address(card, mapping(contact, key), kinds)
    _birthday(card, contact)
    _relations(card, contact)
    if categories := texts(contact, "categories"):
        card.add("categories").value = categories
    _put(card, "NOTE", text(contact, "personalNotes"))
    _photo(card, photo, photo_type)
    return card


def _put(
    card: Any, name: str, value: str, kinds: list[str] | None = None, group: str | None = None
) -> Any:
    """Add a text property unless `value` is empty; answers the new property or None."""
    if not value:
        return None
    added = card.add(name.lower(), group)
    added.value = value
    added.encoded = name in _URIS
    if kinds:
        added.params["TYPE"] = kinds
    return added


def _identity(card: Any, contact: Json) -> None:
    card.add("uid").value = _uid(contact)
    names = {
        "family": line(contact, "surname"),
        "given": line(contact, "givenName"),
        "additional": line(contact, "middleName"),
        "prefix": line(contact, "title"),
        "suffix": line(contact, "generation"),
    }
    card.add("n").value = Name(**names)
    card.add("fn").value = _shown(contact, names)
    changed = stamp(contact, "lastModifiedDateTime")
    if changed is not None:
        card.add("rev").value = changed.isoformat().replace("+00:00", "Z")


def _uid(contact: Json) -> str:
    given = line(contact, "id")
    if given:
        return given
    said = json.dumps(contact, sort_keys=True, default=str)
    return f"{hashlib.sha256(said.encode()).hexdigest()}@backupd.invalid"


def _shown(contact: Json, names: Mapping[str, str]) -> str:
    """FN, which must not be empty: the best that a person would recognise the contact by."""
    addresses = [line(each, "address") for each in mappings(contact, "emailAddresses")]
    tries = (
        line(contact, "displayName"),
        " ".join(filter(None, (names["given"], names["family"]))),
        line(contact, "fileAs"),
        line(contact, "nickName"),
        line(contact, "companyName"),
        *addresses,
    )
    return next(filter(None, tries), "(no name)")


def _work(card: Any, contact: Json) -> None:
    company, department = line(contact, "companyName"), line(contact, "department")
    if company or department:
        card.add("org").value = [company, department] if department else [company]


def _emails(card: Any, contact: Json) -> None:
    written = mappings(contact, "emailAddresses")
    for each in written or [mapping(contact, key) for key in _MAIN_ADDRESSES]:
        name, address = line(each, "name"), line(each, "address")
        smtp = is_smtp(address)
        email = _put(
            card, "EMAIL" if smtp else "X-BACKUPD-EMAIL", address, ["INTERNET"] if smtp else None
        )
        if email is not None and name and name != address:
            email.params["X-CN"] = [name.translate(_PARAMETER)]
        if email is None:
            _put(card, "X-BACKUPD-EMAIL-NAME", name)


def _phones(card: Any, contact: Json) -> None:
    for number in texts(contact, "businessPhones"):
        _put(card, "TEL", number, ["WORK", "VOICE"])
    for number in texts(contact, "homePhones"):
        _put(card, "TEL", number, ["HOME", "VOICE"])
    _put(card, "TEL", line(contact, "mobilePhone"), ["CELL", "VOICE"])
    for handle in texts(contact, "imAddresses"):
        _put(card, "IMPP" if _SCHEME.fullmatch(handle) else "X-BACKUPD-IM", handle)


def _address(card: Any, address: Json, kinds: list[str]) -> None:
    street, city, state, code, country = (text(address, part) for part in _ADDRESS_PARTS)
    if not any((street, city, state, code, country)):
        return
    added = card.add("adr")
    added.value = Address(street=street, city=city, region=state, code=code, country=country)
    if kinds:
        added.params["TYPE"] = kinds


def _birthday(card: Any, contact: Json) -> None:
    """The date as it is written: the time of day beside it means nothing."""
    written = line(contact, "birthday")
    born = day(written)
    if born is None:
        _put(card, "X-BACKUPD-BIRTHDAY", written)
        return
    birthday = _put(card, "BDAY", born.isoformat())
    if born.year == _NO_YEAR:
        birthday.params["X-APPLE-OMIT-YEAR"] = [str(_NO_YEAR)]


def _relations(card: Any, contact: Json) -> None:
    related = [(label, line(contact, key)) for key, label in _RELATED.items()]
    related += [("Child", name) for name in texts(contact, "children")]
    numbers = count(1)
    for label, name in related:
        if name:
            group = f"item{next(numbers)}"
            _put(card, "X-ABRELATEDNAMES", name, group=group)
            _put(card, "X-ABLABEL", f"_$!<{label}>!$_", group=group)


def _photo(card: Any, photo: bytes | None, photo_type: str | None) -> None:
    if not photo:
        return
    added = card.add("photo")
    added.value = photo
    added.encoding_param = "b"
    known = next((kind for magic, kind in _PHOTO_TYPES.items() if photo.startswith(magic)), "")
    named = re.sub(
        r"[^A-Z0-9.+-]", "", (photo_type or "").upper().partition("/")[2].partition(";")[0]
    )
    if named or known:
        added.type_param = named or known
