"""The command report: made, signed and chained; its key; and the chain checked."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from backupd.cli.commands import Accounts, Json
from backupd.cli.context import Context
from backupd.cli.output import emit
from backupd.cli.plain import printable
from backupd.errors import IntegrityError, UserError
from backupd.report import integrity as reports
from backupd.report.chain import Fault, check
from backupd.report.integrity import Issued, chain_of, issue
from backupd.report.signing import PublicKey, read_public, signing_key

MAKE = "make"


class Reports(TyperGroup):
    """`report key` and `report verify` are commands; everything else is what a new report is about."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put in the command that is meant when none is named."""
        asks = {"--help", "-h"}
        if not args or (args[0] not in self.commands and args[0] not in asks):
            args = [MAKE, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


class Form(StrEnum):
    """What the report is shown as."""

    HTML = "html"
    JSON = "json"
    TEXT = "text"
    MAIL = "mail"


FORMS: dict[Form, Callable[[Issued], str]] = {
    Form.HTML: reports.page,
    Form.JSON: lambda issued: (
        issued.path.read_text("ascii")
        if issued.path
        else json.dumps(issued.document, indent=1) + "\n"
    ),
    Form.TEXT: lambda issued: printable(reports.text(issued)),
    Form.MAIL: lambda issued: printable("Subject: {}\n\n{}\n".format(*reports.short(issued))),
}

group = typer.Typer(cls=Reports, help="What is safe and what is proven: a signed report.")


def register(app: typer.Typer) -> None:
    """Add these commands."""
    app.add_typer(group, name="report")


@group.command(MAKE)
def make(
    context: typer.Context,
    accounts: Accounts = None,
    form: Annotated[
        Form, typer.Option("--format", help="A page for people, JSON, plain text, or a short mail.")
    ] = Form.TEXT,
    output: Annotated[
        Path | None,
        typer.Option("--output", metavar="FILE", help="Write it there; JSON with its signature."),
    ] = None,
) -> int:
    """How ready you are to be cut off, and what is proven: signed, and added to the chain of reports."""
    given: Context = context.obj
    issued = issue(given.app(), accounts or ())
    told = FORMS[form](issued)
    if output is None:
        sys.stdout.write(told)
    else:
        _replace(output, told)
        if form is Form.JSON and issued.path:
            shutil.copyfile(f"{issued.path}.sig", f"{output}.sig")
        sys.stderr.write(printable(f"{output} is written. {reports.stamp(issued)}\n"))
    return 0


@group.command("key")
def key(context: typer.Context, as_json: Json = False) -> int:
    """Print the public key that reports are checked with; it is made on first use."""
    given: Context = context.obj
    public = signing_key(given.app().config.state_dir).public
    payload = {"public_key": public.hex, "pem": public.pem, "fingerprint": public.fingerprint}

    def render(out: Console) -> None:
        out.print(public.pem, end="")
        sys.stderr.write(f"fingerprint: {public.fingerprint}\n")

    emit(payload, as_json, render)
    return 0


@group.command("verify")
def verify(
    context: typer.Context,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE]…", help="Reports; all of this machine's without one."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key", metavar="FILE", help="The public key; this machine's without one."),
    ] = None,
    as_json: Json = False,
) -> int:
    """Check reports: signed by the right key, unaltered, none removed from between them."""
    found = _checked(context, files, key_file)
    code = IntegrityError.exit_code if found.faults else 0
    payload = {"reports": found.count, "faults": found.faults, "exit_code": code}

    def render(out: Console) -> None:
        for fault in found.faults:
            out.print(printable(f"{fault.kind}: {fault.what}"))
        if found.faults:
            out.print(
                "hint: compare with the copies that you keep elsewhere; they show what was changed."
            )
        good = "all signed with the key, none missing between them" if not found.faults else f"{len(found.faults)} faults"  # fmt: skip
        out.print(f"{found.count} reports: {good} (key {found.key.fingerprint})")

    emit(payload, as_json, render)
    return code


class _Checked:
    """What came of it."""

    def __init__(self, count: int, faults: list[Fault], key: PublicKey) -> None:
        self.count, self.faults, self.key = count, faults, key


def _checked(context: typer.Context, files: list[Path] | None, key_file: Path | None) -> _Checked:
    given: Context = context.obj
    named = read_public(key_file) if key_file else None
    if files and named:
        return _Checked(len(files), list(check(files, named)), named)
    state = given.app().config.state_dir
    public = named or signing_key(state).public
    if files:
        return _Checked(len(files), list(check(files, public)), public)
    chain = chain_of(state)
    faults = list(chain.check(public))
    if not chain.files() and not faults:
        raise UserError("There is no report yet.", hint="`backupd report` makes one.", reason="no-report")  # fmt: skip
    return _Checked(len(chain.files()), faults, public)


def _replace(path: Path, text: str) -> None:
    """As a whole, and for its owner alone: it names accounts."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text, encoding="utf-8", errors="replace")
    fresh.replace(path)
