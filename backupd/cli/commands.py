"""The commands that do the main job: accounts, sync, snapshot, backup, restore, demo."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from backupd.alerts.bell import Bell
from backupd.alerts.tidings import Cycle, Event, Ran
from backupd.app import App, Run
from backupd.cli.context import Context
from backupd.cli.output import SyncProgress, emit, show_run, table
from backupd.errors import BackupdError
from backupd.report import metrics

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Accounts = Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…", help="Addresses or globs; all when none is given.")]  # fmt: skip
Approve = Annotated[bool, typer.Option("--approve-removals", help="Remove what vanished at the source, however much it is.")]  # fmt: skip

GOOD = {0, 3}
"""Exit codes of runs after which everything that could be had is safe."""


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (accounts, sync, snapshot, backup):
        app.command()(command)
    app.command()(demo)


def accounts(context: typer.Context, as_json: Json = False) -> int:
    """List the accounts that the sources offer."""
    found = list(_app(context).accounts())

    def render(out: Console) -> None:
        rows = [
            (each.address, each.kind, each.name, " ".join(sorted(each.services))) for each in found
        ]
        out.print(table(("account", "kind", "name", "services"), rows))
        out.print(f"\n{len(found)} accounts")

    emit({"accounts": found}, as_json, render)
    return 0


def sync(
    context: typer.Context,
    accounts: Accounts = None,
    approve: Approve = False,
    as_json: Json = False,
) -> int:
    """Bring the mirrors up to date with the source."""
    progress = SyncProgress(as_json)
    app = _app(context)
    run = app.sync(accounts or (), approved=approve, progress=progress)
    progress.end()
    return _told(app, run, as_json)


def snapshot(context: typer.Context, accounts: Accounts = None, as_json: Json = False) -> int:
    """Write a snapshot of every changed mirror into the vaults."""
    app = _app(context)
    return _told(app, app.snapshot(accounts or ()), as_json)


def backup(
    context: typer.Context,
    accounts: Accounts = None,
    approve: Approve = False,
    as_json: Json = False,
) -> int:
    """Sync, then snapshot: the whole backup, once."""
    progress = SyncProgress(as_json)
    app = _app(context)
    try:
        run = app.backup(accounts or (), approved=approve, progress=progress)
    except BackupdError:
        ring(app, Cycle(good=False))
        raise
    progress.end()
    return _told(app, run, as_json, Cycle(good=run.exit_code in GOOD))


def demo(
    folder: Annotated[
        str | None,
        typer.Option("--keep", metavar="PATH", help="Keep everything in this new folder."),
    ] = None,
    as_json: Json = False,
) -> int:
    """The whole story in one minute on a simulated tenant: backup, cut-off, restore, proof."""
    from backupd.demo.story import Narrator, play  # noqa: PLC0415 - nobody else needs a server

    narrator = Narrator(as_json)
    code = play(folder, narrator)
    if as_json:
        emit({"demo": narrator.facts, "exit_code": code}, as_json, lambda _: None)
    return code


def _told(app: App, run: Run, as_json: bool, *more: Event) -> int:
    """Show what a run did; then tell whoever is to be told."""
    payload = {
        "accounts": run.outcomes,
        "source_errors": run.source_errors,
        "exit_code": run.exit_code,
    }
    emit(payload, as_json, lambda out: show_run(run, out))
    sys.stdout.flush()
    ring(app, Ran(run), *more)
    return run.exit_code


def ring(app: App, *events: Event) -> None:
    """Tell whoever is to be told, and write the figures, before the process ends."""
    bell = Bell(app, gather=0)
    for event in events:
        bell.heard(event)
    metrics.write(app)
    bell.close()


def _app(context: typer.Context) -> App:
    found: Context = context.obj
    return found.app()
