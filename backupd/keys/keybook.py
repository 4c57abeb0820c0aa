"""What is noted of recovery keys: which vaults have one, and which shares were last tried, and when.

No secrets: `<state_dir>/keys.json` may be read by whoever may read the rest. What it says of a vault was true when it
was noted; only a drill proves it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from backupd import private
from backupd.errors import IntegrityError
from backupd.ports import Finding

FORMAT = 1
YEAR = 365 * 86_400.0
"""Seconds after which shares ought to be tried again."""


@dataclass(frozen=True, slots=True)
class Noted:
    """The recovery key of a vault: restic's id of it, and when it last opened the vault."""

    key: str
    opened: float


@dataclass(frozen=True, slots=True)
class Drill:
    """A drill: the shares that were used, the vaults that opened, and those that did not."""

    when: float
    mark: str
    shares: tuple[int, ...]
    opened: int
    failed: int = 0


@dataclass(frozen=True, slots=True)
class Keybook:
    """The notes.

    Attributes:
        mark: of the set of shares in use; "" when there is none.
        needed, number: shares of that set that are needed, and that there are.
        made: when it was made.
        vaults: `STORAGE/NAME` → its recovery key.
        shares: number of a share → when it was last used.
        drill: the last one, of whichever set.
        leaving: `STORAGE/NAME` → restic's id of the key that a rotation has yet to remove.
        kit: when a recovery kit was made for this set, or 0; `kit_vaults` how many vaults it names.
    """

    mark: str = ""
    needed: int = 0
    number: int = 0
    made: float = 0.0
    vaults: dict[str, Noted] = field(default_factory=dict)
    shares: dict[int, float] = field(default_factory=dict)
    drill: Drill | None = None
    leaving: dict[str, str] = field(default_factory=dict)
    kit: float = 0.0
    kit_vaults: int = 0

    @property
    def cut(self) -> str:
        """How many shares open the vaults, in words; a new machine does not know how many there are."""
        return f"{self.needed} of {self.number} shares" if self.number else f"{self.needed} shares"

    @property
    def drilled(self) -> bool:
        """Whether the set in use was ever proven by a drill that found every vault open."""
        return self.drill is not None and self.drill.mark == self.mark and not self.drill.failed


def load(state_dir: Path) -> Keybook:
    """The notes; empty when there are none. Raises IntegrityError for notes that are damaged."""
    path = _place(state_dir)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return _book(raw)
    except FileNotFoundError:
        return Keybook()
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise IntegrityError(
            f"{path} is damaged.",
            hint="It only notes what was done: move it away, and run `backupd keys drill --all`, which notes anew "
            "which vaults the shares open.",
            reason="damaged-notes",
        ) from error


def save(state_dir: Path, book: Keybook) -> None:
    """Keep the notes, durably."""
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    private.put(_place(state_dir), json.dumps({"format": FORMAT, **asdict(book)}, indent=1))


def with_drill(book: Keybook, drill: Drill, opened: dict[str, Noted]) -> Keybook:
    """The notes after a drill."""
    used = dict.fromkeys(drill.shares, drill.when) if drill.mark == book.mark else {}
    return replace(book, drill=drill, shares=book.shares | used, vaults=book.vaults | opened)


def findings(book: Keybook, held: Collection[str], now: float) -> Iterator[Finding]:
    """What there is to say of recovery keys, for doctor, status and reports.

    Args:
        held: `STORAGE/NAME` of every vault that there is.
    """
    if not held:
        return
    yield from _kit(book, len(held))
    if not book.mark:
        yield Finding(
            "warning", "recovery keys", "there are none: whoever loses the password file of a storage loses its vaults",
            "`backupd keys recovery` makes one for every vault, cut into shares for several people.",
        )  # fmt: skip
        return
    lacking = sorted(set(held) - set(book.vaults))
    having = f"{len(held) - len(lacking)} of {len(held)} vaults"
    if lacking:
        named = ", ".join(lacking[:3])
        yield Finding(
            "warning", "recovery keys", f"{having} have one; not, for example: {named}",
            "`backupd keys recovery --extend` adds it, with the shares.",
        )  # fmt: skip
    else:
        yield Finding("ok", "recovery keys", f"{having} have one, {book.cut} open them (set {book.mark})")  # fmt: skip
    yield _drill(book, now)
    if book.leaving:
        yield Finding(
            "warning", "rotation", f"an old key still opens {_vaults(len(book.leaving))}",
            "`backupd keys rotate` goes on where it stopped.",
        )  # fmt: skip


def _kit(book: Keybook, held: int) -> Iterator[Finding]:
    hint = "`backupd kit` writes it: print it, and keep it away from this machine."
    if not book.kit:
        yield Finding("warning", "recovery kit", "none was made since the keys changed", hint)
        return
    day = f"{datetime.fromtimestamp(book.kit, UTC):%Y-%m-%d}"
    if held > book.kit_vaults:
        words = f"made on {day}, and lacks {_vaults(held - book.kit_vaults)} begun since"
        yield Finding("warning", "recovery kit", words, hint)
    else:
        yield Finding("ok", "recovery kit", f"made on {day}")


def _drill(book: Keybook, now: float) -> Finding:
    hint = "`backupd keys drill` asks for shares and opens a vault with nothing else."
    last = book.drill
    if last is None or last.mark != book.mark:
        return Finding("warning", "recovery drill", "the shares were never tried", hint)
    day = f"{datetime.fromtimestamp(last.when, UTC):%Y-%m-%d}"
    if last.failed:
        return Finding("error", "recovery drill", f"{_vaults(last.failed)} did not open on {day}", "`backupd keys recovery --extend` gives them a recovery key.")  # fmt: skip
    untried = [str(each) for each in range(1, book.number + 1) if each not in book.shares]
    words = f"last done on {day}"
    if now - last.when > YEAR:
        return Finding("warning", "recovery drill", f"{words}, more than a year ago", hint)
    if untried:
        return Finding("ok", "recovery drill", f"{words}; never tried: share {', '.join(untried)}")
    return Finding("ok", "recovery drill", f"{words}; every share was tried once")


def _vaults(number: int) -> str:
    return "1 vault" if number == 1 else f"{number} vaults"


def _place(state_dir: Path) -> Path:
    return state_dir / "keys.json"


def _book(raw: dict[str, Any]) -> Keybook:
    raw.pop("format")
    drill = raw.pop("drill")
    return Keybook(
        **raw
        | {
            "vaults": {name: Noted(**each) for name, each in raw["vaults"].items()},
            "shares": {int(number): float(when) for number, when in raw["shares"].items()},
            "drill": Drill(**drill | {"shares": tuple(drill["shares"])}) if drill else None,
        }
    )
