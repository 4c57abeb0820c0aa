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
from backupd.sovereignty import Accepted


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
