"""Level 1 in a vault: what the newest snapshot lists is what was recorded, and its Merkle root."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from backupd.errors import BackupdError
from backupd.home import Home
from backupd.report.merkle import Tree, leaf
from backupd.vaults.vault import Entry, Vault
from backupd.verify import LISTING
from backupd.verify.findings import Flaw, Verification
from backupd.verify.places import Place, is_ours, joined
from backupd.verify.record import Record
from backupd.verify.rolling import Pace
from backupd.verify.vaults import Recorded, Subject, recorded, subject

ALTERED = "The catalog was altered: `backupd repair` writes it anew from what the mirror and the vault prove."
INCOMPLETE = "`backupd repair` makes a new snapshot from the mirror."


def verify_listing(
    home: Home, vault: Vault, record: Record, pace: Pace, scratch: Path
) -> Verification:
    """Compare the newest snapshot with what was recorded; what goes wrong is in the answer."""
    found = Verification(home.address, home.folder.parent.name, LISTING, vault.storage)
    began = time.monotonic()
    try:
        with home.reading() as catalog:
            chosen = subject(home, catalog, vault, record, found)
            if chosen is not None:
                roots = record.vault(vault.storage).setdefault("roots", {})
                with Tree(scratch) as tree, recorded(chosen, catalog, scratch) as places:
                    _compare(chosen, places, tree, pace, found)
                    _same_root(chosen, tree.root(), roots, found)
    except BackupdError as error:
        found.broken_off(error)
    found.seconds = time.monotonic() - began
    return found


def _compare(
    chosen: Subject, places: Recorded, tree: Tree, pace: Pace, found: Verification
) -> None:
    listed = _files(chosen.vault.entries(chosen.snapshot))
    for place, entry in joined(_leaves(places(), tree), listed):
        pace.beat()
        found.items += entry is not None
        found.size += entry.size if entry else 0
        found.of_items += place is not None
        found.of_size += place.size if place else 0
        for flaw in _judged(chosen, place, entry):
            found.note(flaw)
    found.share = 1.0
    found.facts.update(by=places.by, leaves=tree.leaves, time=chosen.snapshot.time)


def _same_root(chosen: Subject, root: str, roots: dict[str, str], found: Verification) -> None:
    """What is recorded of a snapshot never changes."""
    found.facts.update(root=root)
    before = roots.setdefault(chosen.snapshot.id, root)
    if before != root:
        short = chosen.snapshot.short_id
        what = f"What is recorded of snapshot {short} is not what was recorded of it at first: the root was {before[:16]} and is {root[:16]}."
        found.note(Flaw("record", short, what, ALTERED))


def _leaves(places: Iterator[Place], tree: Tree) -> Iterator[Place]:
    for place in places:
        tree.add(leaf(place.path, place.collection, place.key, place.sha256))
        yield place


def _files(entries: Iterator[Entry]) -> Iterator[Entry]:
    """The items among the entries, by their paths inside the mirror."""
    for each in entries:
        path = each.path.lstrip("/")
        if each.type != "dir" and not is_ours(path):
            yield Entry(path, each.type, each.size, each.mtime)


def _judged(chosen: Subject, place: Place | None, entry: Entry | None) -> Iterator[Flaw]:
    snapshot = f"snapshot {chosen.snapshot.short_id} in {chosen.vault.storage}"
    if place is None and entry is not None:
        what = f"{entry.path} is in {snapshot} and nothing that was recorded speaks of it."
        yield Flaw("added", entry.path, what, "`backupd verify --level 1` also compares the mirror: see there.")  # fmt: skip
    elif place is not None and entry is None:
        yield Flaw("missing", place.path, f"{place.path} is not in {snapshot}.", INCOMPLETE)
    elif place is not None and entry is not None and place.size != entry.size:
        what = f"{place.path} has {entry.size} bytes in {snapshot}; {place.size} are recorded."
        yield Flaw("altered", place.path, what, INCOMPLETE)
