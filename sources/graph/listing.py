"""Pages, links and cursors: what all listings of Graph have in common."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from backupd.model import Change, Facts, Gone, Item, Page
from sources.graph.client import Call, Client, Json
from sources.graph.failures import Broken, Class, Refused

LARGEST_PAGE = 1000
"""Changes in a Page at most (see `backupd.model.Page`)."""

RESTARTS = 3
"""How often one listing may be refused in the middle before it is left for the next run."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a listing goes on; opaque to everybody else.

    Attributes:
        link: the next or delta link, verbatim; "" when the next run lists everything again.
        mode: `delta`, or `list` where the provider cannot say what changed.
        size: entries per page that last worked.
        seen: entries already listed, in mode `list`.
        root: the id of a drive's root folder.
        day: when mode `list` was chosen: a day later, delta is tried again.
    """

    link: str
    mode: str = "delta"
    size: int = 0
    seen: int = 0
    root: str = ""
    day: str = ""

    def pack(self) -> str:
        """As text, for the catalog; defaults are left out."""
        said = asdict(self).items()
        return json.dumps({key: value for key, value in said if value != DEFAULTS.get(key)})

    @classmethod
    def unpack(cls, text: str | None) -> Cursor | None:
        """The cursor in `text`; None when there is none, or not one of ours: list everything."""
        try:
            known = cls(**json.loads(text)) if text else None
        except (TypeError, ValueError, RecursionError):
            return None
        return known if known and known.sound else None

    @property
    def sound(self) -> bool:
        """Whether every field is of its kind: what the catalog holds was written by someone."""
        kinds = {"link": str} | {key: type(value) for key, value in DEFAULTS.items()}
        return all(type(value) is kinds[key] for key, value in asdict(self).items())


DEFAULTS = {each.name: each.default for each in fields(Cursor) if each.name != "link"}


def every(client: Client, builder: Any, call: Call, **query: Any) -> Iterator[Json]:
    """Each object of a listing that the SDK builds, page by page."""
    yield from _onwards(client, client.ask(builder, call, **query), call)


def every_at(client: Client, link: str, call: Call) -> Iterator[Json]:
    """Each object of the listing at `link`."""
    yield from _onwards(client, client.follow(link, call), call)


def _onwards(client: Client, page: Json, call: Call) -> Iterator[Json]:
    while True:
        yield from values(page)
        link = next_link(page)
        if not link:
            return
        page = client.follow(link, call)
        if next_link(page) == link:
            raise Broken(call.what, "a page that names itself as the next one")


@dataclass(frozen=True, slots=True)
class Listing:
    """How one collection is listed.

    Attributes:
        begin: the cursor of a full listing.
        read: the changes on a page.
        aged: the refusals that mean "begin again".
        first_units: price of the first page, where it is dearer than the others.
        repeats: the last page has no link: the next run lists everything again.
    """

    call: Call
    begin: Callable[[], Cursor]
    read: Callable[[Json, Cursor], Sequence[Change]]
    aged: frozenset[Class] = frozenset({Class.RESTART})
    first_units: float = 1
    repeats: bool = False


def walk(client: Client, listing: Listing, cursor: str | None) -> Iterator[Page]:
    """The pages since `cursor`; where that is refused, or none, a full listing.

    Raises Refused and Broken.
    """
    known = Cursor.unpack(cursor)
    here, restart = (known, False) if known and known.link else (listing.begin(), True)
    restarts = 0
    while True:
        units = listing.first_units if restart else listing.call.units
        try:
            page = client.follow(here.link, replace(listing.call, units=units))
        except Refused as refused:
            if refused.kind not in listing.aged or (restart and restarts >= RESTARTS):
                raise
            restarts += 1
            here, restart = listing.begin(), True
            continue
        after = onward(here, page, listing.call, repeats=listing.repeats)
        last = not next_link(page)
        changes = listing.read(page, here)
        yield from in_pages(changes, here, after, restart=restart, last=last)
        if last:
            return
        here, restart = after, False


def onward(here: Cursor, page: Json, call: Call, *, repeats: bool = False) -> Cursor:
    """The cursor behind `page`. Raises Broken for a page that leads nowhere or to itself."""
    link = next_link(page) or delta_link(page)
    if (not link and not repeats) or next_link(page) == here.link:
        raise Broken(call.what, "a page without a way on")
    return replace(here, link=link)


def values(page: Json) -> list[Json]:
    """The objects of one page."""
    found = page.get("value")
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def next_link(page: Json) -> str:
    """The link to the next page, or ""."""
    return string(page, "@odata.nextLink")


def delta_link(page: Json) -> str:
    """The link to ask for changes later, or ""."""
    return string(page, "@odata.deltaLink")


def string(source: Json, key: str) -> str:
    """The text under `key` exactly as it is, or ""."""
    value = source.get(key)
    return value if isinstance(value, str) else ""


def facts_of(source: Json) -> Facts:
    """The properties of an entity, without its id and what OData says about it."""
    return {key: value for key, value in source.items() if key != "id" and not key.startswith("@")}


def outlook_changes(page: Json, _: Cursor | None = None) -> Sequence[Change]:
    """What a delta page of Outlook says, in its order: items, and ids that were removed."""
    return [
        Gone(id_) if "@removed" in each else Item(id_, facts_of(each))
        for each in values(page)
        if (id_ := string(each, "id"))
    ]


def in_pages(
    changes: Sequence[Change], before: Cursor, after: Cursor, *, restart: bool, last: bool
) -> Iterator[Page]:
    """One page of ours per page of theirs; an oversized one is cut.

    All but the last slice keep the cursor `before`, so that a crash between them repeats work.
    """
    slices = [changes[i : i + LARGEST_PAGE] for i in range(0, len(changes), LARGEST_PAGE)] or [()]
    for number, some in enumerate(slices):
        final = number == len(slices) - 1
        yield Page(
            changes=tuple(some),
            cursor=(after if final else before).pack(),
            restart=restart and number == 0,
            last=last and final,
        )
