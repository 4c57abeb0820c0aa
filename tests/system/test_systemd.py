"""Under a real systemd: ready when it is, watched, restarted, handed its secrets, through a power cut."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from caretaker import until
from servers.container import Container, container

from backupd.demo.tenant import SimulatedTenant

pytestmark = pytest.mark.slow

PYTHON = str(Path(sys.prefix) / "bin" / "python")
CONFIG = """\
restic = "restic"
[sources.demo]
type = "microsoft365"
tenant_id = "{tenant_id}"
client_id = "{client_id}"
graph_url = "{graph_url}"
login_url = "{login_url}"
services = ["mail"]
[storage.primary]
repository = "/srv/backupd"
[schedule]
sync = "5s"
fast = "2s"
snapshot = "10s"
"""
PASSWORD = "correct horse battery staple"
UNIT = "/etc/systemd/system/backupd.service"
ACCOUNT = "demo/amelia@harbourlight.example"


@pytest.fixture(scope="module")
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(
        7, people=1, messages=3, oddities=False, extras=False, bulk_messages=1_500
    ) as tenant:
        yield tenant


@pytest.fixture(scope="module")
def machine(
    tmp_path_factory: pytest.TempPathFactory, tenant: SimulatedTenant
) -> Iterator[Container]:
    """Booted, with the units that `install-service` wrote and everything done that it said."""
    with container(tmp_path_factory.mktemp("machine")) as machine:
        folder = machine.path("/etc/backupd")
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        configure(machine, tenant)
        machine.run(*backupd("install-service"))
        machine.run("systemd-sysusers")
        machine.run("systemd-tmpfiles", "--create", "/etc/tmpfiles.d/backupd.conf")
        machine.run("install", "-d", "-m", "700", "-o", "backupd", "-g", "backupd", "/srv/backupd")
        machine.run("systemctl", "daemon-reload")
        yield machine


def configure(machine: Container, tenant: SimulatedTenant, more: str = "") -> None:
    told = CONFIG.format(
        tenant_id=tenant.tenant_id,
        client_id=tenant.client_id,
        graph_url=tenant.graph_url,
        login_url=tenant.login_url,
    )
    path = machine.path("/etc/backupd/config.toml")
    path.write_text(told + more)
    path.chmod(0o644)


def backupd(*arguments: str) -> tuple[str, ...]:
    return (PYTHON, "-m", "backupd", "--config", "/etc/backupd/config.toml", *arguments)


def shown(machine: Container, *names: str) -> dict[str, str]:
    asked = [f"--property={name}" for name in names]
    said = machine.run("systemctl", "show", "backupd", *asked)
    return dict(line.split("=", 1) for line in said.splitlines() if line)


def state(machine: Container) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(
            machine.path("/var/lib/backupd/service.json").read_text()
        )
    except (OSError, ValueError):
        return {}
    return found


def last(machine: Container, verb: str) -> dict[str, Any]:
    found: dict[str, Any] = state(machine).get("accounts", {}).get(ACCOUNT, {}).get(verb, {})
    return found


def journal(machine: Container) -> str:
    return machine.run("journalctl", "-u", "backupd", "--no-pager", "-o", "cat")


def test_without_its_secrets_it_does_not_start_and_with_a_wrong_file_it_is_not_tried_again(
    machine: Container, tenant: SimulatedTenant
) -> None:
    machine.fails("systemctl", "start", "backupd")
    machine.run("systemctl", "stop", "backupd")
    secret = machine.path("/etc/credstore/sources.demo.client_secret")
    secret.write_text(tenant.client_secret)
    secret.chmod(0o600)
    sealed = "/etc/credstore.encrypted/storage.primary.password"
    machine.run(
        "systemd-creds", "encrypt", "--name=storage.primary.password", "-", sealed, stdin=PASSWORD
    )
    machine.run(*backupd("install-service"))
    assert "LoadCredentialEncrypted=storage.primary.password" in machine.path(UNIT).read_text()
    machine.run("systemctl", "daemon-reload")
    configure(machine, tenant, "[limits]\nworkers = 'many'\n")
    machine.fails("systemctl", "start", "backupd")
    time.sleep(1)
    facts = shown(machine, "ActiveState", "ExecMainStatus", "NRestarts")
    assert facts == {"ActiveState": "failed", "ExecMainStatus": "2", "NRestarts": "0"}
    configure(machine, tenant)


def test_it_is_ready_when_it_can_work_and_keeps_its_secrets(
    machine: Container, tenant: SimulatedTenant
) -> None:
    machine.run("systemctl", "start", "backupd")
    facts = shown(machine, "ActiveState", "SubState", "StatusText", "MainPID", "User")
    assert facts["ActiveState"] == "active"
    assert facts["SubState"] == "running"
    assert "accounts" in facts["StatusText"]
    assert facts["User"] == "backupd"
    until(lambda: last(machine, "snapshot").get("ok"), 120)
    folder = machine.path("/var/lib/backupd")
    assert folder.stat().st_mode & 0o777 == 0o700
    for name in ("cmdline", "environ"):
        told = machine.run("cat", f"/proc/{facts['MainPID']}/{name}")
        assert PASSWORD not in told
        assert tenant.client_secret not in told
    said = journal(machine)
    assert "sync:" in said
    assert "harbourlight" not in said


def test_its_sandbox_holds(machine: Container) -> None:
    pid = shown(machine, "MainPID")["MainPID"]
    status = machine.run("cat", f"/proc/{pid}/status")
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert facts["NoNewPrivs"] == "1"
    assert int(facts["CapEff"], 16) == 0
    assert facts["Seccomp"] == "2"
    assert "0\t0\t0\t0" not in facts["Uid"]
    options = machine.run("cat", f"/proc/{pid}/mounts")
    root = next(line for line in options.splitlines() if line.split()[1] == "/")
    assert root.split()[3].startswith("ro")


def test_a_reload_takes_on_what_has_changed(machine: Container, tenant: SimulatedTenant) -> None:
    configure(machine, tenant, '[alerts]\nstale = "2d"\n')
    machine.run("systemctl", "reload", "backupd")
    until(lambda: "reloaded" in journal(machine))
    assert shown(machine, "ActiveState")["ActiveState"] == "active"


def test_the_watchdog_ends_a_process_that_hangs_and_it_comes_back(machine: Container) -> None:
    override = machine.path("/etc/systemd/system/backupd.service.d/quick.conf")
    override.parent.mkdir(exist_ok=True)
    override.write_text("[Service]\nWatchdogSec=6\nRestartSec=1\nTimeoutAbortSec=5\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "backupd")
    time.sleep(8)
    before = shown(machine, "MainPID", "NRestarts")
    assert before["NRestarts"] == "0"
    machine.run("kill", "-STOP", before["MainPID"])
    until(lambda: int(shown(machine, "NRestarts")["NRestarts"]) >= 1)
    until(lambda: shown(machine, "ActiveState")["ActiveState"] == "active")
    assert shown(machine, "MainPID")["MainPID"] != before["MainPID"]
    assert "atchdog" in machine.run("journalctl", "-u", "backupd", "--no-pager")
    until(lambda: last(machine, "sync").get("ok") and not state(machine)["stopped"])


def test_it_stops_in_time(machine: Container) -> None:
    began = time.monotonic()
    machine.run("systemctl", "stop", "backupd")
    assert time.monotonic() - began < 22
    facts = shown(machine, "Result", "ExecMainStatus")
    assert facts == {"Result": "success", "ExecMainStatus": "0"}


def test_after_a_power_cut_in_the_middle_of_a_sync_it_comes_back_by_itself_and_ends_it(
    machine: Container, tenant: SimulatedTenant
) -> None:
    machine.run("systemctl", "enable", "backupd")
    for number in range(600):
        tenant.state.deliver("amelia", "archive", b"Subject: no %d\r\n\r\nx\r\n" % number)
    tenant.log.clear()
    machine.run("systemctl", "start", "backupd")
    until(lambda: sum(each.path.endswith("/$value") for each in tenant.log) > 60, every=0.05)
    machine.cut_power()
    machine.boot()
    until(lambda: shown(machine, "ActiveState")["ActiveState"] == "active")
    before = state(machine)["started"]
    until(lambda: last(machine, "sync").get("ended", 0) > before, 120)
    home = machine.path(f"/var/lib/backupd/accounts/{ACCOUNT}/mirror/mail")
    names = {path.name.split("_")[1] for path in home.rglob("*.eml")}
    assert {f"no {number}" for number in range(600)} <= {name.replace("-", " ") for name in names}


def test_the_timer_makes_a_backup_without_a_service(machine: Container) -> None:
    machine.run("systemctl", "disable", "--now", "backupd")
    machine.run(*backupd("install-service", "--timer"))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "backupd-backup.service")
    said = machine.run("systemctl", "show", "backupd-backup.service", "--property=Result")
    assert said.strip() == "Result=success"
    machine.run("systemctl", "start", "backupd-backup.timer")
    listed = machine.run("systemctl", "list-timers", "--all", "--no-pager")
    assert "backupd-backup.timer" in listed
