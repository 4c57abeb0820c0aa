"""The mirror and the catalog of one account, healed from a vault.

While nothing was synced since the last snapshot, that snapshot says what must be there: its own index
files, proven by the root that was recorded of it. Otherwise the catalog does, and what is in no vault
is asked for again at the source.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory

from backupd.catalog import Catalog
from backupd.errors import BackupdError, IntegrityError, UserError, VaultError
from backupd.home import Home
from backupd.mirror.files import BUFFER, Mirror
from backupd.mirror.index import render_dirty, write_account
from backupd.mirror.names import parse_time
from backupd.mirror.tree import index_path
from backupd.model import Snapshot
from backupd.ports import Reader
from backupd.repair import PATIENCE, Repair
from backupd.sync.rebuild import rebuild
from backupd.vaults.vault import Vault
from backupd.verify.mirror import Look
from backupd.verify.places import Place, in_catalog, in_index, is_ours, joined

ONE_BY_ONE = 8
"""Files of one folder that are fetched with a restic each; more come as one stream."""

FETCHED_AGAIN = "The next `backupd sync` fetches it again, if the source still has it."
CATALOG = ("catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm")


def repair_mirror(home: Home, vaults: Sequence[Vault], scratch: Path, repair: Repair) -> None:
    """Heal what lies on this machine. Raises TransientError(reason="busy"), IntegrityError, OSError."""
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    with TemporaryDirectory(dir=scratch, prefix="repair-") as folder:
        told = _Told(vaults, Path(folder))
        if not _opens(home):
            _new_catalog(home, told, repair, "it could not be read")
            if repair.dry_run:
                return
        with home.writing(patience=PATIENCE) as catalog:
            altered = _heal(home, catalog, told, repair)
        if altered:
            _new_catalog(home, told, repair, "it named other items than the last snapshot", as_told=True)  # fmt: skip


def _heal(home: Home, catalog: Catalog, told: _Told, repair: Repair) -> bool:
    """Heal the mirror, with nobody else at it; whether the catalog itself must be written anew."""
    work = _Work(home, catalog, told, repair)
    current = told.holds_all(catalog)
    with home.reading() as reading:

        def places() -> Iterator[Place]:
            return told.places() if current else in_catalog(reading)

        work.items(places())
        work.strays(places())
        if current and not _same(in_catalog(reading), told.places()):
            return True
    work.descriptions()
    return False


class _Told:
    """What the newest snapshot says, out of the first vault that can be read."""

    def __init__(self, vaults: Sequence[Vault], folder: Path) -> None:
        self.readable: list[tuple[Vault, Snapshot]] = []
        self.folder = folder
        self.problems: list[str] = []
        for vault in vaults:
            try:
                newest = vault.pick()
                if not self.readable:
                    vault.extract(newest, folder, ["index.jsonl", "account.json"])
                    list(in_index(folder))  # raises when it says nothing
            except (BackupdError, ValueError) as error:
                self.problems.append(f"{vault.storage}: {error}")
            else:
                self.readable.append((vault, newest))

    def holds_all(self, catalog: Catalog) -> bool:
        """Whether nothing was synced since the snapshot that was read."""
        if not self.readable:
            return False
        vault, snapshot = self.readable[0]
        made = catalog.get(f"snapshot:{vault.storage}:id")
        current = catalog.get(f"snapshot:{vault.storage}:revision") == str(catalog.revision)
        return current and bool(made) and snapshot.id.startswith(made)

    def places(self) -> Iterator[Place]:
        """Every item."""
        return in_index(self.folder)


class _Work:
    """The mirror of one account, with nobody else at it."""

    def __init__(self, home: Home, catalog: Catalog, told: _Told, repair: Repair) -> None:
        self._home, self._catalog, self._told, self._repair = home, catalog, told, repair
        self._mirror: Mirror = home.mirror()

    def items(self, places: Iterable[Place]) -> None:
        """Every file whose bytes are not those that were fetched comes out of a vault."""
        for folder, group in groupby(places, key=lambda each: each.path.rpartition("/")[0]):
            bad = {each.path: each for each in group if not self._good(each)}
            for vault, snapshot in self._told.readable:
                if bad:
                    self._fetch(vault, snapshot, folder, bad)
            for path in bad:
                self._ask_again(path)

    def _good(self, place: Place) -> bool:
        try:
            path = self._mirror.absolute(place.path)
            plain = path.is_file() and not path.is_symlink() and path.stat().st_size == place.size
            return plain and self._mirror.sha256(place.path) == place.sha256
        except (IntegrityError, OSError):
            return False

    def _fetch(self, vault: Vault, snapshot: Snapshot, folder: str, bad: dict[str, Place]) -> None:
        """Take out of `bad` what the vault has with the right bytes."""
        if self._repair.dry_run:
            for path in list(bad):
                self._repair.did(f"{path} would be taken from {vault.storage}.")
                del bad[path]
            return
        stream = _singly if len(bad) <= ONE_BY_ONE else _as_tar
        with closing(stream(vault, snapshot, folder, sorted(bad))) as found:
            for path, content in found:
                if path in bad and self._put(bad[path], content):
                    self._repair.did(f"{path} is back as it was fetched, from {vault.storage}.")
                    del bad[path]
                if not bad:
                    break

    def _put(self, place: Place, content: Reader) -> bool:
        draft = self._mirror.draft()
        try:
            while data := content.read(BUFFER):
                draft.write(data)
        except (tarfile.TarError, EOFError, VaultError):
            draft.discard()
            return False
        draft.close()
        if draft.sha256 != place.sha256:
            draft.discard()
            return False
        self._repair.keep(self._mirror.absolute(place.path), f"mirror/{place.path}")
        self._mirror.place([(draft, place.path, None)])
        return True

    def _ask_again(self, path: str) -> None:
        """Nobody has it: the source may."""
        item = self._catalog.item_at(path)
        if item is not None and not self._repair.dry_run:
            with self._catalog.transaction() as session:
                item.version = ""
                session.add(item)
        self._repair.cannot(
            f"{path} is in no vault with the bytes that were fetched.", FETCHED_AGAIN
        )

    def strays(self, places: Iterable[Place]) -> None:
        """Files that nothing speaks of are moved aside."""
        for place, lying in joined(places, _lying(self._home.mirror_path)):
            if place is None and lying is not None and not is_ours(lying.path):
                self._repair.keep(self._home.mirror_path / lying.path, f"mirror/{lying.path}")
                self._repair.did(f"{lying.path} was not backupd's: it is kept aside.")

    def descriptions(self) -> None:
        """Index files and `account.json` that say something else than the catalog are written anew."""
        look = Look(self._home, self._catalog, set())
        bad = [each for each in list(self._catalog.shards()) if self._wrong(look, *each)]
        if bad and not self._repair.dry_run:
            with self._catalog.transaction():
                self._catalog.mark_dirty(bad)
            render_dirty(self._catalog, self._mirror)
        account = self._home.account()
        if look.described() and account is not None:
            self._set_aside("account.json")
            if not self._repair.dry_run:
                write_account(self._catalog, self._mirror, account)

    def _wrong(self, look: Look, folder_id: int, shard: str) -> bool:
        folder = self._catalog.folder(folder_id)
        wrong = any(look.index(folder, shard))
        if wrong:
            self._set_aside(index_path(folder, shard))
        return wrong

    def _set_aside(self, path: str) -> None:
        self._repair.keep(self._home.mirror_path / path, f"mirror/{path}")
        self._repair.did(f"{path} is written anew from the catalog.")


class _Lying:
    """A file of the mirror."""

    def __init__(self, path: str) -> None:
        self.path = path


def _lying(root: Path, folder: str = "") -> Iterator[_Lying]:
    """Every file, in the order of restic's trees."""
    place = root / folder
    for entry in sorted(os.scandir(place), key=lambda each: os.fsencode(each.name)):
        path = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir(follow_symlinks=False):
            yield from _lying(root, path)
        else:
            yield _Lying(path)


def _singly(
    vault: Vault, snapshot: Snapshot, _: str, paths: Sequence[str]
) -> Generator[tuple[str, Reader], None, None]:
    for path in paths:
        try:
            with vault.content(snapshot, path) as content:
                yield path, content
        except VaultError:
            continue  # another vault may have it


def _as_tar(
    vault: Vault, snapshot: Snapshot, folder: str, _: Sequence[str]
) -> Generator[tuple[str, Reader], None, None]:
    try:
        with (
            vault.tar(snapshot, f"/{folder}") as out,
            tarfile.open(fileobj=out, mode="r|", bufsize=BUFFER) as tar,
        ):
            for member in tar:
                content = tar.extractfile(member) if member.isfile() else None
                if content is not None:
                    yield member.name.strip("/"), content
    except (VaultError, tarfile.TarError, EOFError):
        return  # another vault may have the rest


def _opens(home: Home) -> bool:
    """Whether there is a catalog that can be read."""
    try:
        with home.reading() as catalog:
            return catalog.sound()
    except (IntegrityError, UserError):
        return False


def _same(one: Iterator[Place], two: Iterator[Place]) -> bool:
    return all(left == right for left, right in joined(one, two))


def _new_catalog(
    home: Home, told: _Told, repair: Repair, why: str, *, as_told: bool = False
) -> None:
    """Begin a catalog anew from the mirror; the old one is kept aside.

    Args:
        as_told: the mirror is what the snapshot holds, item by item, and is described by its word.
    """
    if repair.dry_run:
        repair.did(f"The catalog would be written anew from the mirror: {why}.")
        return
    _take_descriptions(home, told, repair, replacing=as_told)
    described = json.loads((home.mirror_path / "account.json").read_text(encoding="utf-8"))
    for name in CATALOG:
        repair.keep(home.folder / name, name)
    with home.writing(patience=PATIENCE) as catalog:
        rebuilt = rebuild(catalog, home.mirror_path, described)
        with catalog.transaction():
            for number, (vault, snapshot) in enumerate(told.readable):
                for word, value in _noted(catalog, snapshot, current=as_told and not number):
                    catalog.put(f"snapshot:{vault.storage}:{word}", value)
    repair.did(f"The catalog is written anew from the mirror, {rebuilt.items} items: {why}. The next sync lists everything.")  # fmt: skip


def _noted(catalog: Catalog, snapshot: Snapshot, *, current: bool) -> Iterator[tuple[str, str]]:
    moment = parse_time(snapshot.time)
    yield "id", snapshot.id
    yield "time", str(int(moment.timestamp()) if moment else 0)
    if current:
        yield "revision", str(catalog.revision)
        yield "items", str(catalog.totals()[0])


def _take_descriptions(home: Home, told: _Told, repair: Repair, *, replacing: bool) -> None:
    """The mirror's index files, where they are missing (or all of them), by the word of the snapshot."""
    for path in sorted(told.folder.rglob("*")):
        inside = path.relative_to(told.folder).as_posix()
        lying = home.mirror_path / inside
        if not path.is_file() or not is_ours(inside):
            continue
        same = lying.is_file() and (not replacing or lying.read_bytes() == path.read_bytes())
        if not same:
            repair.keep(lying, f"mirror/{inside}")
            with path.open(encoding="utf-8", errors="surrogatepass") as lines:
                home.mirror().write(inside, (line.rstrip("\n") for line in lines))
            repair.did(f"{inside} is back from {told.readable[0][0].storage}.")
