"""A series of files: what is in them already, and how more is added without ever losing one."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

from backupd.errors import ItemError, UserError
from targets import vcards
from targets.bundles.fit import Fitted, calendar_of
from targets.bundles.limits import Limits
from targets.dav import events
from targets.dav.lines import Block, parse, serialize

_UID = re.compile(rb"^UID(?:;[^:\r\n]*)?:([^\r\n]*(?:\r\n[ \t][^\r\n]*)*)", re.MULTILINE)
_FRAME = 200
"""Bytes around the items of a calendar file."""


class Bundle:
    """One file of a series, as it is in memory while items are added."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.blocks: list[Block] = []
        self.zones: dict[str, Block] = {}
        self.items: dict[str, list[Block]] = {}
        self.size = _FRAME
        if path.exists():
            self._load(path.read_bytes())

    @property
    def calendar(self) -> bool:
        """Whether it holds events; else contacts."""
        return self.path.suffix == ".ics"

    def room(self, item: Fitted, limits: Limits) -> bool:
        """Whether one more item fits."""
        return (
            self.size + item.size <= limits.max_bytes
            and len(self.blocks) + len(item.blocks) <= limits.max_items
        )

    def add(self, item: Fitted) -> None:
        """Take an item; a time zone that is there already is not taken twice."""
        for each in item.zones:
            self.zones.setdefault(_value(each, "TZID"), each)
        self.blocks += item.blocks
        self.items[item.uid] = list(item.blocks)
        self.size += item.size

    def digest(self, uid: str) -> str:
        """What the item of a UID says; "" when there is none that can be read."""
        blocks = self.items.get(uid, [])
        try:
            if not blocks:
                return ""
            if self.calendar:
                return events.meaning_of(calendar_of(blocks, list(self.zones.values())))
            return vcards.meaning_of(serialize(blocks))
        except ItemError:
            return ""

    def write(self) -> None:
        """All of it, durably, in one step."""
        zones = list(self.zones.values())
        durably(
            self.path, calendar_of(self.blocks, zones) if self.calendar else serialize(self.blocks)
        )

    def _load(self, data: bytes) -> None:
        try:
            blocks, _ = parse(data)
        except ItemError as error:
            raise UserError(
                f"{self.path} cannot be read; was it changed by hand?",
                hint="Move it to another folder, then run the same restore again.",
                reason="bundle",
            ) from error
        inside = [part for each in blocks for part in each.blocks] if self.calendar else blocks
        for block in inside:
            if block.name == "VTIMEZONE":
                self.zones[_value(block, "TZID")] = block
            else:
                self.blocks.append(block)
                self.items.setdefault(_value(block, "UID"), []).append(block)
        self.size = len(data)


class Series:
    """`STEM-001.ics`, `STEM-002.ics` and so on."""

    def __init__(self, folder: Path, stem: str, suffix: str) -> None:
        self._folder, self._stem, self._suffix = folder, stem, suffix
        self._read: Bundle | None = None
        self.uids = {uid: path for path in self.files() for uid in _uids(path)}

    def files(self) -> list[Path]:
        """Those that are there, in order."""
        pattern = re.compile(re.escape(self._stem) + r"-\d{3,}" + re.escape(self._suffix))
        there = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted((each for each in there if pattern.fullmatch(each.name)), key=_order)

    def last(self) -> Bundle:
        """The file that is not full yet, or a new one."""
        files = self.files()
        return Bundle(files[-1] if files else self._at(1))

    def next(self, bundle: Bundle) -> Bundle:
        """The file after one that is full."""
        return Bundle(self._at(_order(bundle.path)[1] + 1))

    def digest(self, path: Path, uid: str) -> str:
        """What an item in a file says; "" when it is not there."""
        if self._read is None or self._read.path != path:
            self._read = Bundle(path)
        return self._read.digest(uid)

    def forget(self) -> None:
        """A file has changed."""
        self._read = None

    def _at(self, number: int) -> Path:
        return self._folder / f"{self._stem}-{number:03d}{self._suffix}"


def durably(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = path.with_name(f".{uuid.uuid4().hex}")
    try:
        with fresh.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise UserError(
            f"Cannot write {path}: {error.strerror}.",
            hint="Make room, or name another folder for the files.",
            reason="disk",
        ) from error


def _uids(path: Path) -> Iterator[str]:
    """The UIDs in a file, without taking it apart."""
    for found in _UID.finditer(path.read_bytes()):
        yield re.sub(rb"\r\n[ \t]", b"", found[1]).decode("utf-8", "replace").strip()


def _value(block: Block, name: str) -> str:
    there = block.first(name)
    return there.value.strip() if there else ""


def _order(path: Path) -> tuple[int, int]:
    number = path.stem.rpartition("-")[2]
    return len(number), int(number)
