"""A directory as a target: a Maildir for each mail folder, .ics, .vcf and files under their names.

Any mail program opens the Maildirs, any calendar and address book the rest. It always works,
which is why drills and the demonstration use it.
"""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from backupd.errors import ConfigError, IntegrityError, ItemError, ItemRefused, UserError
from backupd.mirror import names
from backupd.mirror.files import BUFFER, hash_file
from backupd.model import Service
from backupd.ports import (
    PRESENT,
    REPAIRED,
    RESTORED,
    Claim,
    Finding,
    Pace,
    Parcel,
    Proof,
    Put,
    Reader,
    Shelf,
)
from targets.endpoint import Endpoint

MAILDIR = ("cur", "new", "tmp")

FLAGS = (("draft", "D"), ("flagged", "F"), ("answered", "R"), ("seen", "S"))
"""Maildir info letters in their required (alphabetical) order."""


class Folder:
    """Puts items below a directory; see `backupd.ports.Target`."""

    services = frozenset(Service)
    pace = Pace(items=200, bytes=20e6)

    def __init__(self, endpoint: Endpoint) -> None:
        """`endpoint.path` is the directory."""
        if endpoint.path is None:
            raise ConfigError(
                f"[targets.{endpoint.name}] names no directory.", hint='Add: path = "/…"'
            )
        self.name = endpoint.name
        self._root = endpoint.path
        self._incoming = self._root / ".incoming"
        self._listed: tuple[Path, dict[str, str]] = (self._root, {})

    def preflight(self) -> Iterator[Finding]:
        """The directory can be created and written to. Raises UserError otherwise."""
        try:
            self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
            probe = self._incoming / uuid.uuid4().hex
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UserError(
                f"Cannot write to {self._root}: {error.strerror}.",
                hint="Name a directory that you may write to, on a disk with enough space.",
            ) from error
        free = shutil.disk_usage(self._root).free
        yield Finding("ok", str(self._root), f"can be written to, {free >> 20} MiB free")

    def steps(self) -> tuple[str, ...]:
        """Nothing is left to do by hand."""
        return ()

    def examine(self, parcel: Parcel, content: Reader) -> Put:
        """Everything is taken as it is; the bytes are read to know that they are whole."""
        while content.read(BUFFER):
            pass
        return Put(RESTORED, digest=parcel.sha256)

    def make_collection(self, shelf: Shelf) -> None:
        """Create the folder, as an empty Maildir for mail."""
        folder = self._folder(shelf.service, shelf.path)
        for part in MAILDIR if shelf.service is Service.MAIL else ("",):
            (folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(
        self,
        shelf: Shelf,  # noqa: ARG002 - a parcel's path says it all
        items: Iterable[tuple[Parcel, Reader]],
        *,
        look: bool,  # noqa: ARG002 - looking costs nothing here
    ) -> Iterator[tuple[Parcel, Put]]:
        """Write each item, unless it is there already. Never overwrites what is not the same."""
        for parcel, content in items:
            try:
                yield parcel, self._put(parcel, content)
            except (ItemError, IntegrityError) as error:
                yield parcel, Put.failed(error)

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:  # noqa: ARG002
        """Compare with the files as they lie there."""
        for claim in claims:
            yield _proof(claim)

    def _put(self, parcel: Parcel, content: Reader) -> Put:
        place = self._place(parcel)
        if _is(place, parcel):
            return Put(PRESENT, str(place), digest=parcel.sha256)
        why = ""
        if place.exists():
            place = place.with_name(names.twin(place.name, parcel.sha256))
            why = "renamed: another file had its name"
            if _is(place, parcel):
                return Put(PRESENT, str(place), why, parcel.sha256)
        try:
            self._write(place, parcel, content)
        except OSError as error:
            raise self._refusal(parcel, error) from error
        return Put(REPAIRED if why else RESTORED, str(place), why, parcel.sha256)

    def _refusal(self, parcel: Parcel, error: OSError) -> Exception:
        """A full disk ends the run; a name that the file system does not take ends the item."""
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return UserError(
                f"No space left in {self._root}.",
                hint="Make room there, or name a directory on another disk.",
                reason="quota",
            )
        if error.filename is None or error.errno is None:
            return error
        return ItemRefused(f"{parcel.path}: {error.strerror}.", reason=f"errno-{error.errno}")

    def close(self) -> None:
        """Remove the place where items were written before they got their name."""
        shutil.rmtree(self._incoming, ignore_errors=True)

    def _write(self, place: Path, parcel: Parcel, content: Reader) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._incoming / uuid.uuid4().hex
        try:
            with fresh.open("wb") as file:
                while data := content.read(BUFFER):
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        moment = names.parse_time(parcel.about.get("received") or parcel.about.get("modified"))
        if moment and moment.timestamp() > 0:
            os.utime(fresh, (moment.timestamp(), moment.timestamp()))
        fresh.replace(place)

    def _place(self, parcel: Parcel) -> Path:
        folder, _, leaf = parcel.path.rpartition("/")
        if parcel.service is Service.MAIL:
            current = self._folder(Service.MAIL, folder.rpartition("/")[0]) / "cur"
            return current / self._mail_name(current, parcel)
        return self._folder(parcel.service, folder) / leaf

    def _mail_name(self, current: Path, parcel: Parcel) -> str:
        """Flags are part of a Maildir name: a message that is there under other flags stays as it is."""
        if self._listed[0] != current:
            there = current.iterdir() if current.is_dir() else ()
            self._listed = (current, {_identity(each.name): each.name for each in there})
        name = _mail_name(parcel)
        return self._listed[1].setdefault(_identity(name), name)

    def _folder(self, service: Service, path: str) -> Path:
        """The directory of a collection; paths inside a snapshot are made of safe components."""
        parts = path.split("/")
        if any(part in {"", ".", ".."} for part in parts):
            raise IntegrityError(f"{path!r} would lead outside the target.")
        if service is Service.MAIL:
            parts = [
                f"%{ord(part[0]):02X}{part[1:]}" if part in MAILDIR else part for part in parts
            ]
        return self._root.joinpath(*parts)


def _proof(claim: Claim) -> Proof:
    place = Path(claim.put.where)
    try:
        if not claim.deep:
            same = place.stat().st_size == claim.parcel.size
        else:
            with place.open("rb") as file:
                same = hash_file(file) == claim.put.digest
    except FileNotFoundError:
        return Proof(claim, "missing")
    return Proof(claim, "same") if same else Proof(claim, "changed", "other bytes")


def _mail_name(parcel: Parcel) -> str:
    """A Maildir name that a second restore finds again: time, key, size and flags."""
    received = names.parse_time(parcel.about.get("received"))
    seconds = int(received.timestamp()) if received else 0
    flags = "".join(letter for word, letter in FLAGS if parcel.about.get(word))
    return f"{seconds}.{names.short_key(parcel.key)}.backupd,S={parcel.size}:2,{flags}"


def _identity(name: str) -> str:
    """Key and size, without the time in front and the flags behind."""
    return name.partition(":")[0].partition(".")[2]


def _is(place: Path, parcel: Parcel) -> bool:
    """Whether the file there has the bytes of the item already."""
    try:
        if place.stat().st_size != parcel.size:
            return False
        with place.open("rb") as file:
            return hash_file(file) == parcel.sha256
    except OSError:
        return False
