"""Erasing one person: every vault, the mirror, the catalog, ledgers and incidents; and a record of it.

Vaults go first. What cannot be removed now (a storage that only adds, one that is down, versions that
a lock keeps) is named in the record, and the same command tries again what is left. The record,
`<state_dir>/erasures.jsonl`, holds who, when, why and what, and nothing of what was erased.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from backupd.app import App
from backupd.config import AccountFilter
from backupd.cutoff.incidents import scope_of
from backupd.errors import BackupdError, GuardTripped, UserError, VaultError
from backupd.home import Home, home_of
from backupd.jobs.keeping import anybody_held, why_held
from backupd.mirror import names
from backupd.vaults.abreast import at_once
from backupd.vaults.forget import ELSEWHERE
from backupd.vaults.locations import parse
from backupd.vaults.vault import Vault

RECORD = "erasures.jsonl"

PATIENCE = 120.0
"""Seconds for which a run that is at the account is waited for."""

PARTS = frozenset({"config", "data", "index", "keys", "locks", "snapshots"})
"""What a restic repository consists of."""


@dataclass(frozen=True, slots=True)
class Left:
    """Something that could not be removed, and why."""

    what: str
    why: str


@dataclass(frozen=True)
class Erasure:
    """One line of the record.

    Attributes:
        when: seconds since 1970.
        who: the user who did it; `reason` in that person's words.
        storages: those whose vault of this person is not done with: tried again by the same command.
    """

    when: float
    who: str
    reason: str
    account: str
    source: str
    removed: tuple[str, ...] = ()
    left: tuple[Left, ...] = ()
    storages: tuple[str, ...] = ()


@dataclass
class _Work:
    removed: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    storages: list[str] = field(default_factory=list)


def of_person(app: App, address: str) -> list[Home]:
    """The homes of exactly this address, and those of which an earlier erasure left something.

    Raises UserError when there is none, or when a source would bring the person back; GuardTripped
    while the account is frozen or a removal waits.
    """
    wanted = address.lower()
    homes = {home.folder: home for home in app.homes() if home.address == wanted}
    for line in records(app.config.state_dir):
        if line.get("account") == wanted and line.get("storages"):
            home = home_of(app.config.state_dir, str(line["source"]), wanted)
            homes.setdefault(home.folder, home)
    if not homes:
        raise UserError(
            f"Nothing is held of {address}.", hint="`backupd status` lists the accounts, whole addresses.", reason="which-account"
        )  # fmt: skip
    for home in homes.values():
        _may_go(app, home)
    return list(homes.values())


def erase(app: App, home: Home, who: str, reason: str) -> Erasure:
    """Erase an account here and in every storage, and write it down."""
    work = _Work()
    source, address = home.folder.parent.name, home.address
    with _alone(home):
        for vault, done in at_once(app.vaults(home), lambda each: _erase_vault(app, each)):
            try:
                for left in done.result():
                    work.left.append(left)
                work.removed.append(f"snapshots in {vault.storage}")
            except BackupdError as error:
                work.left.append(Left(f"the vault in {vault.storage}", str(error)))
                work.storages.append(vault.storage)
        for what, path in _places(app, home):
            _remove(what, path, work)
    erasure = Erasure(
        app.clock(), who, reason, address, source, tuple(work.removed), tuple(work.left), tuple(work.storages)
    )  # fmt: skip
    _write(app.config.state_dir, erasure)
    return erasure


def records(state_dir: Path) -> Iterator[dict[str, Any]]:
    """What was erased, the newest line of each account only, oldest first."""
    try:
        lines = (state_dir / RECORD).read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for line in lines:
        with suppress(ValueError, KeyError, TypeError):
            told = json.loads(line)
            newest[told["source"], told["account"]] = told
    yield from newest.values()


# -- whether it may be ------------------------------------------------------------------------


def _may_go(app: App, home: Home) -> None:
    source, address = home.folder.parent.name, home.address
    held = why_held(app, home)
    if held:
        raise GuardTripped(
            f"{address} is not erased: {held}.",
            hint="What may be the last copy of somebody who is cut off stays. Release it first "
            f"(`backupd release {scope_of(source, address)} --reason …`), then erase.",
            reason="frozen",
        )
    section = app.config.sources.get(source)
    if section and AccountFilter(section.accounts).takes(address):
        raise UserError(
            f"{address} is not erased: the next sync of {source} would fetch everything again.",
            hint=f'Add "!{address}" to `accounts` of [sources.{source}], `systemctl reload backupd` if it '
            "runs, then erase.",
            reason="would-return",
        )
    if _served(app, scope_of(source, address)):
        raise UserError(
            f"{address} is not erased: `backupd run` still cares for it.",
            hint="It has not read the changed configuration yet: `systemctl reload backupd`, then erase.",
            reason="would-return",
        )


def _served(app: App, scope: str) -> bool:
    """Whether a service that runs has this account in its care."""
    try:
        told = json.loads((app.config.state_dir / "service.json").read_text(encoding="utf-8"))
        if told["stopped"] or scope not in told["accounts"]:
            return False
        os.kill(int(told["pid"]), 0)
    except PermissionError:
        return True  # it runs as somebody else
    except (OSError, ValueError, TypeError, KeyError):
        return False
    return True


@contextmanager
def _alone(home: Home) -> Iterator[None]:
    """With nobody else at the account, where there is still something of it here."""
    if not home.catalog_path.exists():
        yield
        return
    with home.writing(patience=PATIENCE):
        yield


# -- vaults -----------------------------------------------------------------------------------


def _erase_vault(app: App, vault: Vault) -> list[Left]:
    """Remove all that a vault holds of its account; what stays behind. Raises what keeps it from that."""
    if vault.append_only:
        raise VaultError(f"{vault.storage} is {ELSEWHERE}", reason="append-only")
    if not vault.repository.exists():
        return []
    ids = [each.id for each in vault.snapshots()]
    vault.forget(ids)
    held = anybody_held(app) if vault.shared else ""
    if held:
        return [
            Left(
                f"the data in the shared vault of {vault.storage}", f"until the next prune: {held}"
            )
        ]
    if not vault.shared:
        _forget_cache(app, vault)
    vault.prune(everything=True)
    return _earlier_versions(app, vault) + _empty_vault(vault)


def _earlier_versions(app: App, vault: Vault) -> list[Left]:
    """What an object store keeps although it was deleted: encrypted, and nothing that we could remove."""
    health = app.storages.health(vault.storage)
    what = f"earlier versions of the encrypted objects in {vault.storage}"
    if health.object_lock == "locks":
        return [Left(what, "until their lock ends; then a rule of the bucket must expire them")]
    if health.object_lock == "versions":
        return [Left(what, "the bucket keeps them until a rule of its own expires them")]
    return []


def _empty_vault(vault: Vault) -> list[Left]:
    """A vault that nobody has anything in goes as a whole, where it is a folder of this machine."""
    if vault.shared or vault.repository.run(["snapshots", "--no-lock"]):
        return []
    place = parse(vault.repository.location)
    if place.kind != "local":
        why = "it holds no data any more, but its name says whose it was: remove that folder at the storage"
        return [Left(f"the empty vault {vault.repository.label}", why)]
    folder = Path(place.path)
    if {each.name for each in folder.iterdir()} <= PARTS:
        shutil.rmtree(folder)
    return []


def _forget_cache(app: App, vault: Vault) -> None:
    """What restic keeps of the vault on this machine: encrypted lists of names."""
    with vault.repository.stream(["cat", "config", "--no-lock"]) as out:
        told = str(json.load(out).get("id", ""))
    if told.isalnum():
        shutil.rmtree(app.config.state_dir / "cache" / told, ignore_errors=True)


# -- what lies here ---------------------------------------------------------------------------


def _places(app: App, home: Home) -> list[tuple[str, Path]]:
    state, word = app.config.state_dir, names.component(home.address)
    source = home.folder.parent.name
    cases = sorted((state / "incidents" / names.component(source)).glob("*"))
    return [
        ("the mirror and the catalog", home.folder),
        ("the ledgers and reports of restores", state / "restores" / source / word),
        *(("what was thought of the account", each) for each in cases if _is_case(each, word)),
    ]


def _is_case(path: Path, word: str) -> bool:
    return path.name in {f"{word}{suffix}" for suffix in (".json", ".jsonl", ".stopped")}


def _remove(what: str, path: Path, work: _Work) -> None:
    try:
        if path.is_dir():
            shutil.rmtree(path)
        elif path.exists():
            path.unlink()
        else:
            return
        work.removed.append(what)
    except OSError as error:
        work.left.append(Left(f"{what} ({path})", error.strerror or str(error)))


def _write(state_dir: Path, erasure: Erasure) -> None:
    path = state_dir / RECORD
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(erasure), ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
