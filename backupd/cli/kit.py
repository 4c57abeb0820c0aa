"""The command kit: what a person needs on the day when this machine is gone, as files to be printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backupd import config
from backupd.cli.context import Context
from backupd.cli.output import emit
from backupd.cli.plain import printable
from backupd.keys import kit as kits


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(kit)


def kit(
    context: typer.Context,
    output: Annotated[
        str, typer.Option("--output", metavar="DIR", help="The folder for it; files there are replaced.")
    ] = "recovery-kit",
    with_secrets: Annotated[
        bool, typer.Option("--with-secrets", help="Print passwords and storage keys in clear.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:  # fmt: skip
    """Write the recovery kit: a page to print, plain text, and a file for `backupd recover`.

    No secret is in it unless you ask for that. Name servers are asked how the domains stand.
    """
    given: Context = context.obj
    app = given.app()
    path = config.find(Path(given.path) if given.path else None)
    made = kits.gather(app, path, secrets=with_secrets)
    files = [str(each) for each in kits.write(made, Path(output))]
    kits.remember(app, made)

    def render(out: Console) -> None:
        for each in files:
            out.print(printable(f"written: {each}"))
        what = "It holds SECRETS in clear: lock it away." if with_secrets else "It holds no secret."
        out.print(f"\n{what} Print kit.html, and keep a copy away from this machine.")
        if not made.book.mark:
            out.print("There are no shares yet: `backupd keys recovery` makes them; then make the kit again.")  # fmt: skip

    emit({"files": files, "vaults": len(made.vaults), "secrets": with_secrets}, as_json, render)
    return 0
