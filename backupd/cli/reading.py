"""The command status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console

from backupd.app import App
from backupd.cli.context import Context
from backupd.cli.options import Json
from backupd.cli.output import emit, size, table
from backupd.cli.plain import printable
from backupd.marks import mark_of
from backupd.report.readiness import Readiness, answers, readiness, verdict
from backupd.report.status import AccountStatus
from backupd.report.status import in_words as age


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


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


def _app(context: typer.Context) -> App:
    found: Context = context.obj
    return found.app()
