"""Contacts into a CardDAV server, one resource each, as vCard 3.0."""

from __future__ import annotations

from types import MappingProxyType

from backupd.model import Service
from targets import vcards
from targets.dav.prepared import Prepared
from targets.dav.shelves import BOOKS
from targets.dav.store import Store
from targets.dav.xml import CARDDAV, DAV, asked, element, written


class CardDav(Store):
    """Puts contacts; see `backupd.ports.Target`."""

    services = frozenset({Service.CONTACTS})
    wanted = BOOKS
    suffix = ".vcf"
    media = "text/vcard"
    data = f"{CARDDAV}address-data"
    headers = MappingProxyType({})

    def prepare(self, key: str, data: bytes, uid: str = "") -> Prepared:
        """As vCard 3.0, with a UID."""
        return vcards.prepare(key, data, uid)

    def meaning_of(self, data: bytes) -> str:
        """What a contact says."""
        return vcards.meaning_of(data)

    def multiget(self) -> str:
        """`addressbook-multiget`."""
        return f"{CARDDAV}addressbook-multiget"

    def query(self, uid: str) -> bytes:
        """An addressbook-query for a UID; some servers answer it with everything they have."""
        match = element(f"{CARDDAV}text-match", uid)
        match.set("collation", "i;octet")
        match.set("match-type", "equals")
        by_uid = element(f"{CARDDAV}prop-filter", match)
        by_uid.set("name", "UID")
        filtered = element(f"{CARDDAV}filter", by_uid)
        return written(element(f"{CARDDAV}addressbook-query", asked([f"{DAV}getetag"]), filtered))
