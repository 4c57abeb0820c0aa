"""Mail as mbox files, one a folder: what providers without IMAP import.

The variant is mboxrd: a line that looks like a separator gets one `>` more, whatever it began
with, so that every message can be had back byte for byte. Flags travel as the headers `Status`,
`X-Status` and `X-Keywords` that mail programs know, before the message's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from backupd.errors import IntegrityError, UserError
from backupd.mirror.files import BUFFER
from backupd.mirror.names import parse_time
from backupd.model import Service
from backupd.ports import Parcel, Reader, Shelf

SEPARATOR = re.compile(rb"^(>*From )", re.MULTILINE)

TAIL = 64 << 10
"""Bytes held back so that a separator is never split between two reads; a line of more `>` is none."""

XSTATUS = (("answered", "A"), ("flagged", "F"), ("draft", "T"))


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        damaged: items whose bytes in storage were not those that were fetched; left out.
        notes: what whoever imports this should know.
    """

    messages: int
    files: int
    damaged: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def write(folder: Path, items: Iterable[tuple[Shelf, Parcel, Reader]]) -> Exported:
    """Write one file a mail folder below a new or empty directory. Raises UserError for one that is not."""
    if folder.exists() and any(folder.iterdir()):
        raise UserError(
            f"{folder} is not empty.",
            hint="Name a new folder: an mbox file cannot be gone on with.",
        )
    written, damaged, files = 0, [], set()
    for shelf, parcel, content in items:
        if shelf.service is not Service.MAIL:
            continue
        place = folder.joinpath(*shelf.path.split("/")[1:])
        place = place.with_name(f"{place.name}.mbox")
        files.add(place)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if _append(place, parcel, content):
            written += 1
        else:
            damaged.append(parcel.path)
    return Exported(written, len(files), tuple(damaged))


def _append(place: Path, parcel: Parcel, content: Reader) -> bool:
    """One message at the end of a file; taken back when its bytes turn out to be wrong."""
    with place.open("ab") as file:
        start = file.tell()
        try:
            for data in _message(parcel, content):
                file.write(data)
        except IntegrityError:
            file.truncate(start)
            return False
    return True


def _message(parcel: Parcel, content: Reader) -> Iterator[bytes]:
    moment = parse_time(parcel.about.get("received")) or datetime.fromtimestamp(0, UTC)
    yield f"From MAILER-DAEMON {moment.astimezone(UTC):%a %b %d %H:%M:%S %Y}\n".encode()
    yield _flags(parcel)
    last = b""
    for data in _quoted(_unix(content)):
        yield data
        last = data[-1:] or last
    yield b"\n" if last == b"\n" else b"\n\n"


def _flags(parcel: Parcel) -> bytes:
    more = "".join(letter for word, letter in XSTATUS if parcel.about.get(word))
    lines = [f"Status: {'RO' if parcel.about.get('seen') else 'O'}"]
    lines += [f"X-Status: {more}"] if more else []
    words = [re.sub(r"[^\w-]", "_", str(each)) for each in parcel.about.get("categories") or ()]
    lines += [f"X-Keywords: {' '.join(words)}"] if words else []
    return "".join(f"{line}\n" for line in lines).encode("ascii", "replace")


def _unix(content: Reader) -> Iterator[bytes]:
    """With LF alone, as mbox files are; a CR at the end of a read waits for what follows."""
    held = b""
    while data := content.read(BUFFER):
        data = held + data
        held = data[-1:] if data.endswith(b"\r") else b""
        yield data.removesuffix(b"\r").replace(b"\r\n", b"\n")
    yield held


def _quoted(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """With one `>` more before every line that looks like a separator."""
    held, inside = b"", False  # whether what is held goes on with a line that was begun before
    for data in chunks:
        held += data
        cut = held.rfind(b"\n") + 1 or (len(held) if len(held) > TAIL else 0)
        if cut:
            yield _quote(held[:cut], inside=inside)
            inside = held[cut - 1 : cut] != b"\n"
            held = held[cut:]
    yield _quote(held, inside=inside)


def _quote(data: bytes, *, inside: bool) -> bytes:
    begin = (data.find(b"\n") + 1 or len(data)) if inside else 0
    return data[:begin] + SEPARATOR.sub(rb">\1", data[begin:])
