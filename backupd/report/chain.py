"""The chain of signed reports below `<state>/reports`, and what is wrong with one.

`000007-20261125T105200Z.json` is a report, `….json.sig` its signature. Each holds the number of its
place, the SHA-256 of the file before it, and the public key; the newest is also named in
`head.json`, so that one removed from the end is missed too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from backupd import private
from backupd.errors import UserError
from backupd.locks import exclusive
from backupd.report.signing import LENGTH, PublicKey, SigningKey, public_from_hex

REPORT = re.compile(r"(\d{6,})-\d{8}T\d{6}Z\.json")
HEAD = "head.json"
LARGEST = 256 << 20
"""Bytes of a file that is read as a report; more is none of ours."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a report or between two: `kind` is a stable word."""

    kind: str
    file: str
    what: str


@dataclass(frozen=True, slots=True)
class Link:
    """A report's place in the chain, by its own word.

    Attributes:
        sequence: from 1; 0 when it names none.
        previous: the SHA-256 of the file before it, or "".
        sha256: of the whole file, in lower-case hex.
    """

    path: Path
    sequence: int
    previous: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Chain:
    """The reports of one installation."""

    folder: Path

    def files(self) -> list[Path]:
        """Every report, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(each for each in self.folder.iterdir() if REPORT.fullmatch(each.name))

    def append(self, document: dict[str, Any], key: SigningKey) -> Path:
        """Sign a report and put it at the end; durable when this returns. Raises OSError, UserError."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(self.folder / "lock", "the reports", patience=60.0):
            number, previous = self._end()
            whole = document | {
                "sequence": number + 1,
                "previous": previous,
                "public_key": key.public.hex,
            }
            data = (json.dumps(whole, ensure_ascii=True, indent=1) + "\n").encode("ascii")
            path = self.folder / f"{number + 1:06}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
            _write(path.with_name(f"{path.name}.sig"), key.sign(data))
            _write(path, data)
            head = {"sequence": number + 1, "sha256": hashlib.sha256(data).hexdigest()}
            private.put(self.folder / HEAD, json.dumps(head) + "\n")
        return path

    def head(self) -> tuple[int, str]:
        """Number and SHA-256 of the newest report, by what was noted; (0, "") when nothing was."""
        try:
            noted = json.loads((self.folder / HEAD).read_text(encoding="utf-8"))
            return int(noted["sequence"]), str(noted["sha256"])
        except (OSError, ValueError, TypeError, KeyError):
            return 0, ""

    def made(self) -> float:
        """When the newest was made, in seconds since 1970; 0 without one."""
        try:
            return (self.folder / HEAD).stat().st_mtime
        except OSError:
            return 0.0

    def _end(self) -> tuple[int, str]:
        """What the next report goes on from: never less than what was noted, whatever was removed since."""
        noted = self.head()
        files = self.files()
        if not files:
            return noted
        last = files[-1].read_bytes()
        number = int(files[-1].name.partition("-")[0])
        return max(noted, (number, hashlib.sha256(last).hexdigest()), key=lambda each: each[0])

    def check(self, key: PublicKey) -> Iterator[Fault]:
        """Everything that is wrong with the reports of this installation."""
        links: list[Link] = []
        yield from check(self.files(), key, links)
        if links and links[0].sequence > 1:
            what = f"The chain begins with report {links[0].sequence}: those before it are no longer there."
            yield Fault("removed", links[0].path.name, what)
        number, sha256 = self.head()
        newest = links[-1] if links else None
        if number > (newest.sequence if newest else 0):
            what = f"Report {number} was the newest and is no longer there."
            yield Fault("removed", HEAD, what)
        elif newest and newest.sequence == number and newest.sha256 != sha256:
            what = f"Report {number} is not the one that was noted as the newest."
            yield Fault("altered", newest.path.name, what)


def check(
    files: Iterable[Path], key: PublicKey, links: list[Link] | None = None
) -> Iterator[Fault]:
    """Everything that is wrong with reports and between them.

    Args:
        links: takes what could be read, in the order of the chain; their bytes are not kept.
    """
    found: list[Link] = [] if links is None else links
    for path in files:
        try:
            data, document = read(path)
        except UserError as error:
            yield Fault("unreadable", path.name, str(error))
            continue
        yield from _signature(path, data, document, key)
        found.append(_link(path, data, document))
    found.sort(key=lambda each: each.sequence)
    yield from _order(found)


def read(path: Path) -> tuple[bytes, dict[str, Any]]:
    """A report's bytes and what they say, not yet believed. Raises UserError."""
    try:
        if path.stat().st_size > LARGEST:
            raise UserError(f"{path} is too large to be a report.")
        data = path.read_bytes()
        document = json.loads(data)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.", hint="Check the path.") from error  # fmt: skip
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is no report: it is not JSON.") from error
    if not isinstance(document, dict):
        raise UserError(f"{path} is no report.")
    return data, document


def _link(path: Path, data: bytes, document: dict[str, Any]) -> Link:
    number = document.get("sequence")
    sequence = number if isinstance(number, int) else 0
    return Link(
        path, sequence, str(document.get("previous") or ""), hashlib.sha256(data).hexdigest()
    )


def _signature(
    path: Path, data: bytes, document: dict[str, Any], key: PublicKey
) -> Iterator[Fault]:
    beside, name = path.with_name(f"{path.name}.sig"), path.name
    try:
        signature = beside.read_bytes()
    except OSError:
        yield Fault("unsigned", name, f"{beside.name} is missing: nobody has signed {name}.")
        return
    if key.signed(data, signature):
        return
    own = public_from_hex(document.get("public_key"))
    if own is not None and own.hex != key.hex and own.signed(data, signature):
        what = f"{name} was signed with another key (its fingerprint is {own.fingerprint})."
        yield Fault("other-key", name, what)
    elif len(signature) != LENGTH:
        yield Fault("signature", name, f"{beside.name} is no signature.")
    else:
        yield Fault("altered", name, f"{name}, or its signature, was altered after it was signed.")


def _order(links: Sequence[Link]) -> Iterator[Fault]:
    for before, link in pairwise(links):
        name = link.path.name
        if link.sequence == before.sequence:
            yield Fault("twice", name, f"{before.path.name} and {name} claim the same place.")
        elif link.sequence != before.sequence + 1:
            gone = range(before.sequence + 1, link.sequence)
            which = f"Report {gone[0]} is" if len(gone) == 1 else f"Reports {gone[0]} to {gone[-1]} are"  # fmt: skip
            yield Fault("removed", name, f"{which} missing before {name}.")
        elif link.previous != before.sha256:
            what = (
                f"{name} follows another report than {before.path.name}: one of them was replaced."
            )
            yield Fault("chain", name, what)
    if links and links[0].sequence == 1 and links[0].previous:
        yield Fault("chain", links[0].path.name, "The first report claims that one came before it.")
    if links and links[0].sequence < 1:
        yield Fault("chain", links[0].path.name, f"{links[0].path.name} has no place in a chain.")


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
