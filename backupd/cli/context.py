"""What every command is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.app import App
    from backupd.config import Config


@dataclass(frozen=True, slots=True)
class Context:
    """The common options.

    Attributes:
        path: of the configuration, when one was named.
    """

    path: str | None
    debug: bool = False

    def config(self) -> Config:
        """The configuration alone. Raises ConfigError."""
        from backupd import config  # noqa: PLC0415 - help and errors do not wait for it

        return config.load(config.find(Path(self.path) if self.path else None))

    def app(self) -> App:
        """The composed application. Raises ConfigError."""
        from backupd.app import App  # noqa: PLC0415 - nor who only looks something up for all this

        return App(self.config())
