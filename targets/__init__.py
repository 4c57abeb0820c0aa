"""Where data goes: one module per kind of provider, behind `backupd.ports.Target`."""

from __future__ import annotations

from backupd.config import FolderTarget
from backupd.ports import Target
from targets.folder import Folder


def connect(section: FolderTarget) -> Target:
    """The target that a `[targets.NAME]` section describes."""
    return Folder(section.name, section.path)
