"""Level 2: `restic check`, and all packs of a vault read over a rolling period."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator

from backupd.errors import BackupdError, VaultError, VaultLocked, VaultUnreachable
from backupd.home import Home
from backupd.patience import LATE
from backupd.vaults.vault import Vault
from backupd.verify import PACKS
from backupd.verify.findings import Flaw, Verification
from backupd.verify.record import Record
from backupd.verify.rolling import BUCKETS, Pace, in_subset, subset
from backupd.verify.vaults import must_exist, subject

PACK = re.compile(r"\b[0-9a-f]{64}\b")
"""What restic names packs, indexes and snapshots by; the words around it are for people."""

PATIENT = (0, 17)
"""The restic before which reading a pack that is not there is tried again for a quarter of an hour: there the
structure is checked by itself first."""

QUICK = 60.0
"""Seconds after which its check is suspected to wait for a pack that is not there."""

PATIENCE = 3600.0
"""Seconds to wait for a snapshot or prune that is at the vault."""

HEAL = "`backupd repair` heals what the mirror or another storage still has."
ROOM = "Is the storage full, or are its keys read-only? New snapshots cannot be written."


def verify_packs(home: Home, vault: Vault, record: Record, pace: Pace) -> Verification:
    """Check a vault's structure and read the packs that are due; what goes wrong is in the answer."""
    found = Verification(home.address, home.folder.parent.name, PACKS, vault.storage)
    began = time.monotonic()
    try:
        with home.reading() as catalog:
            if subject(home, catalog, vault, record, found) is not None:
                _check(home, catalog.totals()[1], vault, record, pace, found)
    except BackupdError as error:
        found.broken_off(error)
    found.seconds = time.monotonic() - began
    return found


def _check(
    home: Home, size: int, vault: Vault, record: Record, pace: Pace, found: Verification
) -> None:
    times = record.times(f"packs/{vault.storage}")
    number, parts = subset(times, pace, size)
    chosen = ["--read-data"] if parts == 1 else [f"--read-data-subset={number}/{parts}"]
    read = in_subset(number, parts)
    found.facts.update(subset=f"{number}/{parts}")
    with home.at_vault(vault.storage, patience=PATIENCE):
        if vault.repository.restic.version < PATIENT:
            _note(found, _structure(vault, pace.beat))
        if not found.flawed:
            _note(found, _asked(vault, ["check", *chosen], pace.beat))
    if not found.damaged and not any(each.kind == "locked" for each in found.flaws):
        times.update({f"{each:02x}": pace.now for each in read})
    fresh = [each for each in times.values() if pace.now - each <= pace.period]
    found.items, found.of_items = len(read), BUCKETS
    found.share = len(fresh) / BUCKETS
    found.facts.update(oldest=min(fresh, default=0.0))


def _note(found: Verification, flaws: Iterator[Flaw]) -> None:
    for flaw in flaws:
        found.note(flaw)


def _structure(vault: Vault, beat: Callable[[], None]) -> Iterator[Flaw]:
    """What an old restic finds without reading data; packs that are missing are found by their names, if need be."""
    try:
        vault.run(["check"], beat=beat, within=QUICK)
    except VaultUnreachable as error:
        if error.reason != LATE:
            raise
        absent = _absent(vault)
        for name in absent:
            what = f"{vault.repository.label}: pack {name} does not exist"
            yield Flaw("vault-file", name, what, HEAL)
        if absent:
            return
    except VaultError:
        pass  # asked again, and looked at
    else:
        return
    yield from _asked(vault, ["check"], beat)


def _absent(vault: Vault) -> list[str]:
    """The packs that an index names and that are not there."""
    wanted: set[str] = set()
    for name in _listed(vault, "index"):
        with vault.repository.stream(["cat", "index", name, "--no-lock"]) as out:
            wanted.update(str(each["id"]) for each in json.load(out).get("packs") or ())
    return sorted(wanted - set(_listed(vault, "packs")))


def _listed(vault: Vault, what: str) -> list[str]:
    with vault.repository.stream(["list", what, "--no-lock"]) as out:
        return PACK.findall(out.read().decode("ascii", "replace"))


def _asked(vault: Vault, arguments: list[str], beat: Callable[[], None]) -> Iterator[Flaw]:
    """What the check finds. Raises as `Repository.run` when the storage does not answer.

    A check that fails is asked for again without a lock: one that then goes well could only not
    write its lock, and one that fails again, while the vault can be opened, has found damage.
    """
    try:
        vault.run(arguments, beat=beat)
    except VaultLocked as error:
        yield Flaw("locked", vault.storage, str(error), error.hint, damage=False)
        return
    except VaultError as first:
        if first.exit_code != VaultError.exit_code:
            raise  # the storage does not answer
        try:
            vault.repository.run([*arguments, "--no-lock"], beat=beat)
        except VaultError as second:
            must_exist(vault)
            yield from _damage(vault, second)
        else:
            what = f"{vault.repository.label} can be read, but not written to: {first}"
            yield Flaw("read-only", vault.storage, what, ROOM, damage=False)


def _damage(vault: Vault, error: VaultError) -> Iterator[Flaw]:
    """One flaw for every file of the vault that restic names, or one for all."""
    named: dict[str, str] = {}
    for line in error.said:
        for name in PACK.findall(line):
            named.setdefault(name, line)
    for name, line in named.items():
        yield Flaw("vault-file", name, f"{vault.repository.label}: {line}", HEAL)
    if not named:
        yield Flaw("vault-damaged", vault.storage, str(error), HEAL)
