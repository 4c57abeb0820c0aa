"""The whole file: found, read, checked, with every problem and its line."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from backupd.config.retention import Retention
from backupd.config.service import Alerts, Cutoff, Dns, Guard, Limits, Metrics, Schedule, Verify
from backupd.config.sources import SOURCE_TYPES, SourceSection
from backupd.config.storage import Storage
from backupd.config.targets import TargetSection
from backupd.config.values import (
    NAME,
    AbsolutePath,
    Section,
)
from backupd.errors import ConfigError


class Config(Section):
    """The whole file."""

    state_dir: AbsolutePath = Path("/var/lib/backupd")
    restic: str = "restic"
    operators_file: AbsolutePath | None = None
    limits: Limits = Limits()
    schedule: Schedule = Schedule()
    verify: Verify = Verify()
    guard: Guard = Guard()
    retention: Retention = Retention()
    cutoff: Cutoff = Cutoff()
    alerts: Alerts = Alerts()
    metrics: Metrics = Metrics()
    dns: Dns = Dns()
    sources: Mapping[str, SourceSection] = Field(default_factory=dict)
    storage: Mapping[str, Storage] = Field(default_factory=dict)
    targets: Mapping[str, TargetSection] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        """Sections carry their own name, so that messages can say which one is meant."""
        if isinstance(raw, dict):
            for kind in ("sources", "storage", "targets"):
                for name, section in (raw.get(kind) or {}).items():
                    if isinstance(section, dict):
                        section["name"] = name
        return raw

    @field_validator("sources", "storage", "targets")
    @classmethod
    def _safe_names(cls, sections: Mapping[str, Any]) -> Mapping[str, Any]:
        bad = [name for name in sections if not NAME.fullmatch(name)]
        if bad:
            raise ValueError(
                f"{', '.join(map(repr, bad))}: a section name has up to 40 small letters, digits, - and _"
            )
        return sections

    @model_validator(mode="after")
    def _likenesses(self) -> Config:
        """A source that follows another one must find it here."""
        for name, section in self.sources.items():
            other = getattr(section, "like", None)
            if other is not None and getattr(self.sources.get(other), "type", "") != "microsoft365":
                raise ValueError(
                    f'[sources.{name}]: like = "{other}" names no source of the type microsoft365'
                )
        return self

    @model_validator(mode="after")
    def _token_files(self) -> Config:
        """Tokens of people lie in the state directory unless told otherwise."""
        for name, section in self.sources.items():
            if section.token_file is None:
                token_file = self.state_dir / "tokens" / f"{name}.json"
                object.__setattr__(section, "token_file", token_file)
        return self


def search_path() -> tuple[Path, ...]:
    """Where a configuration is looked for when none is named, in this order."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    named = os.environ.get("BACKUPD_CONFIG")
    if named:
        return (Path(named),)
    return (Path("/etc/backupd/config.toml"), home / "backupd" / "config.toml")


def personal_state() -> Path:
    """Where state lies when there is no configuration to say so."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "backupd"


def find(path: Path | None) -> Path:
    """The configuration file to use. Raises ConfigError when there is none."""
    candidates = (path,) if path else search_path()
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(
        f"No configuration found (looked for {', '.join(map(str, candidates))}).",
        hint="Run `backupd init` to write one, or name it with --config PATH.",
    )


def load(path: Path) -> Config:
    """Read and check a configuration. Raises ConfigError listing every problem with its line."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"Cannot read {path}: {why}.", hint="Check the path and its owner."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}.", hint="See config.example.toml."
        ) from error
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(text, path, each) for each in error.errors()]
        plural = "problem" if len(problems) == 1 else "problems"
        raise ConfigError(
            "\n  ".join([f"{len(problems)} {plural} in {path}:", *problems]),
            hint="config.example.toml explains every option; nothing was changed or started.",
        ) from error


def _problem(text: str, path: Path, error: Any) -> str:
    """One validation error as `file:line: [section] key: what is wrong`."""
    place = [str(part) for part in error["loc"]]
    if place[:1] == ["sources"] and place[2:3] and place[2] in SOURCE_TYPES:
        del place[2]  # pydantic names the kind of section it checked against
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    elif error["type"] == "missing":
        message = "is required"
    elif error["type"].startswith("union_tag"):
        message = f"type must be one of {', '.join(SOURCE_TYPES)}"
    line = _line_of(text, place)
    return f"{path.name}:{line}: {'.'.join(place) or 'file'}: {message}"


def _line_of(text: str, place: list[str]) -> int:
    """The line a dotted place stands on, or that of its table, or 1."""
    table: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            here = table
        elif key := re.match(r"\s*([A-Za-z0-9_\"'.-]+?)\s*=", line):
            here = [*table, *(part.strip("\"'") for part in key[1].split("."))]
        else:
            continue
        common = len(here) if here == place[: len(here)] else 0
        if common > depth:
            best, depth = number, common
    return best
