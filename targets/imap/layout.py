"""Where folders go: special folders by their use, others by names that a server can bear."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Protocol

from backupd.ports import Parcel, Shelf

INBOX = "INBOX"
Path = tuple[str, ...]
"""The names of a folder from the top; as they should be, not yet as a server can bear them."""

USES: Mapping[str, str] = {
    "inbox": INBOX,
    "sentitems": "\\Sent",
    "drafts": "\\Drafts",
    "junkemail": "\\Junk",
    "deleteditems": "\\Trash",
    "archive": "\\Archive",
}
"""What the source calls special → its use at an IMAP server (RFC 6154)."""


class Layout(Protocol):
    """Which folder at the target belongs to a collection."""

    def mailbox(self, shelf: Shelf) -> Path:
        """The folder's names from the top. They may be hostile: what a server cannot bear is mended later."""
        ...

    def use(self, shelf: Shelf) -> str:
        r"""`INBOX`, a special use (`\Sent`) whose folder is taken where the server has one, or ""."""
        ...

    def labels(self, parcel: Parcel) -> tuple[Path, ...]:
        """Further folders that get a copy of the stored message (UID COPY); usually none."""
        ...


class Folders:
    """Folders as they were; categories become keywords, not folders."""

    def mailbox(self, shelf: Shelf) -> Path:
        """The collection's own names."""
        return shelf.names

    def use(self, shelf: Shelf) -> str:
        """By what the source says of the collection."""
        return USES.get(shelf.special or "", "")

    def labels(self, parcel: Parcel) -> tuple[Path, ...]:  # noqa: ARG002 - a Layout
        """None."""
        return ()


@cache
def known_names() -> Mapping[str, tuple[str, ...]]:
    """Use → the names that such a folder has in many languages, the one to create first."""
    text = resources.files("targets.imap").joinpath("folders.toml").read_text(encoding="utf-8")
    return {f"\\{use}": tuple(names) for use, names in tomllib.loads(text).items()}
