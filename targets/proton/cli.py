"""Proton's own command line for Drive, `proton-drive`: the only module that starts it.

Argument lists in, its JSON and exit code out. It keeps its session itself, in the keyring of the
user; nothing of that is ours to see.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.errors import ConfigError

NAME = "proton-drive"
OLDEST = (0, 4, 5)
"""The version that this was written against."""

ROOT = "/my-files"
PASSED_ON = (
    "PATH", "HOME", "TMPDIR", "LANG", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS", "PROTON_DRIVE_CACHE_DIR", "HTTPS_PROXY", "NO_PROXY",
)  # fmt: skip
"""What it gets to see of our own environment."""

UPLOAD = (
    "filesystem", "upload", "--folder-conflict-strategy", "merge", "--file-conflict-strategy", "skip",
    "--skip-thumbnails", "--json",
)  # fmt: skip
"""Folders that are there are used, files that are there are left alone."""


@dataclass(frozen=True, slots=True)
class Node:
    """A file or folder in Drive. `size` None and `sha1` "": not known."""

    name: str
    folder: bool
    size: int | None = None
    sha1: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run ended; `said` is for people only."""

    code: int
    out: bytes
    said: str

    @property
    def ok(self) -> bool:
        """Whether it did everything."""
        return self.code == 0


class Program:
    """The program, found in PATH or where `binary` says."""

    def __init__(self, binary: str = NAME) -> None:
        self._binary = binary

    @property
    def found(self) -> str | None:
        """Its path, if it is installed."""
        return shutil.which(self._binary)

    def version(self) -> tuple[int, ...]:
        """Its version. Raises ConfigError when it is not installed or too old."""
        answer = self.run("version")
        shown = re.search(rb"CLI\D*(\d+)\.(\d+)\.(\d+)", answer.out)
        version = tuple(map(int, shown.groups())) if shown else ()
        if version < OLDEST:
            raise ConfigError(
                f"{self._binary} is not a version of Proton's command line that can be used: "
                f"{'.'.join(map(str, OLDEST))} or later is needed.",
                hint="Get the current one at proton.me/download/drive/cli.",
                reason="no-proton-drive",
            )
        return version

    def run(self, *arguments: str) -> Answer:
        """Run it to its end. Raises ConfigError when it is not installed."""
        path = self.found
        if path is None:
            raise ConfigError(
                f"{self._binary} was not found.",
                hint="Install Proton's command line for Drive: proton.me/download/drive/cli.",
                reason="no-proton-drive",
            )
        done = subprocess.run(
            [path, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={name: os.environ[name] for name in PASSED_ON if name in os.environ},
            check=False,
        )
        return Answer(done.returncode, done.stdout, _last_words(done.stderr))

    def children(self, folder: str) -> dict[str, Node] | None:
        """What is in a folder of Drive, by name; None when it cannot be listed."""
        answer = self.run("filesystem", "list", folder, "--json")
        try:
            listed = json.loads(answer.out) if answer.ok else None
        except ValueError:
            return None
        return {each.name: each for each in _nodes(listed)} if isinstance(listed, list) else None

    def upload(self, folder: Path) -> Answer:
        """A local folder, merged into the one of its name in the root of Drive."""
        return self.run(*UPLOAD, str(folder), ROOT)

    def download(self, files: Sequence[str], to: Path) -> Answer:
        """Files of one folder of Drive into an empty folder."""
        strategy = ("--conflict-strategy", "skip", "--json")
        return self.run("filesystem", "download", *strategy, *files, str(to))


def _nodes(listed: list[Any]) -> Iterator[Node]:
    for each in listed:
        name = _value(each.get("name")) if isinstance(each, dict) else None
        if isinstance(name, str):
            revision = _value(each.get("activeRevision"))
            yield _node(name, each, revision if isinstance(revision, dict) else {})


def _node(name: str, node: Mapping[str, Any], revision: Mapping[str, Any]) -> Node:
    size, digests = revision.get("claimedSize"), revision.get("claimedDigests")
    sha1 = digests.get("sha1") if isinstance(digests, dict) else ""
    return Node(
        name,
        node.get("type") != "file",
        size if isinstance(size, int) else None,
        sha1.lower() if isinstance(sha1, str) else "",
    )


def _value(result: object) -> object:
    """What a result of the program's library holds, if it is one and holds something."""
    if isinstance(result, dict) and "ok" in result:
        return result.get("value") if result["ok"] else None
    return result


def _last_words(data: bytes) -> str:
    lines = data.decode("utf-8", "replace").strip().splitlines() or [""]
    return "".join(each if each.isprintable() else " " for each in lines[-1])[:300]
