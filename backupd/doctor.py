"""Looks at everything a backup needs and says what is wrong, with a hint for each finding."""

from __future__ import annotations

import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import targets
from backupd.app import App
from backupd.config import Config
from backupd.errors import BackupdError
from backupd.jobs import keyring
from backupd.jobs.keeping import overdue, settings
from backupd.keys import keybook
from backupd.law.acceptance import standings
from backupd.ports import Finding
from backupd.report.readiness import channel_findings
from backupd.vaults.locked import look_at_all
from backupd.vaults.vault import vault_of

LOW_SPACE = 1 << 30
"""Bytes free below which the disk of the mirror is worth a warning."""

PROBE = "doctor@example.invalid"
"""Stands for an account when only the reachability of a storage is of interest."""


def examine(app: App) -> Iterator[Finding]:
    """Configuration, restic, disk, secrets, storages, sources, targets: everything is tried."""
    yield from _restic(app)
    yield from _disk(app.config.state_dir)
    yield from _secrets(app.config)
    yield from _storages(app)
    for name, error in look_at_all(app).items():
        yield Finding("warning", f"storage.{name}: object lock", str(error), error.hint)
    yield from settings(app)
    yield from overdue(app)
    yield from _operators(app.config)
    yield from _recovery_keys(app)
    yield from _sources(app)
    yield from _targets(app)
    yield from _alerts(app)


def _restic(app: App) -> Iterator[Finding]:
    try:
        app.restic.require()
        version = ".".join(map(str, app.restic.version))
    except BackupdError as error:
        yield _error("restic", error)
    else:
        yield Finding("ok", "restic", f"{app.restic.path}, version {version}")


def _disk(state_dir: Path) -> Iterator[Finding]:
    existing = next(path for path in (state_dir, *state_dir.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "error", "state_dir", f"{existing} cannot be written to",
            "Create it and give it to the user that runs backupd.",
        )  # fmt: skip
        return
    usage = shutil.disk_usage(existing)
    free = f"{state_dir}: {usage.free >> 30} GiB of {usage.total >> 30} GiB free"
    if usage.free < LOW_SPACE:
        yield Finding(
            "warning", "disk", free, "The mirror is a full copy: make room for all accounts."
        )
    else:
        yield Finding("ok", "disk", free)
    if state_dir.exists() and stat.S_IMODE(state_dir.stat().st_mode) & 0o077:
        yield Finding(
            "warning", "state_dir", f"{state_dir} can be read by others",
            f"The mirror is plain text: chmod 700 {state_dir}",
        )  # fmt: skip
    yield _encryption(existing)


def _encryption(path: Path) -> Finding:
    """Whether the volume is encrypted, as far as the kernel's device mapper tells."""
    device = path.stat().st_dev
    uuid = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/dm/uuid")
    try:
        if uuid.read_text(encoding="ascii").startswith("CRYPT-"):
            return Finding("ok", "encryption", f"{path} lies on an encrypted volume")
    except OSError:
        pass
    return Finding(
        "warning", "encryption", f"{path} does not seem to lie on an encrypted volume",
        "The mirror is plain text: whoever takes the disk can read it. Use LUKS, or an encrypted machine.",
    )  # fmt: skip


def _secrets(config: Config) -> Iterator[Finding]:
    files = [
        path
        for section in (*config.sources.values(), *config.storage.values(), config.alerts)
        for key, path in section
        if key in SECRET_KEYS and isinstance(path, Path) and path.exists()
    ]
    for path in files:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            yield Finding(
                "warning",
                str(path),
                "holds a secret and can be read by others",
                f"chmod 600 {path}",
            )


SECRET_KEYS = {
    "client_secret_file",
    "key_file",
    "password_file",
    "environment_file",
    "token_file",
    "urls_file",
}


def _storages(app: App) -> Iterator[Finding]:
    if not app.config.storage:
        yield Finding("error", "storage", "no [storage.NAME] in the configuration", "Add one.")
    for name, storage in app.config.storage.items():
        subject = f"storage.{name}"
        homes = app.homes()
        owner = (homes[0].folder.parent.name, homes[0].address) if homes else ("doctor", PROBE)
        try:
            vault = vault_of(storage, app.restic, app.config.state_dir, owner)
            there = vault.repository.exists()
        except BackupdError as error:
            yield _error(subject, error)
            continue
        held = (
            f"the vault of {owner[1]} opens"
            if there
            else "no vault yet: the first snapshot makes it"
        )
        yield Finding("ok", subject, f"{vault.repository.label}: {held}")


def _operators(config: Config) -> Iterator[Finding]:
    """Who runs every storage and target, under which law, and whether that was accepted."""
    try:
        for standing in standings(config):
            yield from standing.findings()
    except BackupdError as error:
        yield _error("operators_file", error)


def _recovery_keys(app: App) -> Iterator[Finding]:
    """Whether others than this machine can open the vaults, and when that was last tried."""
    try:
        held = {each.place for each in keyring.vaults(app)}
        yield from keybook.findings(keybook.load(app.config.state_dir), held, time.time())
    except BackupdError as error:
        yield _error("recovery keys", error)


def _sources(app: App) -> Iterator[Finding]:
    if not app.config.sources:
        yield Finding("error", "sources", "no [sources.NAME] in the configuration", "Add one.")
    for name in app.config.sources:
        try:
            with app.source(name) as source:
                for found in source.check():
                    yield Finding(
                        found.level, f"sources.{name}: {found.subject}", found.message, found.hint
                    )
        except BackupdError as error:
            yield _error(f"sources.{name}", error)


def _targets(app: App) -> Iterator[Finding]:
    """What is known of each provider, then a log-in as the first account that we hold."""
    account = next((home.address for home in app.homes()), "")
    for name, section in app.config.targets.items():
        try:
            request = targets.Request(account, app.config.state_dir / "tmp")
            target = targets.connect(section, request)
            with closing(target):
                for found in target.preflight():
                    yield replace(found, subject=f"targets.{name}: {found.subject}")
        except BackupdError as error:
            yield _error(f"targets.{name}", error)


def _alerts(app: App) -> Iterator[Finding]:
    """Whether anybody is told, over channels that outlive Microsoft, and whether mail reaches our domains."""
    yield from channel_findings(app, ask=True)
    yield from app.opinions.warnings(app.opinions.domains(), app.clock())


def _error(subject: str, error: BackupdError) -> Finding:
    return Finding("error", subject, str(error), error.hint)
