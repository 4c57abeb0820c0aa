"""Contacts into the folders of a mailbox."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import chain

from backupd.errors import ItemRefused, UserError
from backupd.mirror import names
from backupd.model import Service
from backupd.ports import Parcel, Shelf
from targets import vcards
from targets.dav import meaning
from targets.dav.lines import parse
from targets.microsoft365 import said
from targets.microsoft365.answers import body_of
from targets.microsoft365.cards import card
from targets.microsoft365.graph import Json, segment
from targets.microsoft365.store import Ready, Store, mark_of

DEFAULT = "contacts"
"""What a source calls the folder that every mailbox has."""
LARGEST = 4_000_000
"""Bytes of a picture that Graph takes."""
_MADE = ("displayName", "fileAs")
"""What Outlook makes of the name where it is not told."""
_PHOTO = re.compile(r"\bphoto=")


class Contacts(Store):
    """The contacts of an account; see `backupd.ports.Target`."""

    services = frozenset({Service.CONTACTS})
    permission = "Contacts.ReadWrite"
    items = "contacts"
    listing = "$select=id"

    def prepare(self, parcel: Parcel, data: bytes) -> Ready:
        """A vCard of any version as a contact; groups are no contacts in Graph."""
        prepared = vcards.prepare(parcel.key, data)
        block = parse(prepared.data)[0][0]
        kind = block.first("X-ADDRESSBOOKSERVER-KIND")
        if kind is not None and kind.value.strip().lower() == "group":
            raise ItemRefused("Graph knows no groups of contacts.", reason="group")
        made = card(block)
        if len(made.photo) > LARGEST:
            made.lost.add("PHOTO")
            made.photo = b""
        # What is added only because every vCard must have it is no change here.
        notes = [each for each in prepared.notes if "given one" not in each and "anew" not in each]
        digest = meaning.word(chain(said.contact(made.body), said.picture(made.photo)))
        uid = prepared.uid
        return Ready(
            mark_of(parcel), made.body, uid, digest, (*notes, *made.remarks), more=made.photo or None
        )  # fmt: skip

    def place(self, shelf: Shelf) -> str:
        """The default folder, or one of its name, in the folders that it lay in."""
        if shelf.special == DEFAULT:
            return f"{self._graph.user}/contacts"
        above, folder = f"{self._graph.user}/contactFolders", ""
        for name in shelf.names:
            folder = self._folder(above, name)
            above = f"{self._graph.user}/contactFolders/{segment(folder)}/childFolders"
        return f"{self._graph.user}/contactFolders/{segment(folder)}/contacts"

    def original(self, row: Json) -> str:
        """Its id, which the backup keeps as UID."""
        return str(row.get("id", ""))

    def complete(self, item: str, ready: Ready, *, again: bool) -> Sequence[str]:
        """The picture."""
        del again
        photo = bytes(ready.more)
        kind = "image/png" if photo.startswith(b"\x89PNG") else "image/jpeg"
        answer = self._graph.send("PUT", f"{item}/photo/$value", photo, kind)
        if answer.status_code not in {200, 201, 202, 204}:
            return ("Microsoft 365 does not take its picture",)
        return ()

    def meaning_at(self, item: str, wanted: str) -> str:
        """What a contact says, its picture only where one is wanted."""
        row = self.got(item)
        if row is None:
            return ""
        made = {name for name in _MADE if f" {name}=" not in wanted}
        statements = (each for each in said.contact(row) if each.name not in made)
        photo = b""
        if _PHOTO.search(wanted):
            answer = self._graph.ask("GET", f"{item}/photo/$value")
            photo = answer.content if answer.status_code == 200 else b""  # noqa: PLR2004
        return meaning.word(chain(statements, said.picture(photo)))

    def _probe(self) -> str:
        return f"{self._graph.user}/contactFolders?$top=50"

    def _folder(self, above: str, name: str) -> str:
        wanted = names.fold(name)
        for attempt in range(2):
            for each in self._graph.pages(f"{above}?$top=200"):
                if names.fold(str(each.get("displayName", ""))) == wanted:
                    return str(each.get("id", ""))
            if attempt == 0:
                made = self._graph.ask("POST", above, {"displayName": name})
                if made.status_code == 201:  # noqa: PLR2004
                    return str(body_of(made).get("id", ""))
                if made.status_code != 409:  # noqa: PLR2004
                    break
        raise UserError(
            f"The folder {name!r} cannot be created among the contacts of {self._graph.account}.",
            hint="Create it in Outlook, then run the same restore again.",
            reason="folder",
        )
