"""Contacts as vCard 3.0, the one version that every address book takes, whatever they came as.

A vCard 3.0 travels on line by line; 4.0 and 2.1 are converted, and what 3.0 has no place for is kept
under an X- name.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import quopri
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from icalendar.parser import Parameters
from vobject.base import VObjectError, getLogicalLines

from backupd.errors import ItemRefused
from targets.dav import meaning
from targets.dav.lines import Block, Line, cleaned, escaped, folded, line, parse, serialize
from targets.dav.meaning import Said
from targets.dav.prepared import Prepared, derived_uid

_HOSTILE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, VObjectError)  # fmt: skip
_PICTURES = frozenset({"PHOTO", "LOGO", "SOUND", "KEY"})
_STRUCTURED = frozenset({"N", "ADR", "ORG", "CATEGORIES", "NICKNAME", "GEO"})
_TEXTS = frozenset({"FN", "NOTE", "TITLE", "ROLE", "LABEL", "AGENT", "SORT-STRING", "MAILER"})
_ADDRESSES = frozenset({"URL", "SOURCE", "IMPP", "FBURL", "CALURI"})
_BARE = re.compile(r"(\\.)|([,;])")
_NO_YEAR = "1604"

_LATER = {"GENDER", "ANNIVERSARY", "LANG", "RELATED", "XML", "CLIENTPIDMAP", "DEATHDATE", "BIRTHPLACE",
          "DEATHPLACE", "EXPERTISE", "HOBBY", "INTEREST", "ORG-DIRECTORY", "CALADRURI"}  # fmt: skip
"""Properties of vCard 4.0 that 3.0 does not know: they get an X- in front."""
_GROUPS = {"KIND": "X-ADDRESSBOOKSERVER-KIND", "MEMBER": "X-ADDRESSBOOKSERVER-MEMBER"}

_DATA = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),(.*)", re.DOTALL | re.IGNORECASE)
_COMPACT = re.compile(r"(\d{4}|--)-?(\d\d)-?(\d\d)(T.*)?")
_UNSAID = frozenset({"BEGIN", "END", "VERSION", "PRODID", "REV", "SORT-STRING", "CLASS"})
_TYPES = frozenset({"INTERNET", "VOICE", "OTHER"})
"""Kinds of addresses and numbers that go without saying."""


def prepare(key: str, data: bytes, uid: str = "") -> Prepared:
    """A contact made ready for any CardDAV server, as vCard 3.0 with a UID.

    Args:
        key: of the parcel; what a missing UID is derived from.
        data: as it was backed up: vCard 2.1, 3.0 or 4.0.
        uid: to be put in place of the contact's own.

    Raises:
        ItemRefused: it is no contact (`broken`), or several in one file (`several`).
    """
    data, notes = cleaned(data)
    card, said = _card(data)
    notes += said
    version = (card.first("VERSION") or line("VERSION", "")).value.strip()
    if version == "4.0":
        _from_four(card)
        notes.append("written anew as vCard 3.0")
    card.drop(lambda each: each.name == "VERSION")
    card.inside.insert(0, line("VERSION", "3.0"))
    _tidy(card)
    notes += _completed(card, key, uid)
    written = serialize([card])
    return Prepared(written, _text(card, "UID"), tuple(notes), meaning_of(written))


def meaning_of(data: bytes) -> str:
    """What a contact says. Raises ItemRefused (reason `broken`)."""
    card, _ = _card(cleaned(data)[0])
    try:
        return meaning.word(_statements(card))
    except _HOSTILE as error:
        raise _broken(error) from error


def _card(data: bytes) -> tuple[Block, list[str]]:
    """The one contact of a file; one of version 2.1 in the words of 3.0."""
    old = _is_old(data)
    cards, unreadable = parse(_from_two(data) if old or b"QUOTED-PRINTABLE" in data else data)
    if not cards or any(each.name != "VCARD" for each in cards):
        raise ItemRefused("The item is no contact.", reason="broken")
    if len(cards) > 1:
        raise _several()
    notes = [f"unreadable lines kept as text: {unreadable}"] if unreadable else []
    cards[0].inside = [_decoded(each) for each in cards[0].lines]
    if old:
        cards[0].inside = [_reescaped(each) for each in cards[0].lines]
        notes.append("written anew as vCard 3.0")
    return cards[0], notes


def _is_old(data: bytes) -> bool:
    return re.search(rb"^VERSION:\s*2\.1\s*$", data, re.MULTILINE | re.IGNORECASE) is not None


# vCard 2.1


def _from_two(data: bytes) -> bytes:
    """Its lines in one each: quoted letters go on behind a `=` at the end of a line."""
    try:
        read = getLogicalLines(io.StringIO(data.decode("utf-8", "replace"), newline=None), True)
        whole = [re.sub(r"=\r?\n", "", text) for text, _ in read]
        return "\r\n".join(whole).encode("utf-8", "replace")
    except _HOSTILE as error:
        raise _broken(error) from error


def _decoded(old: Line) -> Line:
    """A line without the encodings of version 2.1, which later cards are found to have too."""
    if "ENCODING" not in old.head.upper():
        return old
    params = old.params
    encoding = str(params.pop("ENCODING", "")).upper()
    if encoding in {"B", "BASE64"}:
        params["ENCODING"] = "b"
        return line(old.name, "".join(old.value.split()), params, old.group)
    charset = str(params.pop("CHARSET", "utf-8"))
    if encoding != "QUOTED-PRINTABLE":
        return line(old.name, old.value, params, old.group)
    text = _letters(quopri.decodestring(old.value.encode("utf-8", "replace")), charset)
    text = text.replace("\r\n", "\n").replace("\n", r"\n")
    return line(old.name, text, params, old.group)


def _reescaped(old: Line) -> Line:
    """A line of version 2.1, which escapes nothing but semicolons, with the escapes of 3.0."""
    params = old.params
    params.pop("CHARSET", None)
    if old.name in _PICTURES or old.name in _ADDRESSES:
        return line(old.name, old.value, params, old.group)
    return line(old.name, _escaped_again(old.name, old.value), params, old.group)


def _letters(data: bytes, charset: str) -> str:
    """Bytes as text: as they are said to be, else as old programs write them without a word."""
    for each in (charset, "utf-8"):
        try:
            return data.decode(each)
        except (LookupError, ValueError):
            continue
    return data.decode("cp1252", "replace")


def _escaped_again(name: str, value: str) -> str:
    r"""What is structured keeps its semicolons; `\n` stands for a line break by now."""
    parts = re.split(r"(?<!\\);", value) if name in _STRUCTURED else [value]
    plain = (re.sub(r"\\([;,n])", lambda found: _MEANT[found[1]], each) for each in parts)
    return ";".join(escaped(each) for each in plain)


_MEANT = {";": ";", ",": ",", "n": "\n"}


# vCard 4.0


def _from_four(card: Block) -> None:
    names = 0
    inside: list[Line | Block] = []
    for each in card.inside:
        if isinstance(each, Block):
            continue
        names += each.name == "FN"
        one = _renamed(each, "X-FN") if each.name == "FN" and names > 1 else each
        inside.append(_older(one))
    card.inside = inside


def _older(each: Line) -> Line:
    """A line of version 4.0 in the words of 3.0."""
    if each.name in _PICTURES:
        return _picture(each)
    if each.name == "KIND":
        group = each.value.strip().lower() == "group"
        return _renamed(each, _GROUPS["KIND"] if group else "X-BACKUPD-KIND")
    if each.name in {"BDAY", "ANNIVERSARY", "DEATHDATE"}:
        return _day(each)
    if each.name in _LATER or each.name in _GROUPS:
        return _renamed(each, _GROUPS.get(each.name, f"X-{each.name}"))
    return _plain(each)


def _plain(each: Line) -> Line:
    """Telephone numbers without their scheme, a preference as a type."""
    params, value = each.params, each.value
    if each.name == "TEL" and value.lower().startswith("tel:"):
        value = value[len("tel:") :]
        params.pop("VALUE", None)
    if params.pop("PREF", None) == "1":
        params["TYPE"] = [*_listed(params.get("TYPE")), "PREF"]
    if params == each.params and value == each.value:
        return each
    return line(each.name, value, params, each.group)


def _picture(each: Line) -> Line:
    """`data:` addresses become base64 with a type; other addresses say that they are one."""
    found = _DATA.fullmatch(each.value.replace("\\,", ","))
    params = Parameters()
    if found is None:
        if ":" in each.value:
            params["VALUE"] = "uri"
        return line(each.name, each.value, params or each.params, each.group)
    data = "".join(found[3].split())
    if ";base64" not in found[2].lower() and found[1].lower() != "base64":
        data = base64.b64encode(data.encode()).decode()
    params["ENCODING"] = "b"
    kind = found[1].partition("/")[2].upper() or each.params.get("TYPE")
    if kind:
        params["TYPE"] = kind
    return line(each.name, data, params, each.group)


def _day(each: Line) -> Line:
    """A date with dashes, that of no year marked the way Apple marks it."""
    name = each.name if each.name == "BDAY" else f"X-{each.name}"
    found = _COMPACT.fullmatch(each.value.strip())
    if found is None:
        return _renamed(each, f"X-BACKUPD-{each.name}")
    params = Parameters()
    year = found[1]
    if year == "--":
        year = params["X-APPLE-OMIT-YEAR"] = _NO_YEAR
    return line(name, f"{year}-{found[2]}-{found[3]}{_moment(found[4])}", params, each.group)


def _moment(time: str | None) -> str:
    found = re.fullmatch(r"T(\d\d):?(\d\d):?(\d\d)(Z?)", time or "")
    return f"T{found[1]}:{found[2]}:{found[3]}{found[4]}" if found else ""


def _renamed(each: Line, name: str) -> Line:
    return line(name, each.value, each.params, each.group)


# What every contact must have


def _tidy(card: Block) -> None:
    """Escape what texts must not hold bare: some servers drop all that stands behind a comma.

    In addresses, where nothing is escaped, it is written as %2C.
    """
    for each in card.lines:
        value = each.value
        if each.name in _TEXTS:
            mended = _BARE.sub(lambda found: found[1] or f"\\{found[2]}", value)
        elif each.name in _ADDRESSES:
            mended = re.sub(r"\\([:,;])", r"\1", value).replace(",", "%2C")
        else:
            continue
        if mended != value:
            each.raw = folded(f"{each.head}{mended}")


def _completed(card: Block, key: str, uid: str) -> list[str]:
    notes = []
    if uid or not _text(card, "UID"):
        card.drop(lambda each: each.name == "UID")
        card.inside.insert(1, line("UID", escaped(uid or derived_uid(key))))
        notes += [] if uid else ["it had no UID and was given one"]
    for name, value in (("FN", _shown(card)), ("N", ";;;;")):
        if card.first(name) is None or (name == "FN" and not _text(card, "FN")):
            card.drop(lambda each, name=name: each.name == name)  # type: ignore[misc]
            card.inside.insert(1, line(name, value))
            notes.append(f"it had no {name} and was given one")
    return notes


def _shown(card: Block) -> str:
    """The best that a person would recognise the contact by, escaped as it came."""
    parts = [each.strip() for each in _text(card, "N").split(";")]
    named = " ".join(filter(None, reversed(parts[:2])))
    others = (
        _text(card, name).replace(";", " ").strip() for name in ("ORG", "NICKNAME", "EMAIL", "TEL")
    )
    return named or next(filter(None, others), "(no name)")


def _text(card: Block, name: str) -> str:
    found = card.first(name)
    return found.value.strip() if found else ""


# What a contact means


def _statements(card: Block) -> Iterator[Said]:
    labels = {each.group: each.value for each in card.lines if each.name == "X-ABLABEL"}
    for each in card.lines:
        if each.name in _UNSAID or each.name == "X-ABLABEL":
            continue
        read: Callable[[Line], Sequence[str]] = _READERS.get(each.name, _texts)
        where = labels.get(each.group, "") if each.group else ""
        for value in read(each):
            if value.strip(";, "):
                yield Said(each.name, where, value + _kinds(each))


def _texts(each: Line) -> Sequence[str]:
    return [_unescaped(each.value).strip()]


def _address(each: Line) -> Sequence[str]:
    return [_unescaped(each.value).strip().replace("%2C", ",").replace("%2c", ",")]


def _set(each: Line) -> Sequence[str]:
    return [_unescaped(part).strip() for part in re.split(r"(?<!\\),", each.value)]


def _parts(each: Line) -> Sequence[str]:
    """Structured values: empty parts at the end say nothing."""
    parts = [_unescaped(part).strip() for part in re.split(r"(?<!\\);", each.value)]
    return [";".join(parts).rstrip(";")]


def _bytes(each: Line) -> Sequence[str]:
    """Pictures by their bytes."""
    value = each.value.replace("\\,", ",")
    found = _DATA.fullmatch(value)
    try:
        raw = base64.b64decode(found[3] if found else value, validate=False)
    except (binascii.Error, ValueError):
        raw = value.encode("utf-8", "replace")
    inline = found is not None or ":" not in value
    return [hashlib.sha256(raw).hexdigest() if inline else value]


def _date(each: Line) -> Sequence[str]:
    return [each.value.strip().replace("-", "")]


def _kinds(each: Line) -> str:
    if each.name not in {"TEL", "ADR", "EMAIL"}:
        return ""
    named = {kind.strip().upper() for kind in _listed(each.params.get("TYPE"))} - _TYPES
    return f" {','.join(sorted(named))}"


def _listed(value: Any) -> list[str]:
    values = value if isinstance(value, list | tuple) else [value] if value else []
    return [part for each in values for part in str(each).split(",")]


def _unescaped(value: str) -> str:
    r"""A TEXT value as it is read: line breaks, and what stands behind a backslash."""
    return re.sub(r"\\(.)", lambda found: "\n" if found[1] in "nN" else found[1], value)


def _several() -> ItemRefused:
    return ItemRefused(
        "The item holds several contacts.",
        hint="Import it by hand in the web application of the target.",
        reason="several",
    )


def _broken(error: Exception) -> ItemRefused:
    return ItemRefused(
        f"The item is no contact that can be read ({type(error).__name__}).", reason="broken"
    )


_READERS: Mapping[str, Callable[[Line], Sequence[str]]] = {
    "N": _parts, "ADR": _parts, "ORG": _parts, "CATEGORIES": _set, "NICKNAME": _set,
    "URL": _address, "SOURCE": _address, "IMPP": _address, "PHOTO": _bytes, "LOGO": _bytes, "SOUND": _bytes, "KEY": _bytes, "BDAY": _date,
}  # fmt: skip
