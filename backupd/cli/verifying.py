"""The command verify: what is held, proven level by level."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console

from backupd.app import GRAVEST_FIRST
from backupd.cli.commands import Accounts, Json, ring
from backupd.cli.context import Context
from backupd.cli.output import SyncProgress, emit, size
from backupd.cli.plain import printable
from backupd.jobs.verifications import Wish, told, verify
from backupd.report.integrity import issue, stamp
from backupd.report.status import in_words
from backupd.verify import DRILL, NAMES, PACKS, SOURCE, USUAL
from backupd.verify.findings import Flaw, Verdict, Verification

SHOWN = 20
"""Flaws of one verification that are shown; the report and --json name more."""

WORDS = {Verdict.WHOLE: "whole", Verdict.DAMAGED: "DAMAGED", Verdict.UNPROVEN: "NOT proven"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify_command)


def verify_command(
    context: typer.Context,
    accounts: Accounts = None,
    levels: Annotated[
        list[int] | None,
        typer.Option(
            "--level",
            min=1,
            max=5,
            help="1 listing, 2 packs, 3 content, 4 live source, 5 timed drill; may be repeated. "
            "Default: 1, 2 and 3.",
        ),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option("--storage", metavar="NAME", help="Only in this storage, or only the mirror."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Read everything now, not only the share that is due.")
    ] = False,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TARGET",
            help="Where a drill restores to, and stays; else a scratch folder.",
        ),
    ] = "",
    as_json: Json = False,
) -> int:
    """Prove what is held.

    Level 1: catalog, mirror and snapshots name the same items. Level 2: restic checks the vaults and reads their packs,
    all of them within a month. Level 3: bytes out of the vaults have the hashes that were taken when they were fetched.
    Level 4: the live source confirms counts and a sample. Level 5: an account is restored, read back and timed.
    """
    given: Context = context.obj
    progress = SyncProgress(as_json)
    wish = Wish(tuple(levels or USUAL), storage, everything, to)
    app = given.app()
    found = verify(app, accounts or (), wish, lambda each: progress.line(_line(each)))
    progress.end()
    issued, code = issue(app, accounts or (), found), exit_code(found)
    payload = {"verifications": [_payload(each) for each in found], "report": str(issued.path or ""), "exit_code": code}  # fmt: skip

    def render(out: Console) -> None:
        _show(out, found)
        out.print(printable(stamp(issued)))

    emit(payload, as_json, render)
    sys.stdout.flush()
    ring(app, *told(found))
    return code


def exit_code(found: list[Verification]) -> int:
    """That of what is gravest."""
    codes = {each.exit_code for each in found}
    return next((code for code in GRAVEST_FIRST if code in codes), 0)


def _payload(found: Verification) -> dict[str, object]:
    """A verification for a program."""
    names = ("address", "source", "level", "storage", "snapshot", "began", "seconds", "items", "size", "of_items", "of_size", "share", "flaws", "flawed", "facts")  # fmt: skip
    return {"verdict": found.verdict, **{name: getattr(found, name) for name in names}}


def _show(out: Console, found: list[Verification]) -> None:
    for address in dict.fromkeys(each.address for each in found):
        out.print(printable(address))
        for each in found:
            if each.address == address:
                out.print(printable(f"  {_line(each)}"))
                for line in _flaws(each):
                    out.print(printable(f"      {line}"))
    damaged = sum(each.verdict is Verdict.DAMAGED for each in found)
    unproven = sum(each.verdict is Verdict.UNPROVEN for each in found)
    whole = len(found) - damaged - unproven
    out.print(f"\n{whole} whole, {damaged} damaged, {unproven} not proven")


def _flaws(found: Verification) -> Iterator[str]:
    hints: dict[str, list[Flaw]] = {}
    for flaw in found.flaws[:SHOWN]:
        hints.setdefault(flaw.hint, []).append(flaw)
    for hint, flaws in hints.items():
        for flaw in flaws:
            yield f"{flaw.kind}: {flaw.what}"
        if hint:
            yield f"hint: {hint}"
    if found.flawed > SHOWN:
        yield f"… and {found.flawed - min(SHOWN, len(found.flaws))} more"


def _line(found: Verification) -> str:
    """`2 packs    primary   whole      subset 1/30 of the packs read; 40 % within the last 30 days`."""
    where = found.storage or {SOURCE: found.source}.get(found.level, "mirror")
    verdict = WORDS[found.verdict]
    return f"{found.level} {NAMES[found.level]:<8} {where:<10} {verdict:<11} {_words(found)}"


def _words(found: Verification) -> str:
    if found.level == PACKS:
        return f"{found.items / max(1, found.of_items):.0%} of the packs read now, {found.share:.0%} within the period, in {_span(found)}"  # fmt: skip
    if found.level == SOURCE:
        return f"{found.items} items compared, in {_span(found)}"
    if found.level == DRILL:
        return f"{found.items} of {found.of_items} items and {size(found.size)} were back in {_span(found)}"
    if not found.storage:
        return f"{found.of_items} items named; {found.items} of them ({size(found.size)}) hashed, {found.share:.0%} within the period, in {_span(found)}"  # fmt: skip
    return f"{found.items} of {found.of_items} items, {size(found.size)}, {found.share:.0%} within the period, in {_span(found)}"  # fmt: skip


def _span(found: Verification) -> str:
    return f"{found.seconds:.1f} s" if found.seconds < 100 else in_words(round(found.seconds))  # noqa: PLR2004 - for people
