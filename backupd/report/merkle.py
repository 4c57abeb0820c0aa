"""One hash for everything a snapshot holds, that anybody can compute again.

A leaf is one line of JSON for each item: `["mail","mail/Inbox",KEY,SHA-256]`, ASCII, no blanks. The
lines are sorted as bytes (`LC_ALL=C sort`); the root is the Merkle Tree Hash of RFC 6962 over them
with SHA-256: `SHA-256(00 line)` for a leaf, `SHA-256(01 left right)` for a node.

A million lines are sorted in files, so that memory stays flat.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

RUN = 50_000
"""Lines that are sorted in memory."""


def leaf(path: str, collection: str, key: str, sha256: str) -> bytes:
    """The line of an item; its service is the first part of its path."""
    told = [path.partition("/")[0], collection, key, sha256]
    return json.dumps(told, ensure_ascii=True, separators=(",", ":")).encode()


class Tree:
    """Takes leaves in any order; a context, since it may need files."""

    def __init__(self, scratch: Path) -> None:
        self.leaves = 0
        self._scratch = scratch
        self._lines: list[bytes] = []
        self._runs: list[IO[bytes]] = []
        self._files = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, line: bytes) -> None:
        """One leaf: a line without its end."""
        self.leaves += 1
        self._lines.append(line)
        if len(self._lines) >= RUN:
            self._spill()

    def root(self) -> str:
        """The hash of all leaves, in lower-case hex; without any that of nothing."""
        runs: list[Iterable[bytes]] = [_lines(each) for each in self._runs]
        return root_of(heapq.merge(*runs, sorted(self._lines)))

    def _spill(self) -> None:
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
        run = self._files.enter_context(tempfile.TemporaryFile(dir=self._scratch))  # noqa: SIM115 - closed with the tree
        run.writelines(line + b"\n" for line in sorted(self._lines))
        self._runs.append(run)
        self._lines = []


def root_of(lines: Iterable[bytes]) -> str:
    """The root over sorted lines, in memory that grows with the logarithm of their number."""
    stack: list[tuple[int, bytes]] = []
    for line in lines:
        level, node = 0, hashlib.sha256(b"\0" + line).digest()
        while stack and stack[-1][0] == level:
            node = hashlib.sha256(b"\1" + stack.pop()[1] + node).digest()
            level += 1
        stack.append((level, node))
    if not stack:
        return hashlib.sha256().hexdigest()
    node = stack.pop()[1]
    while stack:
        node = hashlib.sha256(b"\1" + stack.pop()[1] + node).digest()
    return node.hex()


def _lines(run: IO[bytes]) -> Iterator[bytes]:
    run.seek(0)
    return (line.rstrip(b"\n") for line in run)
