"""The account as open-format files on local disk: safe paths, durable writes, moves.

Paths here are relative, with `/`, and made of components that `names` has made safe. Nothing
appears in the mirror half-written: a draft is written beside it, flushed to disk and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable
from itertools import count, islice
from pathlib import Path
from typing import IO

from backupd.errors import IntegrityError
from backupd.mirror.durable import MANY, Disk, flush_files, flush_folders

BUFFER = 1 << 20
"""Bytes read at a time when a file is hashed."""

SMALL, GATHERED = 1 << 13, 1 << 16
"""A write of fewer bytes than the first waits in memory for others, until there are as many as the second."""

LINES = 200
"""Lines of an index that are written at once."""

_OUTSIDE = frozenset({"", ".", ".."})
"""Parts of a path that lead somewhere else, or nowhere."""


class FileDraft:
    """A file in the making, hashed while it is written; see `ports.Draft`."""

    __slots__ = ("_descriptor", "_hash", "_size", "_waiting", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor = -1
        self._hash = hashlib.sha256()
        self._size = 0
        self._waiting = bytearray()

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def sha256(self) -> str:
        """Of what was written so far, in lower-case hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes | memoryview) -> None:
        """Append `data`."""
        self._hash.update(data)
        self._size += len(data)
        if len(data) < SMALL or self._waiting:
            self._waiting += data
            if len(self._waiting) < GATHERED:
                return
            self._spill()
        else:
            self._pour(data)

    def restart(self) -> None:
        """Drop what was written and begin again."""
        self._waiting.clear()
        self._release()
        if self._size:
            Path(self.path).unlink(missing_ok=True)
        self._hash = hashlib.sha256()
        self._size = 0

    def close(self) -> None:
        """Hand the bytes to the operating system; an empty draft becomes an empty file when it is placed."""
        if self._waiting:
            self._spill()
        self._release()

    def discard(self) -> None:
        """Remove the file; safe to call twice."""
        self.restart()

    def finish(self, mtime: float | None) -> None:
        """Complete as a file, changed at `mtime` (Unix seconds) where that is known; not yet durable."""
        self.close()
        if self._size == 0:
            Path(self.path).touch(mode=0o600)
        if mtime is not None:
            os.utime(self.path, (mtime, mtime))

    def _spill(self) -> None:
        data, self._waiting = self._waiting, bytearray()
        self._pour(data)

    def _pour(self, data: bytes | bytearray | memoryview) -> None:
        if self._descriptor < 0:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            self._descriptor = os.open(self.path, flags, 0o666)
        written = os.write(self._descriptor, data)
        while written < len(data):  # a disk that is nearly full takes a part, then says so
            written += os.write(self._descriptor, memoryview(data)[written:])

    def _release(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class Mirror:
    """The tree of one account, and the folder beside it where drafts are written."""

    def __init__(self, root: Path, drafts: Path) -> None:
        self.root = root
        self._drafts = drafts
        for folder in (root, drafts):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._disk = Disk(str(drafts))
        self._new = f"{drafts}/{uuid.uuid4().hex}-"
        self._numbers = count()

    def close(self) -> None:
        """Let go of the disk: nothing is placed after that. Safe to call twice."""
        self._disk.close()

    def draft(self) -> FileDraft:
        """A new empty draft on the mirror's own file system."""
        return FileDraft(f"{self._new}{next(self._numbers)}")

    def empty_drafts(self) -> None:
        """Remove what a killed run left behind."""
        for path in self._drafts.iterdir():
            path.unlink(missing_ok=True)

    def absolute(self, path: str) -> Path:
        """The place of a mirror path. Raises IntegrityError for one that would lead outside."""
        return Path(self._inside(path))

    def _inside(self, path: str) -> str:
        """The same as text: a path object costs more than the rest of a small file."""
        if "\0" in path or not _OUTSIDE.isdisjoint(path.split("/")):
            raise IntegrityError(
                f"{path!r} is not a path inside the mirror.",
                hint="The catalog has been tampered with or is damaged; nothing was written.",
            )
        return f"{self.root}/{path}"

    def exists(self, path: str) -> bool:
        """Whether a file or folder lies there."""
        return self.absolute(path).exists()

    def place(self, drafts: Iterable[tuple[FileDraft, str, float | None]]) -> None:
        """Make each draft durable and give it its path; `mtime` is Unix seconds or None for now.

        All of them are durable when this returns; a file that had the path before is replaced.
        """
        arrivals = [(draft, self._inside(path), mtime) for draft, path, mtime in drafts]
        whole = len(arrivals) >= MANY and self._disk.flushes_whole
        for draft, _, mtime in arrivals:
            draft.finish(mtime)
        # What replaces a file must be durable before it does; a new file only before it is named.
        first = [
            draft.path for draft, target, _ in arrivals if not whole or os.path.lexists(target)
        ]
        flush_files(first)
        folders = self._rename(arrivals)
        if whole:
            self._disk.flush()
        else:
            flush_folders(folders)

    def _rename(self, arrivals: list[tuple[FileDraft, str, float | None]]) -> set[str]:
        """Give each draft its place; returns the folders that have a new name in them."""
        folders: set[str] = set()
        for draft, target, _ in arrivals:
            folder = target.rpartition("/")[0]
            if folder not in folders:
                folders.add(folder)
                self._make(folder)
            os.replace(draft.path, target)  # noqa: PTH105 - see _inside
        return folders

    def write(self, path: str, lines: Iterable[str]) -> None:
        """Replace a text file of our own, durably. No lines: remove it."""
        draft = self.draft()
        rest = iter(lines)
        while some := list(islice(rest, LINES)):
            draft.write(("\n".join(some) + "\n").encode("utf-8", "surrogatepass"))
        if draft.size:
            self.place([(draft, path, None)])
        else:
            draft.discard()
            self.remove([path])

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents; nothing happens when it is there."""
        self._make(self._inside(path) if path else str(self.root))

    def _make(self, folder: str) -> None:
        if os.path.isdir(folder):  # noqa: PTH112 - see _inside
            return
        above = folder.rpartition("/")[0]
        self._make(above)
        Path(folder).mkdir(mode=0o700, exist_ok=True)
        flush_folders([above])

    def rename(self, was: str, path: str) -> None:
        """Move a file or folder, durably; nothing happens when `was` is not there any more."""
        old, new = self.absolute(was), self.absolute(path)
        if old == new or not old.exists():
            return
        self.make_folder(path.rpartition("/")[0])
        old.replace(new)
        flush_folders({str(new.parent), str(old.parent)})

    def remove(self, paths: Iterable[str]) -> None:
        """Unlink files, and folders that this leaves empty when they are months of mail."""
        parents = set()
        for path in paths:
            target = self.absolute(path)
            target.unlink(missing_ok=True)
            parents.add(target.parent)
        for parent in parents:
            if parent.is_dir():
                flush_folders([str(parent)])

    def remove_folder(self, path: str) -> None:
        """Remove a folder if nothing is in it but our own index."""
        target = self.absolute(path)
        if target.is_dir() and not any(child.name != "index.jsonl" for child in target.iterdir()):
            shutil.rmtree(target)
            flush_folders([str(target.parent)])

    def sha256(self, path: str) -> str:
        """The hash of a file as it lies there. Raises IntegrityError when it is not there."""
        try:
            with self.absolute(path).open("rb") as file:
                return hash_file(file)
        except FileNotFoundError as error:
            raise IntegrityError(
                f"{path} is missing from the mirror.",
                hint="Something other than backupd removed it; it will be fetched again or can be "
                "taken from a snapshot.",
            ) from error


def hash_file(file: IO[bytes]) -> str:
    """SHA-256 in lower-case hex of the rest of an open file."""
    digest = hashlib.sha256()
    while data := file.read(BUFFER):
        digest.update(data)
    return digest.hexdigest()
