"""The command snapshots: of one account all of them, out of its vaults; of many the newest, which is known here.

To open a vault takes its storage most of a second: what a person asks first, whether and since when there is a copy
of everybody, must not wait for hundreds of them.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer

from backupd.app import App
from backupd.cli.context import Context
from backupd.cli.options import Json, Storage
from backupd.cli.output import emit
from backupd.cli.plain import printable, show_error
from backupd.errors import BackupdError
from backupd.home import Home
from backupd.report.status import freshness
from backupd.vaults.vault import Vault


@dataclass(frozen=True, slots=True)
class Line:
    """A snapshot; `state` as it is tagged, or for one known from the catalog whether the mirror is newer."""

    account: str
    storage: str
    id: str
    time: str
    tags: list[str]
    state: str


Found = Line | tuple[str, BackupdError]
"""A snapshot, or the vault that could not be read and why."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(snapshots)


def snapshots(
    context: typer.Context,
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…")] = None,
    storage: Storage = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Open every vault, also of many accounts.")
    ] = False,
    as_json: Json = False,
) -> int:
    """List the snapshots of an account, oldest first; of several accounts the newest of each."""
    given: Context = context.obj
    app = given.app()
    homes = app.homes(accounts or ())
    whole = everything or len(homes) == 1
    found = _in_vaults(app, homes, storage) if whole else _known(app, homes, storage)
    lines, failed = [], []
    if not as_json:
        _say("snapshot", "time (UTC)", "storage", "account", "state")
    for each in found:
        if isinstance(each, tuple):
            failed.append(each)
            continue
        lines.append(each)
        if not as_json:
            _say(each.id[:8], each.time[:19].replace("T", " "), each.storage, each.account, each.state)  # fmt: skip
    if as_json:
        told = [asdict(each) for each in lines]
        errors = dict(failed)
        emit({"snapshots": told, "newest_only": not whole, "errors": errors}, True, lambda _: None)
    else:
        _end(lines, failed, whole)
    return failed[0][1].exit_code if failed else 0


def _known(app: App, homes: Sequence[Home], storage: str | None) -> Iterator[Found]:
    names = [name for name in app.config.storage if storage in {None, name}]
    for home in homes:
        try:
            fresh = freshness(home, names)
        except BackupdError as error:
            yield home.address, error
            continue
        for copy in fresh.copies:
            made = datetime.fromtimestamp(time.time() - copy.age, UTC).isoformat(timespec="seconds")
            state = "" if copy.current else "the mirror is newer"
            yield Line(home.address, copy.storage, copy.snapshot_id, made, [], state)


def _in_vaults(app: App, homes: Sequence[Home], storage: str | None) -> Iterator[Found]:
    """Vault by vault in order, while others are being read."""
    vaults = [
        vault for home in homes for vault in app.vaults(home) if storage in {None, vault.storage}
    ]
    with ThreadPoolExecutor(app.config.limits.workers) as workers:
        for each in workers.map(_of_vault, vaults):
            yield from each


def _of_vault(vault: Vault) -> list[Found]:
    try:
        return [
            Line(vault.address, vault.storage, each.id, each.time, sorted(each.tags), _state(each.tags))
            for each in vault.snapshots()
        ]  # fmt: skip
    except BackupdError as error:
        return [(f"{vault.address} in {vault.storage}", error)]


def _state(tags: frozenset[str]) -> str:
    return next((tag.removeprefix("state:") for tag in tags if tag.startswith("state:")), "")


def _say(*cells: str) -> None:
    snapshot, when, storage, account, state = map(printable, cells)
    sys.stdout.write(f"{snapshot:8}  {when:19}  {storage:10}  {account}  {state}".rstrip() + "\n")
    sys.stdout.flush()


def _end(lines: Sequence[Line], failed: Sequence[tuple[str, BackupdError]], whole: bool) -> None:
    sys.stdout.write(f"\n{len(lines)} snapshots\n")
    if not whole:
        sys.stdout.write(
            "The newest of each account in each storage, as noted here. All of one: `backupd snapshots ACCOUNT`; "
            "all of all: `--all`.\n"
        )
    for name, error in failed:
        show_error(f"{name}: {error}", error.hint, error.exit_code)
