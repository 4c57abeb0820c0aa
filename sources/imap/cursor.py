"""How far a folder has been followed.

With QRESYNC a numbering, a next UID and a modification number are enough. Without it the server does not tell what
vanished, so the cursor holds the UIDs; and without CONDSTORE it does not tell which flags changed, so the cursor holds
a hash of the flags for each 256 UIDs. Both are written once, at the end of a listing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from backupd.imap.reader import uids_of
from backupd.imap.wire import DIGITS

MANY = 10_000_000
"""UIDs that a cursor holds at most; a folder with more is listed anew each time."""
HOURS = 24
"""A folder is opened at least so often, whatever it tells of itself while it is closed."""
BLOCK = 8
"""Bits of a UID that do not count for its block."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Everything below `next` is known as of `modseq`; `top` is where a listing under way ends (0: none is).

    Attributes:
        look: under which name the folder was opened last, and when: see `look_at`.
    """

    validity: int
    next: int
    modseq: int = 0
    top: int = 0
    uids: str | None = None
    blocks: Mapping[str, str] | None = None
    look: str = ""

    def text(self) -> str:
        """As it is kept; the same cursor is always the same text."""
        held = {"v": self.validity, "n": self.next, "m": self.modseq, "t": self.top}
        shown: dict[str, object] = {key: value for key, value in held.items() if value}
        if self.uids is not None:
            shown["u"] = self.uids
        if self.blocks is not None:
            shown["b"] = dict(self.blocks)
        if self.look:
            shown["l"] = self.look
        return json.dumps(shown, separators=(",", ":"), sort_keys=True)

    def held(self) -> set[int]:
        """The UIDs that were there."""
        return set(uids_of(self.uids or "", MANY))


def read(text: str | None) -> Cursor | None:
    """A cursor, or None for none and for what cannot be one."""
    try:
        held = json.loads(text or "null")
    except (ValueError, RecursionError):
        return None
    if not isinstance(held, dict):
        return None
    numbers = [held.get(key, 0) for key in "vnmt"]
    uids, blocks, look = held.get("u"), held.get("b"), held.get("l", "")
    if not all(isinstance(each, int) and 0 <= each < 10**DIGITS for each in numbers):
        return None
    if not isinstance(uids, str | None) or not isinstance(blocks, dict | None):
        return None
    validity, next_, modseq, top = numbers
    return Cursor(validity, next_, modseq, top, uids, blocks, look if isinstance(look, str) else "")


def look_at(raw: bytes, now: float) -> str:
    """That a folder of this name is opened now (Unix seconds)."""
    return f"{blake2b(raw, digest_size=4).hexdigest()}@{int(now / 3600)}"


def recent(look: str, raw: bytes, now: float) -> bool:
    """Whether the last look was under the same name and less than a day ago.

    So long the numbers are believed that a closed folder tells of itself. Cyrus 3.6 tells those of former times when a
    folder gets a name back that it had before.
    """
    name, _, hour = look.partition("@")
    if not hour.isdecimal() or len(hour) > DIGITS:
        return False
    return look_at(raw, 0).startswith(f"{name}@") and 0 <= int(now / 3600) - int(hour) < HOURS


@dataclass
class Blocks:
    """Hashes of flags by block of UIDs; in whatever order they come."""

    sums: dict[int, int] = field(default_factory=dict)

    def add(self, uid: int, flags: tuple[str, ...]) -> None:
        """Take a message in."""
        told = f"{uid} {' '.join(flags)}".encode("utf-8", "replace")
        digest = int.from_bytes(blake2b(told, digest_size=6).digest(), "big")
        self.sums[uid >> BLOCK] = self.sums.get(uid >> BLOCK, 0) ^ digest

    def written(self) -> dict[str, str]:
        """For the cursor."""
        return {str(block): f"{digest:x}" for block, digest in sorted(self.sums.items())}

    def changed(self, before: Mapping[str, str]) -> list[int]:
        """Blocks whose flags are not what they were."""
        return sorted(
            block for block, digest in self.sums.items() if before.get(str(block)) != f"{digest:x}"
        )


def block_range(block: int) -> str:
    """The UIDs of a block as a set."""
    first = max(1, block << BLOCK)
    return f"{first}:{((block + 1) << BLOCK) - 1}"
