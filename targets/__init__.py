"""Where data goes: a module for each protocol behind `backupd.ports.Target`, providers as data."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from typing import cast

from backupd.config import TargetSection
from backupd.errors import ConfigError, UserError
from backupd.model import Service
from backupd.ports import Finding, Target
from targets.composite import Composite
from targets.endpoint import Endpoint
from targets.presets import PROTOCOLS, STATUS, Ask, Request, endpoints, preset_of, presets

__all__ = ["Ask", "Request", "about", "address", "connect", "presets"]

KINDS = {
    "folder": "targets.folder:Folder",
    "imap": "targets.imap:Imap",
    "caldav": "targets.dav.caldav:CalDav",
    "carddav": "targets.dav.carddav:CardDav",
    "webdav": "targets.dav.webdav:WebDav",
    "nextcloud": "targets.dav.nextcloud:Nextcloud",
    "rclone": "targets.rclone:Rclone",
    "proton-mail": "targets.proton:mail",
    "proton-calendar": "targets.proton:calendar",
    "proton-contacts": "targets.proton:contacts",
    "proton-files": "targets.proton:files",
    "microsoft365-mail": "targets.microsoft365:mail",
    "microsoft365-calendar": "targets.microsoft365:calendar",
    "microsoft365-contacts": "targets.microsoft365:contacts",
    "microsoft365-files": "targets.microsoft365:files",
}
"""Who speaks a protocol; loaded when it is needed, for some bring much along."""

TAKES = {
    Service.MAIL: ("imap", "folder", "proton-mail", "microsoft365-mail"),
    Service.CALENDAR: ("caldav", "folder", "proton-calendar", "microsoft365-calendar"),
    Service.CONTACTS: ("carddav", "folder", "proton-contacts", "microsoft365-contacts"),
    Service.FILES: (
        "webdav",
        "nextcloud",
        "rclone",
        "folder",
        "proton-files",
        "microsoft365-files",
    ),
}


def connect(section: TargetSection, request: Request) -> Target:
    """The target that a `[targets.NAME]` section describes, for one account. Raises ConfigError."""
    parts: dict[Service, Target] = {}
    for service, endpoint in endpoints(section, request).items():
        if endpoint.type not in TAKES[service]:
            raise ConfigError(
                f'[targets.{section.name}.{service}]: type = "{endpoint.type}" cannot take {service}.',
                hint=f"Choose from: {', '.join(TAKES[service])}.",
            )
        parts[service] = _maker(endpoint.type)(endpoint)
    if not parts:
        asked = ", ".join(sorted(request.services))
        raise UserError(
            f"[targets.{section.name}] takes none of: {asked}.",
            hint="Choose another target for them, or folder:PATH.",
        )
    return Composite(section.name, parts, list(about(section)))


PLACE = {"type", "host", "url", "username", "remote", "path", "tenant_id", "graph_url"}


def address(section: TargetSection, account: str) -> str:
    """Where the data of an account lands, in words that stay when passwords, ports or limits change.

    Two sections with the same address lead to the same mailbox; a ledger is good for one address.
    """
    parts = {service: getattr(section, service) for service in Service}
    words: dict[str, object] = {
        "account": account,
        "values": dict(section.values),
        "whole": section.model_dump(mode="json", include=PLACE),
        **{service: part.model_dump(mode="json", include=PLACE) for service, part in parts.items() if part},
    }  # fmt: skip
    return json.dumps(words, sort_keys=True)


def _maker(kind: str) -> Callable[[Endpoint], Target]:
    module, _, name = KINDS[kind].partition(":")
    return cast("Callable[[Endpoint], Target]", getattr(importlib.import_module(module), name))


def about(section: TargetSection) -> Iterator[Finding]:
    """What is known of the provider, and how sure that is."""
    preset = preset_of(section)
    if preset.id in PROTOCOLS:
        return
    if preset.note:
        yield Finding("ok", preset.name, preset.note)
    if preset.not_for_organisations:
        yield Finding(
            "warning", preset.name, f"not for organisations: {preset.not_for_organisations}"
        )
    for service in Service:
        part = preset.parts.get(service)
        if part is None:
            absent = getattr(section, service) is None
            if absent:
                yield Finding("warning", f"{preset.name} {service}", "no way in is known; add a part for it", f"[targets.{section.name}.{service}] with type and address")  # fmt: skip
            continue
        level = "ok" if part["status"] == "confirmed" else "warning"
        yield Finding(
            level, f"{preset.name} {service}", STATUS[part["status"]], part.get("note", "")
        )
