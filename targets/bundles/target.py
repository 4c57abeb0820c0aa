"""Calendars and contacts put into files for an import, the same files in every run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

from backupd.errors import IntegrityError, ItemError, ItemRefused
from backupd.mirror import names
from backupd.model import Service
from backupd.ports import (
    PRESENT,
    REPAIRED,
    RESTORED,
    Claim,
    Finding,
    Pace,
    Parcel,
    Proof,
    Put,
    Reader,
    Shelf,
)
from targets import quiet
from targets.bundles.fit import Fitted, contact, event
from targets.bundles.limits import Limits
from targets.bundles.series import Bundle, Series, durably
from targets.dav import meaning
from targets.endpoint import Endpoint
from targets.serial import spool

LARGEST = 64 << 20
"""An event or contact beyond this is none."""

FULL = "full"
"""The folder beside the files that holds the originals of what was shortened."""

Steps = Callable[[Sequence[Path]], Sequence[str]]
"""Says what a person does with the files."""


class Bundles:
    """Files of one service, in a folder; see `backupd.ports.Target`.

    An item is answered once the file that holds it is on the disk. Nothing that is in a file is ever
    changed; what does not fit any more goes into the next one.

    Args:
        limits: what the provider's import takes.
        steps: how its files are imported.
    """

    pace = Pace(items=200.0, bytes=2_000_000.0)

    def __init__(self, endpoint: Endpoint, service: Service, limits: Limits, steps: Steps) -> None:
        self.name = endpoint.name
        self.services = frozenset({service})
        self._service, self._limits, self._steps = service, limits, steps
        self.folder = endpoint.path or endpoint.state / "import"
        way = quiet.way("file", keep_attendees=endpoint.keep_attendees)
        self._fit = event(limits, way) if service is Service.CALENDAR else contact(limits)
        self._stems: dict[str, str] = {}

    @property
    def _suffix(self) -> str:
        return ".ics" if self._service is Service.CALENDAR else ".vcf"

    def files(self) -> list[Path]:
        """The files that wait to be imported."""
        pattern = re.compile(rf"{self._service}.*-\d{{3,}}{re.escape(self._suffix)}")
        there = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted(each for each in there if pattern.fullmatch(each.name))

    def preflight(self) -> Iterator[Finding]:
        """Where the files will be. Raises UserError when they cannot be written."""
        probe = self.folder / ".backupd"
        durably(probe, b"")
        probe.unlink()
        yield Finding("ok", str(self._service), f"files for the import will be in {self.folder}")

    def steps(self) -> Sequence[str]:
        """How the files that are there are imported."""
        return self._steps(self.files())

    def examine(self, parcel: Parcel, content: Reader) -> Put:
        """What would be shortened or refused."""
        try:
            fitted = self._fit(parcel, self._bytes(parcel, content), False)
        except (ItemError, IntegrityError) as error:
            return Put.failed(error)
        return _put("", fitted)

    def make_collection(self, shelf: Shelf) -> None:
        """Nothing: an empty file cannot be imported."""

    def put(
        self,
        shelf: Shelf,
        items: Iterable[tuple[Parcel, Reader]],
        *,
        look: bool,  # noqa: ARG002 - it always looks: the files are here
    ) -> Iterator[tuple[Parcel, Put]]:
        """Add to the last file of the collection, and to new ones when it is full."""
        series = Series(self.folder, self._stem(shelf), self._suffix)
        bundle, waiting = series.last(), list[tuple[Parcel, Put]]()
        for parcel, content in items:
            try:
                fitted = self._settled(series, bundle, parcel, self._bytes(parcel, content))
            except (ItemError, IntegrityError) as error:
                yield parcel, Put.failed(error)
                continue
            if isinstance(fitted, Put):
                yield parcel, fitted
                continue
            if not bundle.room(fitted, self._limits) and bundle.items:
                yield from self._written(series, bundle, waiting)
                bundle, waiting = series.next(bundle), []
            bundle.add(fitted)
            waiting.append((parcel, _put(f"{bundle.path.name}#{fitted.uid}", fitted)))
        yield from self._written(series, bundle, waiting)

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:
        """By reading the files again and comparing what the items say."""
        series = Series(self.folder, self._stem(shelf), self._suffix)
        for claim in claims:
            name, _, uid = claim.put.where.partition("#")
            path = self.folder / name
            inside = "/" not in name and path in series.files()
            held = series.digest(path, uid) if inside else ""
            if not held:
                yield Proof(claim, "missing")
            elif claim.put.digest and not meaning.same(held, claim.put.digest):
                yield Proof(claim, "changed", meaning.differences(held, claim.put.digest))
            else:
                yield Proof(claim, "same")

    def close(self) -> None:
        """Nothing is open."""

    def _stem(self, shelf: Shelf) -> str:
        """One series for each calendar; all contacts go into one address book anyway."""
        if self._service is Service.CONTACTS:
            return str(self._service)
        leaf = names.component(shelf.names[-1])
        stem = f"{self._service}-{leaf}"
        if self._stems.setdefault(names.fold(stem), shelf.path) != shelf.path:
            stem = f"{stem}~{names.short_key(shelf.path)[:6]}"
        return stem

    def _bytes(self, parcel: Parcel, content: Reader) -> bytes:
        with spool(content) as held:
            return _all_of(held, parcel)

    def _settled(self, series: Series, bundle: Bundle, parcel: Parcel, data: bytes) -> Fitted | Put:
        """The item as it is added, or how it ends because it is there already.

        Another item with its UID makes it go under one of ours, for programs would take the later
        one for a change of the earlier.
        """
        for ours in (False, True):
            fitted = self._fit(parcel, data, ours)
            path = series.uids.get(fitted.uid)
            if path is not None:
                if meaning.same(series.digest(path, fitted.uid), fitted.digest):
                    return Put(PRESENT, f"{path.name}#{fitted.uid}", digest=fitted.digest)
            elif fitted.uid not in bundle.items:
                return self._kept(parcel, data, fitted, ours=ours)
        raise ItemRefused(
            f"{parcel.path}: its UID, and the one it was given, are taken.",
            hint="It stays in the backup.",
            reason="uid",
        )

    def _kept(self, parcel: Parcel, data: bytes, fitted: Fitted, *, ours: bool) -> Fitted:
        """The item, its original kept aside when something of it was cut off."""
        if fitted.aside:
            durably(self.folder / FULL / fitted.aside, data)
        if fitted.size > self._limits.max_bytes:
            raise ItemRefused(
                f"{parcel.path} is larger than the import takes, alone.",
                hint="It stays in the backup.",
                reason="too-large",
            )
        notes = (*fitted.notes, "another item has its UID") if ours else fitted.notes
        return replace(fitted, notes=notes)

    def _written(
        self, series: Series, bundle: Bundle, waiting: Sequence[tuple[Parcel, Put]]
    ) -> Iterator[tuple[Parcel, Put]]:
        """The answers of what is on the disk now."""
        if waiting:
            bundle.write()
            series.uids.update(dict.fromkeys(bundle.items, bundle.path))
            series.forget()
        yield from waiting


def _put(where: str, fitted: Fitted) -> Put:
    state = REPAIRED if fitted.notes else RESTORED
    return Put(state, where, "; ".join(fitted.notes), fitted.digest)


def _all_of(held: IO[bytes], parcel: Parcel) -> bytes:
    data = held.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ItemRefused(f"{parcel.path} is too large to be one item.", reason="too-large")
    return data
