"""The tables that say where vaults live."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    Field,
    model_validator,
)

from backupd.config.values import (
    AbsolutePath,
    Section,
    credential,
    read_secret,
)
from backupd.errors import ConfigError
from backupd.locations import parse
from backupd.sovereignty import Accepted

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
    answer_within: Duration = 60.0
    """Seconds within which a vault must open; then the storage counts as out of reach."""
    run_within: Duration = 7200.0
    """Seconds after which an upload is broken off, so that its account can be synced again; the next goes on."""
    ca_file: AbsolutePath | None = None
    client_certificate_file: AbsolutePath | None = None
    """PEM: the certificate and its key in one file."""
    ssh_key_file: SshPath | None = None
    ssh_known_hosts_file: SshPath | None = None
    options: Mapping[str, str] = Field(default_factory=dict)
    """restic's extended options (`restic options` lists them)."""

    @model_validator(mode="after")
    def _one_password(self) -> Storage:
        if self.password_file and self.password_command:
            raise ValueError("give either password_file or password_command, not both")
        return self

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
        if self.environment_file is None:
            return {}
        text = read_secret(self.environment_file, f"the environment of [storage.{self.name}]")
        pairs = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            key, equals, value = line.strip().removeprefix("export ").partition("=")
            if not equals or not key.isidentifier():
                raise ConfigError(
                    f"{self.environment_file}, line {number}: not KEY=VALUE.",
                    hint="One variable a line, for example AWS_ACCESS_KEY_ID=…",
                )
            pairs[key] = value.strip().strip("\"'")
        return pairs
