"""The command restore: one account or a whole list of them, planned, run, proven and reported."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from backupd import config
from backupd.app import App
from backupd.cli.context import Context
from backupd.cli.output import SyncProgress, emit, size
from backupd.cli.plain import printable
from backupd.cli.restore_output import payload, show_plan, show_restore
from backupd.errors import BackupdError, UserError
from backupd.jobs import bare, restores
from backupd.jobs.restores import Contents, Destination, Job, Origin
from backupd.mirror.names import parse_time
from backupd.model import Service
from backupd.ports import Parcel
from backupd.restore.contents import Selection
from backupd.restore.report import write_report
from backupd.restore.result import RestoreResult
from backupd.restore.roster import Seat, read_roster
from backupd.vaults.restic import Restic
from targets import Ask

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@dataclass(frozen=True)
class Wish:
    """What the command line asked for, the same for every account."""

    app: App
    to: str
    settings: dict[str, str]
    selection: Selection
    origin: Origin
    repository: str | None
    vault_password: Path | None
    dry_run: bool
    again: bool
    quiet: bool
    canary: str

    def ask(self) -> Ask | None:
        """Asks at the terminal, if there is one."""
        return _ask if sys.stdin.isatty() and not self.quiet else None

    @contextmanager
    def contents(self, account: str | None) -> Iterator[Contents]:
        """What is to be restored of an account."""
        if self.repository is None:
            with restores.contents(self.app, account, self.origin) as held:
                yield held
            return
        state = self.app.config.state_dir
        restic = Restic(self.app.config.restic)
        with bare.password_source(self.vault_password, state / "tmp", self.ask()) as password:
            repository = bare.repository_at(
                self.repository, account, restic, password, state / "cache"
            )
            with bare.contents_of(
                repository, account, self.origin.snapshot, self.origin.at, state / "tmp"
            ) as held:
                yield held

    @contextmanager
    def job(self, seat: Seat) -> Iterator[Job]:
        """One account on its way."""
        section, identity = restores.destination(self.app.config, self.to, self.settings)
        with self.contents(seat.account) as held:
            where = Destination(
                section, identity, seat.target_account, seat.password_file, self.ask(), self.canary
            )
            with restores.job(self.app.config.state_dir, held, where, self.selection) as made:
                yield made


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("restore")(restore_command)


def restore_command(
    context: typer.Context,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="TARGET",
            help="A [targets.NAME], folder:PATH, or a provider or protocol (proton, nextcloud, imap, …).",
        ),
    ],
    account: Annotated[
        str | None, typer.Option(help="Whose data; needed when several accounts are held.")
    ] = None,
    as_address: Annotated[
        str | None,
        typer.Option(
            "--as", metavar="ADDRESS", help="The account at the target, if it is called otherwise."
        ),
    ] = None,
    accounts: Annotated[
        str | None,
        typer.Option(
            "--accounts",
            metavar="FILE",
            help="A CSV file for many: account, target_account, password_file.",
        ),
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
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only mail received and files changed since.")
    ] = None,
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="mirror, vault, a [storage.NAME], or any repository as restic names it.",
        ),
    ] = None,
    vault_password_file: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="The password of a repository that is named by --from."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="An option of the target; may be repeated."
        ),
    ] = None,
    keep_attendees: Annotated[
        bool,
        typer.Option(
            "--keep-attendees", help="Keep people in events even where that may send mail."
        ),
    ] = False,
    canary: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Only put and remove a trial event that invites this address: does the server write?",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Put back what was removed from the target since.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    as_json: Json = False,
) -> int:
    """Put an account into another place, and prove that it arrived.

    Quiet: no invitation, reply or read receipt leaves. Nothing at the target is deleted; running
    it again goes on where it stopped and puts nothing twice.
    """
    app = _app(context, bare_repository=_location(origin) is not None)
    chosen = _settings(settings)
    if keep_attendees:
        chosen["keep_attendees"] = "true"
    wish = Wish(
        app=app,
        to=to,
        settings=chosen,
        selection=Selection(services_named(only), folder, _time(since)),
        origin=_origin(app, origin, snapshot_id, at),
        repository=None if _known(app, origin) else origin,
        vault_password=Path(vault_password_file) if vault_password_file else None,
        dry_run=dry_run,
        again=again,
        quiet=as_json,
        canary=canary or "",
    )
    if accounts is None:
        return _one(wish, Seat(account, as_address or ""), as_json)
    return _many(wish, read_roster(Path(accounts)), as_json)


# -- one account, and many ------------------------------------------------------------------------


def _one(wish: Wish, seat: Seat, as_json: bool) -> int:
    with wish.job(seat) as job:
        if wish.canary:
            return _canary(job, as_json)
        if wish.dry_run:
            planned = job.plan()
            emit({"account": planned.address, "plan": planned}, as_json, lambda out: show_plan(out, planned))  # fmt: skip
            return 0
        result = _run(wish, job, SyncProgress(as_json))
    emit(payload(result), as_json, lambda out: show_restore(out, result, wish.to))
    return result.exit_code


def _canary(job: Job, as_json: bool) -> int:
    findings = job.preflight()

    def render(out: Console) -> None:
        for each in findings:
            out.print(printable(f"{each.level}: {each.subject}: {each.message}. {each.hint}"))

    emit({"preflight": findings}, as_json, render)
    return 0


def _many(wish: Wish, seats: list[Seat], as_json: bool) -> int:
    if wish.dry_run:
        raise UserError("--dry-run takes one account at a time.", hint="Name it with --account.")
    progress = SyncProgress(as_json)
    with ThreadPoolExecutor(wish.app.config.limits.workers) as workers:
        results = list(workers.map(lambda seat: _guarded(wish, seat, progress), seats))
    codes = [result.exit_code for result in results]
    code = next((each for each in (5, 4, 2, 1, 75, 3) if each in codes), 0)

    def render(out: Console) -> None:
        for result in results:
            show_restore(out, result, wish.to)
            out.print("")
        done = codes.count(0)
        out.print(f"{done} of {len(results)} accounts are restored and proven")

    emit(
        {"restores": [payload(each)["restore"] for each in results], "exit_code": code},
        as_json,
        render,
    )
    return code


def _guarded(wish: Wish, seat: Seat, progress: SyncProgress) -> RestoreResult:
    """One of many: what ends it must not end the others."""
    try:
        with wish.job(seat) as job:
            return _run(wish, job, progress)
    except BackupdError as error:
        return RestoreResult(seat.account or "", wish.to, seat.target_account, error=error)


def _run(wish: Wish, job: Job, progress: SyncProgress) -> RestoreResult:
    findings = job.preflight()
    for step in job.target.steps():
        progress.say_once(step)

    def heard(parcel: Parcel, result: RestoreResult) -> None:
        folder = "/".join(parcel.collection)
        done = sum(result.states.values())
        progress.line(
            f"{result.address}: {parcel.service} · {folder} · {done} items, {size(result.size)}"
        )

    result = job.run(again=wish.again, listener=heard)
    progress.end()
    result.findings = findings
    result.report = str(write_report(job.desk, result))
    return result


# -- options --------------------------------------------------------------------------------------


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


def _settings(pairs: list[str] | None) -> dict[str, str]:
    found = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(
                f"--set {pair!r} is not KEY=VALUE.", hint="For example --set username=alice."
            )
        if key.rpartition(".")[2] == "password":
            raise UserError(
                "A password on the command line can be read by every user of this machine.",
                hint="Write it into a file and use --set password_file=PATH, or be asked at the terminal.",
            )
        found[key] = value
    return found


def _time(since: str | None) -> Any:
    if since is None:
        return None
    moment = parse_time(since) or parse_time(f"{since}T00:00:00Z")
    if moment is None:
        raise UserError(
            f"{since!r} is not a time.", hint="Write 2026-11-20 or 2026-11-20T18:00:00Z."
        )
    return moment


def _location(origin: str | None) -> str | None:
    """A repository's location, as opposed to a word: it has a slash or a colon."""
    return origin if origin and any(char in origin for char in "/:") else None


def _known(app: App, origin: str | None) -> bool:
    return origin in {None, "mirror", "vault", *app.config.storage} or _location(origin) is None


def _origin(app: App, origin: str | None, snapshot: str | None, at: str | None) -> Origin:
    storage = origin
    if origin == "vault":
        storage = next(iter(app.config.storage), "")
    if origin == "mirror" or not _known(app, origin):
        storage = None
    return Origin(storage, snapshot, at, mirror=origin == "mirror")


def _ask(what: str) -> str:
    return getpass.getpass(f"{printable(what)}: ")


def _app(context: typer.Context, *, bare_repository: bool) -> App:
    """The application; with a repository of its own, a restore needs no configuration."""
    given: Context = context.obj
    try:
        return given.app()
    except BackupdError:
        lost = (
            bare_repository
            and given.path is None
            and not any(p.is_file() for p in config.search_path())
        )
        if not lost:
            raise
        return App(config.Config(state_dir=config.personal_state()))
