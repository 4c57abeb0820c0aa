"""The tables that say where vaults live."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from backupd.config.retention import Retention
from backupd.config.values import (
    AbsolutePath,
    Duration,
    Section,
    credential,
    read_secret,
)
from backupd.errors import ConfigError
from backupd.law.sovereignty import Accepted
from backupd.vaults.locations import parse

SSH_WORD = re.compile(r"[A-Za-z0-9/._@%+=,-]+")
"""Characters that neither restic, which splits the command for ssh, nor ssh itself takes for anything else."""

OPTION = re.compile(r"(s3|rest|b2|azure|gs|swift|sftp|rclone|local)\.[a-z0-9-]+")
PROGRAMS = frozenset({"sftp.command", "sftp.args", "rclone.program", "rclone.args"})
"""Extended options that start programs: backupd sets those of SFTP itself."""


def _ssh_word(path: Path) -> Path:
    if not SSH_WORD.fullmatch(str(path)):
        raise ValueError("a path for ssh may hold letters, digits and /._@%+=,- only")
    return path


SshPath = Annotated[AbsolutePath, AfterValidator(_ssh_word)]


class Storage(Section):
    """A place where vaults live: any restic location."""

    name: str = ""
    repository: Annotated[str, Field(min_length=1)]
    password_file: AbsolutePath | None = None
    password_command: str | None = None
    environment_file: AbsolutePath | None = None
    shared: bool = False
    compression: Literal["auto", "off", "fastest", "better", "max"] = "auto"
    accept_jurisdiction: Accepted = ()
    append_only: bool = False
    """The storage lets us add and never remove: forget and prune must run elsewhere."""
    limit_upload: Annotated[int, Field(ge=0)] = 0
    """KiB a second; 0 is no limit."""
    limit_download: Annotated[int, Field(ge=0)] = 0
    """KiB a second; 0 is no limit."""
    object_lock: Duration | None = None
    """For S3: what a vault consists of is kept locked for so long, again and again."""
    object_lock_mode: Literal["governance", "compliance"] = "governance"
    answer_within: Duration = 60.0
    """Seconds within which a vault must open; then the storage counts as out of reach."""
    run_within: Duration = 7200.0
    """Seconds after which an upload is broken off, so that its account can be synced again; the next goes on."""
    ca_file: AbsolutePath | None = None
    client_certificate_file: AbsolutePath | None = None
    """PEM: the certificate and its key in one file."""
    ssh_key_file: SshPath | None = None
    ssh_known_hosts_file: SshPath | None = None
    retention: Retention | None = None
    """Instead of [retention], as far as it says anything."""
    options: Mapping[str, str] = Field(default_factory=dict)
    """restic's extended options (`restic options` lists them)."""

    @model_validator(mode="after")
    def _one_password(self) -> Storage:
        if self.password_file and self.password_command:
            raise ValueError("give either password_file or password_command, not both")
        return self

    @model_validator(mode="after")
    def _only_s3_locks(self) -> Storage:
        if self.object_lock and parse(self.repository).kind != "s3":
            raise ValueError("object_lock is a matter of s3: repositories")
        return self

    @field_validator("repository")
    @classmethod
    def _understood(cls, repository: str) -> str:
        parse(repository)
        return repository

    @field_validator("options")
    @classmethod
    def _options(cls, options: Mapping[str, str]) -> Mapping[str, str]:
        for key in options:
            if not OPTION.fullmatch(key) or key in PROGRAMS:
                raise ValueError(f"{key!r} is no option that can be set here")
        return options

    def flags(self) -> tuple[str, ...]:
        """What every restic for this storage is started with; never a secret."""
        pairs = [
            ("--limit-upload", self.limit_upload or None),
            ("--limit-download", self.limit_download or None),
            ("--cacert", self.ca_file),
            ("--tls-client-cert", self.client_certificate_file),
            *(("--option", f"{key}={value}") for key, value in sorted(self.options.items())),
        ]
        if parse(self.repository).kind == "sftp":
            pairs.append(("--option", f"sftp.command={self._ssh()}"))
        return tuple(word for flag, value in pairs if value for word in (flag, str(value)))

    def _ssh(self) -> str:
        """The command that restic splits at blanks: no word of it holds one. Nobody is ever asked anything."""
        place = parse(self.repository)
        words = ["ssh", "-oBatchMode=yes", "-oConnectTimeout=20", "-oServerAliveInterval=30"]
        words += ["-p", str(place.port)] if place.port else []
        words += ["-l", place.user] if place.user else []
        if self.ssh_key_file:
            words += ["-i", str(self.ssh_key_file), "-oIdentitiesOnly=yes"]
        if self.ssh_known_hosts_file:
            words += [f"-oUserKnownHostsFile={self.ssh_known_hosts_file}", "-oStrictHostKeyChecking=yes"]  # fmt: skip
        return " ".join([*words, "-s", "--", place.host.strip("[]"), "sftp"])

    def password_source(self) -> Path | str:
        """The file (Path) or command (str) that yields the password. Raises ConfigError."""
        if self.password_command:
            return self.password_command
        where = self.password_file or credential(f"storage.{self.name}.password")
        if where is None:
            raise ConfigError(
                f"[storage.{self.name}] has no password.",
                hint="Set password_file or password_command, or pass the systemd credential "
                f"storage.{self.name}.password. Without that password nobody can read the vault.",
            )
        read_secret(where, f"the password of [storage.{self.name}]")
        return where

    def environment(self) -> dict[str, str]:
        """The KEY=VALUE lines of `environment_file`. Raises ConfigError with the line at fault."""
        where = self.environment_file or credential(f"storage.{self.name}.environment")
        if where is None:
            return {}
        text = read_secret(where, f"the environment of [storage.{self.name}]")
        pairs = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            key, equals, value = line.strip().removeprefix("export ").partition("=")
            if not equals or not key.isidentifier():
                raise ConfigError(
                    f"{where}, line {number}: not KEY=VALUE.",
                    hint="One variable a line, for example AWS_ACCESS_KEY_ID=…",
                )
            pairs[key] = value.strip().strip("\"'")
        return pairs
