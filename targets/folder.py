"""A directory as a target: a Maildir for each mail folder, .ics, .vcf and files under their names.

Any mail program opens the Maildirs, any calendar and address book the rest. It always works,
which is why drills and the demonstration use it.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from backupd import names
from backupd.errors import IntegrityError, ItemRefused, UserError
from backupd.mirror import BUFFER, hash_file
from backupd.model import Service
from backupd.ports import Finding, Parcel, Put, Reader

MAILDIR = ("cur", "new", "tmp")

FLAGS = (("draft", "D"), ("flagged", "F"), ("answered", "R"), ("seen", "S"))
"""Maildir info letters in their required (alphabetical) order."""


class Folder:
    """Puts items below a directory; see `backupd.ports.Target`."""

    def __init__(self, name: str, path: Path) -> None:
        self.name = name
        self._root = path
        self._incoming = path / ".incoming"
        self._listed: tuple[Path, dict[str, str]] = (path, {})

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

    def make_collection(self, service: Service, path: str, names: tuple[str, ...]) -> None:  # noqa: ARG002
        """Create the folder, as an empty Maildir for mail."""
        folder = self._folder(service, path)
        for part in MAILDIR if service is Service.MAIL else ("",):
            (folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, parcel: Parcel, content: Reader) -> Put:
        """Write one item, unless it is there already. Never overwrites what is not the same."""
        place = self._place(parcel)
        if _is(place, parcel):
            return Put("present", str(place))
        why = ""
        if place.exists():
            place = place.with_name(names.twin(place.name, parcel.sha256))
            why = "another file had its name"
            if _is(place, parcel):
                return Put("present", str(place), why)
        try:
            self._write(place, parcel, content)
        except OSError as error:
            if error.filename is None or error.errno is None:
                raise
            raise ItemRefused(
                f"{parcel.path}: {error.strerror}.", reason=f"errno-{error.errno}"
            ) from error
        return Put("restored", str(place), why)

    def read_back(self, parcel: Parcel, put: Put) -> str:
        """The hash of the file as it lies there."""
        try:
            with Path(put.where).open("rb") as file:
                return hash_file(file)
        except FileNotFoundError as error:
            raise IntegrityError(f"{parcel.path} is not at {put.where}.") from error

    def close(self) -> None:
        """Remove the place where items were written before they got their name."""
        shutil.rmtree(self._incoming, ignore_errors=True)

    def _write(self, place: Path, parcel: Parcel, content: Reader) -> None:
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = self._incoming / uuid.uuid4().hex
        with fresh.open("wb") as file:
            while data := content.read(BUFFER):
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
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
