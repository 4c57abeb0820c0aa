"""A vault and its password, and nothing else: no configuration, no catalog, no mirror.

For the day on which the machine is gone too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from backupd import private
from backupd.errors import UserError
from backupd.restore.unpacking import VaultContents, from_vault
from backupd.vaults.restic import Repository, Restic
from backupd.vaults.vault import Vault, accounts_in, path_word

PREFIXES = ("AWS_", "AZURE_", "B2_", "GOOGLE_", "OS_", "RCLONE_", "RESTIC_REST_", "ST_")
"""Variables that hold a storage's credentials, as restic names them."""


def environment(ours: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What a storage may need of our own environment."""
    return {name: value for name, value in ours.items() if name.startswith(PREFIXES)}


@contextmanager
def password_source(
    named: Path | None, scratch: Path, ask: Callable[[str], str] | None
) -> Iterator[Path | str]:
    """The file or command that yields the vault's password: named, restic's own variables, or asked for.

    What a person types is handed over without staying anywhere. Raises UserError.
    """
    if named or "RESTIC_PASSWORD_FILE" in os.environ:
        yield named or Path(os.environ["RESTIC_PASSWORD_FILE"])
        return
    if command := os.environ.get("RESTIC_PASSWORD_COMMAND"):
        yield command
        return
    password = os.environ.get("RESTIC_PASSWORD") or (ask and ask("the vault's password"))
    if not password:
        raise UserError(
            "The vault's password is needed.",
            hint="Name a file with --vault-password-file, set RESTIC_PASSWORD_FILE, or run this in a terminal.",
            reason="password",
        )
    with private.handed_over(password, scratch) as place:
        yield place


@contextmanager
def contents_of(
    repository: Repository,
    account: str | None,
    snapshot: str | None,
    at: str | None,
    scratch: Path,
) -> Iterator[VaultContents]:
    """What a repository holds of an account. Raises UserError unless exactly one account is meant."""
    found = accounts_in(repository)
    meant = [each for each in found if account is None or each == account.lower()]
    if len(meant) != 1:
        raise UserError(
            f"{repository.label} holds no snapshot of {account}." if account else "Which account?",
            hint=f"Name one with --account. In this repository: {', '.join(found) or 'none'}.",
            reason="which-account",
        )
    vault = Vault("repository", meant[0], repository)
    with from_vault(vault, vault.pick(snapshot, at), scratch) as held:
        yield held


def repository_at(
    where: str, account: str | None, restic: Restic, password: Path | str, cache: Path
) -> Repository:
    """The repository at a location as restic names it, or below a local folder of vaults.

    Raises UserError when a local folder is neither a vault nor holds that of the account.
    """
    root = Path(where)
    if root.is_dir() and not (root / "config").is_file():
        found = sorted(each.parent for each in root.glob("*/*/config"))
        meant = [
            each for each in found if account is None or each.name == path_word(account.lower())
        ]
        if len(meant) != 1:
            known = ", ".join(f"{each.parent.name}/{each.name}" for each in found[:20])
            raise UserError(
                f"{where} is no vault" + (f" and holds none of {account}." if account else "."),
                hint=f"Name one with --account. Vaults below it: {known or 'none'}.",
                reason="which-account",
            )
        where = str(meant[0])
    return Repository(restic, where, password, cache, environment())
