"""A new machine out of vaults alone: configuration, mirrors and catalogs, as far as snapshots tell.

What has to be known is where vaults lie (a recovery kit, or repositories by name) and what opens them (shares, or
the password). Each account comes back whole or not at all, from whichever storage has the newest snapshot of it, and
a run that was killed is taken up by the next. Afterwards the old work goes on: a sync lists everything at the source
and fetches only what no vault held.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from backupd import private
from backupd.app import App
from backupd.catalog import Catalog
from backupd.config import Config
from backupd.errors import BackupdError, IntegrityError, UserError
from backupd.home import Home, home_of
from backupd.jobs.leads import Lead, Opening, opened
from backupd.keys import keybook
from backupd.keys import vault_keys as keys
from backupd.keys.keybook import Drill, Noted
from backupd.keys.vault_keys import SHARED
from backupd.locks import exclusive
from backupd.mirror.names import parse_time
from backupd.model import Snapshot
from backupd.sync.rebuild import Rebuilt, account_of, rebuild
from backupd.vaults.vault import COMPLETE, Vault, vault_of

Heard = Callable[[str], None]

PASSWORD_BYTES = 24
"""Of the password that the vaults get for the new machine: 192 bits."""

ARRIVING = "arriving"
"""The folder of an account that is coming out of a vault; it becomes its mirror when it is whole."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What a vault holds of an account, or why that cannot be told."""

    lead: Lead
    vault: Vault | None = None
    newest: Snapshot | None = None
    error: BackupdError | None = None


@dataclass(frozen=True, slots=True)
class Returned:
    """What became of an account.

    Attributes:
        storage, when: where its newest snapshot lay, and when that was made.
        already: it was here before.
        damaged: paths that are not as their index says; they are fetched again.
        errors: what went wrong on the way; the account is here if there is a storage all the same.
    """

    account: str
    source: str
    storage: str = ""
    when: str = ""
    already: bool = False
    items: int = 0
    size: int = 0
    damaged: tuple[str, ...] = ()
    errors: tuple[BackupdError, ...] = ()


class Return:
    """Brings the accounts of a configuration back from its vaults."""

    def __init__(self, config: Config, opening: Opening, heard: Heard) -> None:
        self._app = App(config)
        self._config = config
        self._opening = opening
        self._heard = heard
        self._scratch = config.state_dir / "tmp"
        self._noted: dict[str, Noted] = {}
        self._unknown: set[str] = set()
        """Storages whose password was made just now: no vault can have it."""

    def prepare(self) -> None:
        """The password of each storage, for its owner alone. Raises UserError for a storage without one."""
        for section in self._config.storage.values():
            file = section.password_file
            if file is None or file.exists():
                continue
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            known = self._opening.password
            text = known.read_text(encoding="utf-8") if known else f"{secrets.token_urlsafe(PASSWORD_BYTES)}\n"  # fmt: skip
            private.create(file, text)
            if not known:
                self._unknown.add(section.name)

    def look(self, leads: Sequence[Lead]) -> list[Standing]:
        """The newest snapshot behind every lead; opens every vault, changes none."""
        with ThreadPoolExecutor(self._config.limits.workers) as workers:
            return list(workers.map(self._stand, leads))

    def come(self, leads: Sequence[Lead]) -> list[Returned]:
        """Every account, several at a time; they fail one by one."""
        owners: dict[tuple[str, str], list[Lead]] = {}
        for lead in leads:
            owners.setdefault((lead.source, lead.account), []).append(lead)
        with ThreadPoolExecutor(self._config.limits.workers) as workers:
            returned = list(workers.map(self._account, owners.items()))
        self._remember_set()
        return returned

    def _remember_set(self) -> None:
        """Whoever came back by shares has tried them: that counts as a drill."""
        known = keybook.load(self._config.state_dir)
        if not self._noted or known.mark not in {"", self._opening.set.mark}:
            return
        used = self._opening.set
        last = Drill(time.time(), used.mark, tuple(sorted(used.shares)), len(self._noted))
        vaults = known.vaults | self._noted
        keybook.save(self._config.state_dir, replace(used, vaults=vaults, drill=last, number=known.number, made=known.made))  # fmt: skip

    def _stand(self, lead: Lead) -> Standing:
        try:
            with self._vault(lead) as vault:
                return Standing(lead, vault, vault.pick())
        except BackupdError as error:
            return Standing(lead, error=error)

    @contextmanager
    def _vault(self, lead: Lead) -> Iterator[Vault]:
        """A vault, opened by what we were given. Raises UserError and as `Repository.run`."""
        section = self._config.storage.get(lead.storage)
        if section is None:
            raise UserError(f"The kit names a storage {lead.storage} that its configuration lacks.", hint="Make a new kit, or name vaults with --repository.", reason="no-kit")  # fmt: skip
        whole = vault_of(section.model_copy(update={"password_file": None, "password_command": "false"}), self._app.restic, self._config.state_dir, (lead.source, lead.account))  # fmt: skip
        with opened(whole.repository, self._opening, (lead.name,), self._scratch) as repository:
            yield replace(whole, repository=repository)

    def _account(self, owned: tuple[tuple[str, str], list[Lead]]) -> Returned:
        (source, address), leads = owned
        try:
            return self._one(home_of(self._config.state_dir, source, address), leads)
        except BackupdError as error:
            return Returned(address, source, errors=(error,))

    def _one(self, home: Home, leads: list[Lead]) -> Returned:
        source, address = leads[0].source, leads[0].account
        home.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(home.folder / "lock", address):
            if home.catalog_path.exists():
                return Returned(address, source, already=True)
            found = sorted(map(self._stand, leads), key=lambda each: each.newest.time if each.newest else "", reverse=True)  # fmt: skip
            errors = [each.error for each in found if each.error]
            for each in found:
                if each.newest is None:
                    continue
                try:
                    return self._from(home, each, found, errors)
                except BackupdError as error:
                    errors.append(error)
        return Returned(address, source, errors=tuple(errors))

    def _from(
        self, home: Home, chosen: Standing, found: list[Standing], errors: list[BackupdError]
    ) -> Returned:
        """One account out of one vault: bytes first, then the catalog, and its name last."""
        lead, newest = chosen.lead, chosen.newest
        assert newest is not None  # noqa: S101 - chosen for it
        self._heard(f"{lead.account}: from {lead.storage}, snapshot of {newest.time[:16]}")
        arriving, fresh = home.folder / ARRIVING, home.folder / f"{ARRIVING}.sqlite"
        with self._vault(lead) as vault:
            self._room(vault, newest)
            shutil.rmtree(arriving, ignore_errors=True)
            vault.extract(newest, arriving)
        described = _described(arriving)
        for old in home.folder.glob(f"{fresh.name}*"):
            old.unlink()
        with Catalog(fresh) as catalog:
            told = rebuild(catalog, arriving, described)
            self._note(catalog, newest, found)
        self._admit(found, errors)
        shutil.rmtree(home.mirror_path, ignore_errors=True)  # of a run that was killed below
        arriving.rename(home.mirror_path)
        home.remember(account_of(described))
        private.settle(fresh, home.catalog_path)  # from here on it counts as being here
        return _returned(lead, newest, told, errors)

    def _room(self, vault: Vault, newest: Snapshot) -> None:
        """Raise UserError when the account cannot fit on the disk."""
        with vault.content(newest, "account.json") as content:
            told = json.loads(content.read())
        needed = sum(int(each["bytes"]) for each in told["collections"])
        free = shutil.disk_usage(self._config.state_dir).free
        if needed > free:
            raise UserError(
                f"{vault.address} needs {needed >> 20} MiB, and {free >> 20} MiB are free at {self._config.state_dir}.",
                hint="Name another --state-dir, or restore straight from the vault: `backupd restore --from`.",
                reason="disk-full",
            )

    def _note(self, catalog: Catalog, newest: Snapshot, found: Sequence[Standing]) -> None:
        """What the catalog of the old machine knew of snapshots, so that the next follows them."""
        with catalog.transaction():
            catalog.touched()
        with catalog.transaction():
            for each in found:
                if each.newest is None:
                    continue
                kept = f"snapshot:{each.lead.storage}"
                same = each.newest.tree == newest.tree
                catalog.put(f"{kept}:id", each.newest.id)
                catalog.put(f"{kept}:time", str(_seconds(each.newest.time)))
                catalog.put(f"{kept}:revision", str(catalog.revision) if same else "")
                if same:
                    catalog.put(f"{kept}:items", str(catalog.totals()[0]))
            if COMPLETE in newest.tags:
                for row in catalog.collections():
                    catalog.put(f"synced:{row.service}", str(_seconds(newest.time)))

    def _admit(self, found: Sequence[Standing], errors: list[BackupdError]) -> None:
        """Give the vaults a key for the password of the new machine, where they were opened by shares."""
        for each in found:
            section = self._config.storage.get(each.lead.storage)
            if each.vault is None or self._opening.secret is None or section is None:
                continue
            file = section.password_file
            assert file is not None  # noqa: S101 - `configured` sets it
            try:
                with self._vault(each.lead) as vault:
                    ours = vault.repository
                    fresh = each.lead.storage in self._unknown and each.lead.name != SHARED
                    if fresh or not keys.opens(ours, file):
                        keys.add(ours, file, "backupd")
                    assert isinstance(ours.password, Path)  # noqa: S101 - a password of shares is handed over
                    key = keys.current(ours, ours.password)
                    self._noted[f"{each.lead.storage}/{each.lead.name}"] = Noted(key.id, time.time())  # fmt: skip
            except BackupdError as error:
                errors.append(error)


def _returned(
    lead: Lead, newest: Snapshot, told: Rebuilt, errors: Sequence[BackupdError]
) -> Returned:
    return Returned(
        lead.account, lead.source, lead.storage, newest.time, items=told.items, size=told.size,
        damaged=tuple(told.damaged), errors=tuple(errors),
    )  # fmt: skip


def _described(root: Path) -> dict[str, Any]:
    try:
        described: dict[str, Any] = json.loads((root / "account.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise IntegrityError("The snapshot has no account.json that can be read.", hint="Name another storage or an older snapshot; `restic restore` gives the files in any case.") from error  # fmt: skip
    return described


def _seconds(time_: str) -> int:
    moment = parse_time(time_)
    return int(moment.timestamp()) if moment else int(time.time())
