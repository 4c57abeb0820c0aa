"""Where one account lives on disk: its mirror, its catalog, and the lock of its one writer."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backupd.errors import UserError
from backupd.locks import exclusive
from backupd.marks import mark_of
from backupd.mirror import names
from backupd.mirror.files import Mirror
from backupd.model import Account, AccountKind, Service

if TYPE_CHECKING:
    from backupd.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Home:
    """The folder of one account below the state directory."""

    folder: Path

    @property
    def catalog_path(self) -> Path:
        """The catalog's file."""
        return self.folder / "catalog.sqlite"

    @property
    def mirror_path(self) -> Path:
        """The tree that is snapshotted."""
        return self.folder / "mirror"

    @property
    def address(self) -> str:
        """The account's address."""
        return names.unescape(self.folder.name)

    def mirror(self) -> Mirror:
        """The mirror, created when missing."""
        return Mirror(self.mirror_path, self.folder / "drafts")

    def account(self) -> Account | None:
        """The account as the last sync saw it; None before the first."""
        try:
            stored = json.loads((self.folder / "account.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return _account(stored)

    def remember(self, account: Account) -> None:
        """Keep who lives here, so that it is known when the source no longer answers."""
        stored = asdict(account) | {"services": sorted(account.services)}
        path = self.folder / "account.json"
        text = json.dumps(stored, indent=1, ensure_ascii=False)
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            fresh = path.with_suffix(".new")
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(path)

    @contextmanager
    def writing(self, *, patience: float = 0.0) -> Iterator[Catalog]:
        """The open catalog, with no other writer until the end.

        Raises TransientError(reason="busy") when another run is at this account for `patience` seconds.
        """
        from backupd.catalog import Catalog  # noqa: PLC0415 - loads slowly, and who looks up needs none

        _make(self.folder)
        lock = exclusive(self.folder / "lock", self.address, patience=patience)
        with lock, Catalog(self.catalog_path) as catalog:
            yield catalog

    def at_vault(self, storage: str, *, patience: float = 0.0) -> AbstractContextManager[None]:
        """Around what adds to the vault in a storage, removes from it, or needs it to stand still: one at a time.

        Raises TransientError(reason="busy") when another run is at it for `patience` seconds.
        """
        return exclusive(
            self.folder / f"vault-{storage}.lock",
            f"the vault of {self.address} in {storage}",
            patience=patience,
        )

    @contextmanager
    def reading(self) -> Iterator[Catalog]:
        """The catalog as it is now, while others may write."""
        from backupd.catalog import Catalog  # noqa: PLC0415 - see above

        with Catalog(self.catalog_path, read_only=True) as catalog:
            yield catalog


def home_of(state_dir: Path, source: str, address: str) -> Home:
    """The home of an account; two sources with the same address have two."""
    return Home(state_dir / "accounts" / source / names.component(address))


def homes(state_dir: Path, patterns: Sequence[str] = ()) -> list[Home]:
    """Every account that was ever synced here and matches any pattern, or has its mark (all without one)."""
    found = (state_dir / "accounts").glob("*/*/catalog.sqlite")
    held = (Home(path.parent) for path in sorted(found))
    return [home for home in held if matches(home.address, patterns) or _marked(home, patterns)]


def one_home(state_dir: Path, address: str | None) -> Home:
    """The one account meant. Raises UserError unless exactly one is."""
    found = homes(state_dir, [address] if address else ())
    exact = [home for home in found if address and home.address == address.lower()]
    if len(exact or found) == 1:
        return (exact or found)[0]
    known = ", ".join(home.address for home in homes(state_dir)[:10]) or "none yet"
    raise UserError(
        f"{len(found)} accounts match {address!r}." if address else "Which account?",
        hint=f"Name one with --account. Held here: {known}.",
        reason="which-account",
    )


def _marked(home: Home, patterns: Sequence[str]) -> bool:
    return mark_of(home.folder.parent.name, home.address) in patterns


def matches(address: str, patterns: Sequence[str]) -> bool:
    """Whether an address matches any of the globs; all do when there is none."""
    folded = address.casefold()
    return not patterns or any(fnmatch.fnmatchcase(folded, each.casefold()) for each in patterns)


def _account(stored: dict[str, Any]) -> Account:
    services = frozenset(Service(name) for name in stored["services"])
    return Account(**stored | {"kind": AccountKind(stored["kind"]), "services": services})


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UserError(
            f"Cannot create {folder}: {error.strerror}.",
            hint="state_dir must be a folder that the user running backupd may write to.",
        ) from error
