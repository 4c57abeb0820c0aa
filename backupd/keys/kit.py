"""The recovery kit: everything that a person needs on the day when this machine is gone, on paper.

Repositories, how to get at them, commands that need nothing of backupd, versions and checksums, what to do in which
order, and the records of the domains. No secret is in it unless asked for. `kit.json` is the same for `backupd
recover`.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import shlex
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import segno
from jinja2 import Environment, PackageLoader

from backupd import __version__, private
from backupd.app import App
from backupd.config import Config, Storage, read_secret
from backupd.config.text import as_toml, openly
from backupd.errors import BackupdError, ConfigError
from backupd.jobs.keyring import kept
from backupd.keys import keybook
from backupd.keys.keybook import Keybook
from backupd.keys.opening import SCRIPT
from backupd.keys.zone import Zone, zones
from backupd.law.acceptance import Told, as_told, of_storage
from backupd.law.sovereignty import known_operators
from backupd.mirror.files import hash_file
from backupd.report.status import domains

FORMAT = 1
"""Of `kit.json`."""

PACKAGES = ("backupd", "sources", "targets")

LONGEST_QR = 300
"""Characters that a printed square of 4 cm still holds well."""


@dataclass(frozen=True, slots=True)
class VaultLine:
    """A vault: whose, where, and what its recovery password is derived for."""

    storage: str
    source: str
    account: str
    location: str
    name: str


@dataclass(frozen=True, slots=True)
class StoragePage:
    """A storage: where it is, who runs it, and what opens it.

    Attributes:
        repository: as the configuration has it, without a password.
        password: where the password of its vaults is kept on this machine.
        variables: names of what its environment file sets.
        secrets: name → value, only in a kit with secrets.
        vaults: how many there are; `example` is one of them, for the commands.
    """

    name: str
    repository: str
    operator: Told
    password: str
    variables: tuple[str, ...]
    secrets: dict[str, str]
    vaults: int
    example: VaultLine | None


@dataclass(frozen=True, slots=True)
class Program:
    """A program of this machine: where it is, its version and SHA-256."""

    name: str
    version: str
    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Kit:
    """All of it."""

    made: float
    config_path: str
    configuration: str
    programs: tuple[Program, ...]
    storages: tuple[StoragePage, ...]
    vaults: tuple[VaultLine, ...]
    book: Keybook
    zones: tuple[Zone, ...]
    targets: tuple[str, ...]
    secrets: bool

    @property
    def day(self) -> str:
        """When it was made."""
        return f"{datetime.fromtimestamp(self.made, UTC):%Y-%m-%d %H:%M} UTC"

    @property
    def accounts(self) -> list[str]:
        """Whose data there is."""
        return sorted({each.account for each in self.vaults})


def gather(app: App, config_path: Path, *, secrets: bool = False) -> Kit:
    """Everything for a kit. Name servers are asked; storages and sources are not. Raises ConfigError."""
    lines = tuple(_lines(app))
    homes = app.homes()
    return Kit(
        made=time.time(),
        config_path=str(config_path.absolute()),
        configuration=as_toml(app.config),
        programs=tuple(_programs(app)),
        storages=tuple(_storages(app.config, lines, secrets=secrets)),
        vaults=lines,
        book=keybook.load(app.config.state_dir),
        zones=tuple(zones(sorted(domains(homes)), app.config.dns.servers)),
        targets=tuple(app.config.targets),
        secrets=secrets,
    )


def write(kit: Kit, folder: Path) -> list[Path]:
    """Write the kit into a folder, for its owner alone; what was written."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    made = {
        "kit.html": as_page(kit),
        "kit.txt": as_text(kit),
        "kit.json": json.dumps(as_document(kit), indent=1, ensure_ascii=False) + "\n",
        "config.toml": kit.configuration,
        "open-vault.py": SCRIPT,
    }
    for name, text in made.items():
        private.put(folder / name, text)
    return [folder / name for name in made]


def remember(app: App, kit: Kit) -> None:
    """Note that there is a kit, so that `status` can say when it has grown old."""
    book = keybook.load(app.config.state_dir)
    known = len({(each.storage, each.name) for each in kit.vaults})
    keybook.save(app.config.state_dir, replace(book, kit=kit.made, kit_vaults=known))


def as_document(kit: Kit) -> dict[str, Any]:
    """For `backupd recover`; its shape is `FORMAT`."""
    book = kit.book
    return {
        "format": FORMAT,
        "made": kit.made,
        "version": __version__,
        "configuration": kit.configuration,
        "recovery": {"mark": book.mark, "needed": book.needed, "number": book.number},
        "vaults": [asdict(each) for each in kit.vaults],
    }


def as_text(kit: Kit) -> str:
    """As plain text, for a USB stick or a fax; nothing in it can move a cursor."""
    text = _rendered("kit.txt", kit, autoescape=False)
    return "".join(char if char.isprintable() or char == "\n" else "?" for char in text)


def as_page(kit: Kit) -> str:
    """As one self-contained page, made to be printed."""
    return _rendered("kit.html", kit, autoescape=True)


def qr(text: str) -> str:
    """A QR code as inline SVG, black on white whatever the page is; "" for a text that is too long to scan."""
    if len(text) > LONGEST_QR:
        return ""
    code = segno.make(text, error="m", micro=False)
    return str(code.svg_inline(omitsize=True, border=2, dark="#000", light="#fff"))


def sheet(share: str, place: int, number: int, mark: str) -> str:
    """One share as a page to be printed."""
    environment = Environment(loader=PackageLoader("backupd"), autoescape=True, trim_blocks=True)
    return environment.get_template("share.html").render(
        words=share.split(), place=place, number=number, mark=mark, code=qr(share)
    )


def _rendered(template: str, kit: Kit, *, autoescape: bool) -> str:
    environment = Environment(
        loader=PackageLoader("backupd"),
        autoescape=autoescape,  # noqa: S701 - off only for plain text
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["sh"] = shlex.quote
    return environment.get_template(template).render(
        kit=kit, qr=qr, version=__version__, script=SCRIPT, who=_who(kit), day=_day
    )


def _day(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d}"


def _who(kit: Kit) -> list[str]:
    """What the records say about whose hand is on a domain."""
    known = known_operators()
    found = []
    for zone in kit.zones:
        for kind, what in (("NS", "name server"), ("MX", "mail")):
            operators = {
                place.operator.name
                for record in zone.of(kind)
                if (place := known.of_host(record.value.split()[-1])).operator
            }
            found += [f"{zone.domain}: {what} at {name}" for name in sorted(operators)]
    return found


def _lines(app: App) -> Iterator[VaultLine]:
    for source, keyed in kept(app):
        vault = keyed.vault
        yield VaultLine(
            vault.storage, source, vault.address, openly(vault.repository.location), keyed.name
        )


def _storages(
    config: Config, lines: Sequence[VaultLine], *, secrets: bool
) -> Iterator[StoragePage]:
    known = known_operators(config.operators_file)
    for name, section in config.storage.items():
        mine = [each for each in lines if each.storage == name]
        yield StoragePage(
            name=name,
            repository=openly(section.repository),
            operator=next(as_told(of_storage(section, known))),
            password=_password(section),
            variables=_variables(section),
            secrets=_secrets(section) if secrets else {},
            vaults=len(mine),
            example=mine[0] if mine else None,
        )


def _password(section: Storage) -> str:
    if section.password_file:
        return f"the file {section.password_file}"
    if section.password_command:
        return f"what the command `{section.password_command}` prints"
    return f"the systemd credential storage.{section.name}.password"


def _variables(section: Storage) -> tuple[str, ...]:
    try:
        return tuple(section.environment())
    except ConfigError:
        return ()


def _secrets(section: Storage) -> dict[str, str]:
    """Raises ConfigError for what cannot be read: a kit that lacks what was asked for is none."""
    source = section.password_source()
    found = dict(section.environment())
    if isinstance(source, Path):
        found["RESTIC_PASSWORD"] = read_secret(source, f"the password of [storage.{section.name}]")
    return found


def _programs(app: App) -> Iterator[Program]:
    try:
        version = ".".join(map(str, app.restic.version))
        path = Path(app.restic.path).resolve()
        yield Program("restic", version, str(path), _sha256(path))
    except BackupdError as error:
        yield Program("restic", "not found", str(error), "")
    root = Path(str(importlib.import_module("backupd").__file__)).parents[1]
    yield Program("backupd", __version__, str(root), tree_sha256(root))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hash_file(file)


def tree_sha256(root: Path) -> str:
    """A checksum over the Python files of backupd below `root`.

    The same comes from: find backupd sources targets -name '*.py' | LC_ALL=C sort | xargs sha256sum | sha256sum
    """
    files = sorted(
        path.relative_to(root).as_posix()
        for package in PACKAGES
        for path in (root / package).rglob("*.py")
    )
    listed = "".join(f"{_sha256(root / name)}  {name}\n" for name in files)
    return hashlib.sha256(listed.encode()).hexdigest()
