"""The list of a restore of many: whose data goes to which account, with which secret."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

from backupd.errors import UserError

COLUMNS = ("account", "target_account", "password_file")


@dataclass(frozen=True, slots=True)
class Seat:
    """One account: `target_account` is empty when it is called the same at the target."""

    account: str | None
    target_account: str = ""
    password_file: Path | None = None


def read_roster(path: Path) -> list[Seat]:
    """The seats of a CSV file with a header line; all that is wrong with it in one UserError."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(f"Cannot read {path}: {why}.", hint="Check --accounts.") from error
    lines = csv.DictReader(text.splitlines(), skipinitialspace=True)
    problems = _header(lines.fieldnames or ())
    seats: dict[str, Seat] = {}
    for line in () if problems else lines:
        seat = _seat(line, path)
        if seat.account in seats or not seat.account:
            problems.append(f"line {lines.line_num}: {'no account' if not seat.account else f'{seat.account} again'}")  # fmt: skip
        elif seat.password_file and not seat.password_file.is_file():
            problems.append(f"line {lines.line_num}: there is no file {seat.password_file}")
        else:
            seats[seat.account] = seat
    if problems or not seats:
        raise UserError(
            "\n  ".join([f"{path}: nothing was started:", *(problems or ["it names no account"])]),
            hint=f"A CSV file with the columns {', '.join(COLUMNS)}; the last two may be empty.",
            reason="roster",
        )
    return list(seats.values())


def _header(fields: object) -> list[str]:
    words = list(fields) if isinstance(fields, list | tuple) else []
    unknown = [str(word) for word in words if word not in COLUMNS]
    problems = [f"unknown column {word!r}" for word in unknown]
    return problems if "account" in words else [*problems, "there is no column 'account'"]


def _seat(line: dict[str, str], path: Path) -> Seat:
    """Relative secrets lie beside the list."""
    values = {word: (line.get(word) or "").strip() for word in COLUMNS}
    secret = values["password_file"]
    return Seat(
        values["account"].lower(),
        values["target_account"],
        path.parent / Path(secret).expanduser() if secret else None,
    )
