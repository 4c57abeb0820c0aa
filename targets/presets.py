"""The providers of `presets.toml`, and how a section of the configuration becomes endpoints.

What is set in the part of a service wins over what is set for the whole section, and that over
the preset.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from backupd.config import Part, TargetSection, credential, read_secret
from backupd.errors import ConfigError
from backupd.model import Service
from targets.endpoint import Application, Endpoint

WORD = re.compile(r"\{([a-z_]+)\}")

NOTES = ("status", "note", "username_note", "password_note")

PROTOCOLS = ("imap", "caldav", "carddav", "dav", "webdav", "rclone", "folder", "custom")
"""Presets that are no provider."""

STATUS = {
    "confirmed": "confirmed by documentation or source code",
    "third-party": "known from other people's reports only",
    "unconfirmed": "a guess, confirmed by nobody",
}

Ask = Callable[[str], str]
"""Asks a person for a secret that the sentence names."""


@dataclass(frozen=True, slots=True)
class Preset:
    """A provider as the table has it."""

    id: str
    name: str
    country: str
    note: str
    not_for_organisations: str
    parts: Mapping[Service, Mapping[str, Any]]


@cache
def presets() -> Mapping[str, Preset]:
    """Every provider and protocol, by the word that `type` takes."""
    text = resources.files("targets").joinpath("presets.toml").read_text(encoding="utf-8")
    tables = {word: table for word, table in tomllib.loads(text).items() if isinstance(table, dict)}
    return {word: _preset(word, table) for word, table in tables.items()}


def _preset(word: str, table: Mapping[str, Any]) -> Preset:
    return Preset(
        id=word,
        name=table["name"],
        country=table.get("country", ""),
        note=table.get("note", ""),
        not_for_organisations=table.get("not_for_organisations", ""),
        parts={service: table[service] for service in Service if service in table},
    )


def preset_of(section: TargetSection) -> Preset:
    """The preset that a section names. Raises ConfigError for a word that is none."""
    found = presets().get(section.type)
    if found is None:
        raise ConfigError(
            f'[targets.{section.name}]: type = "{section.type}" is no provider and no protocol.',
            hint=f"Choose from: {', '.join(sorted(presets()))}.",
        )
    return found


@dataclass(frozen=True, slots=True)
class Request:
    """For whom endpoints are made.

    Attributes:
        account: the address at the target.
        state: a directory for what must outlive a run.
        password_file: a secret that wins over those of the section.
        ask: asks a person when no secret is configured; None when nobody is there.
        services: those that are asked for; the others need not be complete.
        canary: an address that a trial event invites at the preflight, to see whether the server writes.
    """

    account: str
    state: Path
    password_file: Path | None = None
    ask: Ask | None = None
    canary: str = ""
    services: frozenset[Service] = frozenset(Service)


def endpoints(section: TargetSection, request: Request) -> Mapping[Service, Endpoint]:
    """How each service of a target is reached. Raises ConfigError for what is still missing."""
    preset = preset_of(section)
    made = {}
    for service in Service:
        own: Part | None = getattr(section, service)
        table = preset.parts.get(service, {})
        if (own or table) and service in request.services:
            made[service] = _endpoint(section, service, own or Part(), table, request)
    if not made and request.services == frozenset(Service):
        raise ConfigError(
            f'[targets.{section.name}]: type = "{section.type}" names no service to restore into.',
            hint=preset.note
            or f"Add a part: [targets.{section.name}.mail], .calendar, .contacts or .files.",
        )
    return made


def _endpoint(
    section: TargetSection, service: Service, own: Part, table: Mapping[str, Any], request: Request
) -> Endpoint:
    said = _said(section, own, table)
    values = _values(section, said, request)
    user = _fill(
        said.get("username") or "{account}", values, section, said.get("username_note", "")
    )
    values["user"] = user
    url = _fill(said.get("url", ""), {word: quote(text, safe="@") for word, text in values.items()}, section)  # fmt: skip
    address = urlsplit(url)
    return Endpoint(
        name=section.name,
        type=said["type"] if said.get("type") else _untyped(section, service),
        account=request.account,
        host=_fill(said.get("host", ""), values, section) or address.hostname or "",
        port=said.get("port") or address.port or (443 if url else 993),
        security=said.get("security", "tls"),
        url=url,
        username=user,
        secret=_secret(section, service, said, request),
        auth=said.get("auth", "password"),
        ca_file=said.get("ca_file"),
        fingerprint=said.get("fingerprint"),
        connections=said.get("connections", 2),
        scheduling=said.get("scheduling", "strip"),
        keep_attendees=section.keep_attendees,
        remote=_fill(said.get("remote", ""), values, section),
        path=_path(said.get("path"), values, section),
        state=request.state,
        app=_application(section, request),
        quirks=_quirks(said, values, request),
    )


def _application(section: TargetSection, request: Request) -> Application | None:
    """The application that a section names, if it names one."""
    if section.tenant_id is None or section.client_id is None:
        return None
    name = f"targets.{section.name}.client_secret"

    def secret() -> str:
        what = f"the client secret of [targets.{section.name}]"
        place = section.client_secret_file or credential(name)
        if place:
            return read_secret(place, what)
        if request.ask:
            return request.ask(what)
        raise ConfigError(
            f"[targets.{section.name}] has no client secret and no certificate.",
            hint=f"Set client_secret_file (or certificate_file and key_file), or pass the systemd credential {name}.",
        )

    return Application(
        section.tenant_id, section.client_id, secret, section.certificate_file, section.key_file,
        section.graph_url, section.login_url,
    )  # fmt: skip


KNOWN = {*Part.model_fields, *NOTES}


def _said(section: TargetSection, own: Part, table: Mapping[str, Any]) -> dict[str, Any]:
    """Preset, section and part put over each other."""
    fields = set(Part.model_fields) - {"type"}
    whole = {word: value for word, value in section.model_dump(include=fields).items() if value is not None}  # fmt: skip
    if "{host}" in f"{table.get('url', '')}{table.get('host', '')}":
        whole.pop("host", None)  # it fills the braces instead
    if len(presets()[section.type].parts) > 1:
        for word in ("host", "port", "security"):
            whole.pop(word, None)  # of which part?
    return {**table, **whole, **own.model_dump(exclude_none=True)}


def _values(section: TargetSection, said: Mapping[str, Any], request: Request) -> dict[str, str]:
    localpart, _, domain = request.account.partition("@")
    known = {"account": request.account, "localpart": localpart, "domain": domain}
    host = section.host or urlsplit(said.get("url", "")).hostname
    if host and "{" not in host:
        known["host"] = host
    return {**known, **section.values}


def _fill(template: str, values: Mapping[str, str], section: TargetSection, note: str = "") -> str:
    missing = [word for word in WORD.findall(template) if word not in values]
    if missing:
        word = missing[0]
        where = (
            "host = …, or --set host=…"
            if word == "host"
            else f'values = {{ {word} = "…" }}, or --set values.{word}=…'
        )
        raise ConfigError(
            f"[targets.{section.name}] does not say what {word} is, which {template} needs.",
            hint=f"Add to the section: {where}" + (f" ({note})" if note else ""),
        )
    return WORD.sub(lambda found: values[found[1]], template)


def _quirks(said: Mapping[str, Any], values: Mapping[str, str], request: Request) -> dict[str, Any]:
    found = {word: _quirk(value, values) for word, value in said.items() if word not in KNOWN}
    return {**found, "canary": request.canary} if request.canary else found


def _quirk(value: Any, values: Mapping[str, str]) -> Any:
    """Quirks may hold braces too; what is not known stays for whoever uses it ({uuid}, say)."""
    if not isinstance(value, str):
        return value
    return WORD.sub(lambda found: quote(values.get(found[1], found[0]), safe="@{}"), value)


def _path(path: Path | None, values: Mapping[str, str], section: TargetSection) -> Path | None:
    return Path(_fill(str(path), values, section)) if path else None


def _untyped(section: TargetSection, service: Service) -> str:
    raise ConfigError(
        f"[targets.{section.name}.{service}] has no type.",
        hint="Add one: imap, caldav, carddav, webdav, nextcloud, rclone or folder.",
    )


def _secret(
    section: TargetSection, service: Service, said: Mapping[str, Any], request: Request
) -> Callable[[], str]:
    """Reads the password when it is needed: the map's, the configured one, a credential, a person's."""
    names = (f"targets.{section.name}.{service}.password", f"targets.{section.name}.password")

    def read() -> str:
        place = request.password_file or said.get("password_file")
        place = place or next(filter(None, map(credential, names)), None)
        what = f"the password of [targets.{section.name}] for {service}"
        if place:
            return read_secret(place, what)
        if request.ask:
            return request.ask(f"{what}, user {said.get('username') or request.account}")
        raise ConfigError(
            f"[targets.{section.name}] has no password for {service}.",
            hint=f"Set password_file, pass the systemd credential {names[1]}, or run this in a terminal.",
        )

    return read
