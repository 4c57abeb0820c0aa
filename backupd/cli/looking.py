"""The commands ls and find: they answer at once, so nothing that loads slowly is imported here."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import typer
from rich import filesize

from backupd.cli.context import Context
from backupd.cli.options import Account, Json, SnapshotId, Storage
from backupd.cli.plain import printable
from backupd.errors import UserError
from backupd.home import homes, one_home
from backupd.report import lookup


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (ls, find):
        app.command()(command)


def ls(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A folder, such as mail/Inbox.")] = "",
    account: Account = None,
    snapshot_id: SnapshotId = None,
    storage: Storage = None,
    as_json: Json = False,
) -> int:
    """List what is held: now (from the catalog), or in a snapshot."""
    given: Context = context.obj
    wanted = path.strip("/")
    if snapshot_id:
        rows = _in_snapshot(given, account, wanted, snapshot_id, storage)
    else:
        rows = _in_catalog(given, account, wanted)
    if not rows and wanted:
        raise UserError(
            f"Nothing is held at {path!r}.", hint="`backupd ls` without a path lists the folders."
        )
    if as_json:
        entries = [{"path": name, "size": size, "title": title} for name, size, title in rows]
        _object({"entries": entries})
    else:
        _lines(f"{_size(size):>9}  {name}{'  ' + title if title else ''}" for name, size, title in rows)  # fmt: skip
    return 0


def find(
    context: typer.Context,
    pattern: Annotated[
        str,
        typer.Argument(help="A glob over paths, names and subjects; plain words match anywhere."),
    ],
    account: Account = None,
    as_json: Json = False,
) -> int:
    """Find items by subject, name or path among what is held now."""
    given: Context = context.obj
    state = given.config().state_dir
    held = [one_home(state, account)] if account else homes(state)
    results = lookup.find([home.catalog_path for home in held], pattern)
    found = ((home.address, hit) for home, hits in zip(held, results, strict=True) for hit in hits)
    if as_json:
        _object({"found": [{"account": address, "path": hit.path, "title": hit.title, "size": hit.size, "sha256": hit.sha256} for address, hit in found]})  # fmt: skip
        return 0
    count = 0
    for count, (address, hit) in enumerate(found, 1):  # noqa: B007 - what it ends at is told
        _lines([f"{address}  {hit.path}  {hit.title}"])
    _lines(["", f"{count} found"])
    return 0


Row = tuple[str, int | None, str]


def _in_catalog(given: Context, account: str | None, path: str) -> list[Row]:
    """The folders and items directly below a path; items carry their subject or name."""
    home = one_home(given.config().state_dir, account)
    below, items = lookup.listing(home.catalog_path, path)
    folders: Iterator[Row] = ((name + "/", None, "") for name in below)
    return [*folders, *((hit.path, hit.size, hit.title) for hit in items)]


def _in_snapshot(
    given: Context, account: str | None, path: str, snapshot_id: str, storage: str | None
) -> list[Row]:
    app = given.app()
    vault = app.vault(app.home(account), storage)
    entries = vault.entries(vault.pick(snapshot_id), "/" + path)
    return [(each.path.lstrip("/"), each.size, "") for each in entries if each.type == "file"]


def _size(bytes_: int | None) -> str:
    return "" if bytes_ is None else filesize.decimal(bytes_)


def _lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(printable(line) + "\n")


def _object(payload: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(payload, ensure_ascii=False) + "\n")
