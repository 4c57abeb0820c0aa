"""The commands that do the main job: accounts, sync, snapshot, backup, restore, demo."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.console import Console

from backupd.app import App, Run, plan
from backupd.cli.output import Context, SyncProgress, emit, printable, show_run, size, table
from backupd.contents import Selection
from backupd.errors import UserError
from backupd.model import Service
from backupd.ports import Parcel
from backupd.restore import RestoreResult, restore

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Accounts = Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…", help="Addresses or globs; all when none is given.")]  # fmt: skip
Approve = Annotated[bool, typer.Option("--approve-removals", help="Remove what vanished at the source, however much it is.")]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add these commands."""
    for command in (accounts, sync, snapshot, backup):
        app.command()(command)
    app.command("restore")(restore_command)
    app.command()(demo)


def accounts(context: typer.Context, as_json: Json = False) -> int:
    """List the accounts that the sources offer."""
    found = list(_app(context).accounts())

    def render(out: Console) -> None:
        rows = [
            (each.address, each.kind, each.name, " ".join(sorted(each.services))) for each in found
        ]
        out.print(table(("account", "kind", "name", "services"), rows))
        out.print(f"\n{len(found)} accounts")

    emit({"accounts": found}, as_json, render)
    return 0


def sync(
    context: typer.Context,
    accounts: Accounts = None,
    approve: Approve = False,
    as_json: Json = False,
) -> int:
    """Bring the mirrors up to date with the source."""
    progress = SyncProgress(as_json)
    run = _app(context).sync(accounts or (), approved=approve, progress=progress)
    progress.end()
    return _told(run, as_json)


def snapshot(context: typer.Context, accounts: Accounts = None, as_json: Json = False) -> int:
    """Write a snapshot of every changed mirror into the vaults."""
    return _told(_app(context).snapshot(accounts or ()), as_json)


def backup(
    context: typer.Context,
    accounts: Accounts = None,
    approve: Approve = False,
    as_json: Json = False,
) -> int:
    """Sync, then snapshot: the whole backup, once."""
    progress = SyncProgress(as_json)
    run = _app(context).backup(accounts or (), approved=approve, progress=progress)
    progress.end()
    return _told(run, as_json)


def restore_command(
    context: typer.Context,
    to: Annotated[
        str, typer.Option("--to", metavar="TARGET", help="folder:PATH, or a [targets.NAME].")
    ],
    account: Annotated[
        str | None, typer.Option(help="Whose data; needed when several accounts are held.")
    ] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="The newest snapshot not after this time.")
    ] = None,
    snapshot_id: Annotated[
        str | None, typer.Option("--snapshot", metavar="ID", help="This snapshot.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(metavar="SERVICES", help="mail,calendar,contacts,files")
    ] = None,
    folder: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only folders whose path matches.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option("--from", metavar="WHERE", help="mirror, vault, or a [storage.NAME]."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: Json = False,
) -> int:
    """Put an account into another place, and prove that it arrived.

    Nothing at the target is deleted; running it again adds only what is missing there.
    """
    app = _app(context)
    home = app.home(account)
    selection = Selection(services_named(only), folder)
    use_mirror = _use_mirror(
        origin, exact=bool(at or snapshot_id), there=(home.mirror_path).is_dir()
    )
    storage = None if origin in {None, "mirror", "vault"} else origin
    with (
        app.target(to) as target,
        app.held(
            home, storage=storage, snapshot=snapshot_id, at=at, from_mirror=use_mirror
        ) as held,
    ):
        if dry_run:
            planned = plan(held, selection)
            emit(
                {"account": held.address, "plan": planned},
                as_json,
                lambda out: _show_plan(out, planned),
            )
            return 0
        findings = list(target.preflight())
        result = restore(held, target, selection, _progress(as_json))
    emit(
        {"restore": result, "preflight": findings, "missing": result.missing},
        as_json,
        lambda out: show_restore(out, result, to),
    )
    return result.exit_code


def demo(
    folder: Annotated[
        str | None,
        typer.Option("--keep", metavar="PATH", help="Keep everything in this new folder."),
    ] = None,
    as_json: Json = False,
) -> int:
    """The whole story in one minute on a simulated tenant: backup, cut-off, restore, proof."""
    from backupd.demo.story import Narrator, play  # noqa: PLC0415 - nobody else needs a server

    narrator = Narrator(as_json)
    code = play(folder, narrator)
    if as_json:
        emit({"demo": narrator.facts, "exit_code": code}, as_json, lambda _: None)
    return code


def services_named(only: str | None) -> frozenset[Service]:
    """The services in a comma list. Raises UserError for an unknown one."""
    if only is None:
        return frozenset(Service)
    try:
        return frozenset(Service(word.strip()) for word in only.split(","))
    except ValueError as error:
        raise UserError(
            f"--only {only!r} names no service that there is.",
            hint=f"Choose from: {','.join(Service)}.",
        ) from error


def show_restore(out: Console, result: RestoreResult, to: str) -> None:
    """What was put, and what was proven."""
    total = sum(result.states.values())
    rows = [(service, str(result.expected[service]), str(result.services[service])) for service in Service if result.expected[service]]  # fmt: skip
    out.print(table(("service", "in snapshot", "handled"), rows, right=(1, 2)))
    states = ", ".join(f"{count} {state}" for state, count in sorted(result.states.items()))
    out.print(
        f"\n{result.address} → {to}: {states or 'nothing to do'} ({size(result.size)}, {result.seconds:.1f} s)"
    )
    out.print(
        f"proven: {result.proven} of {total} items were read back with the hash they were fetched with"
    )
    for problem in result.problems:
        out.print(f"{problem.state}: {printable(problem.path)}: {printable(problem.why)}")
    if result.missing:
        out.print(f"error: {result.missing} items that the snapshot names were not in it")
    if result.states["damaged"]:
        out.print(
            "hint: restore from the vault (--from vault) or from an older snapshot (--at TIME)."
        )


def _show_plan(out: Console, planned: list[tuple[str, int, int]]) -> None:
    out.print(table(("collection", "items", "size"), [(name, str(items), size(bytes_)) for name, items, bytes_ in planned], right=(1, 2)))  # fmt: skip
    out.print("\nNothing was written: this was a dry run.")


def _use_mirror(origin: str | None, *, exact: bool, there: bool) -> bool:
    if origin == "mirror" and exact:
        raise UserError(
            "The mirror is the account as it is now; --at and --snapshot need a vault.",
            hint="Leave out --from mirror.",
        )
    return origin == "mirror" or (origin is None and there and not exact)


def _progress(as_json: bool) -> Any:
    progress = SyncProgress(as_json)

    def heard(parcel: Parcel, result: RestoreResult) -> None:
        progress.line(
            f"{parcel.service} · {'/'.join(parcel.collection)} · {sum(result.states.values())} items"
        )

    return heard


def _told(run: Run, as_json: bool) -> int:
    payload = {
        "accounts": run.outcomes,
        "source_errors": run.source_errors,
        "exit_code": run.exit_code,
    }
    emit(payload, as_json, lambda out: show_run(run, out))
    return run.exit_code


def _app(context: typer.Context) -> App:
    found: Context = context.obj
    return found.app()
