"""Mail as a folder that Proton's own export tool restores from, without Bridge.

Proton supports this for folders that its tool wrote itself; for ours it is not promised, and has to
be tried with a few messages first. The tool remembers nothing: a second run makes every message twice.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from backupd.errors import IntegrityError, ItemError, UserError
from backupd.mirror.names import parse_time
from backupd.ports import Parcel, Reader, Shelf
from targets.letters import BRIDGE, Letter, Rules, keep, prepare
from targets.serial import spool

VERSION = 1
COLOUR = "#8080FF"
LABEL, FOLDER, SYSTEM = 1, 3, 4
RECEIVED, SENT, REPLIED = 1, 2, 32
STARRED = "10"

PLACES = {
    "inbox": ("0", "Inbox"),
    "junkemail": ("4", "Spam"),
    "archive": ("6", "Archive"),
    "sentitems": ("7", "Sent"),
    "drafts": ("8", "Drafts"),
}
"""Special folders as Proton numbers them. Deleted items become a folder, for Proton empties its Trash."""

README = """\
This folder is for Proton's own Mail Export Tool (proton.me/support/proton-mail-export-tool):

    proton-mail-export-cli -o restore -d THIS_FOLDER

1. Proton does not promise that its tool takes folders which it did not write: try it with a copy that
   holds a few messages first (each is two files, .eml and .metadata.json; labels.json must be there).
2. Run it once. It remembers nothing: a second run makes every message twice.
3. All messages go to the first address of the account and get a label "Import" with the date.
4. Afterwards compare its counts (Importable, Successful, Failed, Skipped) with the number of .eml files here.
"""


@dataclass(slots=True)
class Summary:
    """What an export holds. `failed` are the paths that are not in it, and why."""

    messages: int = 0
    repaired: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)


def write(
    folder: Path,
    shelves: Iterable[Shelf],
    items: Iterable[tuple[Shelf, Parcel, Reader]],
    own: tuple[str, ...] = (),
) -> Summary:
    """Write an export; the same items make the same files.

    Args:
        folder: new or empty.
        shelves: the mail folders, also those that hold nothing.
        own: addresses of the account: mail from them counts as sent.

    Raises:
        UserError: the folder holds something, or cannot be written.
    """
    try:
        _claim(folder)
        summary, labels = Summary(), Labels()
        for shelf in shelves:
            labels.of(shelf)
        rules = replace(BRIDGE, received_required=False)
        for shelf, parcel, content in items:
            _one(_Place(folder, labels, rules, own), shelf, parcel, content, summary)
        _save(folder / "labels.json", labels.listed())
        (folder / "README.txt").write_text(README, encoding="utf-8")
    except OSError as error:
        raise UserError(
            f"Cannot write the export to {folder}: {error.strerror}.",
            hint="Make room there, or name another folder.",
        ) from error
    return summary


class Labels:
    """The folders and labels of an export, each name unique among both, ignoring case."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, tuple[str, ...]], dict[str, Any]] = {}
        self._names: set[str] = set()

    def of(self, shelf: Shelf) -> str:
        """The number of a special folder, else the id of a folder, made with its parents."""
        if shelf.special in PLACES:
            return self._system(*PLACES[shelf.special])
        return self._label(FOLDER, shelf.names)

    def of_category(self, name: str) -> str:
        """The id of a label."""
        return self._label(LABEL, (name,))

    def starred(self) -> str:
        """The mark of what is flagged."""
        return self._system(STARRED, "Starred")

    def listed(self) -> list[dict[str, Any]]:
        """All of them, parents first."""
        return list(self._made.values())

    def _system(self, number: str, name: str) -> str:
        made = _described(number, "", name, SYSTEM, name)
        self._made.setdefault((SYSTEM, (number,)), made)
        return number

    def _label(self, kind: int, path: tuple[str, ...]) -> str:
        if (kind, path) not in self._made:
            parent = self._label(kind, path[:-1]) if len(path) > 1 else ""
            above = self._made[kind, path[:-1]]["Path"] + "/" if parent else ""
            name = self._unique(path[-1].replace("/", "\u2215").strip() or "(no name)")
            digest = hashlib.sha256("\0".join(path).encode("utf-8", "replace")).hexdigest()[:32]
            number = f"backupd-{kind}-{digest}"
            self._made[kind, path] = _described(number, parent, name, kind, f"{above}{name}")
        return str(self._made[kind, path]["ID"])

    def _unique(self, name: str) -> str:
        found, number = name, 0
        while found.casefold() in self._names:
            number += 1
            found = f"{name} ({number})"
        self._names.add(found.casefold())
        return found


@dataclass(frozen=True, slots=True)
class _Place:
    folder: Path
    labels: Labels
    rules: Rules
    own: tuple[str, ...]


def _claim(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty.",
            hint="Name a new folder: Proton's tool would import whatever lies in it.",
        )


def _one(place: _Place, shelf: Shelf, parcel: Parcel, content: Reader, summary: Summary) -> None:
    try:
        with spool(content) as held:
            repaired = _put(place, shelf, parcel, held)
    except (ItemError, IntegrityError) as error:
        summary.failed.append((parcel.path, str(error)))
        return
    summary.messages += 1
    summary.repaired += repaired


def _put(place: _Place, shelf: Shelf, parcel: Parcel, held: IO[bytes]) -> bool:
    number = hashlib.sha256(parcel.key.encode("utf-8", "replace")).hexdigest()[:40]
    with prepare(parcel, held, place.rules.at(shelf.special)) as letter:
        if letter.leftover:
            keep(held, place.folder / "leftover", letter.leftover)
        keep(letter.content, place.folder, f"{number}.eml")
        _save(
            place.folder / f"{number}.metadata.json",
            _metadata(place, shelf, parcel, letter, number),
        )
        return bool(letter.repairs)


def _metadata(
    place: _Place, shelf: Shelf, parcel: Parcel, letter: Letter, number: str
) -> Mapping[str, Any]:
    about = parcel.about
    labels = [place.labels.of(shelf)]
    labels += [place.labels.starred()] if about.get("flagged") else []
    labels += [place.labels.of_category(each) for each in _categories(parcel)]
    moment = parse_time(about.get("received")) or parse_time(about.get("sent"))
    return {
        "ID": number,
        "AddressID": "",
        "LabelIDs": labels,
        "ExternalID": str(about.get("message_id") or "").strip("<> "),
        "Subject": str(about.get("subject") or ""),
        "Flags": _flags(place, shelf, parcel, letter),
        "Time": int(moment.timestamp()) if moment else 0,
        "Size": letter.size,
        "Unread": int(not about.get("seen")),
        "IsReplied": int(bool(about.get("answered"))),
        "IsRepliedAll": 0,
        "IsForwarded": 0,
        "NumAttachments": 0,
    }


def _flags(place: _Place, shelf: Shelf, parcel: Parcel, letter: Letter) -> int:
    """Drafts are neither received nor sent."""
    if shelf.special == "drafts":
        return 0
    sent = shelf.special == "sentitems" or (shelf.special != "inbox" and _is_own(place, letter))
    return (SENT if sent else RECEIVED) | (REPLIED if parcel.about.get("answered") else 0)


def _is_own(place: _Place, letter: Letter) -> bool:
    return bool(place.own) and any(each in letter.author for each in place.own)


def _categories(parcel: Parcel) -> Iterator[str]:
    found = parcel.about.get("categories")
    for each in found if isinstance(found, list | tuple) else ():
        if isinstance(each, str) and each.strip():
            yield each.strip()


def _save(path: Path, payload: object) -> None:
    text = json.dumps({"Version": VERSION, "Payload": payload}, ensure_ascii=False)
    fresh = path.with_name(f".{uuid.uuid4().hex}")
    try:
        fresh.write_bytes(text.encode("utf-8", "replace"))
        fresh.replace(path)
    finally:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)


def _described(number: str, parent: str, name: str, kind: int, path: str) -> dict[str, Any]:
    return {
        "ID": number,
        "ParentID": parent,
        "Name": name,
        "Path": path,
        "Color": COLOUR,
        "Type": kind,
    }
