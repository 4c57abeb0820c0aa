"""The command repair."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from backupd.cli.commands import Accounts, Json
from backupd.cli.context import Context
from backupd.cli.output import SyncProgress, emit
from backupd.cli.plain import printable
from backupd.errors import UserError
from backupd.jobs.repairs import exit_code, repair_account
from backupd.repair import Repair
from backupd.verify.findings import Verification

SHOWN = 30
"""Deeds of an account that are shown; --json names more."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("repair")(repair_command)


def repair_command(
    context: typer.Context,
    accounts: Accounts = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="NAME", help="Only the vaults in this storage."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: Json = False,
) -> int:
    """Heal what verify found damaged, from whatever is still whole.

    The mirror is healed from a vault, the catalog from the mirror, a vault from the mirror and the other storages.
    Nothing that can still be read is removed; what was bad is kept aside. Afterwards everything is verified.
    """
    given: Context = context.obj
    app, progress = given.app(), SyncProgress(as_json)
    homes = app.homes(accounts or ())
    if not homes:
        raise UserError("No account that is held matches.", hint="`backupd status` lists them.", reason="which-account")  # fmt: skip
    if storage:
        app.vault(homes[0], storage)
    done = [repair_account(app, home, storage, dry_run=dry_run, progress=progress.line) for home in homes]  # fmt: skip
    progress.end()
    code = exit_code([repair for repair, _ in done], [each for _, found in done for each in found])
    payload = {"repairs": [_payload(*each) for each in done], "exit_code": code}

    def render(out: Console) -> None:
        for repair, found in done:
            _show(out, repair, found)
        if dry_run:
            out.print("\nNothing was changed: this was a dry run.")

    emit(payload, as_json, render)
    return code


def _payload(repair: Repair, found: list[Verification]) -> dict[str, object]:
    return {
        "account": repair.home.address,
        "healed": repair.healed,
        "deeds": repair.deeds,
        "left": [{"what": what, "hint": hint} for what, hint in repair.left],
        "aside": str(repair.aside) if repair.aside.exists() else "",
        "verdicts": [
            {"level": each.level, "storage": each.storage, "verdict": each.verdict}
            for each in found
        ],
    }


def _show(out: Console, repair: Repair, found: list[Verification]) -> None:
    address = printable(repair.home.address)
    if not repair.deeds and not repair.left:
        out.print(f"{address}: nothing had to be repaired")
    for line in repair.healed[:SHOWN]:
        out.print(printable(f"{repair.home.address}: {line}"))
    if repair.deeds > SHOWN:
        out.print(f"… and {repair.deeds - SHOWN} more")
    for what, hint in repair.left[:SHOWN]:
        out.print(printable(f"NOT healed: {what}"))
        out.print(printable(f"hint: {hint}"))
    if repair.aside.exists():
        out.print(f"What was bad is kept in {repair.aside}; remove it when you are sure.")
    bad = [each for each in found if each.exit_code]
    for each in bad:
        out.print(printable(f"still not whole: level {each.level} {each.storage or 'mirror'}: {each.flaws[0].what}"))  # fmt: skip
    if found and not bad:
        out.print(f"{address}: verified: everything that is held is whole")
