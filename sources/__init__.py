"""Where data comes from: one package or module per kind of provider, behind `backupd.ports.Source`.

A provider is imported only when a configuration names it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from backupd.errors import ConfigError

if TYPE_CHECKING:
    from backupd.config import Imap, Microsoft365
    from backupd.model import Account
    from backupd.ports import Source

Held = Callable[[str], Iterable["Account"]]


def _nobody(_: str) -> Iterable[Account]:
    return ()


def connect(section: Microsoft365 | Imap, held: Held = _nobody) -> Source:
    """The source that a `[sources.NAME]` section describes; close it when done.

    Nothing is asked of the provider yet. Raises ConfigError for a type nobody here knows.

    Args:
        held: the accounts that are held of another source, by its name.
    """
    if section.type == "microsoft365":
        from sources.graph.source import GraphSource  # noqa: PLC0415 - only who uses it pays for it

        return GraphSource(section, prompt=_prompt if sys.stderr.isatty() else None)
    if section.type == "imap":
        from sources.imap.source import ImapSource  # noqa: PLC0415 - only who uses it pays for it

        prompt = _prompt if sys.stderr.isatty() else None
        return ImapSource(section, prompt=prompt, held=held)
    raise ConfigError(
        f"[sources.{section.name}] has the unknown type {section.type!r}.",
        hint='Known types: "microsoft365", "imap".',
    )


def _prompt(text: str) -> None:
    """Ask the person at the terminal; stdout is for results."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
