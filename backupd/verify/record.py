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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

from backupd.home import Home
from backupd.locks import exclusive
from backupd.verify.findings import Flaw, Verdict, Verification

FORMAT = 1
FILE = "verified.json"


@dataclass(frozen=True, slots=True)
class Standing:
    """The last word of one level about one storage.

    Attributes:
        when: seconds since 1970; `whole` is when it last went without a flaw, or 0.
    """

    last: Verification
    when: float
    whole: float

    @property
    def verdict(self) -> Verdict:
        """As it was."""
        return self.last.verdict


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

    def standings(self) -> Iterator[Standing]:
        """Every level and storage that was ever verified, in order."""
        for key in sorted(self.last):
            found = self.last[key]
            yield Standing(found, found.began, self.whole.get(key, 0.0))


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
