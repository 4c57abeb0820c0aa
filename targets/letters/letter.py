"""From the stored original to the bytes that are put."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from backupd.errors import ItemRefused
from backupd.mirror.files import BUFFER
from backupd.ports import Parcel
from targets.letters.body import body, needs_of
from targets.letters.fields import CRLF, LINE_END, Head, parse, split
from targets.letters.mend import mend
from targets.letters.needs import Needs
from targets.letters.rules import Rules
from targets.letters.stub import leftover_name, megabytes, stub
from targets.letters.survey import Survey, blocks, survey
from targets.serial import IN_MEMORY

HEAD_LIMIT = 1 << 20
"""The largest header block that is held in memory; a larger one is an attack or no mail."""


@dataclass(frozen=True, slots=True)
class Letter:
    """A mail as it is put. Close it, or use it as a context; closing the original too does no harm.

    Attributes:
        content: the bytes, rewound; the given stream itself when nothing was repaired.
        repairs: short phrases, in the order in which they were made.
        leftover: a file name when `content` only stands for a mail that is too large: whoever
            puts the letter keeps the original under that name before (see `keep`).
        author: what From says, in lower case.
    """

    content: IO[bytes]
    size: int
    sha256: str
    repairs: tuple[str, ...] = ()
    leftover: str = ""
    author: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.content.close()


def prepare(parcel: Parcel, held: IO[bytes], rules: Rules) -> Letter:
    """A letter that a server with these rules takes; the original bytes where they do.

    Args:
        held: the original, rewound; it is never changed.

    Raises:
        ItemRefused: no honest repair makes it acceptable; the message says why.
    """
    found = survey(held)
    held.seek(0)
    head, ahead = _open(held, parcel)
    mend(head, parcel, rules)
    mark = held.tell()

    def rest() -> Iterator[bytes]:
        held.seek(mark)
        return blocks(held, ahead)

    author = _author(head)
    needs = needs_of(head, rest, found, rules)
    if _as_it_is(found, head, needs):
        held.seek(0)
        return Letter(held, found.size, found.sha256, author=author)
    if found.bare:
        head.say("line ends")
    if not rules.max_bytes or found.size <= rules.max_bytes:
        letter = _written(head, body(head, rest, needs))
        if not rules.max_bytes or letter.size <= rules.max_bytes:
            return replace(letter, author=author)
        letter.content.close()
    return replace(_stub(head, rest(), found.size, parcel, rules), author=author)


def opened(content: IO[bytes]) -> tuple[Head, bytes] | None:
    """The header block, and the part of the body that was read with it; None when it is too large."""
    window = content.read(HEAD_LIMIT)
    parts = split(window, whole=len(window) < HEAD_LIMIT)
    if parts is None:
        return None
    block, rest = parts
    head, stray = parse(block)
    if not stray:
        return head, LINE_END.sub(b"", rest, count=1)
    if head.fields:
        head.say("empty line between header and body added")
    return head, stray + rest


def _open(held: IO[bytes], parcel: Parcel) -> tuple[Head, bytes]:
    if found := opened(held):
        return found
    raise ItemRefused(
        f"{parcel.path}: its header is larger than {HEAD_LIMIT >> 20} MiB.",
        hint="This is no ordinary mail; it stays whole in the backup.",
        reason="header-too-large",
    )


def _stub(head: Head, rest: Iterator[bytes], size: int, parcel: Parcel, rules: Rules) -> Letter:
    """A small letter for one that is too large."""
    limit = rules.max_bytes or 0
    if not rules.stub:
        raise ItemRefused(
            f"{parcel.path} has {megabytes(size)}, and the server takes {megabytes(limit)}.",
            hint="It stays whole in the backup; export it from there.",
            reason="too-large",
        )
    leftover = leftover_name(parcel)
    head.say(
        f"too large ({megabytes(size)}): text and a list of what is missing, the whole in {leftover}"
    )
    letter = _written(Head([], head.repairs), iter((stub(head, rest, size, limit, leftover),)))
    return replace(letter, leftover=leftover)


def _author(head: Head) -> str:
    there = head.first("From")
    return there.text.lower() if there else ""


def _as_it_is(found: Survey, head: Head, needs: Needs) -> bool:
    limit = needs.rules.max_bytes
    too_large = limit is not None and found.size > limit
    return not (head.repairs or needs.said or found.bare or too_large)


def _written(head: Head, body: Iterable[bytes]) -> Letter:
    """All of a letter; the repaired header is complete once the body's first block is there."""
    content: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - handed out
    digest, size = hashlib.sha256(), 0
    blocks = iter(body)
    first = next(blocks, b"")
    for block in chain((bytes(head), CRLF) if head.fields else (), (first,), blocks):
        content.write(block)
        digest.update(block)
        size += len(block)
    content.seek(0)
    return Letter(content, size, digest.hexdigest(), tuple(head.repairs))


def keep(held: IO[bytes], folder: Path, name: str) -> Path:
    """Keep a whole original aside, durably; nothing happens when it is there."""
    place = folder / name
    held.seek(0)
    if not place.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = folder / f".{uuid.uuid4().hex}"
        with fresh.open("wb") as file:
            shutil.copyfileobj(held, file, BUFFER)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(place)
        held.seek(0)
    return place
