"""What a verb may ask of contents, wherever they lie, and a reader that knows the right bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from backupd.errors import IntegrityError
from backupd.ports import Parcel, Reader, Shelf
from backupd.restore.contents import Selection


class Held(Protocol):
    """What can be restored: see `contents.MirrorContents` and `unpacking.VaultContents`."""

    @property
    def address(self) -> str:
        """The account's address."""
        ...

    def shelves(self, selection: Selection) -> list[Shelf]:
        """The collections that are meant, the most urgent first."""
        ...

    def shelf_of(self, path: str) -> Shelf | None:
        """The collection an item lies in."""
        ...

    def parcels(self, shelf: Shelf, selection: Selection) -> Iterator[Parcel]:
        """The items of a collection that are meant, without their bytes."""
        ...

    def walk(self, selection: Selection) -> Iterator[tuple[Parcel, Reader]]:
        """Every item that is meant, with its bytes."""
        ...

    def open(self, parcel: Parcel) -> AbstractContextManager[Reader]:
        """The bytes of one item."""
        ...


class Checked:
    """A reader whose end raises IntegrityError when the bytes are not those that were fetched."""

    def __init__(self, parcel: Parcel, inner: Reader) -> None:
        self._parcel = parcel
        self._inner = inner
        self._hash = hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        data = self._inner.read(size)
        self._hash.update(data)
        if (not data or size < 0) and self._hash.hexdigest() != self._parcel.sha256:
            raise IntegrityError(
                f"{self._parcel.path}: the bytes in storage are not those that were fetched."
            )
        return data
