"""Files in Nextcloud: WebDAV with dates, hashes, and large files in pieces that survive a break."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, cast

import httpx

from backupd.errors import BackupdError, ConfigError, ItemRefused, TransientError
from backupd.mirror import names
from backupd.ports import Pace, Parcel
from targets import paths
from targets.dav.http import child
from targets.dav.webdav import DONE, LENGTH, NOT_FOUND, WebDav, facts_of
from targets.endpoint import Endpoint

MEGABYTE = 1 << 20
CHUNK, CHUNK_MIN, CHUNK_MAX = 10 * MEGABYTE, 5 * MEGABYTE, 5 << 30
COUNT_MAX = 10_000
FORGOTTEN = 2
"""Times that a server may forget the pieces of one file (it does after a day) before it is refused."""


class Nextcloud(WebDav):
    """Puts files into one user's Nextcloud; see `backupd.ports.Target`.

    Quirks: `chunked_url` (else it is derived from `…/dav/files/USER/`), `chunk_min`, `chunk_max`,
    `chunk_count_max` as the server documents them, `chunk_size` to prefer another one.
    """

    pace = Pace(items=4.0, bytes=4e6)
    rules = paths.Rules(refused=re.compile(r"(?i)\.ht(access|passwd|group)s?|.*\.(part|filepart)"))
    """It keeps the last two for itself."""

    atomic = True

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._uploads = str(endpoint.quirks.get("chunked_url") or _derived(self._root))
        self._smallest = _number(endpoint.quirks, "chunk_min", CHUNK_MIN)
        self._largest = _number(endpoint.quirks, "chunk_max", CHUNK_MAX)
        self._most = _number(endpoint.quirks, "chunk_count_max", COUNT_MAX)
        self._preferred = _number(endpoint.quirks, "chunk_size", CHUNK)

    def _upload(self, place: paths.Place, parcel: Parcel, held: IO[bytes]) -> bool:
        size = self._piece(parcel)
        if not self._uploads or parcel.size <= size:
            return super()._upload(place, parcel, held)
        return self._in_pieces(place, parcel, held, size)

    def _piece(self, parcel: Parcel) -> int:
        """How large the pieces of a file are: as preferred, unless these would be too many."""
        wanted = max(self._preferred, self._smallest, -(-parcel.size // self._most))
        if wanted > self._largest:
            raise ItemRefused(f"{parcel.path} is larger than Nextcloud takes.", reason="too-large")
        return wanted

    def _in_pieces(self, place: paths.Place, parcel: Parcel, held: IO[bytes], size: int) -> bool:
        """Send a file piece by piece; False when something is in the way.

        What an earlier run has sent stays valid: the name of the upload is made of the content and
        of where it goes.
        """
        mark = names.short_key(f"{place.path} {parcel.sha256} {size}")
        upload = child(self._uploads, f"backupd-{mark}")
        told = {"Destination": self._url(place.path), "OC-Total-Length": str(parcel.size)}
        try:
            for _ in range(FORGOTTEN):
                if self._send_pieces(upload, told, held, size):
                    facts = {**facts_of(parcel, held), **told, "Overwrite": "F"}
                    answer = self._ask("MOVE", child(upload, ".file"), facts)
                    if answer.status_code in DONE:
                        return True
                    if answer.status_code == NOT_FOUND and self._held(place) is None:
                        continue
                    self._abort(upload)
                    return answer.status_code != NOT_FOUND and self._taken(answer, parcel)
        except TransientError:
            raise  # the next run goes on where this one stopped
        except BackupdError:
            self._abort(upload)
            raise
        raise ItemRefused(f"{parcel.path}: Nextcloud forgot its pieces.", reason="pieces")

    def _send_pieces(
        self, upload: str, told: Mapping[str, str], held: IO[bytes], size: int
    ) -> bool:
        """Send the pieces that are not there yet; False when the server has forgotten the upload."""
        there = self._pieces(upload, told)
        for name, piece in _cut(held, int(told["OC-Total-Length"]), size):
            if there.get(name) == piece.length:
                continue
            answer = self._ask("PUT", child(upload, name), told, cast("IO[bytes]", piece))
            if answer.status_code == NOT_FOUND:
                return False
            if answer.status_code not in DONE:
                raise _refused(answer, name)
        return True

    def _pieces(self, upload: str, told: Mapping[str, str]) -> dict[str, int]:
        """The pieces of an upload by name; begins it when there is none."""
        entries = self._http.propfind(f"{upload}/", [LENGTH], 1)
        if not entries:
            answer = self._ask("MKCOL", upload, {"Destination": told["Destination"]})
            if answer.status_code not in DONE:
                raise _refused(answer, "the upload")
        lengths = ((each.href.rsplit("/", 1)[-1], each.props.get(LENGTH, "")) for each in entries)
        return {name: int(length) for name, length in lengths if length.isdecimal()}

    def _abort(self, upload: str) -> None:
        with suppress(BackupdError):
            self._http.request("DELETE", upload)


class Piece(io.RawIOBase):
    """A part of a file as a file: it can be rewound and sent again."""

    def __init__(self, held: IO[bytes], start: int, length: int) -> None:
        super().__init__()
        self._held, self._start, self.length, self._at = held, start, length, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; only from the beginning and from the end."""
        self._at = offset + (self.length if whence == io.SEEK_END else 0)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes."""
        left = self.length - self._at
        self._held.seek(self._start + self._at)
        data = self._held.read(left if size < 0 else min(size, left))
        self._at += len(data)
        return data


def _cut(held: IO[bytes], total: int, size: int) -> Iterator[tuple[str, Piece]]:
    for number, start in enumerate(range(0, total, size), 1):
        yield f"{number:05}", Piece(held, start, min(size, total - start))


def _refused(answer: httpx.Response, what: str) -> ItemRefused:
    return ItemRefused(
        f"Nextcloud answers {answer.status_code} to {what}.", reason=f"http-{answer.status_code}"
    )


def _derived(root: str) -> str:
    """Where pieces are sent to; "" for an address that is not Nextcloud's usual one."""
    found = re.fullmatch(r"(.*/dav)/files/([^/]+)(/.*)?", root)
    return f"{found[1]}/uploads/{found[2]}/" if found else ""


def _number(quirks: Mapping[str, object], name: str, usual: int) -> int:
    value = quirks.get(name, usual)
    if isinstance(value, int) and value > 0:
        return value
    raise ConfigError(f"{name} of a Nextcloud target must be a number of bytes, not {value!r}.")
