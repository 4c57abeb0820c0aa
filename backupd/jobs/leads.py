"""What is known of vaults before a new machine has anything: leads, what opens them, and a configuration.

A lead comes from a recovery kit, or from repositories that a person names.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from backupd import private
from backupd.config import Config
from backupd.config.text import as_toml
from backupd.errors import UserError
from backupd.jobs import bare
from backupd.keys import shares
from backupd.keys import vault_keys as keys
from backupd.keys.keybook import Keybook
from backupd.keys.shares import Secret
from backupd.keys.vault_keys import SHARED
from backupd.vaults.restic import Repository, Restic
from backupd.vaults.vault import owners_in, path_word


@dataclass(frozen=True, slots=True)
class Lead:
    """A vault that there should be: whose, in which storage, and what its recovery password is derived for."""

    storage: str
    source: str
    account: str
    name: str


@dataclass(frozen=True)
class Opening:
    """What opens the vaults: the secret behind shares, or the password of the old machine in a file.

    Attributes:
        set: what is known of the set that the shares are of, for the notes of the new machine.
    """

    secret: Secret | None = field(default=None, repr=False)
    password: Path | None = None
    set: Keybook = field(default_factory=Keybook)


def by_shares(typed: Sequence[str]) -> Opening:
    """What shares open. Raises UserError."""
    secret, now = shares.join(typed), time.time()
    used = dict.fromkeys(map(shares.number_of, typed), now)
    return Opening(secret, set=Keybook(secret.mark, shares.needed_of(typed[0]), shares=used))


@dataclass(frozen=True)
class Ground:
    """Where things go on the new machine."""

    config: Path
    state_dir: Path
    secrets_dir: Path
    restic: str = "restic"


# -- what is known before anything is opened ------------------------------------------------------


def leads_of(document: Mapping[str, Any]) -> list[Lead]:
    """The vaults that a kit names. Raises UserError for a file that is no kit."""
    try:
        known: Any = document["vaults"] if document["format"] == 1 else None
        return [
            Lead(each["storage"], each["source"], each["account"], each["name"]) for each in known
        ]
    except (KeyError, TypeError) as error:
        raise UserError(
            "That is no recovery kit that this version knows.",
            hint="`backupd kit` writes kit.json. Without it, name vaults with --repository.",
            reason="no-kit",
        ) from error


def configured(raw: Mapping[str, Any], ground: Ground) -> Config:
    """The old configuration for the new machine: state and every secret in places of its own.

    Args:
        raw: as a TOML file holds it. Raises ConfigError and pydantic's ValidationError.
    """
    whole = json.loads(json.dumps(raw, default=str))
    whole |= {"state_dir": str(ground.state_dir), "restic": ground.restic}
    for kind in ("sources", "storage", "targets", "alerts"):
        section = whole.get(kind) or {}
        tables = {"alerts": section} if kind == "alerts" else section
        for name, table in tables.items():
            _move_secrets(name, table, ground.secrets_dir)
    for name, table in (whole.get("storage") or {}).items():
        table.pop("password_command", None)
        table["password_file"] = str(ground.secrets_dir / f"{name}_password")
        _environment(name, table, ground.secrets_dir)
    return Config.model_validate(whole)


def _move_secrets(name: str, table: dict[str, Any], folder: Path) -> None:
    for key in ("client_secret_file", "certificate_file", "key_file", "urls_file", "password_file"):
        if key in table:
            table[key] = str(folder / f"{name}_{key.removesuffix('_file')}")
    table.pop("token_file", None)  # whoever signed in does so again


def _environment(name: str, table: dict[str, Any], folder: Path) -> None:
    """The keys of a storage: a file that lies there already, else what our own environment holds."""
    place = folder / f"{name}_environment"
    ours = bare.environment()
    if not place.exists() and ours and table["repository"].partition(":")[0] != table["repository"]:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        private.create(place, "".join(f"{key}={value}\n" for key, value in ours.items()))
    if place.exists():
        table["environment_file"] = str(place)
    else:
        table.pop("environment_file", None)


# -- vaults that are named by hand ----------------------------------------------------------------


def at(locations: Sequence[str]) -> list[str]:
    """The repositories at locations: each itself, or those in the folders below a local one. Raises UserError."""
    found = []
    for each in locations:
        root = Path(each)
        inside = (
            sorted(str(path.parent) for path in root.glob("*/*/config")) if root.is_dir() else []
        )
        if root.is_dir() and not (root / "config").is_file() and not inside:
            raise UserError(
                f"There is no vault at {each}, and none in the folders below it.",
                hint="Vaults lie in SOURCE/ACCOUNT below the address of their storage.",
                reason="no-vault",
            )
        found += inside or [str(root.absolute()) if root.is_dir() else each]
    return found


@contextmanager
def opened(
    repository: Repository, opening: Opening, names: Iterable[str], scratch: Path
) -> Iterator[Repository]:
    """A repository with a password that opens it. Raises UserError when none does."""
    if opening.password:
        yield replace(repository, password=opening.password)
        return
    assert opening.secret is not None  # noqa: S101 - there is one or the other
    for name in dict.fromkeys(names):
        with keys.with_password(repository, opening.secret.password(name), scratch) as tried:
            path = tried.password
            if isinstance(path, Path) and keys.opens(repository, path):
                yield tried
                return
    raise UserError(
        f"The shares do not open the vault at {repository.label}.",
        hint="It may have been begun after its set was made (`backupd keys recovery --extend` on the old machine), or "
        "be of another set. The password of the old machine opens it: --vault-password-file.",
        reason="wrong-password",
    )


def explored(
    locations: Sequence[str], opening: Opening, ground: Ground
) -> tuple[dict[str, Any], list[Lead]]:
    """A configuration of storages and the vaults in them, from repositories that are named by hand.

    Raises UserError for one that does not open, or that is none of ours.
    """
    storages: dict[tuple[str, bool], str] = {}
    leads = []
    restic = Restic(ground.restic)
    scratch = ground.state_dir / "tmp"
    for location in at(locations):
        repository = Repository(restic, location, Path("/dev/null"), ground.state_dir / "cache", bare.environment())  # fmt: skip
        guess = "/".join(location.rstrip("/").rsplit("/", 2)[-2:])
        with opened(repository, opening, (guess, SHARED), scratch) as ours:
            owners = owners_in(ours)
        if not owners:
            raise UserError(f"The vault at {repository.label} holds no snapshot of backupd.", hint="`restic snapshots` shows what it holds.", reason="no-snapshot")  # fmt: skip
        template = _template(location, owners)
        name = storages.setdefault(template, NAMES[len(storages)] if len(storages) < len(NAMES) else f"storage{len(storages)}")  # fmt: skip
        leads += [Lead(name, *owner, SHARED if template[1] else f"{owner[0]}/{path_word(owner[1])}") for owner in owners]  # fmt: skip
    raw = {"storage": {name: {"repository": where, "shared": shared} for (where, shared), name in storages.items()}}  # fmt: skip
    return raw, leads


NAMES = ("primary", "second", "third")


def _template(location: str, owners: Sequence[tuple[str, str]]) -> tuple[str, bool]:
    """What `repository` in [storage.NAME] has to say, and whether the vault is shared."""
    source, address = owners[0]
    ending = f"/{source}/{path_word(address)}"
    if len(owners) == 1 and location.rstrip("/").endswith(ending):
        return location.rstrip("/").removesuffix(ending), False
    return location, True


def write_config(config: Config, ground: Ground, leads: Sequence[Lead]) -> None:
    """Write the configuration, for its owner alone. Raises UserError when there is one already."""
    text = as_toml(config)
    if not config.sources:
        named = ", ".join(sorted({lead.source for lead in leads}))
        text += f"\n# The old machine saved from these sources: {named}. Add [sources.NAME] for each, with the same name,\n# to go on with the backup; `backupd init` prints what to click. Restoring needs none of them.\n"  # fmt: skip
    ground.config.parent.mkdir(parents=True, exist_ok=True)
    if ground.config.exists():
        raise UserError(f"{ground.config} is there already; it was not changed.", hint="Name another with --config.", reason="exists")  # fmt: skip
    private.create(ground.config, text)
