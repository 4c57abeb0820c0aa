"""Secrets that a person types or names a file for: never on the command line, never shown again."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer

from backupd.errors import UserError
from backupd.keys import shares

LONGEST = 1 << 20
"""Characters read of a file that should hold shares."""


def read_shares(files: Sequence[str]) -> list[str]:
    """The shares in files (`-` is stdin), else those asked for at the terminal, else those on stdin.

    Raises UserError.
    """
    if files:
        return [share for each in files for share in shares.found_in(_text(each))]
    if sys.stdin.isatty():
        return _asked()
    return shares.found_in(sys.stdin.read(LONGEST))


def _text(name: str) -> str:
    if name == "-":
        return sys.stdin.read(LONGEST)
    try:
        with Path(name).open(encoding="utf-8") as file:
            return file.read(LONGEST)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UserError(f"Cannot read {name}: {why}.", hint="A share is a text file of 20 words.") from error  # fmt: skip


def _asked() -> list[str]:
    """Asks for one share after the other until there are enough; a mistyped one is asked for again."""
    found: dict[int, str] = {}
    needed = 1
    while len(found) < needed:
        typed: str = typer.prompt(f"Share {len(found) + 1} of {needed if found else '…'}", err=True)
        try:
            share = shares.tidy(typed)
            found[shares.number_of(share)] = share
            needed = shares.needed_of(share)
        except UserError as error:
            typer.echo(f"{error}\n{error.hint}", err=True)
    return list(found.values())
