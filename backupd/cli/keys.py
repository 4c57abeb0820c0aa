"""The keys of the vaults: listed, made for recovery and cut into shares, tried, and changed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from backupd import private
from backupd.app import App
from backupd.cli.asking import read_shares
from backupd.cli.context import Context
from backupd.cli.lazy import Group
from backupd.cli.output import SyncProgress, emit, table
from backupd.cli.plain import printable
from backupd.errors import UserError
from backupd.jobs import keyring, rotation
from backupd.jobs.keyring import Done, Listed, Made
from backupd.keys.kit import sheet

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Shares = Annotated[
    list[str] | None,
    typer.Option(
        "--shares", metavar="FILE", help="A file with shares, - for stdin; may be repeated. Else they are asked for."
    ),
]  # fmt: skip

keys = typer.Typer(
    help="The keys of the vaults: list them, make recovery keys, try and change them.",
    cls=Group,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(keys, name="keys")


@keys.command("list")
def list_(
    context: typer.Context,
    accounts: Annotated[list[str] | None, typer.Argument(metavar="[ACCOUNT]…")] = None,
    storage: Annotated[str | None, typer.Option(metavar="NAME", help="Only in this one.")] = None,
    as_json: Json = False,
) -> int:
    """Every key of every vault, as restic lists them."""
    app = _app(context)
    found = keyring.lists(app, keyring.vaults(app, accounts or (), storage))

    def render(out: Console) -> None:
        rows = [
            (each.place, key.id[:8], key.user + (" (in use)" if key.current else ""), key.host, key.created[:19])
            for each in found
            for key in each.keys
        ]  # fmt: skip
        out.print(table(("vault", "key", "user", "made on", "made at"), rows))
        _show_failures(out, {each.place: each.error for each in found if each.error})

    emit({"vaults": found}, as_json, render)
    return _code(found)


@keys.command()
def recovery(
    context: typer.Context,
    cut: Annotated[
        str, typer.Option("--shares-of", metavar="K/N", help="Shares that are needed, and that are made.")
    ] = "2/3",
    output: Annotated[
        str | None, typer.Option(metavar="FOLDER", help="Write one file for each share there, instead of showing them.")
    ] = None,
    extend: Annotated[
        bool, typer.Option("--extend", help="Give new vaults the key of the set in use; asks for shares.")
    ] = False,
    renew: Annotated[
        bool, typer.Option("--renew", help="A new set although there is one; the older one still opens.")
    ] = False,
    given: Shares = None,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Make a recovery key for every vault, and cut the one secret behind them into shares.

    Every combination of shares is joined, and every vault opened with the outcome, before any share is
    shown. The secret is kept nowhere: whoever has enough shares has the vaults.
    """
    app, progress = _app(context), SyncProgress(as_json)
    if extend:
        told = keyring.extend(app, read_shares(given or ()), progress.line)
        progress.end()
        return _told(told, "with the recovery key", as_json)
    folder = _new_folder(output)
    if folder is None and (as_json or not sys.stdout.isatty()):
        raise UserError(
            "Shares are not written into a pipe or a log.",
            hint="Run this in a terminal, or name a new folder with --output.",
        )
    files: list[str] = []

    def hand_out(made: Made) -> None:
        progress.end()
        files.extend(_write(made, folder) if folder else ())
        emit(_made(made, files), as_json, lambda out: _show_made(out, made, files))
        sys.stdout.flush()

    made = keyring.make(app, _fraction(cut), hand_out, progress.line, renew=renew)
    return 1 if made.vaults.failed else 0


@keys.command()
def drill(
    context: typer.Context,
    everything: Annotated[
        bool, typer.Option("--all", help="Every vault, not one of each storage.")
    ] = False,
    given: Shares = None,
    as_json: Json = False,
) -> int:
    """Open vaults with shares and nothing else, read from them, and note that it was done."""
    app, progress = _app(context), SyncProgress(as_json)
    told = keyring.drill(app, read_shares(given or ()), everything=everything, heard=progress.line)
    progress.end()
    return _told(told, "opened with the shares alone", as_json)


@keys.command()
def retire(context: typer.Context, as_json: Json = False) -> int:
    """Take the recovery keys of older sets out of every vault, after a drill with the set in use."""
    app, progress = _app(context), SyncProgress(as_json)
    told = keyring.retire(app, progress.line)
    progress.end()
    return _told(told, "without an older recovery key", as_json)


@keys.command()
def rotate(
    context: typer.Context,
    storage: Annotated[
        str | None, typer.Option(metavar="NAME", help="Whose password; needed when there are several.")
    ] = None,
    as_json: Json = False,
) -> int:  # fmt: skip
    """Give the vaults of a storage a new password; the password file is replaced when all of them open with it."""
    app, progress = _app(context), SyncProgress(as_json)
    done = rotation.rotate(app, _one_storage(app, storage), progress.line)
    progress.end()

    def render(out: Console) -> None:
        _show_failures(out, done.vaults.failed)
        if not done.replaced:
            out.print(
                "The password was not changed: the old one opens every vault. Run this again."
            )
            return
        out.print(f"{done.file} holds the new password of {_count(done.vaults)}.")
        out.print(f"The old one is kept in {done.before}: vaults that are not held here (of accounts that left) still have it. Destroy that file when there are none.")  # fmt: skip
        out.print("Whoever knew the old password and copied a vault's keys can still read that copy. A new kit: `backupd kit`.")  # fmt: skip

    emit({"rotation": done}, as_json, render)
    return 1 if done.vaults.failed else 0


# -- shares ---------------------------------------------------------------------------------------


def _fraction(cut: str) -> tuple[int, int]:
    needed, slash, number = cut.partition("/")
    if not (slash and needed.isdecimal() and number.isdecimal()):
        raise UserError(f"--shares-of {cut!r} is not K/N.", hint="2/3: any two of three shares.")
    return int(needed), int(number)


def _new_folder(output: str | None) -> Path | None:
    """The folder for shares, empty and for its owner alone, before anything else is done."""
    if output is None:
        return None
    folder = Path(output)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise UserError(f"{folder} is not empty.", hint="Name a new folder for the shares.")
    return folder


def _write(made: Made, folder: Path) -> list[str]:
    number = len(made.shares)
    files = []
    for place, share in enumerate(made.shares, 1):
        file = folder / f"share-{place}-of-{number}.txt"
        private.create(file, f"{share}\n")
        page = file.with_suffix(".html")
        private.create(page, sheet(share, place, number, made.secret.mark))
        files += [str(file), str(page)]
    return files


def _made(made: Made, files: list[str]) -> dict[str, Any]:
    """For programs; the shares themselves lie in files."""
    return {
        "set": made.secret.mark,
        "files": files,
        "joined": {"tried": made.joined.tried, "possible": made.joined.possible},
        "vaults": {"done": sorted(made.vaults.done), "failed": made.vaults.failed},
    }


def _show_made(out: Console, made: Made, files: list[str]) -> None:
    number = len(made.shares)
    joined = made.joined
    how = "all" if joined.complete else "drawn by chance, every share among them, out of"
    out.print(f"Set {made.secret.mark}. {joined.tried} combinations of shares were joined ({how} {joined.possible}), and {_count(made.vaults)} opened with what came out.")  # fmt: skip
    _show_failures(out, made.vaults.failed)
    for place, share in enumerate(made.shares, 1) if not files else ():
        out.print(f"\nShare {place} of {number} (set {made.secret.mark})\n")
        words = share.split()
        for row in range(0, len(words), 5):
            out.print("   ".join(f"{row + at:2}. {word:10}" for at, word in enumerate(words[row : row + 5], 1)))  # fmt: skip
    for file in files:
        out.print(f"written: {file}")
    where = "The files are secret: print each, hand it over, and delete it." if files else "They are shown this once and kept nowhere: write them down."  # fmt: skip
    out.print(f"\n{where} One person a share, none of them beside the kit. Then try them: `backupd keys drill`.")  # fmt: skip


# -- what became of it ----------------------------------------------------------------------------


def _told(told: Done, what: str, as_json: bool) -> int:
    def render(out: Console) -> None:
        out.print(f"{_count(told)} {what}.")
        _show_failures(out, told.failed)

    emit({"done": sorted(told.done), "failed": told.failed}, as_json, render)
    return 1 if told.failed else 0


def _count(told: Done) -> str:
    number = len(told.done)
    return "1 vault" if number == 1 else f"{number} vaults"


def _show_failures(out: Console, failed: Any) -> None:
    for place, error in failed.items():
        out.print(printable(f"error: {place}: {error}"))
        if error.hint:
            out.print(printable(f"hint: {error.hint}"))


def _code(found: list[Listed]) -> int:
    return 1 if any(each.error for each in found) else 0


def _one_storage(app: App, storage: str | None) -> str:
    names = list(app.config.storage)
    if storage is None and len(names) != 1:
        raise UserError("Which storage?", hint=f"--storage with one of: {', '.join(names) or 'none'}.")  # fmt: skip
    return storage or names[0]


def _app(context: typer.Context) -> App:
    found: Context = context.obj
    return found.app()
