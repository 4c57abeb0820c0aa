"""What a restore says to people and programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from backupd.cli.output import size, table
from backupd.cli.plain import printable
from backupd.restore.plan import Plan
from backupd.restore.result import RestoreResult, continued

TWO_HOURS = 120
"""Minutes from which on a span is told in hours."""


def show_restore(out: Console, result: RestoreResult, to: str) -> None:
    """What was put, and what was proven."""
    rows = [(each.service, each.name, str(each.expected), *(str(each.states[state] or "") for state in STATES), str(each.proofs["same"])) for each in result.collections if each.expected or each.states]  # fmt: skip
    if rows:
        out.print(
            table(("service", "collection", "items", *STATES, "proven"), rows, right=range(2, 9))
        )
    states = ", ".join(
        f"{count} {state}" for state, count in sorted(result.states.items()) if count
    )
    there = f"{to} as {result.account}" if result.account not in {"", result.address} else to
    out.print(
        f"\n{result.address} → {there}: {states or 'nothing to do'} ({size(result.size)}, {result.seconds:.1f} s)"
    )
    _show_proof(out, result)
    for repair, count in result.repairs.most_common():
        out.print(f"repaired: {count} times: {printable(repair)}")
    for finding in result.findings:
        if finding.level != "ok":
            out.print(
                f"{finding.level}: {printable(finding.subject)}: {printable(finding.message)}"
            )
    for problem in result.problems:
        out.print(f"{problem.state}: {printable(problem.path)}: {printable(problem.why)}")
    _show_left(out, result)


STATES = ("restored", "repaired", "present", "quarantined")


def _show_proof(out: Console, result: RestoreResult) -> None:
    there = sum(result.states[state] for state in STATES[:3])
    how = "a sample of them byte for byte" if result.sampled else "compared in full"
    out.print(f"proven: {result.proven} of {there} items were read back from the target, {how}")


def _show_left(out: Console, result: RestoreResult) -> None:
    """What is missing and what to do about it."""
    for service, count in result.unsupported.items():
        out.print(f"left out: {count} items of {service}, which this target does not take")
        out.print(
            f"hint: backupd restore --only {service} --to folder:PATH, or another target for them"
        )
    for line in _gone_wrong(result):
        out.print(line)
    for number, step in enumerate(result.steps, 1):
        out.print(f"still to do by hand, {number}: {printable(step)}")
    if result.report:
        out.print(f"report: {result.report}")
    if result.error:
        out.print(f"error: {printable(str(result.error))}")
        hints = (result.error.hint, continued(result.error))
        out.print(f"hint: {printable(' '.join(filter(None, hints)))}")


def _gone_wrong(result: RestoreResult) -> Iterator[str]:
    if result.missing:
        yield f"error: {result.missing} items that the snapshot names were not in it"
    if result.states["damaged"]:
        yield "hint: restore from the vault (--from vault) or from an older snapshot (--at TIME)."
    if result.gone:
        yield (
            f"gone: {result.gone} items of an earlier restore were removed from the target since; "
            "--again puts them back"
        )
    if result.quarantine:
        yield f"quarantine: {result.quarantine} (each file with its reason beside it)"


def show_plan(out: Console, planned: Plan) -> None:
    """The plan of a dry run."""
    rows = [(each.service, each.name, str(each.expected), size(each.size), *(str(each.states[state] or "") for state in STATES)) for each in planned.collections if each.expected]  # fmt: skip
    out.print(table(("service", "collection", "items", "size", *STATES), rows, right=range(2, 8)))
    minutes = max(1, round(planned.seconds / 60))
    span = f"{minutes} min" if minutes < TWO_HOURS else f"{minutes / 60:.0f} h"
    out.print(
        f"\n{planned.items} items ({size(planned.size)}) to put, {planned.present} there already; about {span}"
    )
    for repair, count in planned.repairs.most_common():
        out.print(f"would be repaired: {count} times: {printable(repair)}")
    for problem in planned.problems:
        out.print(f"{problem.state}: {printable(problem.path)}: {printable(problem.why)}")
    for service, count in planned.unsupported.items():
        out.print(f"left out: {count} items of {service}, which this target does not take")
    for number, step in enumerate(planned.steps, 1):
        out.print(f"to do by hand, {number}: {printable(step)}")
    out.print("\nNothing was written: this was a dry run.")


def payload(result: RestoreResult) -> dict[str, Any]:
    """The result for a program."""
    return {"restore": result, "preflight": result.findings, "missing": result.missing, "exit_code": result.exit_code}  # fmt: skip
