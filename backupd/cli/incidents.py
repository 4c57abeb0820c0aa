"""The commands for the day something is wrong: incidents, approve, release."""

from __future__ import annotations

import getpass
import os
import time
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from backupd.cli.context import Context
from backupd.cli.output import emit
from backupd.cli.plain import printable
from backupd.cutoff.incidents import Incidents, Removal, for_deletions, scope_of
from backupd.cutoff.verdict import FROZEN, Case, Cause, Evidence, State
from backupd.errors import UserError

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]

TOLD = 5
"""Bad answers shown of a case when many are listed."""

MEANING = {
    Cause.TRANSIENT: "the provider does not answer",
    Cause.THROTTLED: "the provider asks for a pause",
    Cause.CREDENTIAL: "our secret, certificate or sign-in is not accepted",
    Cause.CLIENT: "our configuration or clock is at fault",
    Cause.CONSENT: "a permission is missing or was taken away",
    Cause.APP: "our application was disabled, deleted or blocked",
    Cause.LICENCE: "a licence was taken away or has lapsed",
    Cause.ACCOUNT: "the account was disabled or deleted",
    Cause.TENANT: "the whole tenant is refused",
    Cause.DELETIONS: "a large part has vanished",
    Cause.DOMAIN: "the mail domain is gone, or its mail goes elsewhere",
    Cause.NONE: "",
}


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (incidents, approve, release):
        app.command()(command)


def incidents(
    context: typer.Context,
    scope: Annotated[
        str | None,
        typer.Argument(help="SOURCE, SOURCE/ADDRESS or ADDRESS; everything without one."),
    ] = None,
    newest: Annotated[int, typer.Option(help="How many answers to show of each case.")] = 0,
    as_json: Json = False,
) -> int:
    """Which accounts may be cut off, on what evidence, and which removals wait for your word."""
    store = _store(context)
    cases = [case for case in store.cases() if _means(case.scope, scope)]
    cases = [case for case in cases if scope or case.state is not State.HEALTHY]
    waiting = [
        each for each in store.removals() if _means(scope_of(each.source, each.address), scope)
    ]
    told = [(case, _telling(store, case, newest, whole=scope is not None)) for case in cases]
    payload = {
        "cases": [
            _case(case) | {"evidence": [asdict(each) for each in found]} for case, found in told
        ],
        "removals": [asdict(each) for each in waiting],
    }

    def render(out: Console) -> None:
        for case, found in told:
            _show_case(out, case, found)
        for removal in waiting:
            _show_removal(out, removal)
        if not told and not waiting:
            out.print("Nothing is suspected, and no removal waits for approval.")

    emit(payload, as_json, render)
    return 0


def approve(
    context: typer.Context,
    run: Annotated[
        str, typer.Argument(help="The id that the guard told; `backupd incidents` lists it.")
    ],
    as_json: Json = False,
) -> int:
    """Let the next sync remove exactly what the guard stopped, and nothing else."""
    store = _store(context)
    found = next((each for each in store.removals() if each.run == run), None)
    if found is None:
        raise UserError(
            f"No removal {run} waits for approval.",
            hint="`backupd incidents` lists those that do. A removal that has grown has another id.",
            reason="no-removal",
        )
    store.approve(found.source, found.address, run, whoever_asks())
    told = f"The next sync of {found.address} may remove {_counts(found)}."
    case = store.frozen(found.source, found.address)
    if case and not for_deletions(case):
        told += f" It is frozen for another cause: not before `backupd release {case.scope}`."
    emit({"approved": asdict(found)}, as_json, lambda out: out.print(printable(told)))
    return 0


def release(
    context: typer.Context,
    scope: Annotated[str, typer.Argument(help="SOURCE, SOURCE/ADDRESS or ADDRESS.")],
    reason: Annotated[str, typer.Option(help="Why; it is kept with your name.")],
    as_json: Json = False,
) -> int:
    """Lift a freeze by hand: removals, emptier snapshots and forgetting go on as usual."""
    store = _store(context)
    named = [case.scope for case in store.cases() if _means(case.scope, scope) and case.frozen]
    chosen = scope if scope in named or len(named) != 1 else named[0]
    if len(named) > 1 and scope not in named:
        raise UserError(
            f"{len(named)} frozen cases match {scope}.",
            hint=f"Name one: {', '.join(named[:10])}.",
            reason="which-scope",
        )
    if not reason.strip():
        raise UserError("Why?", hint="Say it with --reason: it is kept.", reason="usage")
    case = store.release(chosen, whoever_asks(), reason.strip(), time.time())
    told = f"{chosen} is released. It stays so until it has recovered and is refused again."
    emit({"released": _case(case)}, as_json, lambda out: out.print(printable(told)))
    return 0


def _telling(store: Incidents, case: Case, newest: int, *, whole: bool) -> list[Evidence]:
    """The answers to show: of one case all the newest, of many what speaks against each."""
    if whole or newest:
        return store.evidence(case.scope, newest or 50)
    found = store.evidence(case.scope, 200)
    return [each for each in found if each.cause or each.rung == "release"][-TOLD:]


def _store(context: typer.Context) -> Incidents:
    found: Context = context.obj
    return found.app().incidents


def whoever_asks() -> str:
    """The user at the terminal, also behind sudo."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _means(scope: str, named: str | None) -> bool:
    """Whether a person who names `named` means this scope."""
    if named is None:
        return True
    wanted, scope = named.casefold(), scope.casefold()
    return scope == wanted or scope.startswith(f"{wanted}/") or scope.endswith(f"/{wanted}")


def _case(case: Case) -> dict[str, object]:
    return asdict(case) | {"frozen": case.frozen}


def _show_case(out: Console, case: Case, found: list[Evidence]) -> None:
    frozen = (
        ", frozen" if case.frozen else f", released by {case.released}" if case.released else ""
    )
    out.print(printable(f"{case.scope}: {case.state}{frozen} since {_time(case.since)}"))
    if case.state in FROZEN or case.state is State.DEGRADED:
        out.print(f"  {MEANING[case.cause]}")
    for each in found:
        code = f" {each.code}" if each.code else ""
        said = f"{each.cause or 'good'}{code}"
        out.print(
            printable(f"  {_time(each.when)}  {each.rung:<12} {said}: {each.said or 'no errors'}")
        )
    if case.state in FROZEN and case.frozen:
        out.print("  Nothing of it is removed, and its last good snapshots are pinned.")
        out.print(printable(f'  To lift that: backupd release {case.scope} --reason "…"'))
    out.print("")


def _show_removal(out: Console, removal: Removal) -> None:
    state = f"approved by {removal.who}" if removal.approved else "waits for approval"
    out.print(printable(f"{scope_of(removal.source, removal.address)}: a removal {state}"))
    out.print(printable(f"  {_counts(removal)} would go; stopped {_time(removal.when)}"))
    if not removal.approved:
        out.print(f"  If it was meant: backupd approve {removal.run}")
    out.print("")


def _counts(removal: Removal) -> str:
    return ", ".join(f"{count} {service} items" for service, count in removal.counts.items())


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
