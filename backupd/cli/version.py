"""The command version."""

from __future__ import annotations

import sys

import typer

from backupd import __version__


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(version)


def version() -> None:
    """Print the version."""
    sys.stdout.write(f"backupd {__version__}\n")
