"""Several targets as one, each with its services: what a provider is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain

from backupd.model import Service
from backupd.ports import Claim, Finding, Pace, Parcel, Proof, Put, Reader, Shelf, Target


class Composite:
    """Hands every service to the part that takes it; see `backupd.ports.Target`."""

    def __init__(
        self, name: str, parts: Mapping[Service, Target], notes: Sequence[Finding] = ()
    ) -> None:
        """`notes` are what is known of the provider and told first at the preflight."""
        self.name = name
        self._parts = parts
        self._notes = notes
        self.services = frozenset(parts)
        paces = [part.pace for part in parts.values()]
        self.pace = Pace(min(pace.items for pace in paces), min(pace.bytes for pace in paces))

    @property
    def _each(self) -> list[Target]:
        """Every part once; one may take several services."""
        return list({id(part): part for part in self._parts.values()}.values())

    def preflight(self) -> Iterator[Finding]:
        """Of every part."""
        told: set[Finding] = set()
        for finding in chain(self._notes, *(part.preflight() for part in self._each)):
            if finding not in told:  # one server behind several parts says the same of itself
                told.add(finding)
                yield finding

    def steps(self) -> Sequence[str]:
        """Of every part, in their order."""
        return [step for part in self._each for step in part.steps()]

    def examine(self, parcel: Parcel, content: Reader) -> Put:
        """What the part in charge would make of an item."""
        return self._parts[parcel.service].examine(parcel, content)

    def make_collection(self, shelf: Shelf) -> None:
        """At the part in charge."""
        self._parts[shelf.service].make_collection(shelf)

    def put(
        self, shelf: Shelf, items: Iterable[tuple[Parcel, Reader]], *, look: bool
    ) -> Iterator[tuple[Parcel, Put]]:
        """At the part in charge."""
        return self._parts[shelf.service].put(shelf, items, look=look)

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:
        """From the part in charge."""
        return self._parts[shelf.service].read_back(shelf, claims)

    def close(self) -> None:
        """All of them."""
        for part in self._each:
            part.close()
