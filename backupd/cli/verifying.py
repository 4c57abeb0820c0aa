"""The command verify: what is held, against what the sources say now."""

from __future__ import annotations

from itertools import combinations
from typing import Annotated

import typer
from rich.console import Console

from backupd.app import App
from backupd.cli.context import Context
from backupd.cli.output import emit, table
from backupd.cli.plain import printable
from backupd.cli.reading import Json
from backupd.crosscheck import CrossCheck, crosscheck
from backupd.errors import BackupdError, IntegrityError, ItemError, UserError
from backupd.home import Home
from backupd.verify import SourceCheck, verify_source

AGAINST_THE_SOURCE = 4


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(verify)


def verify(
    context: typer.Context,
    accounts: Annotated[
        list[str] | None, typer.Argument(help="Addresses or globs; all accounts without one.")
    ] = None,
    level: Annotated[
        int,
        typer.Option(
            help="4: counts and a sample against the live source, and the ways to a mailbox against each other."
        ),
    ] = AGAINST_THE_SOURCE,
    as_json: Json = False,
) -> int:
    """Prove what is held: against the live source, and where a mailbox is saved in two ways, each against the other.

    Run it after a sync: what arrived since is a difference too.
    """
    if level != AGAINST_THE_SOURCE:
        raise UserError(
            f"This version verifies at level {AGAINST_THE_SOURCE} only.",
            hint="`restic check` proves a vault, and every restore is read back.",
        )
    given: Context = context.obj
    app = given.app()
    homes = app.homes(accounts or ())
    checks, errors = _against_sources(app, homes)
    crossed = [crosscheck(*pair) for pair in _pairs(homes)]
    code = next((error.exit_code for _, error in errors), 0) or _verdict(checks, crossed)

    def render(out: Console) -> None:
        for check in checks:
            _show_check(out, check)
        for cross in crossed:
            _show_crossed(out, cross)
        for address, error in errors:
            out.print(f"error: {printable(address)}: {printable(str(error))}")
            out.print(f"hint: {printable(error.hint)}" if error.hint else "")
        if not homes:
            out.print("No account is held yet: run `backupd backup` first.")

    told = [{"account": address, "error": error} for address, error in errors]
    emit(
        {"level": level, "sources": checks, "crossed": crossed, "errors": told, "exit_code": code},
        as_json,
        render,
    )
    return code


def _against_sources(
    app: App, homes: list[Home]
) -> tuple[list[SourceCheck], list[tuple[str, BackupdError]]]:
    """Every account that its source still offers; a source is asked once."""
    checks: list[SourceCheck] = []
    errors: list[tuple[str, BackupdError]] = []
    for name in app.config.sources:
        mine = {home.address: home for home in homes if home.folder.parent.name == name}
        try:
            with app.source(name) as source:
                checks.extend(
                    verify_source(source, account, mine[account.address])
                    for account in (source.accounts() if mine else ())
                    if account.address in mine
                )
        except BackupdError as error:
            errors.append((name, error))
    return checks, errors


def _verdict(checks: list[SourceCheck], crossed: list[CrossCheck]) -> int:
    """5 where content differs, 3 where only numbers do: the next sync may settle those."""
    if any(each.differing for each in checks) or any(each.differing for each in crossed):
        return IntegrityError.exit_code
    agree = all(each.agrees for each in checks) and all(each.agree for each in crossed)
    return 0 if agree else ItemError.exit_code


def _pairs(homes: list[Home]) -> list[tuple[Home, Home]]:
    """Two homes of one address are two ways to one mailbox."""
    return [pair for pair in combinations(homes, 2) if pair[0].address == pair[1].address]


def _show_check(out: Console, check: SourceCheck) -> None:
    sampled = check.same + check.alike + check.differing
    out.print(
        f"{check.address} ({check.source}): {check.folders} folders counted, {len(check.counts)} differ; "
        f"{sampled} items fetched again: {check.same} the same bytes, {check.alike} written anew by the server "
        f"with the same content, {check.differing} different, {check.gone} gone, {check.unreadable} not to be had"
    )
    if check.counts:
        rows = [(each.path, str(each.held), str(each.counted)) for each in check.counts]
        out.print(table(("folder", "held", "at the source"), rows, right=(1, 2)))
    for path in check.named:
        out.print(f"different: {printable(path)}")


def _show_crossed(out: Console, cross: CrossCheck) -> None:
    verdict = "agree" if cross.agree else "do NOT agree"
    out.print(
        f"{cross.address}: {cross.first} and {cross.second} {verdict}; {len(cross.folders)} folders, "
        f"{cross.compared} letters compared, {cross.differing} different"
    )
    odd = [each for each in cross.folders if each.only_first or each.only_second]
    if odd:
        rows = [(each.label, *(str(number) for number in (*each.counts, each.only_first, each.only_second))) for each in odd]  # fmt: skip
        columns = ("folder", f"in {cross.first}", f"in {cross.second}", f"only in {cross.first}", f"only in {cross.second}")  # fmt: skip
        out.print(table(columns, rows, right=range(1, 5)))
    for line in cross.named:
        out.print(printable(line))
