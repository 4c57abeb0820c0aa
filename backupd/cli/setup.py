"""`backupd init`: asks, writes a configuration and its secrets, and says what to click at Microsoft."""

from __future__ import annotations

import secrets
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from backupd import config, private
from backupd.app import App
from backupd.cli.context import Context
from backupd.cli.output import emit
from backupd.cli.plain import printable
from backupd.errors import UserError
from backupd.law.acceptance import Standing, of_storage, require
from backupd.law.sovereignty import WATCHED, known_operators

STEPS = """\
Register backupd in your tenant (entra.microsoft.com, as a Global or Privileged Role Administrator):

  1. Identity > Applications > App registrations > New registration. Name: backupd. Accounts in
     this organisational directory only. No redirect URI. Register.
  2. On its Overview page: "Application (client) ID" is client_id, "Directory (tenant) ID" is tenant_id.
  3. API permissions > Add a permission > Microsoft Graph > Application permissions. Tick:
       Mail.Read  MailboxSettings.Read  Calendars.Read  Contacts.Read  Files.Read.All
       Sites.Read.All  User.Read.All  Organization.Read.All
     then "Grant admin consent". Every one of them only reads.
  4. Certificates & secrets > New client secret (note the day it expires), or better upload a
     certificate. Copy the secret's VALUE, not its ID, into the file named below.
  5. backupd doctor
"""

CONFIG = """\
state_dir = {state_dir}

[sources.{name}]
type = "microsoft365"
tenant_id = {tenant_id}
client_id = {client_id}
client_secret_file = {secret_file}

[storage.primary]
repository = {repository}
password_file = {password_file}
accept_jurisdiction = [{accepted}]
"""

PASSWORD_BYTES = 24
"""Of a generated vault password: 192 bits."""

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout; nothing is asked.")]


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command()(init)


def init(
    context: typer.Context,
    tenant_id: Annotated[str | None, typer.Option(help="Directory (tenant) ID.")] = None,
    client_id: Annotated[str | None, typer.Option(help="Application (client) ID.")] = None,
    repository: Annotated[
        str | None, typer.Option(help="Where vaults shall lie: any restic location.")
    ] = None,
    state_dir: Annotated[
        str, typer.Option(help="Where mirrors and catalogs lie.")
    ] = "/var/lib/backupd",
    accept_jurisdiction: Annotated[
        str | None,
        typer.Option(metavar="LAW", help="Take a storage under the law of US or CN all the same."),
    ] = None,
    vault: Annotated[
        str | None, typer.Option(metavar="ACCOUNT", help="Only begin a new vault for this account.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Write a configuration, or with --vault begin a new vault for one account."""
    found: Context = context.obj
    if vault:
        return _new_vault(found.app(), vault, as_json)
    path = Path(found.path) if found.path else config.search_path()[0]
    if path.exists():
        raise UserError(
            f"{path} is there already; it was not changed.",
            hint="Edit it (config.example.toml explains every option), or name another with --config.",
        )
    asked = not as_json
    tenant_id = tenant_id or _ask("Directory (tenant) ID", asked)
    client_id = client_id or _ask("Application (client) ID", asked)
    repository = repository or _ask(
        "Where shall vaults lie (a folder, s3:https://…, sftp:…, rest:https://…)", asked
    )
    standing = _standing(repository, accept_jurisdiction)
    require(standing, "--accept-jurisdiction ")
    written = _write(path, Path(state_dir), tenant_id, client_id, standing, repository)
    config.load(path)

    def render(out: Console) -> None:
        out.print(f"\nWritten: {path}\n\n{STEPS}")
        for each in standing.findings():
            out.print(printable(f"Your storage: {each.message}. {each.hint}\n"))
        out.print(f"Client secret goes into:  {written['secret_file']}")
        out.print(f"Vault password lies in:   {written['password_file']}")
        out.print(
            "\nWithout that password nobody, backupd included, can read the vaults. After the first backup, "
            "`backupd keys recovery` makes a second way in, cut into shares for several people, and "
            "`backupd kit` prints what they need. Keep both away from this machine."
        )

    emit(written, as_json, render)
    return 0


def _standing(repository: str, accepted: str | None) -> Standing:
    """Who runs the storage that was named. Raises ConfigError for a law that is no country."""
    section = config.Storage(name="primary", repository=repository)
    held = of_storage(section, known_operators())
    if not accepted:
        return held
    laws = {word.strip().upper() for word in accepted.split(",")}
    if not laws <= WATCHED:
        raise UserError(
            f"--accept-jurisdiction {accepted!r} is not a law that has to be accepted.",
            hint=f"Choose from: {', '.join(sorted(WATCHED))}.",
        )
    return replace(held, accepted=frozenset(laws))


def _ask(question: str, asked: bool) -> str:
    if not asked:
        raise UserError(f"Missing: {question}.", hint="`backupd init --help` lists the options.")
    answer: str = typer.prompt(question).strip()
    return answer


def _write(
    path: Path,
    state_dir: Path,
    tenant_id: str,
    client_id: str,
    standing: Standing,
    repository: str,
) -> dict[str, str]:
    """The configuration and its secret files, none of which existed."""
    folder = path.absolute().parent / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret_file, password_file = folder / "client_secret", folder / "vault_password"
    _secret(password_file, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    _secret(secret_file, "")
    values = {
        "state_dir": str(state_dir),
        "tenant_id": tenant_id,
        "client_id": client_id,
        "secret_file": str(secret_file),
        "repository": repository,
        "password_file": str(password_file),
    }
    quoted = {key: _toml(value) for key, value in values.items()}
    quoted["accepted"] = ", ".join(_toml(law) for law in sorted(standing.accepted))
    path.write_text(CONFIG.format(name="microsoft365", **quoted), encoding="utf-8")
    return {"config": str(path), **values}


def _toml(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    if not escaped.isprintable():
        raise UserError("A value holds control characters.", hint="Type it again.")
    return f'"{escaped}"'


def _secret(path: Path, text: str) -> None:
    """A file that only its owner may read; one that is there already stays as it is."""
    with suppress(FileExistsError):
        private.create(path, text)


def _new_vault(app: App, address: str, as_json: bool) -> int:
    """Create the vaults of an account where they are missing, and forget what was in the old ones."""
    home = app.home(address)
    made = [vault.storage for vault in app.vaults(home) if vault.create()]
    with home.writing() as catalog, catalog.transaction():
        for storage in made:
            catalog.put(f"snapshot:{storage}:id", "")
            catalog.put(f"snapshot:{storage}:revision", "")
    where = ", ".join(made) or "no storage: each has one already"
    emit(
        {"created": made},
        as_json,
        lambda out: out.print(f"New vault for {home.address} in {where}."),
    )
    return 0
