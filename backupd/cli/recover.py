"""The command recover: a new machine out of vaults alone."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Console

from backupd import config, private
from backupd.cli.asking import read_shares
from backupd.cli.context import Context
from backupd.cli.output import SyncProgress, emit, size, table
from backupd.cli.plain import printable
from backupd.config import Config
from backupd.errors import BackupdError, IntegrityError, UserError
from backupd.jobs import bare, leads
from backupd.jobs.afresh import Return, Returned, Standing
from backupd.jobs.leads import Ground, Lead, Opening


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(recover)


def recover(
    context: typer.Context,
    kit: Annotated[
        str | None, typer.Option(metavar="FILE", help="kit.json of a recovery kit: it names every vault.")
    ] = None,
    repositories: Annotated[
        list[str] | None,
        typer.Option("--repository", metavar="WHERE", help="A vault as restic names it, or a local folder of vaults; may be repeated."),
    ] = None,
    given: Annotated[
        list[str] | None,
        typer.Option("--shares", metavar="FILE", help="A file with shares, - for stdin; may be repeated. Else they are asked for."),
    ] = None,
    vault_password_file: Annotated[
        str | None, typer.Option(metavar="PATH", help="The password of the old machine, instead of shares.")
    ] = None,
    state_dir: Annotated[
        str, typer.Option(metavar="DIR", help="Where mirrors and catalogs shall lie.")
    ] = "/var/lib/backupd",
    secrets_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where secrets shall lie; `secrets` beside the configuration.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what the vaults hold.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> int:  # fmt: skip
    """Rebuild configuration, mirrors and catalogs from vaults alone, and go on where the old machine stopped.

    Every account comes whole out of its newest snapshot. The next sync fetches only what no vault held.
    Killed or broken off, it goes on when it is run again.
    """
    ground = _ground(context, state_dir, secrets_dir)
    progress = SyncProgress(as_json)
    with _opening(given, vault_password_file, ground) as opening:
        made, known = _known(kit, repositories or [], opening, ground)
        work = Return(made, opening, progress.line)
        if dry_run:
            found = work.look(known)
            progress.end()
            return _looked(found, as_json)
        work.prepare()
        if not ground.config.exists():
            leads.write_config(made, ground, known)
        returned = work.come(known)
    progress.end()
    return _told(returned, made, ground, as_json)


# -- what is given ----------------------------------------------------------------------------


def _ground(context: typer.Context, state_dir: str, secrets_dir: str | None) -> Ground:
    given: Context = context.obj
    path = Path(given.path) if given.path else config.search_path()[0]
    folder = Path(secrets_dir) if secrets_dir else path.absolute().parent / "secrets"
    state = Path(state_dir).expanduser().absolute()
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Ground(path.absolute(), state, folder.expanduser().absolute())


@contextmanager
def _opening(given: list[str] | None, named: str | None, ground: Ground) -> Iterator[Opening]:
    """Shares unless a password is named, by an option or by restic's own variables."""
    restics = any(f"RESTIC_PASSWORD{word}" in os.environ for word in ("", "_FILE", "_COMMAND"))
    if given or not (named or restics):
        yield leads.by_shares(read_shares(given or ()))
        return
    scratch = ground.state_dir / "tmp"
    with bare.password_source(Path(named) if named else None, scratch, None) as source:
        if isinstance(source, str):
            raise UserError(
                "RESTIC_PASSWORD_COMMAND is not taken here.",
                hint="Write the password into a file of mode 600 and name it with --vault-password-file.",
            )
        text = config.read_secret(source, "the password of the vaults")
        with private.handed_over(text, scratch) as place:
            yield Opening(password=place)


def _known(
    kit: str | None, repositories: list[str], opening: Opening, ground: Ground
) -> tuple[Config, list[Lead]]:
    """The configuration to write, and the vaults to look into."""
    if bool(kit) == bool(repositories):
        raise UserError(
            "Where are the vaults?",
            hint="--kit kit.json of a recovery kit, or --repository for each vault or local folder of vaults.",
            reason="usage",
        )
    if kit:
        document = _document(Path(kit))
        raw: dict[str, Any] = tomllib.loads(document["configuration"])
        known = leads.leads_of(document)
    else:
        raw, known = leads.explored(repositories, opening, ground)
    if not known:
        raise UserError("The kit names no vault.", hint="It was made before the first backup: name vaults with --repository.")  # fmt: skip
    if ground.config.exists():  # a run that was broken off, or one that is to add what is new
        return config.load(ground.config), known
    try:
        return leads.configured(raw, ground), known
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise UserError(f"The kit's configuration cannot be used: {place}: {first['msg']}.", hint="Name vaults with --repository instead.") from error  # fmt: skip


def _document(path: Path) -> dict[str, Any]:
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        tomllib.loads(document["configuration"])
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}.", hint="Name kit.json of a recovery kit.") from error  # fmt: skip
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path} is no recovery kit.", hint="Name its kit.json. Without a kit: --repository.") from error  # fmt: skip
    return document


# -- what became of it ------------------------------------------------------------------------


def _looked(found: list[Standing], as_json: bool) -> int:
    rows = [
        {
            "account": each.lead.account,
            "storage": each.lead.storage,
            "snapshot": each.newest.id if each.newest else "",
            "time": each.newest.time if each.newest else "",
            "error": str(each.error or ""),
        }
        for each in found
    ]

    def render(out: Console) -> None:
        cells = [(each["account"], each["storage"], each["time"][:16].replace("T", " "), each["error"] or "opens") for each in rows]  # fmt: skip
        out.print(table(("account", "storage", "newest snapshot (UTC)", "state"), cells))

    emit({"vaults": rows}, as_json, render)
    return 1 if any(each.error for each in found) else 0


def _told(returned: list[Returned], made: Config, ground: Ground, as_json: bool) -> int:
    lost = [each for each in returned if not (each.storage or each.already)]
    damaged = any(each.damaged for each in returned)
    awaited = [str(path) for path in _awaited(made)]

    def render(out: Console) -> None:
        cells = [
            (each.account, str(each.items or ""), size(each.size) if each.items else "", each.when[:16].replace("T", " "), each.storage, _state(each))
            for each in returned
        ]  # fmt: skip
        out.print(table(("account", "items", "size", "as of (UTC)", "from", "state"), cells, right=(1, 2)))  # fmt: skip
        for each in returned:
            _show_trouble(out, each)
        out.print(f"\nConfiguration: {ground.config}")
        for path in awaited:
            out.print(printable(f"Still to be put there: {path}"))
        option = f"--config {ground.config} "
        out.print(f"Now: backupd {option}status; backupd {option}restore --to folder:/PATH --account ADDRESS")  # fmt: skip
        if not made.sources:
            out.print("To go on with the backup, add the sources to the configuration (it says which).")  # fmt: skip

    emit({"accounts": returned, "config": str(ground.config), "awaited": awaited}, as_json, render)
    sys.stdout.flush()
    if damaged:
        return IntegrityError.exit_code
    return 1 if lost or any(each.errors for each in returned) else 0


def _awaited(made: Config) -> Iterator[Path]:
    """Secrets that the configuration names and that nobody but a person can bring."""
    for section in (*made.sources.values(), *made.targets.values(), made.alerts):
        for key, path in section:
            named = isinstance(path, Path) and key.endswith("_file") and key != "token_file"
            if named and not path.exists():
                yield path


def _state(each: Returned) -> str:
    if each.already:
        return "was here already"
    if not each.storage:
        return "NOT RECOVERED"
    return f"{len(each.damaged)} files damaged" if each.damaged else "recovered"


def _show_trouble(out: Console, each: Returned) -> None:
    errors: tuple[BackupdError, ...] = each.errors
    for error in errors:
        out.print(printable(f"error: {each.account}: {error}"))
        if error.hint:
            out.print(printable(f"hint: {error.hint}"))
    for path in each.damaged[:10]:
        out.print(printable(f"damaged: {each.account}: {path}: the next sync fetches it again"))
