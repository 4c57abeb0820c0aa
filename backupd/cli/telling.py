"""What tells people how things stand: the alerts, and the report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backupd.alerts import Alerts, Taken
from backupd.cli.commands import Accounts, Json
from backupd.cli.context import Context
from backupd.cli.output import emit
from backupd.cli.plain import printable
from backupd.errors import ConfigError
from backupd.readiness import (
    Readiness,
    as_document,
    as_page,
    as_text,
    channel_findings,
    readiness,
)


class Form(StrEnum):
    """What the report is made as."""

    HTML = "html"
    JSON = "json"
    TEXT = "text"


FORMS: dict[Form, Callable[[Readiness], str]] = {
    Form.HTML: as_page,
    Form.JSON: lambda found: json.dumps(as_document(found), indent=1, ensure_ascii=False) + "\n",
    Form.TEXT: lambda found: printable(as_text(found)),
}

alerts = typer.Typer(help="The channels over which people are told.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(alerts, name="alerts")
    app.command()(report)


def report(
    context: typer.Context,
    accounts: Accounts = None,
    form: Annotated[
        Form, typer.Option("--format", help="A page for people, JSON, or plain text.")
    ] = Form.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write it there.")
    ] = None,
) -> int:
    """How ready you are to be cut off: a page to print and to hand on, from what is known here."""
    given: Context = context.obj
    found = readiness(given.app(), accounts or ())
    text = FORMS[form](found)
    if output is None:
        sys.stdout.write(text)
    else:
        _replace(output, text)
        sys.stderr.write(f"{output} is written.\n")
    return 0


def _replace(path: Path, text: str) -> None:
    """As a whole, and for its owner alone: it names accounts."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8", errors="replace")
    fresh.replace(path)


@alerts.command("test")
def try_channels(context: typer.Context, as_json: Json = False) -> int:
    """Send a test message over every channel, and say of each whether it was taken."""
    given: Context = context.obj
    app = given.app()
    answers = Alerts(app.config.alerts, app.config.state_dir).test()
    if not answers:
        raise ConfigError(
            "The configuration names no channel.",
            hint="Set urls in [alerts]: config.example.toml shows how.",
        )
    findings = channel_findings(app, ask=True)
    taken = sum(each.taken for each in answers)
    payload = {"channels": answers, "taken": taken, "findings": findings}

    def render(out: Console) -> None:
        for each in answers:
            out.print(_answer(each))
        for finding in findings:
            if finding.level != "ok":
                out.print(printable(f"\n{finding.level}: {finding.subject}: {finding.message}"))
                out.print(printable(f"hint: {finding.hint}"))

    emit(payload, as_json, render)
    return 0 if taken == len(answers) else 1


def _answer(answer: Taken) -> str:
    said = "taken" if answer.taken else f"NOT taken: {answer.why}"
    return printable(f"channel {answer.channel}: {said}")
