"""What sections are made of: kinds of values, and secrets by reference."""

from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
)

from backupd.errors import ConfigError

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$)")
"""Addresses that never leave this machine, for which http:// is good enough."""

Share = Annotated[float, Field(gt=0, le=1)]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser())]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31557600}


def seconds_of(value: Any) -> Any:
    """The seconds of "90s", "5m", "1h30m" or "1d"; numbers stay as they are. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"(\d+(\.\d+)?[smhdwy])+", value.strip()):
        raise ValueError('a duration is a number and s, m, h, d, w or y, such as "5m" or "1h30m"')
    parts: list[tuple[str, str]] = re.findall(r"([\d.]+)([smhdwy])", value)
    return sum(float(number) * UNITS[unit] for number, unit in parts)


Duration = Annotated[float, BeforeValidator(seconds_of), Field(gt=0, allow_inf_nan=False)]
"""A length of time, written like "5m" and read as seconds."""
Span = Annotated[float, BeforeValidator(seconds_of), Field(ge=0, allow_inf_nan=False)]
"""A duration, or none: "0s"."""


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """The `accounts` patterns: globs, `!` excludes; any exclude wins over any include."""

    patterns: tuple[str, ...]

    def takes(self, *names: str) -> bool:
        """Whether an account that goes by `names` is wanted."""
        wanted = [each.lower() for each in self.patterns if not each.startswith("!")] or ["*"]
        refused = [each[1:].lower() for each in self.patterns if each.startswith("!")]
        return _any(wanted, names) and not _any(refused, names)

    @property
    def may_take_sites(self) -> bool:
        """Whether a site, which has no @ in its address, can be wanted at all."""
        wanted = [each for each in self.patterns if not each.startswith("!")] or ["*"]
        return any("@" not in each for each in wanted) and "!*/*" not in self.patterns


def _any(patterns: Iterable[str], names: Iterable[str]) -> bool:
    lowered = [name.lower() for name in names]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in lowered)


class Section(BaseModel):
    """A table of the file: frozen, and every key known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _encrypted(url: str) -> str:
    if not (url.startswith("https://") or LOOPBACK.match(url)):
        raise ValueError("an address must begin with https:// (http:// only for this machine)")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_encrypted)]
"""The beginning of addresses, without a slash at its end; encrypted, or of this machine."""


def one_credential(certificate: Path | None, key: Path | None, secret: Path | None) -> None:
    """Raise ValueError unless it is a secret, or a certificate with its key, or neither."""
    if (certificate is None) != (key is None):
        raise ValueError("certificate_file and key_file go together")
    if certificate and secret:
        raise ValueError("give either client_secret_file or certificate_file, not both")


def credential(name: str) -> Path | None:
    """A systemd credential of this unit, if it was passed one by that name."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / name if folder else None
    return path if path and path.exists() else None


def read_secret(path: Path, what: str) -> str:
    """The text of a secret file without its trailing line break. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"Cannot read {what} from {path}: {why}.",
            hint="Check the path in the configuration and that the user running backupd may read it.",
        ) from error
    if not text:
        raise ConfigError(
            f"{path} is empty: it should hold {what}.", hint="Write the secret into it."
        )
    return text
