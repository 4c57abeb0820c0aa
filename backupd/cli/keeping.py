"""The commands that remove: forget (retention, or one person as a whole) and prune."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from backupd.app import App
from backupd.cli.context import Context
from backupd.cli.incidents import whoever_asks
from backupd.cli.output import emit, table
from backupd.cli.plain import printable
from backupd.errors import BackupdError, UserError, VaultUnreachable
from backupd.home import Home
from backupd.jobs.keeping import Rounds, forget_all, prune_all
from backupd.vaults.erasure import RECORD, Erasure, erase, of_person
from backupd.vaults.forget import ForgetResult, PruneResult
from backupd.vaults.retention import Choice

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Accounts = Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…", help="Addresses or globs; all when none is given.")]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.command()(forget)
    app.command()(prune)


def forget(
    context: typer.Context,
    accounts: Accounts = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be forgotten.")] = False,
    approve: Annotated[bool, typer.Option("--approve-removals", help="Forget however many it is.")] = False,
    account: Annotated[str, typer.Option("--account", metavar="ADDRESS", help="With --everything: whom.")] = "",
    everything: Annotated[bool, typer.Option("--everything", help="Erase a person: every vault, the mirror, the catalog, ledgers.")] = False,
    reason: Annotated[str, typer.Option("--reason", help="With --everything: why; it is written down.")] = "",
    yes: Annotated[str, typer.Option("--yes-erase", metavar="ADDRESS", help="With --everything, for scripts: the address once more.")] = "",
    as_json: Json = False,
) -> int:  # fmt: skip
    """Forget the snapshots that [retention] does not keep; `prune` then frees their space.

    With --everything one person is erased, for good: ask for it twice.
    """
    given: Context = context.obj
    if everything or account or yes or reason:
        if not (everything and account and reason.strip()) or accounts or dry_run or approve:
            raise UserError(
                "Erasing a person takes --everything, --account ADDRESS and --reason TEXT, and nothing else.",
                hint="To forget old snapshots only: `backupd forget [ACCOUNT…]`.",
                reason="usage",
            )
        return _erase(given.app(), account, reason.strip(), yes, as_json)
    rounds = forget_all(given.app(), accounts or (), approved=approve, dry_run=dry_run)
    emit(_told(rounds, dry_run), as_json, lambda out: _show(out, rounds, dry_run))
    return rounds.exit_code


def prune(
    context: typer.Context,
    accounts: Accounts = None,
    every: Annotated[bool, typer.Option("--all", help="Also vaults in which nothing was forgotten lately.")] = False,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Remove what no snapshot needs any more from the vaults in which something was forgotten."""
    given: Context = context.obj
    rounds = prune_all(given.app(), accounts or (), every_vault=every)
    emit(_told(rounds, False), as_json, lambda out: _show(out, rounds, False))
    return rounds.exit_code


def _told(rounds: Rounds, dry_run: bool) -> dict[str, Any]:
    told = [
        {
            "account": each.address,
            "source": each.source,
            **_done(each),
            "held": each.held,
            "errors": each.errors,
        }
        for each in rounds.results
    ]
    return {"verb": rounds.verb, "dry_run": dry_run, "accounts": told, "exit_code": rounds.exit_code}  # fmt: skip


def _done(result: ForgetResult | PruneResult) -> dict[str, Any]:
    if isinstance(result, PruneResult):
        return {"pruned": result.pruned}
    chosen = {
        storage: {
            "forgotten": [{"id": each.id, "time": each.time} for each in choice.drop],
            "kept": choice.keep,
            "ahead": choice.ahead,
        }
        for storage, choice in result.chosen.items()
    }
    return {"storages": chosen}


def _show(out: Console, rounds: Rounds, dry_run: bool) -> None:
    rows = [row for each in rounds.results for row in _rows(each, dry_run)]
    if rows:
        out.print(table(("account", "storage", rounds.verb), rows))
    for each in rounds.results:
        for storage, why in each.held.items():
            out.print(printable(f"left alone: {each.address} in {storage}: {why}"))
        for storage, error in each.errors.items():
            _show_error(out, f"{each.address} in {storage}", error)
    if not rounds.results:
        out.print("No account is held yet: run `backupd backup` first.")
    elif not rows and not any(each.held or each.errors for each in rounds.results):
        out.print(f"There is nothing to {rounds.verb}.")


def _rows(result: ForgetResult | PruneResult, dry_run: bool) -> list[tuple[str, str, str]]:
    if isinstance(result, PruneResult):
        return [(result.address, storage, "done") for storage in result.pruned]
    return [
        (result.address, storage, _words(choice, dry_run))
        for storage, choice in result.chosen.items()
    ]


def _words(choice: Choice, dry_run: bool) -> str:
    verb = "would go" if dry_run else "forgotten"
    words = f"{len(choice.drop)} {verb}, {len(choice.keep)} kept"
    if choice.drop:
        words += f" (gone: {choice.drop[0].time[:16]} to {choice.drop[-1].time[:16]})"
    if choice.ahead:
        words += f"; {choice.ahead} lie in the FUTURE: is this machine's clock right?"
    return words


def _show_error(out: Console, where: str, error: BackupdError) -> None:
    out.print(printable(f"error: {where}: {error}"))
    if error.hint:
        out.print(printable(f"hint: {error.hint}"))


# -- erasing a person -------------------------------------------------------------------------


def _erase(app: App, address: str, reason: str, yes: str, as_json: bool) -> int:
    homes = of_person(app, address)
    _confirm(homes, yes or _typed(app, homes, as_json))
    done = [erase(app, home, whoever_asks(), reason) for home in homes]
    code = VaultUnreachable.exit_code if any(each.storages for each in done) else 0
    emit({"erased": done, "exit_code": code}, as_json, lambda out: _show_erased(out, app, done))
    return code


def _typed(app: App, homes: list[Home], as_json: bool) -> str:
    """What a person types who has read what will be gone."""
    if as_json or not sys.stdin.isatty():
        raise UserError(
            f"Nothing was erased: nobody is there to confirm it for {homes[0].address}.",
            hint="At a terminal you are asked to type the address; a script adds --yes-erase ADDRESS.",
            reason="not-confirmed",
        )
    for home in homes:
        storages = ", ".join(vault.storage for vault in app.vaults(home))
        sys.stderr.write(
            printable(f"{home.address} ({home.folder.parent.name}): every snapshot in {storages}, the mirror, "
            "the catalog and the ledgers of restores will be gone. Nobody can bring them back.\n")
        )  # fmt: skip
    return str(typer.prompt("Type the address to erase it", default="", show_default=False, err=True))  # fmt: skip


def _confirm(homes: list[Home], typed: str) -> None:
    if typed.strip().lower() != homes[0].address:
        raise UserError(
            f"Nothing was erased: {typed!r} is not {homes[0].address}.",
            hint="The address must be typed as a whole.",
            reason="not-confirmed",
        )


def _show_erased(out: Console, app: App, done: list[Erasure]) -> None:
    for each in done:
        out.print(printable(f"{each.account} ({each.source}): erased: {', '.join(each.removed) or 'nothing'}"))  # fmt: skip
        for left in each.left:
            out.print(printable(f"NOT removed: {left.what}: {left.why}"))
        if each.storages:
            out.print(f"Run the same command again once that is repaired. Still to be done: {', '.join(each.storages)}.")  # fmt: skip
    out.print(f"Written down in {app.config.state_dir / RECORD}. Signed reports of before name the address and hold no content.")  # fmt: skip
