"""Items on their way into a target, made by hand or from the corpus, for the tests of targets."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from backupd.errors import IntegrityError
from backupd.model import Service
from backupd.ports import Parcel, Reader, Shelf


class Checked:
    """A reader as the verb hands it out: its end raises IntegrityError when the bytes are wrong."""

    def __init__(self, parcel: Parcel, data: bytes) -> None:
        self._parcel, self._inner, self._hash = parcel, io.BytesIO(data), hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._inner.read(size)
        self._hash.update(data)
        ended = not data or size < 0
        if ended and self._hash.hexdigest() != self._parcel.sha256:
            raise IntegrityError(f"{self._parcel.path}: other bytes than were fetched.")
        return data


def shelf(service: Service, *names: str, special: str | None = None) -> Shelf:
    """A collection; its path is made of its names."""
    return Shelf(service, "/".join((service, *names)), names, 0, 0, special)


def parcel(
    where: Shelf,
    leaf: str,
    data: bytes,
    *,
    inner: tuple[str, ...] = (),
    about: Mapping[str, Any] | None = None,
    key: str | None = None,
) -> Parcel:
    """One item of a collection; its key is its path unless told."""
    path = f"{where.path}/{'/'.join(inner) or leaf}"
    return Parcel(
        service=where.service,
        collection=where.names,
        path=path,
        key=key or path,
        inner=inner,
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        about=dict(about or {}),
    )


def loaded(pairs: Iterable[tuple[Parcel, bytes]]) -> Iterator[tuple[Parcel, Reader]]:
    """What a target's `put` is given."""
    for each, data in pairs:
        yield each, Checked(each, data)
