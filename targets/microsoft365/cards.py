"""A vCard as a Graph contact. What a contact of Outlook has no place for goes into its notes."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from targets.dav.lines import Block, Line

MAILS, PHONES = 3, 2
"""How many addresses, and business or home numbers, a contact has room for."""
NO_NAME = "(no name)"
"""What the backup writes as the name of a contact that has none."""
_DATE = re.compile(r"(\d{4})-?(\d\d)-?(\d\d)(?:T.*)?")
_PIECE = re.compile(r"\\.|[^\\]|\\$", re.DOTALL)
_DATA = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)
_MAIL = re.compile(r"[^\s@<>]+@[^\s@<>]+")

_SINGLE = {
    "NICKNAME": "nickName", "TITLE": "jobTitle", "ROLE": "profession", "URL": "businessHomePage",
    "X-FILE-AS": "fileAs", "X-BACKUPD-INITIALS": "initials", "X-BACKUPD-OFFICE": "officeLocation",
    "X-PHONETIC-FIRST-NAME": "yomiGivenName", "X-PHONETIC-LAST-NAME": "yomiSurname",
    "X-PHONETIC-ORG": "yomiCompanyName", "X-SPOUSE": "spouseName", "X-MANAGER": "manager",
    "X-ASSISTANT": "assistantName", "X-EVOLUTION-SPOUSE": "spouseName",
    "X-EVOLUTION-MANAGER": "manager", "X-EVOLUTION-ASSISTANT": "assistantName",
}  # fmt: skip
_NAME_PARTS = ("surname", "givenName", "middleName", "title", "generation")
_ADDRESS_PARTS = ("", "", "street", "city", "state", "postalCode", "countryOrRegion")
_RELATED = {"spouse": "spouseName", "manager": "manager", "assistant": "assistantName"}
_CHATS = {"IMPP": "", "X-BACKUPD-IM": "", "X-SKYPE": "skype:", "X-JABBER": "xmpp:", "X-SIP": "sip:",
          "X-AIM": "aim:", "X-MSN": "msnim:", "X-YAHOO": "ymsgr:", "X-ICQ": "icq:"}  # fmt: skip
_SILENT = frozenset({
    "BEGIN", "END", "VERSION", "PRODID", "UID", "REV", "X-ABLABEL", "MAILER", "SORT-STRING", "CLASS",
    "SOURCE", "NAME", "PROFILE",
})  # fmt: skip
_BINARY = frozenset({"LOGO", "SOUND", "KEY"})


@dataclass(slots=True)
class Card:
    """A contact as it is handed to Graph, and what is to be said of it."""

    body: dict[str, Any] = field(default_factory=dict)
    photo: bytes = b""
    lost: set[str] = field(default_factory=set)
    noted: list[str] = field(default_factory=list)
    """Lines for the notes."""

    @property
    def remarks(self) -> Iterator[str]:
        """What is told to people."""
        if self.noted:
            yield f"{len(self.noted)} detail{'s' * (len(self.noted) > 1)} moved into the notes"
        if self.lost:
            yield f"left out: {', '.join(sorted(self.lost))}"

    def single(self, name: str, value: str, label: str) -> None:
        """Set a text; where it is set already, the value becomes a note."""
        if not value:
            return
        if self.body.setdefault(name, value) != value:
            self.noted.append(f"{label}: {value}")

    def listed(self, name: str, value: Any, most: int, label: str) -> None:
        """Add to a list; what is too much becomes a note."""
        held = self.body.setdefault(name, [])
        if value in held:
            return
        if len(held) < most:
            held.append(value)
        else:
            shown = value.get("address", "") if isinstance(value, dict) else value
            self.noted.append(f"{label}: {shown}")


def card(block: Block) -> Card:
    """The contact that a vCard 3.0 describes."""
    made = Card()
    labels = {x.group: _text(x).strip("_$!<>") for x in block.lines if x.name == "X-ABLABEL"}
    for each in block.lines:
        if each.name not in _SILENT:
            _take(made, each, labels.get(each.group, "") if each.group else "")
    _notes(made)
    made.body = {key: value for key, value in made.body.items() if value}
    return made


def _take(made: Card, each: Line, label: str) -> None:
    """Put one line where it belongs."""
    name = each.name
    if name in _SINGLE:
        made.single(_SINGLE[name], _text(each), label or name.title())
    elif name in _CHATS:
        made.listed("imAddresses", f"{_CHATS[name]}{_text(each)}", MAILS, "Chat")
    elif name in _TAKERS:
        _TAKERS[name](made, each, label)
    elif name in _BINARY or name.startswith("X-"):
        made.lost.add(name)
    elif _text(each).strip(";, "):
        made.noted.append(f"{label or name.title()}: {_text(each)}")


def _shown(made: Card, each: Line, label: str) -> None:
    if (text := _text(each)) != NO_NAME:
        made.single("displayName", text, label or "Name")


def _name(made: Card, each: Line, label: str) -> None:
    del label
    for key, value in zip(_NAME_PARTS, _split(each, ";"), strict=False):
        made.single(key, value, "Name")


def _work(made: Card, each: Line, label: str) -> None:
    company, *units = _split(each, ";")
    made.single("companyName", company, label or "Company")
    made.single("department", ", ".join(filter(None, units)), label or "Department")


def _mail(made: Card, each: Line, label: str) -> None:
    address = _text(each)
    if not _MAIL.fullmatch(address):
        if address:
            made.noted.append(f"{label or 'E-mail'}: {address}")
        return
    called = each.params.get("X-CN") or made.body.get("displayName") or address
    shown = called[0] if isinstance(called, list) else str(called)
    same = {str(x["address"]).lower() for x in made.body.get("emailAddresses", ())}
    if address.lower() not in same:
        made.listed("emailAddresses", {"address": address, "name": shown}, MAILS, "E-mail")


def _phone(made: Card, each: Line, label: str) -> None:
    number, kinds = _text(each), _kinds(each)
    if not number:
        return
    said = f"{label or ' '.join(sorted(k.title() for k in kinds - {'VOICE', 'PREF'})) or 'Other'}"
    if kinds & {"FAX", "PAGER", "MODEM", "TELEX", "BBS"}:
        made.noted.append(f"{said}: {number}")
    elif kinds & {"CELL", "IPHONE"}:
        made.single("mobilePhone", number, said)
    elif "HOME" in kinds:
        made.listed("homePhones", number, PHONES, said)
    elif "WORK" in kinds or "mobilePhone" in made.body:
        made.listed("businessPhones", number, PHONES, said)
    else:
        made.single("mobilePhone", number, said)


def _address(made: Card, each: Line, label: str) -> None:
    parts = [value.replace("\n", "\r\n") for value in _split(each, ";")]
    found = {k: v for k, v in zip(_ADDRESS_PARTS, parts, strict=False) if k and v}
    above = "\r\n".join(filter(None, parts[:2]))
    if above:
        found["street"] = "\r\n".join(filter(None, (above, found.get("street"))))
    if not found:
        return
    kinds = _kinds(each)
    named = "businessAddress" if "WORK" in kinds else "homeAddress" if "HOME" in kinds else "otherAddress"  # fmt: skip
    for key in (named, "otherAddress"):
        if made.body.setdefault(key, found) == found:
            return
    made.noted.append(f"{label or 'Address'}: {', '.join(found.values())}")


def _birthday(made: Card, each: Line, label: str) -> None:
    found = _DATE.fullmatch(_text(each))
    if found is None:
        made.noted.append(f"{label or 'Birthday'}: {_text(each)}")
        return
    # At noon, so that no time zone moves it to another day.
    made.single("birthday", f"{found[1]}-{found[2]}-{found[3]}T11:59:00Z", "Birthday")


def _related(made: Card, each: Line, label: str) -> None:
    kind = label.lower()
    if kind in _RELATED:
        made.single(_RELATED[kind], _text(each), label)
    elif kind == "child":
        made.listed("children", _text(each), 99, label)
    else:
        made.noted.append(f"{label or 'Related'}: {_text(each)}")


def _categories(made: Card, each: Line, label: str) -> None:
    del label
    for value in filter(None, _split(each, ",")):
        made.listed("categories", value, 200, "Category")


def _note(made: Card, each: Line, label: str) -> None:
    del label
    held = made.body.get("personalNotes")
    text = _text(each)
    made.body["personalNotes"] = f"{held}\n\n{text}" if held else text


def _photo(made: Card, each: Line, label: str) -> None:
    del label
    value = _DATA.sub("", each.value.replace("\\,", ","))
    try:
        made.photo = made.photo or base64.b64decode("".join(value.split()), validate=True)
    except (binascii.Error, ValueError):
        made.noted.append(f"Picture: {each.value[:500]}")


_TAKERS = {
    "FN": _shown, "N": _name, "ORG": _work, "EMAIL": _mail, "X-BACKUPD-EMAIL": _mail, "TEL": _phone,
    "ADR": _address, "BDAY": _birthday, "X-BACKUPD-BIRTHDAY": _birthday, "X-ABRELATEDNAMES": _related,
    "CATEGORIES": _categories, "NOTE": _note, "PHOTO": _photo,
}  # fmt: skip


def _notes(made: Card) -> None:
    if made.noted:
        told = [each.replace("\r\n", "\n") for each in made.noted]
        held = made.body.get("personalNotes")
        made.body["personalNotes"] = "\n".join([*([held, ""] if held else []), *told])


def _kinds(each: Line) -> set[str]:
    value = each.params.get("TYPE", [])
    values = value if isinstance(value, list | tuple) else [value]
    return {part.strip().upper() for one in values for part in str(one).split(",")} - {""}


def _text(each: Line) -> str:
    return _split(each, "\0")[0]


def _split(each: Line, mark: str) -> list[str]:
    r"""The parts of a value, each as it is read: `\n` a line break, a backslash before anything else gone."""
    parts = [""]
    for piece in _PIECE.findall(each.value):
        if piece == mark:
            parts.append("")
        elif piece[0] == "\\" and len(piece) > 1:
            parts[-1] += "\n" if piece[1] in "nN" else piece[1]
        else:
            parts[-1] += piece
    return [part.strip() for part in parts]
