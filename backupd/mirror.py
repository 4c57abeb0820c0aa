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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from backupd.errors import IntegrityError

FLUSHERS = 8
"""Threads that flush drafts: a journalling file system commits many flushes in one go."""

BUFFER = 1 << 20
"""Bytes read at a time when a file is hashed."""


class FileDraft:
    """A file in the making, hashed while it is written; see `ports.Draft`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None
        self._hash = hashlib.sha256()
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    @property
    def sha256(self) -> str:
        """Of what was written so far, in lower-case hex."""
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Append `data`."""
        if self._file is None:
            self._file = self.path.open("wb")
        self._file.write(data)
        self._hash.update(data)
        self._size += len(data)

    def restart(self) -> None:
        """Drop what was written and begin again."""
        self.close()
        self.path.unlink(missing_ok=True)
        self._hash = hashlib.sha256()
        self._size = 0

    def close(self) -> None:
        """Hand the bytes to the operating system; an empty draft becomes an empty file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Remove the file; safe to call twice."""
        self.restart()

    def flush(self) -> None:
        """Make the closed draft durable."""
        if self._size == 0:
            self.path.touch()
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Mirror:
    """The tree of one account, and the folder beside it where drafts are written."""

    def __init__(self, root: Path, drafts: Path) -> None:
        self.root = root
        self._drafts = drafts
        for folder in (root, drafts):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def draft(self) -> FileDraft:
        """A new empty draft on the mirror's own file system."""
        return FileDraft(self._drafts / uuid.uuid4().hex)

    def empty_drafts(self) -> None:
        """Remove what a killed run left behind."""
        for path in self._drafts.iterdir():
            path.unlink(missing_ok=True)

    def absolute(self, path: str) -> Path:
        """The place of a mirror path. Raises IntegrityError for one that would lead outside."""
        parts = path.split("/")
        if any(part in {"", ".", ".."} or "\0" in part for part in parts):
            raise IntegrityError(
                f"{path!r} is not a path inside the mirror.",
                hint="The catalog has been tampered with or is damaged; nothing was written.",
            )
        return self.root.joinpath(*parts)

    def exists(self, path: str) -> bool:
        """Whether a file or folder lies there."""
        return self.absolute(path).exists()

    def place(self, drafts: Iterable[tuple[FileDraft, str, float | None]]) -> None:
        """Make each draft durable and give it its path; `mtime` is Unix seconds or None for now.

        All of them are durable when this returns; a file that had the path before is replaced.
        """
        arrivals = list(drafts)
        with ThreadPoolExecutor(FLUSHERS) as flushers:
            list(flushers.map(_finish, arrivals))
        folders = set()
        for draft, path, _ in arrivals:
            target = self.absolute(path)
            self.make_folder(path.rpartition("/")[0])
            draft.path.replace(target)
            folders.add(target.parent)
        for folder in folders:
            _flush_folder(folder)

    def write(self, path: str, lines: Iterable[str]) -> None:
        """Replace a text file of our own, durably. No lines: remove it."""
        draft = self.draft()
        for line in lines:
            draft.write(line.encode("utf-8", "surrogatepass") + b"\n")
        if draft.size:
            self.place([(draft, path, None)])
        else:
            draft.discard()
            self.remove([path])

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents; nothing happens when it is there."""
        target = self.absolute(path) if path else self.root
        if target.is_dir():
            return
        target.mkdir(parents=True, mode=0o700, exist_ok=True)
        _flush_folder(target.parent)

    def rename(self, was: str, path: str) -> None:
        """Move a file or folder, durably; nothing happens when `was` is not there any more."""
        old, new = self.absolute(was), self.absolute(path)
        if old == new or not old.exists():
            return
        self.make_folder(path.rpartition("/")[0])
        old.replace(new)
        _flush_folder(new.parent)
        _flush_folder(old.parent)

    def remove(self, paths: Iterable[str]) -> None:
        """Unlink files, and folders that this leaves empty when they are months of mail."""
        parents = set()
        for path in paths:
            target = self.absolute(path)
            target.unlink(missing_ok=True)
            parents.add(target.parent)
        for parent in parents:
            if parent.is_dir():
                _flush_folder(parent)

    def remove_folder(self, path: str) -> None:
        """Remove a folder if nothing is in it but our own index."""
        target = self.absolute(path)
        if target.is_dir() and not any(child.name != "index.jsonl" for child in target.iterdir()):
            shutil.rmtree(target)
            _flush_folder(target.parent)

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


def _finish(arrival: tuple[FileDraft, str, float | None]) -> None:
    draft, _, mtime = arrival
    draft.close()
    if draft.size == 0:
        draft.path.touch()
    if mtime is not None:
        os.utime(draft.path, (mtime, mtime))
    draft.flush()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
