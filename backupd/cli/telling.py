"""The alerts: the channels over which people are told."""

from __future__ import annotations

import typer
from rich.console import Console

from backupd.alerts.sending import Alerts, Taken
from backupd.cli.commands import Json
from backupd.cli.context import Context
from backupd.cli.lazy import Group
from backupd.cli.output import emit
from backupd.cli.plain import printable
from backupd.errors import ConfigError
from backupd.report.readiness import channel_findings

alerts = typer.Typer(cls=Group, help="The channels over which people are told.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(alerts, name="alerts")


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
