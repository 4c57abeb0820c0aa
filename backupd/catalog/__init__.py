"""What we hold of one account and where it came from: one SQLite file beside the mirror.

One writer (the account's lock sees to that), any number of readers. The mirror can be read
without the catalog and the catalog rebuilt from the mirror; what only the catalog knows are
cursors, the journal of a change under way and the retry ledger.
"""

from __future__ import annotations

import json
from typing import Any

from backupd.catalog.folders import Folders
from backupd.catalog.items import Described, Items, NewItem
from backupd.catalog.ledger import Ledger
from backupd.catalog.places import Places
from backupd.model import Facts

__all__ = ["Catalog", "Described", "NewItem", "dumps", "loads"]

_ENCODER = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":"))


class Catalog(Folders, Items, Ledger, Places):
    """Everything the catalog knows of one account."""


def dumps(facts: Facts) -> str:
    """Facts as one line of JSON that equal facts always give."""
    return _ENCODER.encode(dict(facts))


def loads(line: str) -> dict[str, Any]:
    """The facts of a row."""
    facts: dict[str, Any] = json.loads(line)
    return facts
