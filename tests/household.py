"""A configured backupd beside a simulated tenant, and the tenant's own truth to compare with."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from backupd.app import App, Run
from backupd.config import load
from backupd.demo.drive import ROOT
from backupd.demo.state import TenantState
from backupd.demo.tenant import SimulatedTenant
from backupd.home import Home
from backupd.model import Service

CONFIG = """\
state_dir = "{folder}/state"
restic = "{folder}/restic"
[sources.demo]
type = "microsoft365"
tenant_id = "{tenant_id}"
client_id = "{client_id}"
client_secret_file = "{folder}/client_secret"
graph_url = "{graph_url}"
login_url = "{login_url}"
accounts = {accounts}
services = {services}
[storage.primary]
repository = "{folder}/vaults"
password_file = "{folder}/password"
"""

RESTIC = """\
#!/bin/sh
printf '%s\\n' "$*" >> "{log}"
exec restic "$@"
"""
"""Passes everything on to the real restic and notes that it was started."""

PASSWORD = "correct horse battery staple"


@dataclass
class Household:
    """The files of one test."""

    folder: Path
    tenant: SimulatedTenant
    accounts: list[str] = field(default_factory=lambda: ["*"])
    services: list[str] = field(default_factory=lambda: list(Service))

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "client_secret").write_text(self.tenant.client_secret)
        (self.folder / "password").write_text(PASSWORD)
        restic = self.folder / "restic"
        restic.write_text(RESTIC.format(log=self.folder / "restic.log"))
        restic.chmod(0o700)
        self.configure()

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    def configure(self, more: str = "") -> None:
        text = CONFIG.format(
            folder=self.folder,
            tenant_id=self.tenant.tenant_id,
            client_id=self.tenant.client_id,
            graph_url=self.tenant.graph_url,
            login_url=self.tenant.login_url,
            accounts=json.dumps(self.accounts),
            services=json.dumps(self.services),
        )
        self.config.write_text(text + more)

    @property
    def app(self) -> App:
        return App(load(self.config))

    def backup(self, *patterns: str, **how: Any) -> Run:
        return self.app.backup(patterns, **how)

    def home(self, address: str) -> Home:
        return self.app.home(address)

    def restics(self) -> list[str]:
        """What restic was started for since the last call."""
        log = self.folder / "restic.log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines

    def command(self, *arguments: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """Run the command line as a person would."""
        return subprocess.run(
            [sys.executable, "-m", "backupd", "--config", str(self.config), *arguments],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            **more,
        )

    def restic_restore(self, address: str, target: Path) -> Path:
        """What stock restic and the password give back, without anything of ours."""
        vault = next((self.folder / "vaults").glob(f"*/{address}*"))
        subprocess.run(
            ["restic", "-r", str(vault), "restore", "latest", "--target", str(target)],
            check=True,
            capture_output=True,
            env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
        )
        return target


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def true_mail(state: TenantState, alias: str) -> Counter[tuple[str, str]]:
    """Every message the tenant hands out byte for byte (S/MIME it never does): (folder path, SHA-256)."""
    mailbox = state.user(alias).mailbox
    assert mailbox is not None
    return Counter(
        (mailbox.path(folder), sha(message.content.mime()))
        for folder in mailbox.folders.values()
        if not folder.is_search
        for message in folder.messages.values()
        if not message.fault and b"pkcs7-mime" not in message.content.mime()
    )


def true_files(state: TenantState, owner: str) -> dict[str, str]:
    """Every file the tenant hands out: path in its drive → SHA-256 of what is delivered."""
    drive = state.drive(owner)
    found = {}
    for item in drive.items.values():
        content = item.delivered or item.content
        if item.uid == ROOT or item.is_folder or content is None or item.malware:
            continue
        digest = hashlib.sha256()
        for data in content.read(0, content.size):
            digest.update(data)
        found[drive.path(item)] = digest.hexdigest()
    return found


def indexed(tree: Path, service: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every index line of a service in a restored tree, with the folder it speaks of."""
    base = tree / "files/.backupd/index" if service == "files" else tree / service
    for index in sorted(base.rglob("index.jsonl")):
        folder = (
            tree / "files" / index.parent.relative_to(base) if service == "files" else index.parent
        )
        for line in index.read_text().splitlines():
            described = json.loads(line)
            if "sha256" in described:
                yield folder / described["file"], described


def described(tree: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((tree / "account.json").read_text())
    return found


def folder_names(tree: Path, service: str) -> dict[str, str]:
    """Mirror path of each collection → its display names joined by slashes."""
    rows = [each for each in described(tree)["collections"] if each["service"] == service]
    names = {each["path"]: each["name"] for each in rows}

    def full(path: str) -> str:
        parts = path.split("/")
        above = ["/".join(parts[:end]) for end in range(2, len(parts) + 1)]
        return "/".join(names[each] for each in above if each in names)

    return {path: full(path) for path in names}


def mail_in(tree: Path) -> Counter[tuple[str, str]]:
    """Every message of a restored tree, to compare with `true_mail`."""
    names = folder_names(tree, "mail")
    return Counter(
        (names[path.parent.parent.relative_to(tree).as_posix()], sha(path.read_bytes()))
        for path in (tree / "mail").rglob("*.eml")
    )
