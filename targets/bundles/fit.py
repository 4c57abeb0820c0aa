"""Items made to fit an import: quiet, with a UID it takes, and with no text that is too long."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from backupd.errors import ItemRefused
from backupd.mirror import names
from backupd.ports import Parcel
from targets import vcards
from targets.bundles.limits import Limits
from targets.dav import events
from targets.dav.lines import Block, escaped, line, parse, serialize
from targets.dav.prepared import Prepared, derived_uid
from targets.quiet import Way

MARK = "…"

_DATE = re.compile(r"(\d{4})(\d\d\d\d)")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)
_LEAP_CYCLE = 28
"""After so many years months, days and weekdays fall together again."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """An item ready for a bundle.

    Attributes:
        uid: as it is written, escapes included.
        blocks: its components; those of time zones apart.
        notes: what was repaired.
        aside: the name under which the original must be kept, for something was cut off; else "".
    """

    uid: str
    digest: str
    blocks: tuple[Block, ...]
    zones: tuple[Block, ...]
    notes: tuple[str, ...]
    aside: str = ""

    @property
    def size(self) -> int:
        """Bytes, its time zones included."""
        return len(serialize([*self.blocks, *self.zones]))


Fit = Callable[[Parcel, bytes, bool], Fitted]
"""Makes an item fit; True: under a UID of ours, for its own is taken. Raises ItemRefused."""


def event(limits: Limits, way: Way) -> Fit:
    """How calendar items are made to fit."""

    def fit(parcel: Parcel, data: bytes, ours: bool, /) -> Fitted:
        own = derived_uid(f"{parcel.key} {parcel.sha256}") if ours else ""
        prepared = events.prepare(parcel.key, data, way, own)
        if limits.uid and len(prepared.uid) > limits.uid:
            prepared = _renamed(events.prepare(parcel.key, data, way, derived_uid(parcel.key)))
        (calendar,), _ = parse(prepared.data)
        main = [each for each in calendar.blocks if each.name in limits.kinds]
        if not main:
            raise ItemRefused(
                f"{parcel.path}: the import takes events only, and this is none.", reason="kind"
            )
        cut = [note for block in main for note in _cut(block, _event_limits(limits))]
        moved = [note for block in main for note in _in_years(parcel, block, limits)]
        zones = [each for each in calendar.blocks if each.name == "VTIMEZONE"]
        digest = events.meaning_of(calendar_of(main, zones))
        return _fitted(parcel, prepared, (digest, main, zones), cut, moved)

    return fit


def contact(limits: Limits) -> Fit:
    """How contacts are made to fit."""

    def fit(parcel: Parcel, data: bytes, ours: bool, /) -> Fitted:
        own = derived_uid(f"{parcel.key} {parcel.sha256}") if ours else ""
        prepared = vcards.prepare(parcel.key, data, own)
        if limits.uid and len(prepared.uid) > limits.uid:
            prepared = _renamed(vcards.prepare(parcel.key, data, derived_uid(parcel.key)))
        (card,), _ = parse(prepared.data)
        cut = list(_cut(card, {"FN": limits.name}))
        digest = vcards.meaning_of(serialize([card]))
        return _fitted(parcel, prepared, (digest, [card], []), cut, [])

    return fit


def calendar_of(main: list[Block], zones: list[Block]) -> bytes:
    """A whole calendar file."""
    head = [line("VERSION", "2.0"), line("PRODID", "-//backupd//restore//EN")]
    return serialize([Block("VCALENDAR", [*head, *zones, *main])])


def _fitted(
    parcel: Parcel,
    prepared: Prepared,
    made: tuple[str, list[Block], list[Block]],
    cut: list[str],
    moved: list[str],
) -> Fitted:
    suffix = "vcf" if made[1][0].name == "VCARD" else "ics"
    aside = f"{names.short_key(parcel.key)}.{suffix}" if cut else ""
    notes = tuple(dict.fromkeys([*prepared.notes, *cut, *moved]))
    if aside:
        notes += (f"the whole item is in full/{aside}",)
    digest, blocks, zones = made
    uid = blocks[0].first("UID")
    return Fitted(
        uid.value.strip() if uid else "", digest, tuple(blocks), tuple(zones), notes, aside
    )


def _renamed(prepared: Prepared) -> Prepared:
    notes = (*prepared.notes, "its UID was too long and was replaced")
    return Prepared(prepared.data, prepared.uid, notes, prepared.digest)


def _event_limits(limits: Limits) -> dict[str, int | None]:
    return {
        "SUMMARY": limits.title,
        "DESCRIPTION": limits.description,
        "LOCATION": limits.location,
    }


def _cut(block: Block, limits: dict[str, int | None]) -> Iterator[str]:
    """Shorten the texts of a component in place."""
    for each in list(block.lines):
        limit = limits.get(each.name)
        if limit is None or len(each.value) <= limit:
            continue
        text = _unescaped(each.value)
        if len(text) > limit:
            at = block.inside.index(each)
            short = text[: limit - len(MARK)].rstrip() + MARK
            block.inside[at] = line(each.name, escaped(short), each.params, each.group)
            yield f"{each.name} shortened from {len(text)} to {limit} characters"


def _unescaped(value: str) -> str:
    return _ESCAPED.sub(lambda found: "\n" if found[1] in "nN" else found[1], value)


def _in_years(parcel: Parcel, block: Block, limits: Limits) -> Iterator[str]:
    """See to it that an event begins in a year that is taken; yearly ones begin later instead."""
    start = block.first("DTSTART")
    found = _DATE.match(start.value.strip()) if start and limits.years else None
    if not start or not found or not limits.years:
        return
    first, last = limits.years
    year = int(found[1])
    if first <= year <= last:
        return
    later = year + _LEAP_CYCLE * -((year - first) // _LEAP_CYCLE)
    if year > last or not _is_yearly(block):
        raise ItemRefused(
            f"{parcel.path} begins in {year}; the import takes {first} to {last}.",
            hint="It stays in the backup; enter it by hand if you need it.",
            reason="year",
        )
    for each in [x for x in block.lines if x.name in {"DTSTART", "DTEND"}]:
        value = _DATE.sub(
            lambda match: f"{int(match[1]) + later - year:04d}{match[2]}", each.value, 1
        )
        block.inside[block.inside.index(each)] = line(each.name, value, each.params)
    yield f"it begins in {later} instead of {year}: the import takes nothing earlier"


def _is_yearly(block: Block) -> bool:
    """Whether it comes back every year without an end that is counted from its beginning."""
    rule = block.first("RRULE")
    said = rule.value.upper() if rule else ""
    every = re.search(r"(?:^|;)INTERVAL=0*([^1;]|1\d)", said)
    return "FREQ=YEARLY" in said and "COUNT=" not in said and not every
