"""Making what was written survive a power cut: file by file, or a whole file system in one go.

Flushing hundreds of small files one by one costs more than all the rest of a sync: each waits for the journal and keeps
the processor busy. Linux can flush a file system as a whole (`syncfs`). That is used where it is known to do what
`fsync` does, and to say when it could not; everywhere else files are flushed one by one.
"""

from __future__ import annotations

import ctypes
import os
import re
import weakref
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

MANY = 16
"""Files from which on the whole file system is flushed: it also waits for what others have written there."""

FLUSHERS = 8
"""Threads that flush files one by one: a journalling file system commits many flushes in one go."""

TELLS_ERRORS = (5, 8)
"""The Linux since which syncfs reports what could not be written, says its manual."""

TRUSTED = {
    0xEF53: "ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0xF2F52010: "f2fs",
    0x2FC12FC1: "zfs",
}
"""Local file systems, by the number that statfs gives them (statfs(2), ZFS by its own source). What lies over a network
or in user space may answer without having flushed anything."""

_STATFS_SIZE = 256
"""Bytes that hold a `struct statfs` of any architecture; it begins with the type."""


class Disk:
    """The file system that a folder lies on.

    It is opened before anything is written, so that it hears of every error since. Thread-safe.
    """

    def __init__(self, folder: str) -> None:
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._end = weakref.finalize(self, os.close, self._descriptor)
        self._whole = whole_flush(self._descriptor)

    def close(self) -> None:
        """Let go of it, rather than whenever the garbage collector comes by; safe to call twice."""
        self._end()

    @property
    def flushes_whole(self) -> bool:
        """Whether `flush` can be used."""
        return self._whole is not None

    def flush(self) -> None:
        """Everything that was written to the file system is durable afterwards. Raises OSError."""
        if self._whole is None:
            raise OSError(f"this file system cannot be flushed as a whole: {self._descriptor}")
        self._whole(self._descriptor)


def flush_files(paths: Sequence[str]) -> None:
    """Make files durable one by one. Raises OSError."""
    if len(paths) < 2:  # noqa: PLR2004 - a thread for one file is one too many
        for path in paths:
            _flush(path)
        return
    with ThreadPoolExecutor(min(FLUSHERS, len(paths))) as flushers:
        list(flushers.map(_flush, paths))


def flush_folders(paths: Iterable[str]) -> None:
    """Make the names in folders durable. Raises OSError."""
    for path in paths:
        _flush(path, os.O_DIRECTORY)


def _flush(path: str, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def whole_flush(descriptor: int) -> Callable[[int], None] | None:
    """What flushes the file system of an open file as a whole; None where that cannot be relied on."""
    library = _c_library()
    if library is None or _kind(library, descriptor) not in TRUSTED:
        return None

    def flush(of: int) -> None:
        if library.syncfs(of):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    return flush


@cache
def _c_library() -> ctypes.CDLL | None:
    """The C library, where the system is a Linux that is new enough."""
    if os.uname().sysname != "Linux" or _version(os.uname().release) < TELLS_ERRORS:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "syncfs") and hasattr(library, "fstatfs") else None


def _version(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", release)[:2])


def _kind(library: ctypes.CDLL, descriptor: int) -> int:
    """The type of its file system; 0 when it cannot be told."""
    said = ctypes.create_string_buffer(_STATFS_SIZE)
    if library.fstatfs(descriptor, said):
        return 0
    return ctypes.c_long.from_buffer(said).value & 0xFFFFFFFF
