"""Files staged on our own disk under the names that they get at a target, for programs that copy folders."""

from __future__ import annotations

import errno
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from backupd.errors import BackupdError, ItemRefused, UserError
from backupd.mirror import names
from backupd.mirror.files import BUFFER
from backupd.ports import Parcel, Reader
from targets import paths

BATCH_ITEMS, BATCH_BYTES = 200, 64 << 20
"""What is staged before a program is started; one larger file is a batch of its own."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})
"""Troubles of our own disk, which the item has no part in."""


@dataclass
class Batch:
    """Files staged under the names that they get."""

    root: Path
    held: dict[str, tuple[Parcel, paths.Place]] = field(default_factory=dict)
    folded: set[str] = field(default_factory=set)
    size: int = 0

    def ready(self, place: paths.Place, parcel: Parcel) -> bool:
        """Whether to deliver before taking more: full, or holding what some storages take for the same."""
        full = len(self.held) >= BATCH_ITEMS or self.size + parcel.size > BATCH_BYTES
        return bool(self.held) and (full or names.fold(place.path) in self.folded)

    def take(self, parcel: Parcel, place: paths.Place, content: Reader) -> None:
        """Stage one item. Raises what its reader raises, and ItemRefused for a path our disk does not take."""
        file = self.root / place.path
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with file.open("xb") as out:
                while data := content.read(BUFFER):
                    out.write(data)
        except OSError as error:
            raise _of_our_disk(error, parcel) from error
        except BackupdError:
            file.unlink(missing_ok=True)
            raise
        moment = names.parse_time(parcel.about.get("modified"))
        if moment:
            os.utime(file, (moment.timestamp(), moment.timestamp()))
        self.held[place.path] = (parcel, place)
        self.folded.add(names.fold(place.path))
        self.size += parcel.size

    def move_aside(self, path: str) -> str:
        """Give a staged file the name that it has beside another one."""
        parcel, place = self.held.pop(path)
        aside = paths.beside(place, parcel)
        (self.root / path).rename(self.root / aside.path)
        self.held[aside.path] = (parcel, aside)
        return aside.path

    def clear(self) -> None:
        """Remove what is staged."""
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir(parents=True, mode=0o700)
        self.held, self.folded, self.size = {}, set(), 0


def _of_our_disk(error: OSError, parcel: Parcel) -> BackupdError:
    if error.errno in FULL:
        return UserError(
            f"Cannot stage files for rclone: {error.strerror}.",
            hint="The state directory needs room for the largest file.",
            reason="disk",
        )
    return ItemRefused(f"{parcel.path}: {error.strerror}.", reason=f"errno-{error.errno}")
