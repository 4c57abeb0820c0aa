"""Composition of a restore: whose data, from where, to which target, with which ledger.

Everything that a restore leaves on this machine lies in one folder, its desk:
`<state>/restores/<source>/<account>/<target>/<account at the target>~<mark>/` with the ledger, the
reports and what was quarantined.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

import targets
from backupd.app import App
from backupd.config import Config, TargetSection
from backupd.errors import ConfigError, UserError
from backupd.law.acceptance import of_target, require
from backupd.law.sovereignty import known_operators
from backupd.locks import exclusive
from backupd.mirror import names
from backupd.ports import Finding, Parcel, Reader, Shelf, Target
from backupd.restore.account import Listener, Restore
from backupd.restore.contents import MirrorContents, Selection
from backupd.restore.ledger import Ledger
from backupd.restore.plan import Plan, plan
from backupd.restore.result import RestoreResult
from backupd.restore.unpacking import VaultContents
from targets import Ask, Request, mbox
from targets.mbox import Exported

Contents = MirrorContents | VaultContents


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the data comes from.

    Attributes:
        storage: a section name; None for the mirror when it is there, else the first storage.
        mirror: whether the mirror is meant, whatever else there is.
    """

    storage: str | None = None
    snapshot: str | None = None
    at: str | None = None
    mirror: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where the data goes.

    Attributes:
        section: the target.
        identity: by what a ledger recognises the target: its section's name, or its address.
        account: the address there.
        password_file: wins over the section's.
        ask: asks a person for a secret that is not configured.
        canary: the address for a trial event, or "".
    """

    section: TargetSection
    identity: str
    account: str
    password_file: Path | None = None
    ask: Ask | None = None
    canary: str = ""


def destination(config: Config, to: str, settings: Mapping[str, str]) -> tuple[TargetSection, str]:
    """The section behind `--to`, and the target's identity.

    Raises ConfigError, also for a target under a law that nobody has accepted.

    Args:
        to: a section's name, `folder:PATH`, or a provider or protocol that `settings` complete.
        settings: `KEY` or `SERVICE.KEY` → value, put over the section.
    """
    section, identity = _meant(config, to, settings)
    standing = of_target(section, known_operators(config.operators_file))
    require(standing, "--set accept_jurisdiction=")
    return section, identity


def _meant(config: Config, to: str, settings: Mapping[str, str]) -> tuple[TargetSection, str]:
    kind, colon, path = to.partition(":")
    if kind == "folder" and colon:
        raw: dict[str, object] = {"type": "folder", "path": Path(path).absolute()}
        return _section("folder", raw, settings), to
    if to in config.targets:
        stored = config.targets[to].model_dump(exclude_none=True, exclude={"name"})
        return _section(to, stored, settings), to
    if to in targets.presets():
        section = _section(to, {"type": to}, settings)
        where = section.host or section.url or section.remote or section.path or ""
        return section, f"{to}:{where}" if where else to
    named = ", ".join(config.targets) or "none"
    raise ConfigError(
        f"There is no target {to!r}.",
        hint=f"Use folder:PATH, a [targets.NAME] of the configuration (there: {named}), or a provider or "
        f"protocol with --set: {', '.join(sorted(targets.presets()))}.",
    )


def _section(name: str, raw: Mapping[str, object], settings: Mapping[str, str]) -> TargetSection:
    whole: dict[str, object] = {**raw, "name": name}
    for key, value in settings.items():
        part, dot, word = key.rpartition(".")
        inner = dict(whole.get(part) or {}) if dot else whole  # type: ignore[call-overload]
        inner[word] = value
        if dot:
            whole[part] = inner
    try:
        return TargetSection.model_validate(whole)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise ConfigError(
            f"The target {name!r}: {place}: {first['msg'].removeprefix('Value error, ')}.",
            hint="--set KEY=VALUE takes the options of a [targets.NAME]; config.example.toml explains them.",
        ) from error


def desk_of(state_dir: Path, held: Contents, where: Destination) -> Path:
    """The folder of this restore, whatever the run or the snapshot.

    Its last part also tells where the target really is: a section that is pointed to another
    server or mailbox begins a ledger of its own, since what the old one knows is not there.
    """
    address = targets.address(where.section, where.account)
    mark = hashlib.sha256(address.encode()).hexdigest()[:8]
    words = (held.source, held.address, where.identity, f"{where.account}~{mark}")
    return state_dir.joinpath("restores", *(names.component(word) for word in words))


@dataclass(frozen=True)
class Job:
    """One account on its way to one target, ready to be planned or run."""

    held: Contents
    target: Target
    where: Destination
    desk: Path
    selection: Selection

    def preflight(self) -> list[Finding]:
        """Log in at the target and look around. Raises what keeps the restore from working."""
        return list(self.target.preflight())

    def plan(self) -> Plan:
        """What a run would do; the target is not asked."""
        with self._ledger() as ledger:
            return plan(self.held, self.target, ledger, self.selection)

    def run(self, *, again: bool = False, listener: Listener | None = None) -> RestoreResult:
        """Put everything and prove it; see `restore.Restore`."""
        with self._ledger() as ledger:
            again = (
                again or self.where.section.type == "folder"
            )  # which shows what it has by itself
            work = Restore(
                self.held,
                self.target,
                ledger,
                self.selection,
                self.desk / "quarantine",
                again=again,
                listener=listener,
            )
            result = work.run()
            _list_items(self.desk / "items.jsonl", ledger)
        result.target, result.account = self.where.identity, self.where.account
        return result

    @contextmanager
    def _ledger(self) -> Iterator[Ledger]:
        try:
            self.desk.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UserError(
                f"Cannot create {self.desk}: {error.strerror}.",
                hint="state_dir must be a folder that you may write to; the ledger of the restore lies there.",
            ) from error
        with (
            exclusive(self.desk / "lock", f"the restore of {self.held.address}"),
            Ledger(self.desk / "ledger.sqlite", self.where.identity) as ledger,
        ):
            yield ledger


@contextmanager
def job(state_dir: Path, held: Contents, where: Destination, selection: Selection) -> Iterator[Job]:
    """Bring contents and target together; the target is closed at the end."""
    where = replace(where, account=where.account or held.address)
    desk = desk_of(state_dir, held, where)
    request = Request(
        where.account, desk, where.password_file, where.ask, where.canary, selection.services
    )
    target = targets.connect(where.section, request)
    try:
        yield Job(held, target, where, desk, selection)
    finally:
        target.close()


@contextmanager
def contents(app: App, account: str | None, origin: Origin) -> Iterator[Contents]:
    """What is held of an account, from the mirror or from a vault. Raises UserError."""
    home = app.home(account)
    exact = bool(origin.at or origin.snapshot)
    if origin.mirror and exact:
        raise UserError(
            "The mirror is the account as it is now; --at and --snapshot need a vault.",
            hint="Leave out --from mirror.",
        )
    there = home.mirror_path.is_dir() and origin.storage is None
    with app.held(
        home,
        storage=origin.storage or None,
        snapshot=origin.snapshot,
        at=origin.at,
        from_mirror=origin.mirror or (there and not exact),
    ) as held:
        yield held


PROTON_NOTES = (
    "Proton's export tool restores this folder: proton-mail-export-cli -o restore -d FOLDER.",
    "It does not promise to take what it did not write itself: try it with a few messages first.",
    "It has no memory: running it a second time puts every message there twice.",
)


def write_mail(
    form: str, folder: Path, shelves: list[Shelf], items: Iterable[tuple[Shelf, Parcel, Reader]]
) -> Exported:
    """Write mail below a new folder in the `mbox` or the `proton` form. Raises UserError for one that is not empty."""
    if form == "mbox":
        return mbox.write(folder, items)
    from targets.proton import export  # noqa: PLC0415 - nobody else needs it

    told = export.write(folder, shelves, items)
    damaged = tuple(f"{path}: {why}" for path, why in told.failed)
    return Exported(told.messages, told.messages, damaged, PROTON_NOTES)


def _list_items(path: Path, ledger: Ledger) -> None:
    """Every item that the ledger knows, one JSON object a line: the long form of the report."""
    fresh = path.with_suffix(".new")
    with fresh.open("w", encoding="utf-8", errors="surrogatepass") as lines:
        for entry in ledger.entries():
            told = {
                "service": entry.service,
                "path": entry.path,
                "key": entry.key,
                "sha256": entry.sha256,
                "size": entry.size,
                "state": entry.put.state,
                "why": entry.put.why,
                "where": entry.put.where,
                "proof": entry.proof,
                "differs": entry.what,
            }
            lines.write(json.dumps(told, ensure_ascii=True) + "\n")
    fresh.replace(path)
