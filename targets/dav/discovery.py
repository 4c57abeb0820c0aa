"""Where the calendars or address books of an account are (RFC 6764, RFC 4791, RFC 6352).

From the address in the configuration, or the host's well-known one, over the principal to its
home. SRV records in the DNS are not looked up: `host` or `url` must be told.
"""

from __future__ import annotations

from dataclasses import dataclass

from backupd.errors import UserError
from targets.dav.http import Http
from targets.dav.xml import DAV, Entry

PRINCIPAL = f"{DAV}current-user-principal"
TYPE, NAME = f"{DAV}resourcetype", f"{DAV}displayname"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is looked for.

    Attributes:
        word: for people: `calendars`, `address books`.
        well_known: the name below /.well-known/.
        home: the property of a principal that names where its collections are.
        type: the resource type of a collection.
    """

    word: str
    well_known: str
    home: str
    type: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where collections are.

    Attributes:
        home: the collection that new ones are made in; "" when only one collection was named.
        only: the address of that one.
    """

    home: str
    only: str = ""


def find(http: Http, url: str, wanted: Wanted) -> Place:
    """The place that an address leads to; `url` may be empty. Raises UserError when there is none."""
    starts = [url] if url else [f"/.well-known/{wanted.well_known}", "/"]
    for start in starts:
        found = _from(http, str(http.base.join(start)), wanted, told=bool(url))
        if found:
            return found
    raise UserError(
        f"No {wanted.word} found at {http.host}.",
        hint="Set `url` to the address that the provider names for them; if it needs your user name, write it there.",
        reason="discovery",
    )


def _from(http: Http, url: str, wanted: Wanted, *, told: bool) -> Place | None:
    entry = _look(http, url, wanted)
    if entry is None:
        return None
    if wanted.type in entry.names(TYPE):
        return Place("", url)
    if told and wanted.home not in entry.props and _holds(http, url, wanted):
        return Place(_folder(url))
    return _home(http, url, entry, wanted) or _itself(url, entry, told=told)


def _home(http: Http, url: str, entry: Entry, wanted: Wanted) -> Place | None:
    """The home that the principal names: of the resource itself, or of who is logged in."""
    holder: Entry | None = entry
    where = url
    if not entry.props.get(wanted.home):
        where = http.resolve(url, entry.props.get(PRINCIPAL, "")) or ""
        holder = _look(http, where, wanted) if where and entry.props.get(PRINCIPAL) else None
    named = holder.props.get(wanted.home, "") if holder else ""
    home = http.resolve(where, named) if named else None
    return Place(_folder(home)) if home else None


def _itself(url: str, entry: Entry, *, told: bool) -> Place | None:
    """A folder that was told to be the right one, without any collection in it yet."""
    empty = told and f"{DAV}collection" in entry.names(TYPE) and not entry.props.get(PRINCIPAL)
    return Place(_folder(url)) if empty else None


def _look(http: Http, url: str, wanted: Wanted) -> Entry | None:
    entries = http.propfind(url, [PRINCIPAL, wanted.home, TYPE, NAME], 0)
    return entries[0] if entries else None


def _holds(http: Http, url: str, wanted: Wanted) -> bool:
    entries = http.propfind(url, [TYPE], 1)
    return any(wanted.type in each.names(TYPE) for each in entries)


def _folder(url: str) -> str:
    return f"{url.rstrip('/')}/"
