"""The only module that starts restic: argument lists in, typed messages and errors out.

Works with 0.14 and later. Newer options are used where the binary's own help names them; what
failed is decided by exit codes (0.17 and later) and by asking again (before), never by text.
Secrets travel in files and in the environment of the process, never on its command line.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, urlsplit, urlunsplit

from backupd.errors import (
    UserError,
    VaultError,
    VaultIncomplete,
    VaultLocked,
    VaultUnreachable,
)
from backupd.patience import IDLE, LATE, Patience
from backupd.vaults.locations import parse, why_silent

OLDEST = (0, 14, 0)
"""The version in Debian 12: the first with repository format 2 (compression)."""

INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 3, 10, 11, 12
"""Exit codes from restic's scripting documentation; 10 to 12 since 0.17."""

GENERIC = 1

STDERR_LIMIT = 64 << 10
"""Bytes of restic's complaints that are kept for a message."""

PASSED_ON = ("PATH", "HOME", "TMPDIR", "LANG", "SSL_CERT_FILE", "SSL_CERT_DIR", "SSH_AUTH_SOCK")
"""What restic gets to see of our own environment."""

SECRET = re.compile(r"KEY|SECRET|TOKEN|PASS", re.IGNORECASE)
"""Variables whose values are never repeated, whatever restic says."""
SHORTEST_SECRET = 4
"""Characters from which on a value is taken for one: hiding shorter ones would garble every sentence."""

KNOCK = 10.0
"""Seconds that a server gets to take a connection, before restic is started for it."""

LOST = {LATE: "it does not answer in time", IDLE: "nothing moves any more"}

Message = dict[str, Any]


@dataclass(frozen=True)
class Restic:
    """A restic binary.

    Attributes:
        binary: a name to look up in PATH, or a path.
    """

    binary: str = "restic"

    @cached_property
    def path(self) -> str:
        """Where it is. Raises UserError when there is none."""
        found = shutil.which(self.binary)
        if found is None:
            raise UserError(
                f"restic was not found ({self.binary!r}).",
                hint="Install it (Debian, Ubuntu: apt install restic) or set `restic` in the configuration "
                "to its path.",
                reason="no-restic",
            )
        return found

    @cached_property
    def version(self) -> tuple[int, ...]:
        """Its version. Raises UserError when it is no restic."""
        said = subprocess.run(
            [self.path, "version"], capture_output=True, text=True, check=False
        ).stdout
        match = re.match(r"restic (\d+)\.(\d+)\.(\d+)", said)
        if not match:
            raise UserError(
                f"{self.path} is not a restic that can be used.",
                hint="`restic version` must answer with its version.",
                reason="no-restic",
            )
        return tuple(int(part) for part in match.groups())

    def require(self) -> None:
        """Raises UserError when there is no restic that can be used."""
        if self.version < OLDEST:
            needed, found = (".".join(map(str, each)) for each in (OLDEST, self.version))
            raise UserError(
                f"restic {found} is too old: {needed} or later is needed.",
                hint="Install a newer restic and set `restic` in the configuration to its path.",
                reason="old-restic",
            )

    def knows(self, command: str, option: str) -> bool:
        """Whether a command has an option, by the binary's own word."""
        return option in self._help(command)

    def _help(self, command: str) -> frozenset[str]:
        cache: dict[str, frozenset[str]] = self.__dict__.setdefault("_helps", {})
        if command not in cache:
            answer = subprocess.run(
                [self.path, command, "--help"], capture_output=True, text=True, check=False
            )
            cache[command] = frozenset(re.findall(r"--[a-z][a-z-]+", answer.stdout))
        return cache[command]


@dataclass(frozen=True)
class Repository:
    """A restic repository and what opens it.

    Attributes:
        location: as restic takes it; may hold credentials, so it is never printed in full.
        password: a file, or a command that prints it.
        environment: what the storage needs (keys of an object store, say).
        cache: where restic keeps its cache.
        flags: what every command is started with; no secrets.
        answer_within: seconds in which a vault must open.
    """

    restic: Restic
    location: str
    password: Path | str
    cache: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    flags: tuple[str, ...] = ()
    answer_within: float | None = None

    @property
    def label(self) -> str:
        """The location without credentials, for people."""
        return re.sub(r"//[^/@]*@", "//…@", self.location)

    def run(
        self,
        arguments: Sequence[str],
        *,
        folder: Path | None = None,
        listen: Callable[[Message, Patience], None] | None = None,
        beat: Callable[[], None] = lambda: None,
        within: float | None = None,
        idle: float | None = None,
    ) -> list[Message]:
        """Run a command to its end and return its JSON messages (all, or none with `listen`).

        Args:
            listen: told every message, and whom to tell when something moved.
            beat: called for every line, whatever it says; what it raises ends the command.
            within: seconds after which it is ended.
            idle: seconds without a move after which it is ended.

        Raises UserError for a missing repository or a wrong password, VaultLocked,
        VaultUnreachable when it was ended, VaultIncomplete for exit code 3, VaultError for
        everything else.
        """
        messages: list[Message] = []
        with self._started([*arguments, "--json"], folder, within, idle) as (out, patience):
            for line in out:
                beat()
                for message in _parse(line):
                    if listen:
                        listen(message, patience)
                    else:
                        messages.append(message)
        return messages

    @contextmanager
    def stream(
        self, arguments: Sequence[str], *, folder: Path | None = None
    ) -> Iterator[IO[bytes]]:
        """The output of a command, read while it runs; raises as `run` does when it failed.

        Leaving early stops the command.
        """
        with self._started(arguments, folder) as (out, _):
            yield out

    @contextmanager
    def _started(
        self,
        arguments: Sequence[str],
        folder: Path | None = None,
        within: float | None = None,
        idle: float | None = None,
    ) -> Iterator[tuple[IO[bytes], Patience]]:
        self.restic.require()
        with tempfile.TemporaryFile() as complaints:
            process = subprocess.Popen(
                [self.restic.path, *self.flags, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=complaints,
                cwd=folder,
                env=self._environment(),
            )
            assert process.stdout is not None  # noqa: S101 - PIPE was asked for
            patience, finished = Patience(process, within, idle), False
            try:
                yield process.stdout, patience
                finished = True
            finally:
                if not finished:
                    process.terminate()
                process.stdout.close()
                code = process.wait()
                patience.close()
            if code and patience.lost:
                raise self._unreachable(
                    f"{LOST[patience.lost]}; {self._hidden(_last_words(complaints))}", patience.lost
                )
            if code:
                raise self._error(arguments[0], code, complaints)

    @property
    def mute(self) -> bool:
        """Whether restic cannot tell a missing repository from other failures: remote, before 0.17."""
        return self.restic.version < (0, 17) and parse(self.location).kind != "local"

    def exists(self) -> bool:
        """Whether there is a repository that our password opens. Raises as `run` does."""
        self.knock()
        try:
            self.run(["cat", "config", "--no-lock"], within=self.answer_within)
        except UserError as error:
            if error.reason == "no-vault":
                return False
            raise
        return True

    def found(self) -> bool:
        """Whether there is a repository; one on this machine is not opened for that. Raises as `run` does."""
        place = parse(self.location)
        if place.kind == "local":
            return (Path(self.location.removeprefix("local:")) / "config").is_file()
        return self.exists()

    def knock(self) -> None:
        """Raise VaultUnreachable when nobody takes a connection where the storage should be.

        restic itself would try again for a quarter of an hour.
        """
        if any(name.lower().endswith("_proxy") for name in self.environment):
            return  # somebody else makes the connection
        why = why_silent(parse(self.location), min(KNOCK, self.answer_within or KNOCK))
        if why:
            raise self._unreachable(why)

    def _unreachable(self, why: str, reason: str = "unreachable") -> VaultUnreachable:
        return VaultUnreachable(
            f"The storage of {self.label} is out of reach: {why}.",
            hint="Is the network up, and does the storage run? What it lacks is copied as soon as it is back; "
            "the mirror and the other storages are not concerned.",
            reason=reason,
        )

    def _environment(self) -> dict[str, str]:
        passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        opened = (
            "RESTIC_PASSWORD_COMMAND" if isinstance(self.password, str) else "RESTIC_PASSWORD_FILE"
        )
        return passed | {
            **self.environment,
            "RESTIC_REPOSITORY": self._location(),
            opened: str(self.password),
            "RESTIC_CACHE_DIR": str(self.cache),
            "RESTIC_PROGRESS_FPS": "1",
        }

    def _location(self) -> str:
        """With the user and password of a REST server, which restic itself looks for since 0.16 only."""
        user = self.environment.get("RESTIC_REST_USERNAME")
        if not user or not self.location.startswith("rest:"):
            return self.location
        parts = urlsplit(self.location.removeprefix("rest:"))
        word = quote(self.environment.get("RESTIC_REST_PASSWORD", ""), safe="")
        server = f"{quote(user, safe='')}:{word}@{parts.netloc.rpartition('@')[2]}"
        return f"rest:{urlunsplit(parts._replace(netloc=server))}"

    def _hidden(self, said: str) -> str:
        """What restic said, without any secret that it was given."""
        for name, value in self.environment.items():
            if SECRET.search(name) and len(value) >= SHORTEST_SECRET:
                said = said.replace(value, "…")
        return re.sub(r"//[^/@\s]*@", "//…@", said)

    def _error(self, command: str, code: int, complaints: IO[bytes]) -> Exception:
        said = self._hidden(_last_words(complaints))
        if code == GENERIC and command != "init":
            code = self._look_closer(command)
        if code == NO_REPOSITORY:
            return UserError(
                f"There is no vault at {self.label}.",
                hint="Is the storage mounted and the address right? `backupd init --vault ACCOUNT` begins a new one.",
                reason="no-vault",
            )
        if code == WRONG_PASSWORD:
            return UserError(
                f"The password does not open the vault at {self.label}.",
                hint="Check password_file: it must be the password the vault was created with.",
                reason="wrong-password",
            )
        if code == LOCKED:
            return VaultLocked(
                f"Another restic holds the vault at {self.label}.",
                hint="Wait for it to end.",
                reason="locked",
            )
        if code == INCOMPLETE:
            return VaultIncomplete(
                f"restic could not read everything into {self.label}: {said}",
                hint="The snapshot was written without it. Check the disk and permissions of state_dir.",
                reason="incomplete",
            )
        failed = VaultError(
            f"restic {command} failed for {self.label}: {said}",
            hint="`backupd doctor` looks at storage and credentials.",
            reason=f"restic-{code}",
        )
        failed.said = tuple(map(self._hidden, _words(complaints)))
        return failed

    def _look_closer(self, command: str) -> int:
        """Before 0.17 most failures are exit code 1: find out which one by looking."""
        if self.restic.version >= (0, 17):
            return GENERIC
        local = Path(self.location)
        if parse(self.location).kind == "local" and not (local / "config").is_file():
            return NO_REPOSITORY
        if command == "list" or (command == "cat" and not (local / "config").is_file()):
            return GENERIC
        try:
            locks = self._quietly(["list", "locks", "--no-lock"])
        except VaultError:
            return WRONG_PASSWORD if (local / "config").is_file() else GENERIC
        return LOCKED if locks else GENERIC

    def _quietly(self, arguments: Sequence[str]) -> list[str]:
        with self.stream(arguments) as out:
            return [line.decode().strip() for line in out if line.strip()]


def _parse(line: bytes) -> list[Message]:
    """The messages in a line: restic mixes JSON objects, arrays and (in old versions) plain text."""
    try:
        found = json.loads(line)
    except ValueError:
        return []
    items = found if isinstance(found, list) else [found]
    return [item for item in items if isinstance(item, dict)]


def _last_words(complaints: IO[bytes]) -> str:
    """The end of what restic complained about, as one line without control characters."""
    return "; ".join(_words(complaints)[-3:]) or "it did not say why"


def _words(complaints: IO[bytes]) -> list[str]:
    """The last lines of what restic complained about, without control characters."""
    end = complaints.seek(0, os.SEEK_END)
    complaints.seek(max(0, end - STDERR_LIMIT))
    lines = [line.strip() for line in complaints.read().decode("utf-8", "replace").splitlines()]
    return [_plain(line) for line in lines if line]


def _plain(line: str) -> str:
    for message in _parse(line.encode()):
        error = message.get("error")
        text = error.get("message") if isinstance(error, dict) else None
        line = str(message.get("message") or text or message.get("item") or line)
    return "".join(char if char.isprintable() else "?" for char in line)[:500]
