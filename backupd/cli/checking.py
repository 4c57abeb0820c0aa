"""The command doctor."""

from __future__ import annotations

import sys

import typer
from rich.console import Console

from backupd.cli.context import Context
from backupd.cli.options import Json
from backupd.cli.output import emit
from backupd.cli.plain import printable
from backupd.doctor import examine
from backupd.ports import Finding

MARKS = {"ok": "ok     ", "warning": "warning", "error": "ERROR  "}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(doctor)


def doctor(context: typer.Context, as_json: Json = False) -> int:
    """Check configuration, credentials, permissions, restic, disk and storages."""
    given: Context = context.obj
    found: list[Finding] = []
    for finding in examine(given.app()):
        found.append(finding)
        if not as_json:
            _show_finding(finding)
    errors = sum(finding.level == "error" for finding in found)
    warnings = sum(finding.level == "warning" for finding in found)

    def render(out: Console) -> None:
        out.print(f"\n{errors} errors, {warnings} warnings")

    emit({"findings": found, "errors": errors, "warnings": warnings}, as_json, render)
    return 1 if errors else 0


def _show_finding(finding: Finding) -> None:
    sys.stdout.write(printable(f"{MARKS[finding.level]} {finding.subject}: {finding.message}\n"))
    if finding.hint and finding.level != "ok":
        sys.stdout.write(printable(f"        hint: {finding.hint}\n"))
