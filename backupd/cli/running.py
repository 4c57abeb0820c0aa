"""What keeps backupd running: the service itself, its units for systemd, and the evacuation."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backupd import config
from backupd.app import App, Outcome
from backupd.cli.commands import Accounts, Json
from backupd.cli.context import Context
from backupd.cli.output import emit, show_run
from backupd.cli.plain import printable
from backupd.daemon import units
from backupd.daemon.evacuation import Evacuated, evacuate
from backupd.model import Account

MINUTE, HOUR, DAY = 60, 3600, 86_400


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(run)
    app.command("evacuate")(evacuate_now)
    app.command("install-service")(install_service)


def run(context: typer.Context) -> int:
    """Stay and back up, as [schedule] says, until told to stop. SIGHUP reads the configuration anew."""
    from backupd.daemon.service import serve  # noqa: PLC0415 - nobody else needs a scheduler

    given: Context = context.obj
    return serve(_path(given), debug=given.debug)


def evacuate_now(context: typer.Context, accounts: Accounts = None, as_json: Json = False) -> int:
    """Get out what can still be got out, what hurts most first, and snapshot it everywhere."""
    given: Context = context.obj
    app = given.app()
    result = evacuate(app, accounts or (), None if as_json else _tell)
    payload = {
        "accounts": result.run.outcomes,
        "source_errors": result.run.source_errors,
        "protected": result.protected,
        "lacking": result.lacking,
        "newest_item_age": result.ages,
        "exit_code": result.run.exit_code,
    }
    emit(payload, as_json, lambda out: _render(app, result, out))
    return result.run.exit_code


def install_service(
    context: typer.Context,
    timer: Annotated[
        bool,
        typer.Option("--timer", help="A backup every quarter of an hour instead of a service."),
    ] = False,
    user: Annotated[
        str, typer.Option("--user", metavar="NAME", help="The user that it runs as.")
    ] = "backupd",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the files; write none.")
    ] = False,
    root: Annotated[str, typer.Option("--root", hidden=True)] = "/",
) -> int:
    """Write the units for systemd that fit this installation, and say what to type next."""
    given: Context = context.obj
    path = _path(given).resolve()
    plan = units.plan(path, config.load(path), user=user, timer=timer)
    if dry_run:
        for name, text in plan.files.items():
            sys.stdout.write(f"# {name}\n{text}\n")
    else:
        units.write(plan, Path(root))
    complaints = units.verify(plan)
    for line in complaints:
        sys.stderr.write(f"systemd-analyze: {line}\n")
    told = sys.stderr if dry_run else sys.stdout
    told.write("\n".join(("Next:", *(f"  {line}" for line in plan.next_steps))) + "\n")
    return 1 if complaints else 0


def _path(given: Context) -> Path:
    return config.find(Path(given.path) if given.path else None)


def _tell(stage: str, account: Account, outcome: Outcome) -> None:
    """One line on stderr for every stage of every account."""
    said = ", ".join(f"failed ({error.reason})" for error in outcome.errors) or "done"
    sys.stderr.write(f"{stage}: {account.address}: {said}\n")


def _render(app: App, result: Evacuated, out: Console) -> None:
    show_run(result.run, out)
    total = len(result.run.outcomes)
    places = " and ".join(app.config.storage) or "no storage"
    out.print(
        f"\n{len(result.protected)} of {total} accounts: all that is held here is in {places}."
    )
    for address, age in sorted(result.ages.items(), key=lambda each: -each[1]):
        out.print(f"  {address}: the newest protected message is {_words(age)} old")
    if not result.lacking:
        out.print(f"\nDone: a snapshot of everything is in {places}.")
        return
    out.print(f"\nNOT done: of {len(result.lacking)} accounts not everything could be had:")
    for scope, why in sorted(result.lacking.items()):
        out.print(printable(f"  {scope}: {why}"))


def _words(seconds: float) -> str:
    for unit, size in (("days", DAY), ("hours", HOUR), ("minutes", MINUTE)):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} seconds"
