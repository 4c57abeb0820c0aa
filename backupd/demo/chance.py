"""Deterministic chance: the same seed words give the same sequence on every machine."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")


class Chance:
    """A sequence of choices that depends on its seed words alone."""

    def __init__(self, *seed: object) -> None:
        self._seed = "\x1f".join(str(word) for word in seed)
        self._drawn = 0

    def octets(self, size: int) -> bytes:
        """The next `size` pseudo-random bytes."""
        self._drawn += 1
        return hashlib.shake_128(f"{self._seed}\x1e{self._drawn}".encode()).digest(size)

    def below(self, limit: int) -> int:
        """A whole number from 0 to `limit` - 1."""
        return int.from_bytes(self.octets(8), "big") % limit

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`."""
        return options[self.below(len(options))]

    def happens(self, rate: float) -> bool:
        """True in `rate` of all cases, 0 to 1."""
        return self.below(1_000_000) < rate * 1_000_000

    def guid(self) -> str:
        """A version 4 UUID in lower case."""
        return str(uuid.UUID(bytes=self.octets(16), version=4))
