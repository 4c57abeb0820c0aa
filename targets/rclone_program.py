"""Starts rclone, as nothing else does: argument lists in, exit codes out, secrets by environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from backupd.errors import ConfigError
from backupd.mirror.files import BUFFER
from targets.endpoint import Endpoint

OLDEST = (1, 60)
"""The version in Debian 12."""

NOTES = 64 << 10
"""Bytes of rclone's log that are kept for a message."""

PASSED_ON = (
    "PATH", "HOME", "TMPDIR", "LANG", "XDG_CONFIG_HOME", "RCLONE_CONFIG", "SSL_CERT_FILE",
    "SSL_CERT_DIR", "SSH_AUTH_SOCK", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "DBUS_SESSION_BUS_ADDRESS",
)  # fmt: skip
"""What rclone gets to see of our own environment."""


@dataclass(frozen=True, slots=True)
class Answer:
    """How a run of rclone ended; what it said is for people, by file where it named one."""

    code: int
    out: bytes
    notes: Mapping[str, str]

    def said(self, path: str = "") -> str:
        """Its complaint about a file, or its last one."""
        last = next(reversed([*self.notes.values()]), f"exit code {self.code}")
        return (self.notes.get(path) or last or f"exit code {self.code}")[:300]


class Program:
    """rclone with one configuration: argument lists in, exit codes out; secrets by environment."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._binary = str(endpoint.quirks.get("binary", "rclone"))
        config = endpoint.quirks.get("config")
        self._options = [
            "--use-json-log",
            "--log-level=NOTICE",
            "--stats=0",
            "--ask-password=false",
        ]
        self._options += ["--contimeout=30s", f"--transfers={endpoint.connections}"]
        self._options += [f"--config={config}"] if config else []

    def version(self) -> tuple[int, ...]:
        """Its version. Raises ConfigError when it is no rclone, or too old a one."""
        try:
            known = json.loads(self.run("rc", "--loopback", "core/version").out)["decomposed"]
            version = tuple(int(part) for part in known)
        except (ValueError, LookupError, TypeError):
            version = ()
        if version < OLDEST:
            raise ConfigError(
                f"{self._binary} is not an rclone that can be used: 1.60 or later is needed.",
                hint="Install a current rclone; `rclone version` must answer.",
                reason="no-rclone",
            )
        return version

    def run(self, *arguments: str, only: Sequence[str] | None = None) -> Answer:
        """Run it to its end; `only` are the files that it is to look at, one by one."""
        with tempfile.TemporaryFile() as log, tempfile.NamedTemporaryFile() as listed:
            command = [self._path(), *self._options]
            if only is not None:
                listed.write("".join(f"{each}\n" for each in only).encode())
                listed.flush()
                command += ["--no-traverse", f"--files-from-raw={listed.name}"]
            done = subprocess.run(
                [*command, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=self._environment(),
                check=False,
            )
            return Answer(done.returncode, done.stdout, _notes(log))

    def begins(self, address: str, whole: Path) -> bool:
        """Whether what is at a remote is how `whole` begins: what a broken upload leaves behind."""
        command = [self._path(), *self._options, "cat", "--", address]
        with (
            whole.open("rb") as ours,
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(),
            ) as process,
        ):
            assert process.stdout is not None  # noqa: S101 - it is a pipe
            while theirs := process.stdout.read(BUFFER):
                if theirs != ours.read(len(theirs)):
                    process.kill()
                    return False
        return process.returncode == 0

    def _path(self) -> str:
        found = shutil.which(self._binary)
        if found is None:
            raise ConfigError(
                f"rclone was not found ({self._binary!r}).",
                hint="Install it (Debian, Ubuntu: apt install rclone), then set up the remote by `rclone config`.",
                reason="no-rclone",
            )
        return found

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        secret = self._endpoint.secret()
        return {**passed, "RCLONE_CONFIG_PASS": secret} if secret else passed


def _notes(log: Any) -> dict[str, str]:
    """The complaints of rclone by file, in their order; what is about no file stands under an empty name."""
    log.seek(0, os.SEEK_END)
    log.seek(max(0, log.tell() - NOTES))
    notes: dict[str, str] = {}
    for line in log.read().decode("utf-8", "replace").split("\n"):
        try:
            said = json.loads(line)
            name, message = str(said.get("object", "")), str(said["msg"])
        except (ValueError, LookupError, AttributeError):
            name, message = "", line  # an old rclone's last words
        notes.pop(name, None)
        notes[name] = message.strip()
    return notes
