"""What an import takes."""

from __future__ import annotations

from dataclasses import dataclass

from targets.dav.events import KINDS


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one import; None: nobody knows one.

    Attributes:
        max_bytes: of a file. It is also what is held in memory.
        max_items: of a file.
        uid, title, description, location, name: in characters.
        years: the first and the last year in which an event may begin.
        kinds: the components that are taken.
    """

    max_bytes: int = 10_000_000
    max_items: int = 10_000
    uid: int | None = None
    title: int | None = None
    description: int | None = None
    location: int | None = None
    name: int | None = None
    years: tuple[int, int] | None = None
    kinds: frozenset[str] = KINDS
