"""A configuration written out again: what differs from the defaults, without any secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from backupd.config.file import Config

SECRETS = {("alerts", "urls"), ("alerts", "ping_url")}
"""Options that are secrets themselves; all others only name where one lies."""


def as_toml(config: Config) -> str:
    """The configuration as a file that `load` reads; passwords in addresses are left out."""
    raw = config.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    lines: list[str] = []
    for key, value in raw.items():
        if not isinstance(value, Mapping):
            lines.append(f"{key} = {_value(value)}")
    for key, value in raw.items():
        if isinstance(value, Mapping):
            lines += _table((key,), value)
    return "\n".join(lines).lstrip("\n") + "\n"


def openly(location: str) -> str:
    """A location without the password that may stand in it; the user name stays."""
    return re.sub(r"//([^/@:]*):[^/@]*@", r"//\1@", location)


def _table(path: tuple[str, ...], table: Mapping[str, Any]) -> Iterator[str]:
    plain = {key: value for key, value in table.items() if _plain(path, key, value)}
    if plain or not any(isinstance(each, Mapping) for each in table.values()):
        yield f"\n[{'.'.join(map(_key, path))}]"
        for key, value in plain.items():
            yield f"{_key(key)} = {_value(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _table((*path, key), value)


def _plain(path: tuple[str, ...], key: str, value: Any) -> bool:
    named = key == "name" and len(path) == 2  # noqa: PLR2004 - the section's own name, told by its head
    return not (isinstance(value, Mapping) or named or (path[0], key) in SECRETS)


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return (
            "{ " + ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items()) + " }"
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, str):
        return json.dumps(openly(value), ensure_ascii=False)
    return json.dumps(value)
