"""The calendars or address books of an account: listed, found by name, made when there is none."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from backupd.errors import UserError
from backupd.ports import Shelf
from targets.dav.discovery import NAME, TYPE, Place, Wanted
from targets.dav.http import Http, child
from targets.dav.xml import CALDAV, CARDDAV, DAV, Entry, element, written

_COMPONENTS = f"{CALDAV}supported-calendar-component-set"
_DEFAULT = f"{CALDAV}schedule-default-calendar-URL"
_INBOX = f"{CALDAV}schedule-inbox"
_NOT_OURS = ("schedule-inbox", "schedule-outbox", "deleted-calendar", "subscribed", "trash-bin")
_PREFIX = "backupd-"
_LONGEST = 200
_MADE = frozenset({200, 201})
_XML = {"Content-Type": "application/xml; charset=utf-8"}


@dataclass(frozen=True, slots=True)
class Collection:
    """A calendar or address book at the target."""

    url: str
    name: str


class Shelves:
    """Knows which collection of the target takes which shelf; safe in several threads."""

    def __init__(self, http: Http, place: Place, wanted: Wanted) -> None:
        self.place = place
        self._http, self._wanted = http, wanted
        self._lock = threading.Lock()
        self._listed: list[Collection] | None = None
        self._taken: dict[str, Collection] = {}
        self.told: list[str] = []
        """What a person should know: collections that could not be made."""

    def listed(self) -> list[Collection]:
        """Every collection of the account that takes items, in the server's order."""
        if self._listed is None:
            self._listed = list(self._list())
        return self._listed

    def take(self, shelf: Shelf) -> Collection:
        """The collection for a shelf, made if need be. Raises UserError when there is none at all."""
        with self._lock:
            if shelf.path not in self._taken:
                self._taken[shelf.path] = self._chosen(shelf)
            return self._taken[shelf.path]

    def _chosen(self, shelf: Shelf) -> Collection:
        found = self._found(shelf)
        if found is not None:
            return found
        return (None if self.place.only else self._made(shelf)) or self._instead(shelf)

    def _found(self, shelf: Shelf) -> Collection | None:
        """The one that we made for it; or one of its name that no other shelf has; or the default."""
        ours, name = _slug(shelf), shown(shelf).casefold()
        free = {each.url for each in self.listed()} - {each.url for each in self._taken.values()}
        for each in self.listed():
            if _leaf(each.url) == ours:
                return each
        for each in self.listed():
            stranger = not _leaf(each.url).startswith(_PREFIX)
            if stranger and each.url in free and each.name.casefold() == name:
                return each
        default = self._default() if shelf.special == "calendar" else ""
        return next((x for x in self.listed() if x.url == default and x.url in free), None)

    def _made(self, shelf: Shelf) -> Collection | None:
        url = child(self.place.home, _slug(shelf)) + "/"
        name = shown(shelf)
        for method, body in _recipes(self._wanted, name):
            answer = self._http.request(method, url, headers=_XML, content=body)
            if answer.status_code in _MADE or self._is(url):
                made = Collection(url, name)
                self.listed().append(made)
                return made
        return None

    def _is(self, url: str) -> bool:
        entries = self._http.propfind(url, [TYPE], 0)
        return bool(entries) and self._wanted.type in entries[0].names(TYPE)

    def _instead(self, shelf: Shelf) -> Collection:
        """An existing one, because the server makes none."""
        default = self._default()
        chosen = next((each for each in self.listed() if each.url == default), None)
        chosen = chosen or next(iter(self.listed()), None)
        if chosen is None:
            raise UserError(
                f"{self._http.host} lets nobody make {self._wanted.word} and has none.",
                hint="Make one in the web application of the provider, then run the restore again.",
                reason="collection",
            )
        self.told.append(
            f"{self._http.host} lets nobody make {self._wanted.word}: what belongs into "
            f"“{shown(shelf)}” is in “{chosen.name}”."
        )
        return chosen

    def _list(self) -> Iterator[Collection]:
        depth, url = (0, self.place.only) if self.place.only else (1, self.place.home)
        for each in self._http.propfind(url, [TYPE, NAME, _COMPONENTS], depth):
            where = self._http.resolve(url, each.href)
            if where and self._takes_items(each):
                yield Collection(f"{where.rstrip('/')}/", each.props.get(NAME, "").strip())

    def _takes_items(self, each: Entry) -> bool:
        types = each.names(TYPE)
        if self._wanted.type not in types or any(x.endswith(_NOT_OURS) for x in types):
            return False
        components = each.names(_COMPONENTS)
        return not components or "VEVENT" in components

    def _default(self) -> str:
        """The calendar that the server itself calls the default one, else ""."""
        if not self.place.home or self._wanted.type != f"{CALDAV}calendar":
            return ""
        for each in self._http.propfind(self.place.home, [TYPE], 1):
            inbox = self._http.resolve(self.place.home, each.href)
            if inbox and _INBOX in each.names(TYPE):
                return self._default_of(inbox)
        return ""

    def _default_of(self, inbox: str) -> str:
        """What the scheduling inbox names; some servers tell it only when it is asked alone."""
        for each in self._http.propfind(inbox, [_DEFAULT], 0):
            where = self._http.resolve(inbox, each.props.get(_DEFAULT, ""))
            if each.props.get(_DEFAULT) and where:
                return f"{where.rstrip('/')}/"
        return ""


def shown(shelf: Shelf) -> str:
    """The name of a collection as a person reads it: its path of names in one line."""
    name = " / ".join(" ".join(each.split()) for each in shelf.names if each.strip())
    name = "".join(each for each in name if each.isprintable())
    return name[:_LONGEST].strip() or "(no name)"


def _slug(shelf: Shelf) -> str:
    """What we call the collection of a shelf in addresses; the same in every run."""
    named = f"{shelf.service}\n{shelf.path}".encode("utf-8", "replace")
    return f"{_PREFIX}{hashlib.sha256(named).hexdigest()[:20]}"


def _leaf(url: str) -> str:
    return url.rstrip("/").rpartition("/")[2]


def _recipes(wanted: Wanted, name: str) -> Iterator[tuple[str, bytes]]:
    """The requests that make a collection, the likeliest first."""
    named = element(NAME, name)
    if wanted.type == f"{CALDAV}calendar":
        body = element(f"{CALDAV}mkcalendar", element(f"{DAV}set", element(f"{DAV}prop", named)))
        yield "MKCALENDAR", written(body)
    kind = element(TYPE, element(f"{DAV}collection"), element(wanted.type))
    props = element(f"{DAV}prop", kind, element(NAME, name))
    yield "MKCOL", written(element(f"{DAV}mkcol", element(f"{DAV}set", props)))


CALENDARS = Wanted("calendars", "caldav", f"{CALDAV}calendar-home-set", f"{CALDAV}calendar")
BOOKS = Wanted(
    "address books", "carddav", f"{CARDDAV}addressbook-home-set", f"{CARDDAV}addressbook"
)
