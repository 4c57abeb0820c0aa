"""The verb repair: what was damaged is healed from what is still whole, and nothing whole is touched.

The mirror is healed from a vault (the hash proves the bytes), a catalog is written anew from the mirror,
a vault gets its packs again from the mirror and from the other storages. What was bad is kept aside, in
`<home>/aside/<time>`, and what cannot be healed is said.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from backupd.home import Home

PATIENCE = 600.0
"""Seconds to wait for a run that is at the account or the vault."""

MOST_TOLD = 1000
"""Deeds that are told one by one; all are counted."""


@dataclass
class Repair:
    """What became of one account.

    Attributes:
        healed: what was put right, one sentence each.
        left: what could not be healed, and what to do about it.
        dry_run: nothing was changed: `healed` is what would be.
    """

    home: Home
    dry_run: bool = False
    healed: list[str] = field(default_factory=list)
    left: list[tuple[str, str]] = field(default_factory=list)
    deeds: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def aside(self) -> Path:
        """Where the bad parts go."""
        return self.home.folder / "aside" / f"{self.began:%Y%m%dT%H%M%SZ}"

    def did(self, what: str) -> None:
        """Take down a deed."""
        self.deeds += 1
        if len(self.healed) < MOST_TOLD:
            self.healed.append(what)

    def cannot(self, what: str, hint: str) -> None:
        """Take down what stays as it is."""
        if len(self.left) < MOST_TOLD:
            self.left.append((what, hint))

    def keep(self, path: Path, name: str) -> None:
        """Move a bad part aside; nothing happens in a dry run, nor when it is not there."""
        if self.dry_run or not (path.exists() or path.is_symlink()):
            return
        place = self.aside / name
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        shutil.move(path, place)  # the storage may be another disk


Progress = Callable[[str], None]
"""Told what is being done."""
