"""The command export: files out of the mirror, or whole mailboxes in a form that others import."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backupd.cli.context import Context
from backupd.cli.options import Account, Json
from backupd.cli.output import emit, size
from backupd.cli.plain import printable
from backupd.errors import ItemError, UserError
from backupd.jobs import restores
from backupd.jobs.restores import Contents, Origin
from backupd.model import Service
from backupd.ports import Parcel, Reader, Shelf
from backupd.report import lookup
from backupd.restore.contents import Selection
from backupd.restore.held import Checked


class Format(StrEnum):
    """What an export is made of."""

    FILES = "files"
    MBOX = "mbox"
    PROTON = "proton"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(export)


def export(
    context: typer.Context,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FOLDER", help="A folder for the files.")
    ],
    pattern: Annotated[
        str | None, typer.Argument(help="As for find; only for --format files.")
    ] = None,
    form: Annotated[
        Format,
        typer.Option(
            "--format",
            help="files; mbox (mail, a file each folder); proton (mail, as Proton's own export tool restores it).",
        ),
    ] = Format.FILES,
    folder: Annotated[
        str | None, typer.Option(metavar="GLOB", help="Only mail folders whose path matches.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="From the newest snapshot not after this time."),
    ] = None,
    account: Account = None,
    as_json: Json = False,
) -> int:
    """Copy matching items out of the mirror, or all mail in a form that another provider imports."""
    if form is Format.FILES:
        return _files(context, pattern, Path(output), account, as_json)
    if pattern:
        raise UserError(
            f"--format {form} takes no pattern.", hint="Choose folders with --folder GLOB."
        )
    given: Context = context.obj
    selection = Selection(frozenset({Service.MAIL}), folder)
    with restores.contents(given.app(), account, Origin(at=at)) as held:
        return _mail(form, held, selection, Path(output), as_json)


def _files(
    context: typer.Context, pattern: str | None, target: Path, account: str | None, as_json: bool
) -> int:
    if not pattern:
        raise UserError("Which items?", hint='`backupd export "*" --output FOLDER` takes all.')
    given: Context = context.obj
    home = given.app().home(account)
    copied, bytes_ = 0, 0
    for each in lookup.matching(home.catalog_path, lookup.Wanted(pattern)):
        source, place = home.mirror().absolute(each.path), target / each.path
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            shutil.copy2(source, place)
        copied, bytes_ = copied + 1, bytes_ + each.size
    if not copied:
        raise UserError(f"Nothing matches {pattern!r}.", hint="`backupd find` shows what does.")
    payload = {"exported": copied, "bytes": bytes_, "folder": str(target)}
    emit(payload, as_json, lambda out: out.print(f"{copied} items ({size(bytes_)}) in {target}"))
    return 0


def _mail(form: Format, held: Contents, selection: Selection, target: Path, as_json: bool) -> int:
    told = restores.write_mail(form, target, held.shelves(selection), _items(held, selection))
    payload = {"exported": told.messages, "damaged": told.damaged, "folder": str(target), "notes": told.notes}  # fmt: skip

    def render(out: Console) -> None:
        out.print(f"{told.messages} messages in {target}")
        for line in (*(f"damaged: {path}" for path in told.damaged), *told.notes):
            out.print(printable(line))

    emit(payload, as_json, render)
    return ItemError.exit_code if told.damaged else 0


def _items(held: Contents, selection: Selection) -> Iterator[tuple[Shelf, Parcel, Reader]]:
    for parcel, content in held.walk(selection):
        shelf = held.shelf_of(parcel.path)
        if shelf:
            yield shelf, parcel, Checked(parcel, content)
