"""What is known of the verifications of one account: `verified.json` in its home.

    {"format": 1,
     "last": {"2/primary": {…}},            the last verification of each level and storage
     "whole": {"2/primary": 1760000000.0},  when that was last without a flaw
     "rolling": {"packs/primary": {"00": …}, "content/primary": {"mail/Inbox": …}, "mirror": {…}},
     "vaults": {"primary": {"id": …, "snapshots": {ID: [TIME, TREE]}}}}

The signed reports are the history; this is what status, and the next verification, need at hand.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from backupd.home import Home
from backupd.locks import exclusive
from backupd.verify import DRILL, LISTING, NAMES, SOURCE, USUAL
from backupd.verify.findings import Flaw, Verdict, Verification

FORMAT = 1
FILE = "verified.json"


@dataclass(frozen=True, slots=True)
class Standing:
    """The last word of one level about one storage, or that there is none.

    Attributes:
        verdict: `whole`, `damaged`, `unproven`, or `never`.
        age: seconds since the last look; `whole` since the last one without a flaw; None for never.
        last: what the last look found.
    """

    level: int
    storage: str
    verdict: str
    age: int | None = None
    whole: int | None = None
    last: Verification | None = None

    @property
    def words(self) -> str:
        """The level and where, for people: `packs in primary`, `listing of the mirror`, `live source`."""
        if self.level == SOURCE:
            return f"live source {self.storage}".rstrip()
        return f"{NAMES[self.level]} in {self.storage}" if self.storage else f"{NAMES[self.level]} of the mirror"  # fmt: skip


@dataclass
class Record:
    """The file as values; `changing` keeps what was changed."""

    last: dict[str, Verification] = field(default_factory=dict)
    whole: dict[str, float] = field(default_factory=dict)
    rolling: dict[str, dict[str, float]] = field(default_factory=dict)
    vaults: dict[str, dict[str, Any]] = field(default_factory=dict)

    def take(self, found: Verification) -> None:
        """Note a verification."""
        key = f"{found.level}/{found.storage}"
        self.last[key] = found
        if found.verdict is Verdict.WHOLE:
            self.whole[key] = found.began

    def times(self, what: str) -> dict[str, float]:
        """When each part was last looked at, for a rolling verification."""
        return self.rolling.setdefault(what, {})

    def vault(self, storage: str) -> dict[str, Any]:
        """What is known of a vault."""
        return self.vaults.setdefault(storage, {})

    def standings(self, storages: Sequence[str], now: float) -> list[Standing]:
        """What every level last said of every storage that there is, and of the mirror and the source."""
        keys = [
            (LISTING, ""),
            *((level, name) for level in USUAL for name in storages),
            (SOURCE, ""),
        ]
        known = [(each.level, each.storage) for each in self.last.values() if each.level == DRILL]
        drills = [each for each in known if each[1] in storages] or [(DRILL, name) for name in storages[:1]]  # fmt: skip
        return [self._standing(*key, now) for key in (*keys, *drills)]

    def _standing(self, level: int, storage: str, now: float) -> Standing:
        key = f"{level}/{storage}"
        last = self.last.get(key)
        if last is None:
            return Standing(level, storage, "never")
        whole = self.whole.get(key)
        return Standing(
            level,
            storage,
            last.verdict.value,
            max(0, int(now - last.began)),
            None if whole is None else max(0, int(now - whole)),
            last,
        )


def read_record(home: Home) -> Record:
    """What is known; nothing for a file that is missing or cannot be read: it is then proven anew."""
    try:
        stored = json.loads((home.folder / FILE).read_text(encoding="utf-8"))
        if stored["format"] != FORMAT:
            return Record()
        last = {key: _verification(each) for key, each in stored["last"].items()}
        return Record(last, stored["whole"], stored["rolling"], stored["vaults"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return Record()


@contextmanager
def changing(home: Home) -> Iterator[Record]:
    """The record, written at the end, also of a run that breaks off; one verification at a time.

    Raises TransientError(reason="busy").
    """
    with exclusive(home.folder / "verify.lock", f"the verification of {home.address}"):
        record = read_record(home)
        try:
            yield record
        finally:
            _write(home, record)


def _write(home: Home, record: Record) -> None:
    stored = {
        "format": FORMAT,
        "last": {key: asdict(each) for key, each in record.last.items()},
        "whole": record.whole,
        "rolling": record.rolling,
        "vaults": record.vaults,
    }
    fresh = home.folder / f".{FILE}.new"
    with fresh.open("w", encoding="utf-8", errors="surrogatepass") as file:
        json.dump(stored, file, ensure_ascii=True)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(home.folder / FILE)


def _verification(stored: dict[str, Any]) -> Verification:
    return Verification(**stored | {"flaws": [Flaw(**each) for each in stored["flaws"]]})
