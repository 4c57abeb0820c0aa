"""The commands that only look: status, doctor, snapshots, ls, find."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from backupd.app import App
from backupd.catalog import Catalog, loads
from backupd.catalog.rows import FolderRow, ItemRow
from backupd.cli.context import Context
from backupd.cli.output import emit, size, table
from backupd.cli.plain import printable
from backupd.doctor import examine
from backupd.errors import UserError
from backupd.home import Home
from backupd.marks import mark_of
from backupd.ports import Finding
from backupd.readiness import Readiness, answers, readiness, verdict
from backupd.status import AccountStatus
from backupd.status import in_words as age

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Account = Annotated[
    str | None, typer.Option("--account", help="Whose data; needed when several are held.")
]
SnapshotId = Annotated[
    str | None, typer.Option("--snapshot", metavar="ID", help="Look into this snapshot.")
]
Storage = Annotated[str | None, typer.Option("--storage", metavar="NAME", help="In this storage.")]

MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (status, doctor, snapshots, ls, find):
        app.command()(command)


def status(
    context: typer.Context,
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…")] = None,
    as_json: Json = False,
) -> int:
    """If cut off now: what would be lost, how old is the newest copy, what is wrong."""
    found = readiness(_app(context), accounts or ())
    emit(_status_payload(found), as_json, lambda out: _show_status(out, found))
    if found.unreadable:
        return 5
    return 3 if found.now.missing else 0


def _status_payload(found: Readiness) -> dict[str, Any]:
    return {
        "cut_off_now": found.now,
        "verdict": verdict(found),
        "accounts": found.accounts,
        "cases": found.cases,
        "removals": found.removals,
        "warnings": found.warnings,
        "service": found.service,
        "places": found.places,
        "keys": found.keys,
        "unreadable": found.unreadable,
        "marks": {
            f"{each.source}/{each.address}": mark_of(each.source, each.address)
            for each in found.accounts
        },
    }


def doctor(context: typer.Context, as_json: Json = False) -> int:
    """Check configuration, credentials, permissions, restic, disk and storages."""
    found: list[Finding] = []
    for finding in examine(_app(context)):
        found.append(finding)
        if not as_json:
            _show_finding(finding)
    errors = sum(finding.level == "error" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)

    def render(out: Console) -> None:
        out.print(f"\n{errors} errors, {warnings} warnings")

    emit({"findings": found, "errors": errors, "warnings": warnings}, as_json, render)
    return 1 if errors else 0


def snapshots(
    context: typer.Context,
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…")] = None,
    storage: Storage = None,
    as_json: Json = False,
) -> int:
    """List the snapshots in the vaults, oldest first."""
    app = _app(context)
    rows = [
        (home.address, vault.storage, each)
        for home in app.homes(accounts or ())
        for vault in app.vaults(home)
        if storage in {None, vault.storage}
        for each in vault.snapshots()
    ]
    payload = [
        {"account": address, "storage": name, **_plain(each)} for address, name, each in rows
    ]

    def render(out: Console) -> None:
        lines = [(each.short_id, each.time[:19].replace("T", " "), address, name, _state(each.tags)) for address, name, each in rows]  # fmt: skip
        out.print(table(("snapshot", "time (UTC)", "account", "storage", "state"), lines))
        out.print(f"\n{len(rows)} snapshots")

    emit({"snapshots": payload}, as_json, render)
    return 0


def ls(
    context: typer.Context,
    path: Annotated[str, typer.Argument(help="A folder, such as mail/Inbox.")] = "",
    account: Account = None,
    snapshot_id: SnapshotId = None,
    storage: Storage = None,
    as_json: Json = False,
) -> int:
    """List what is held: now (from the catalog), or in a snapshot."""
    app = _app(context)
    home = app.home(account)
    if snapshot_id:
        rows = _in_snapshot(app, home, path, snapshot_id, storage)
    else:
        with home.reading() as catalog:
            rows = list(_in_catalog(catalog, path.strip("/")))
    if not rows and path.strip("/"):
        raise UserError(
            f"Nothing is held at {path!r}.", hint="`backupd ls` without a path lists the folders."
        )

    def render(out: Console) -> None:
        for name, bytes_, title in rows:
            out.print(
                printable(
                    f"{size(bytes_) if bytes_ is not None else '':>9}  {name}{'  ' + title if title else ''}"
                )
            )

    emit(
        {
            "entries": [
                {"path": name, "size": bytes_, "title": title} for name, bytes_, title in rows
            ]
        },
        as_json,
        render,
    )
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
    app = _app(context)
    homes = [app.home(account)] if account else app.homes()
    found = [
        {"account": home.address, **each} for home in homes for each in matching(home, pattern)
    ]

    def render(out: Console) -> None:
        for each in found:
            out.print(printable(f"{each['account']}  {each['path']}  {each['title']}"))
        out.print(f"\n{len(found)} found")

    emit({"found": found}, as_json, render)
    return 0


# -- rendering --------------------------------------------------------------------------------


def _show_status(out: Console, found: Readiness) -> None:
    """First the answers, then everybody."""
    out.print("If you were cut off now")
    for title, lines in answers(found):
        for number, line in enumerate(lines):
            out.print(printable(f"  {'' if number else title:<8} {line}"))
    if found.accounts:
        out.print()
        _show_accounts(out, found.accounts)
    for address, why in found.unreadable.items():
        out.print(printable(f"error: {address}: {why}"))
    for each in found.warnings:
        out.print(printable(f"{each.level}: {each.subject}: {each.message}"))
        out.print(printable(f"hint: {each.hint}"))


def _show_accounts(out: Console, found: list[AccountStatus]) -> None:
    rows = [
        (
            each.address,
            str(sum(each.items.values())),
            size(each.size),
            age(each.oldest_sync),
            age(each.worst),
            age(each.newest_copy),
            str(each.waits),
            "; ".join(each.problems) or "ok",
        )
        for each in found
    ]
    columns = ("account", "items", "size", "synced", "safe up to", "snapshot", "waiting", "state")
    out.print(table(columns, rows, right=(1, 2, 3, 4, 5, 6)))
    for line in _troubles(found):
        out.print(printable(line))


def _troubles(found: list[AccountStatus]) -> Iterator[str]:
    for each in found:
        for trouble in each.waiting:
            yield f"waiting: {each.address}: {trouble.items} with {trouble.reason}: {trouble.example}"
        for note, count in each.notes.items():
            yield f"noted: {each.address}: {count} with {note}"
        for kind, count in each.gaps.items():
            yield f"not covered: {each.address}: {count} of kind {kind}"


def _show_finding(finding: Finding) -> None:
    sys.stdout.write(printable(f"{MARKS[finding.level]} {finding.subject}: {finding.message}\n"))
    if finding.hint and finding.level != "ok":
        sys.stdout.write(printable(f"        hint: {finding.hint}\n"))


def _state(tags: frozenset[str]) -> str:
    return next((tag.removeprefix("state:") for tag in tags if tag.startswith("state:")), "")


def _plain(snapshot: Any) -> dict[str, Any]:
    return {"id": snapshot.id, "time": snapshot.time, "tags": sorted(snapshot.tags)}


# -- looking things up ------------------------------------------------------------------------

Row = tuple[str, int | None, str]


def _in_catalog(catalog: Catalog, path: str) -> Iterator[Row]:
    """The folders and items directly below a path; items carry their subject or name."""
    folders = catalog.all_folders()
    depth = path.count("/") + 1 if path else 0
    inside = {row.path for row in folders if not path or row.path.startswith(path + "/")}
    for name in sorted({"/".join(each.split("/")[: depth + 1]) for each in inside}):
        yield name + "/", None, ""
    for folder in folders:
        if folder.path == path:
            for item in catalog.items(folder=folder.id):
                yield f"{path}/{item.name}", item.size, _title(item)


def _in_snapshot(
    app: App, home: Home, path: str, snapshot_id: str, storage: str | None
) -> list[Row]:
    vault = app.vault(home, storage)
    entries = vault.entries(vault.pick(snapshot_id), "/" + path.strip("/"))
    return [(each.path.lstrip("/"), each.size, "") for each in entries if each.type == "file"]


def matching(home: Home, pattern: str) -> Iterator[dict[str, Any]]:
    """The items of an account whose path or title matches."""
    wanted = (
        pattern.casefold() if any(char in pattern for char in "*?[") else f"*{pattern.casefold()}*"
    )
    with home.reading() as catalog:
        folders: dict[int, FolderRow] = {}
        for item in catalog.items():
            folder = folders.setdefault(item.folder, catalog.folder(item.folder))
            path, title = f"{folder.path}/{item.name}", _title(item)
            if any(fnmatch.fnmatchcase(text.casefold(), wanted) for text in (path, title)):
                yield {"path": path, "title": title, "size": item.size, "sha256": item.sha256}


def _title(item: ItemRow) -> str:
    about = loads(item.about)
    return str(about.get("subject") or about.get("name") or "")


def _app(context: typer.Context) -> App:
    found: Context = context.obj
    return found.app()
