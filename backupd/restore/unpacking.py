"""An account's bytes out of a vault, the most urgent first, in few starts of restic.

Every start costs a second or more: the password is hashed slowly on purpose, and the index is read.
So small collections come out together into a scratch folder, and a large one is streamed and never
lies on the disk.
"""

from __future__ import annotations

import re
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from backupd.errors import IntegrityError, VaultError
from backupd.model import Snapshot
from backupd.ports import Parcel, Reader, Shelf
from backupd.restore.contents import URGENT, Contents, Selection, opened
from backupd.vaults.vault import Vault

LARGE = 64 << 20
"""Bytes from which on a collection has a start of restic of its own; also what a scratch folder holds at most."""

TOGETHER = 500
"""Folders that one start is given at most: each is an argument of its command line."""


@dataclass(slots=True)
class Portion:
    """Folders of a snapshot that come out in one start, and the collections in them that are meant."""

    roots: list[str] = field(default_factory=list)
    shelves: list[Shelf] = field(default_factory=list)
    size: int = 0

    def takes(self, size: int) -> bool:
        """Whether a folder of `size` bytes still fits."""
        return self.size + size < LARGE and len(self.roots) < TOGETHER


class VaultContents(Contents):
    """An account whose bytes come out of a snapshot."""

    def __init__(self, root: Path, vault: Vault, snapshot: Snapshot) -> None:
        super().__init__(root)
        self._vault = vault
        self.snapshot = snapshot

    def walk(self, selection: Selection) -> Iterator[tuple[Parcel, Reader]]:
        """Every item that is meant, with its bytes, which must be read before the next is asked for.

        Current mail, where there is much of it, comes a month at a time, newest first. Damage in the
        vault does not keep back what is whole; VaultError is raised after all that could be had.
        """
        failed: VaultError | None = None
        for portion in self._portions(self.shelves(selection)):
            try:
                yield from self._unpacked(portion, selection)
            except VaultError as error:
                failed = failed or error
        if failed:
            raise failed

    @contextmanager
    def open(self, parcel: Parcel) -> Iterator[Reader]:
        """The bytes of one item."""
        with self._vault.content(self.snapshot, parcel.path) as content:
            yield content

    def _portions(self, shelves: Sequence[Shelf]) -> list[Portion]:
        """What comes out at once, in order; small collections join the first that has room."""
        monthly = {each.path for each in shelves if _monthly(each)}
        portions: list[Portion] = []
        within: dict[str, Portion] = {}
        small = Portion()
        for shelf in shelves:
            root = shelf.path if shelf.path in monthly else _root(shelf.path, monthly)
            if root not in within:
                size = self._size(root)
                if size >= LARGE:
                    portions.append(Portion())
                elif small not in portions or not small.takes(size):
                    small = Portion()
                    portions.append(small)
                within[root] = portion = small if size < LARGE else portions[-1]
                portion.roots.append(root)
                portion.size += size
            within[root].shelves.append(shelf)
        return portions

    def _size(self, root: str) -> int:
        """Bytes of all that comes out with a folder, meant or not."""
        return sum(
            shelf.size for path, shelf in self._shelves.items() if f"{path}/".startswith(f"{root}/")
        )

    def _unpacked(self, portion: Portion, selection: Selection) -> Iterator[tuple[Parcel, Reader]]:
        first = portion.shelves[0]
        if portion.size < LARGE:
            yield from self._together(portion, selection)
        elif _monthly(first):
            for month in self.months(first):
                yield from self._stream(month, {first.path}, selection)
        else:
            wanted = {each.path for each in portion.shelves if not _monthly(each)}
            yield from self._stream(portion.roots[0], wanted, selection)

    def _together(self, portion: Portion, selection: Selection) -> Iterator[tuple[Parcel, Reader]]:
        """A portion by way of a scratch folder; of a damaged one, what restic could write."""
        failed: VaultError | None = None
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".portion-") as folder:
            patterns = [_literal(root) for root in portion.roots]
            try:
                self._vault.extract(self.snapshot, Path(folder), patterns)
            except VaultError as error:
                failed = error
            for shelf in portion.shelves:
                for parcel in self.parcels(shelf, selection):
                    if failed and not (Path(folder) / parcel.path).is_file():
                        continue
                    with opened(Path(folder), parcel, "snapshot") as content:
                        yield parcel, content
        if failed:
            raise failed

    def _stream(
        self, root: str, wanted: set[str], selection: Selection
    ) -> Iterator[tuple[Parcel, Reader]]:
        with (
            self._vault.tar(self.snapshot, f"/{root}") as out,
            tarfile.open(fileobj=out, mode="r|", bufsize=1 << 18) as tar,
        ):
            for member in _members(tar):
                path = member.name.strip("/")
                shelf = self.shelf_of(path)
                content = tar.extractfile(member) if member.isfile() else None
                cast("Any", tar).members = []  # else it remembers every one
                if content is None or shelf is None or shelf.path not in wanted:
                    continue
                parcel = self.parcel(path)
                if parcel is not None and selection.takes_item(parcel):
                    yield parcel, _Streamed(parcel.path, content)


class _Streamed:
    """The bytes of a file in the stream, which may end too early: that is a failure of this item."""

    def __init__(self, path: str, content: IO[bytes]) -> None:
        self._path = path
        self._content = content

    def read(self, size: int = -1, /) -> bytes:
        """Raises IntegrityError when the stream ends within the file."""
        try:
            return self._content.read(size)
        except tarfile.ReadError as error:
            raise IntegrityError(
                f"The vault ends within {self._path}.", reason="cut-short"
            ) from error


def _members(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Up to the end, also when the stream is cut off: what restic then says is raised by its door."""
    try:
        yield from tar
    except tarfile.ReadError:
        return


def _monthly(shelf: Shelf) -> bool:
    return shelf.special in URGENT and shelf.size >= LARGE


@contextmanager
def from_vault(vault: Vault, snapshot: Snapshot, scratch: Path) -> Iterator[VaultContents]:
    """The contents of a snapshot; its descriptions lie in `scratch` for as long, and small portions."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=scratch, prefix="restore-") as folder:
        vault.extract(snapshot, Path(folder), ["index.jsonl", "account.json"])
        yield VaultContents(Path(folder), vault, snapshot)


def _root(path: str, monthly: set[str]) -> str:
    """The outermost folder a collection lies in that is not streamed by the month itself."""
    parts = path.split("/")
    above = ("/".join(parts[:end]) for end in range(2, len(parts)))
    return next((each for each in above if each not in monthly), path)


def _literal(path: str) -> str:
    r"""A path as a pattern of restic's that means it alone: `*`, `?`, `[` and `\\` are escaped."""
    return "/" + re.sub(r"([*?\[\\])", r"\\\1", path)
