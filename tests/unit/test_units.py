"""The units for systemd: those in the repository are those that `install-service` writes, and hold tight."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from backupd.config import Config
from backupd.daemon import units

SHIPPED = Path(__file__).parents[2] / "systemd"
PLACES = {
    "/etc/systemd/system": SHIPPED,
    "/etc/sysusers.d": SHIPPED / "sysusers.d",
    "/etc/tmpfiles.d": SHIPPED / "tmpfiles.d",
}
needs_analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def config(**more: object) -> Config:
    storage = {"primary": {"repository": "/srv/backupd", "password_file": "/etc/backupd/password"}}
    return Config.model_validate({"storage": storage, **more})


def plain(*, timer: bool) -> units.Plan:
    return units.plan(
        Path("/etc/backupd/config.toml"), config(), timer=timer, program="/usr/bin/backupd"
    )


@pytest.mark.parametrize("timer", [False, True])
def test_the_units_in_the_repository_are_those_that_would_be_written(timer: bool) -> None:
    for name, text in plain(timer=timer).files.items():
        path = Path(name)
        assert (PLACES[str(path.parent)] / path.name).read_text() == text, name


def tenant(**more: str) -> dict[str, dict[str, str]]:
    return {"contoso": {"type": "microsoft365", "tenant_id": "t", "client_id": "c", **more}}


def test_every_secret_without_a_file_is_asked_of_systemd_by_its_name() -> None:
    boxes = {"type": "imap", "host": "h", "mailboxes": ["bob", "eve"]}
    one = {"type": "imap", "host": "h", "username": "bob"}
    token = {
        "type": "imap", "host": "h", "username": "bob", "auth": "xoauth2", "tenant_id": "t", "client_id": "c",
    }  # fmt: skip
    made = config(
        sources={**tenant(), "boxes": boxes, "one": one, "token": token},
        storage={"second": {"repository": "s3:https://x/y"}},
    )
    assert list(units.credentials(made)) == [
        "sources.contoso.client_secret",
        "sources.boxes.bob.password",
        "sources.boxes.eve.password",
        "sources.one.password",
        "sources.token.client_secret",
        "storage.second.password",
    ]
    text = units.plan(Path("/c.toml"), made).files["/etc/systemd/system/backupd.service"]
    assert "LoadCredential=storage.second.password:/etc/credstore/storage.second.password\n" in text


def test_secrets_in_files_are_left_to_their_files() -> None:
    assert list(units.credentials(config(sources=tenant(client_secret_file="/s")))) == []
    assert list(units.credentials(config(sources=tenant(auth="device-code")))) == []


def test_only_state_local_storages_and_figures_may_be_written_to() -> None:
    made = config(
        metrics={"textfile": "/var/lib/node/backupd.prom"},
        sources=tenant(auth="device-code"),
        state_dir="/big disk/state",
        storage={
            "here": {"repository": "/srv/{account}/x", "password_file": "/p"},
            "there": {"repository": "sftp:host:/x", "password_file": "/p"},
        },
    )
    text = units.plan(Path("/c.toml"), made).files["/etc/systemd/system/backupd.service"]
    writable = re.findall("^ReadWritePaths=(.*)$", text, re.MULTILINE)
    assert writable == ['"/big disk/state"', "-/srv", "-/var/lib/node"]
    assert "StateDirectory=" not in text


def test_a_percent_sign_in_a_path_stays_one() -> None:
    text = units.plan(Path("/etc/50%/c.toml"), config()).files[
        "/etc/systemd/system/backupd.service"
    ]
    assert "--config /etc/50%%/c.toml run" in text


@needs_analyze
@pytest.mark.parametrize("timer", [False, True])
def test_systemd_has_nothing_to_say_against_the_units(timer: bool) -> None:
    made = config(sources=tenant(), storage={"second": {"repository": "/srv", "shared": True}})
    plan = units.plan(Path("/etc/backupd/config.toml"), made, timer=timer, program="/bin/true")
    assert units.verify(plan) == []


@needs_analyze
def test_systemd_tells_when_a_unit_is_wrong() -> None:
    wrong = units.Plan({"/etc/systemd/system/backupd.service": "[Service]\nExecStrt=/bin/true\n"})
    assert units.verify(wrong)


@needs_analyze
@pytest.mark.parametrize("name", ["backupd.service", "backupd-backup.service"])
def test_the_sandbox_leaves_little_to_an_intruder(name: str) -> None:
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", SHIPPED / name],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout[-3000:]
