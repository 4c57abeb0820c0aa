"""The machine is gone. What is left: the vaults, two of three shares, and the recovery kit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from household import Household

from backupd import config
from backupd.app import App
from backupd.demo.tenant import SimulatedTenant
from backupd.keys import keybook


@dataclass
class Left:
    """What is left, and what there was."""

    tenant: SimulatedTenant
    vaults: Path
    kit: Path
    shares: list[Path]
    mirrors: dict[str, dict[str, str]]
    gaps: dict[str, int]


def hashes(root: Path) -> dict[str, str]:
    """Every file of a mirror but those that are written anew for each snapshot."""
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in {"account.json", "README.txt"}
    }


def gaps(app: App) -> dict[str, int]:
    found = {}
    for home in app.homes():
        with home.reading() as catalog:
            found[home.address] = len(list(catalog.gaps()))
    return found


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    folder = tmp_path_factory.mktemp("wiped")
    with SimulatedTenant(7, people=2, messages=8) as tenant:
        house = Household(folder / "house", tenant, accounts=["amelia@*", "jean*"])
        text = house.config.read_text().replace(f'"{house.folder}/vaults"', f'"{folder}/vaults"')
        house.config.write_text(text)
        assert house.backup().exit_code in {0, 3}
        assert house.command("keys", "recovery", "--output", str(folder / "shares")).returncode == 0
        assert house.command("kit", "--output", str(folder / "kit")).returncode == 0
        mirrors = {home.address: hashes(home.mirror_path) for home in house.app.homes()}
        left = Left(tenant, folder / "vaults", folder / "kit", sorted((folder / "shares").glob("*.txt")), mirrors, gaps(house.app))  # fmt: skip
        shutil.rmtree(house.folder)
        left.shares.pop(0).unlink()
        yield left


@dataclass
class Machine:
    """A computer that never saw any of it."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "new.toml"

    def run(self, *arguments: object, code: int = 0, stdin: str = "", **more: str) -> Any:
        plain = {"PATH": os.environ["PATH"], "HOME": str(self.folder), **more}
        command = [sys.executable, "-m", "backupd", "--config", str(self.config), *map(str, arguments), "--json"]  # fmt: skip
        said = subprocess.run(command, capture_output=True, text=True, check=False, env=plain, input=stdin)  # fmt: skip
        assert said.returncode == code, said.stdout + said.stderr
        return json.loads(said.stdout)

    def recover(self, *arguments: object, code: int = 0, **more: str) -> Any:
        return self.run("recover", "--state-dir", self.folder / "state", *arguments, code=code, **more)  # fmt: skip


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def given(left: Left) -> list[str]:
    return [word for share in left.shares for word in ("--shares", str(share))]


@pytest.fixture(scope="module")
def recovered(left: Left, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """A new machine, recovered with two shares and the kit alone."""
    machine = Machine(tmp_path_factory.mktemp("machine"))
    told = machine.recover("--kit", left.kit / "kit.json", *given(left))
    assert [each["account"] for each in told["accounts"]] == sorted(left.mirrors)
    return machine


def test_two_shares_and_the_kit_bring_every_account_into_a_folder(
    left: Left, recovered: Machine
) -> None:
    app = App(config.load(recovered.config))
    assert {home.address: hashes(home.mirror_path) for home in app.homes()} == left.mirrors
    book = keybook.load(app.config.state_dir)
    assert book.drilled
    assert len(book.vaults) == len(left.mirrors)
    for address in left.mirrors:
        out = recovered.folder / "out" / address
        told = recovered.run("restore", "--account", address, "--to", f"folder:{out}")["restore"]
        assert told["proven"] == sum(told["expected"].values()) > 0
    for home in app.homes():
        with home.reading() as catalog:
            held = sorted(item.sha256 for item in catalog.items())
        known = sorted(
            digest for path, digest in left.mirrors[home.address].items() if not path.endswith("index.jsonl")
        )  # fmt: skip
        assert held == known


def test_the_next_sync_fetches_nothing_that_the_vault_held(left: Left, recovered: Machine) -> None:
    loaded = config.load(recovered.config)
    secret = loaded.sources["demo"].client_secret_file  # type: ignore[union-attr]
    assert secret is not None
    secret.write_text(left.tenant.client_secret)
    app = App(loaded)
    assert gaps(app) == left.gaps
    run = app.sync()
    assert run.exit_code in {0, 3}
    done = [tally for each in run.outcomes if each.sync for tally in each.sync.tallies.values()]
    assert sum(tally.fetched for tally in done) == 0
    assert sum(tally.removed + tally.moved + tally.updated for tally in done) == 0
    assert {home.address: hashes(home.mirror_path) for home in app.homes()} == left.mirrors
    assert gaps(app) == left.gaps
    assert recovered.run("snapshot")["exit_code"] == 0


def test_a_second_run_leaves_what_is_there_alone(left: Left, recovered: Machine) -> None:
    told = recovered.recover("--kit", left.kit / "kit.json", *given(left))
    assert all(each["already"] for each in told["accounts"])


def test_without_backupd_the_commands_of_the_kit_are_enough(left: Left, tmp_path: Path) -> None:
    vault = json.loads((left.kit / "kit.json").read_text())["vaults"][0]
    script = f"""
    cat {left.shares[0]} {left.shares[1]} > shares.txt
    export RESTIC_PASSWORD="$({sys.executable} {left.kit}/open-vault.py {vault["name"]} < shares.txt)"
    restic -r {vault["location"]} restore latest --target out
    """
    subprocess.run(["sh", "-e", "-c", script], check=True, capture_output=True, cwd=tmp_path)
    assert hashes(tmp_path / "out") == left.mirrors[vault["account"]]


@pytest.mark.slow
def test_a_folder_of_vaults_and_shares_on_stdin_are_enough(left: Left, machine: Machine) -> None:
    both = "".join(each.read_text() for each in left.shares)
    found = machine.recover("--repository", left.vaults, "--dry-run", stdin=both)["vaults"]
    assert [each["account"] for each in found] == sorted(left.mirrors)
    assert not machine.config.exists()
    vault = next(left.vaults.glob("*/jean*"))
    machine.recover("--repository", vault, "--shares", "-", stdin=both)
    app = App(config.load(machine.config))
    assert [home.address for home in app.homes()] == ["jean-baptiste@harbourlight.example"]
    assert hashes(app.homes()[0].mirror_path) == left.mirrors["jean-baptiste@harbourlight.example"]
    assert len(machine.run("snapshots")["snapshots"]) == 1


KILLER = """\
#!/bin/sh
case "$*" in *"key add"*)
  echo x >> "{folder}/count"
  [ "$(wc -l < "{folder}/count")" -eq 2 ] && {{ kill -9 $PPID; exit 1; }} ;;
esac
exec {restic} "$@"
"""


@pytest.mark.slow
def test_a_killed_recovery_is_taken_up_again(left: Left, machine: Machine) -> None:
    """The second account is killed when its bytes are there and its vault has no key for this machine yet."""
    wrapper = machine.folder / "bin" / "restic"
    wrapper.parent.mkdir()
    wrapper.write_text(KILLER.format(folder=machine.folder, restic=shutil.which("restic")))
    wrapper.chmod(0o700)
    command = [sys.executable, "-m", "backupd", "--config", str(machine.config), "recover", "--state-dir", str(machine.folder / "state")]  # fmt: skip
    killed = subprocess.run(
        [*command, "--kit", str(left.kit / "kit.json"), *given(left)],
        check=False, capture_output=True, stdin=subprocess.DEVNULL,
        env={"PATH": f"{wrapper.parent}:{os.environ['PATH']}", "HOME": str(machine.folder)},
    )  # fmt: skip
    assert killed.returncode == -9
    assert machine.config.exists()
    told = machine.recover("--kit", left.kit / "kit.json", *given(left))
    assert not any(each["errors"] for each in told["accounts"])
    app = App(config.load(machine.config))
    assert {home.address: hashes(home.mirror_path) for home in app.homes()} == left.mirrors
    assert len(machine.run("snapshots")["snapshots"]) == len(left.mirrors)
    assert not list(app.config.state_dir.glob("accounts/*/*/arriving*"))
    assert not list((app.config.state_dir / "tmp").glob("secret-*"))


def test_what_is_wrong_is_told_and_nothing_is_written(left: Left, machine: Machine) -> None:
    one = [*("--shares", str(left.shares[0]))]
    said = machine.recover("--kit", left.kit / "kit.json", *one, code=2)
    assert "2 shares are needed, 1 given" in said["error"]["message"]
    assert "Where are the vaults" in machine.recover(*given(left), code=2)["error"]["message"]
    said = machine.recover("--kit", left.shares[0], *given(left), code=2)
    assert "no recovery kit" in said["error"]["message"]
    wrong = machine.recover("--repository", left.vaults, code=2, RESTIC_PASSWORD="wrong")
    assert "password does not open" in wrong["error"]["message"]
    assert not machine.config.exists()
    assert not list(machine.folder.rglob("secret-*"))
