"""Accounts with real vaults and no source: what retention, erasure and storages are tried on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from holdings import held

from backupd.app import App
from backupd.config import Config
from backupd.home import Home
from backupd.vaults.snapshot import SnapshotResult

ALICE, BOB = "alice@harbourlight.example", "bob@harbourlight.example"


def an_app(folder: Path, storages: dict[str, dict[str, Any]] | None = None, **sections: Any) -> App:
    """Two storages in folders, unless others are given; every account is excluded at the source."""
    (folder / "password").write_text("correct horse")
    source = {"type": "imap", "host": "imap.invalid", "username": "nobody", "accounts": ["!*"]}
    vaults = storages or {name: {"repository": str(folder / name)} for name in ("primary", "second")}  # fmt: skip
    password = {"password_file": str(folder / "password")}
    raw = {
        "state_dir": str(folder / "state"),
        "sources": {"contoso": source},
        "storage": {name: password | each for name, each in vaults.items()},
        **sections,
    }
    return App(Config.model_validate(raw))


def keep(app: App, address: str = ALICE) -> Home:
    """An account with an empty catalog, so that restic's count is never too small."""
    return held(app.config.state_dir, address, amount=(0, 0), copies={})


def change_and_snapshot(app: App, home: Home, text: str) -> SnapshotResult:
    """Change the mirror and snapshot it."""
    letter = home.mirror_path / "mail" / "letter.eml"
    letter.parent.mkdir(parents=True, exist_ok=True)
    letter.write_text(text)
    with home.writing() as catalog, catalog.transaction():
        catalog.touched()
    outcome = app.snapshot_one(home)
    assert outcome.snapshot is not None, outcome.error
    return outcome.snapshot


def times(app: App, home: Home, storage: str = "primary") -> list[str]:
    """The times of the snapshots that a storage holds of an account."""
    return [each.time for each in app.vault(home, storage).snapshots()]
