"""What WebDAV servers answer, read without trusting it: no entities, no network, bounded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from lxml import etree  # type: ignore[import-untyped]

from backupd.errors import UserError

DAV = "{DAV:}"
CALDAV = "{urn:ietf:params:xml:ns:caldav}"
CARDDAV = "{urn:ietf:params:xml:ns:carddav}"
_PREFIXES = {
    "D": "DAV:",
    "C": "urn:ietf:params:xml:ns:caldav",
    "A": "urn:ietf:params:xml:ns:carddav",
}
_OK = 200
_LONGEST = 150
_CONTROLS = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 127, 65534, 65535))
"""What no XML document may hold, in whatever spelling."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One resource as a multistatus tells it.

    Attributes:
        href: as the server wrote it, to be resolved by `Http.resolve` before any use.
        status: of the resource itself: 404 for one that a multiget did not find, else 200.
        props: the properties that were found, by Clark name (`{DAV:}getetag`): their text; for
            properties made of elements the first href in them, else the names of their children.
    """

    href: str
    status: int
    props: Mapping[str, str]

    def names(self, prop: str) -> frozenset[str]:
        """The children of a property such as `{DAV:}resourcetype`, by Clark name."""
        return frozenset(self.props.get(prop, "").split())


def element(name: str, *inner: etree._Element | str) -> etree._Element:
    """An element by Clark name around others, or around text made safe for XML."""
    made = etree.Element(name, nsmap=_PREFIXES)
    for each in inner:
        if isinstance(each, str):
            made.text = each.translate(_CONTROLS).encode("utf-8", "replace").decode()
        else:
            made.append(each)
    return made


def written(root: etree._Element) -> bytes:
    """A document as bytes to be sent."""
    data: bytes = etree.tostring(root, xml_declaration=True, encoding="utf-8")
    return data


def asked(names: Iterable[str]) -> etree._Element:
    """A `prop` element that asks for properties."""
    return element(f"{DAV}prop", *(element(name) for name in names))


def parsed(data: bytes) -> etree._Element:
    """A document from outside. Raises UserError (reason `no-dav`) when it is none."""
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False
    )
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _no_dav() from error
    if root.getroottree().docinfo.doctype:
        raise _no_dav()
    return root


def multistatus(data: bytes) -> list[Entry]:
    """Every resource of a 207 answer. Raises UserError (reason `no-dav`) when it is none."""
    root = parsed(data)
    if root.tag != f"{DAV}multistatus":
        raise _no_dav()
    return [_entry(each) for each in root.iterfind(f"{DAV}response")]


def condition(data: bytes) -> str:
    """The precondition that an error answer names (`no-uid-conflict`), else ""."""
    found = _condition(data)
    return "" if found is None else str(etree.QName(found).localname)


def conflict(data: bytes) -> str:
    """The href of the resource that an error answer says is in the way, else ""."""
    found = _condition(data)
    return "" if found is None else (found.findtext(f".//{DAV}href") or "").strip()


def explanation(data: bytes) -> str:
    """What an error answer says to people, shortened; "" for nothing."""
    found = _condition(data)
    if found is None:
        return ""
    message = found.getparent().findtext("{http://sabredav.org/ns}message") or found.text or ""
    return "".join(each for each in " ".join(message.split()) if each.isprintable())[:_LONGEST]


def _condition(data: bytes) -> etree._Element | None:
    try:
        root = parsed(data)
    except UserError:
        return None
    if root.tag != f"{DAV}error":
        return None
    children = [each for each in root if isinstance(each.tag, str)]
    known = (x for x in children if etree.QName(x).namespace in _PREFIXES.values())
    return next(known, next(iter(children), None))


def _no_dav() -> UserError:
    return UserError(
        "The server's answer is not what a WebDAV server says.",
        hint="Check the address in the configuration: it may lead to a web page or a login form.",
        reason="no-dav",
    )


def _entry(response: etree._Element) -> Entry:
    props: dict[str, str] = {}
    for block in response.iterfind(f"{DAV}propstat"):
        if _status(block) != _OK:
            continue
        for holder in block.iterfind(f"{DAV}prop"):
            props |= {str(each.tag): _value(each) for each in holder if isinstance(each.tag, str)}
    return Entry((response.findtext(f"{DAV}href") or "").strip(), _status(response), props)


def _status(block: etree._Element) -> int:
    """The number in `HTTP/1.1 200 OK`; what is silent is well."""
    words = (block.findtext(f"{DAV}status") or "").split()
    return int(words[1]) if len(words) > 1 and words[1].isdecimal() else _OK


def _value(prop: etree._Element) -> str:
    children = list(_children(prop))
    if not children:
        return prop.text or ""
    href = prop.find(f".//{DAV}href")
    if href is not None:
        return (href.text or "").strip()
    return " ".join(str(each.get("name") or each.tag) for each in children)


def _children(prop: etree._Element) -> Iterator[etree._Element]:
    return (each for each in prop if isinstance(each.tag, str))
