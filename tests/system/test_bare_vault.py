"""The machine is gone: a repository, its password and another computer are enough."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from household import PASSWORD, Household, true_mail

from backupd.demo.tenant import SimulatedTenant


@pytest.fixture(scope="module")
def vaults(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """All that is left of a household: its vaults; and how many messages were in one of them."""
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    folder = tmp_path_factory.mktemp("bare")
    with SimulatedTenant(7, people=2, messages=8) as tenant:
        house = Household(folder / "house", tenant, accounts=["*@*"], services=["mail", "contacts"])
        assert house.backup().exit_code in {0, 3}
        expected = sum(true_mail(tenant.state, "amelia").values())
    shutil.move(house.folder / "vaults", folder / "left")
    shutil.rmtree(house.folder)
    return folder / "left", expected


def restore(
    home: Path, *arguments: object, password: str = PASSWORD
) -> subprocess.CompletedProcess[str]:
    """On a computer that never saw a configuration."""
    plain = {"PATH": os.environ["PATH"], "HOME": str(home), "RESTIC_PASSWORD": password}
    command = [sys.executable, "-m", "backupd", "restore", *map(str, arguments), "--json"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=plain, stdin=subprocess.DEVNULL)  # fmt: skip


def test_a_repository_and_its_password_are_enough(vaults: tuple[Path, int], tmp_path: Path) -> None:
    left, expected = vaults
    vault = next(left.glob("*/amelia*"))
    said = restore(tmp_path, "--from", vault, "--to", f"folder:{tmp_path / 'out'}")
    assert said.returncode == 0, said.stdout + said.stderr
    result = json.loads(said.stdout)["restore"]
    assert result["proven"] == sum(result["expected"].values())
    assert result["expected"]["mail"] >= expected
    again = json.loads(
        restore(tmp_path, "--from", vault, "--to", f"folder:{tmp_path / 'out'}").stdout
    )
    assert set(again["restore"]["states"]) == {"present"}
    assert PASSWORD not in "".join(
        path.read_text(errors="replace")
        for path in (tmp_path / ".local").rglob("*")
        if path.is_file()
    )


def test_a_folder_of_vaults_asks_which_account_and_then_finds_it(
    vaults: tuple[Path, int], tmp_path: Path
) -> None:
    left, _ = vaults
    said = restore(tmp_path, "--from", left, "--to", f"folder:{tmp_path / 'out'}")
    assert said.returncode == 2
    error = json.loads(said.stdout)["error"]
    assert "amelia@harbourlight.example" in error["hint"]
    named = restore(
        tmp_path, "--from", left, "--account", "amelia@harbourlight.example", "--only", "contacts",
        "--to", f"folder:{tmp_path / 'out'}",
    )  # fmt: skip
    assert named.returncode == 0, named.stdout + named.stderr


def test_a_wrong_password_and_no_password_are_told(
    vaults: tuple[Path, int], tmp_path: Path
) -> None:
    left, _ = vaults
    vault = next(left.glob("*/amelia*"))
    for password, word in (("wrong", "password"), ("", "password")):
        said = restore(
            tmp_path, "--from", vault, "--to", f"folder:{tmp_path / 'out'}", password=password
        )
        assert said.returncode == 2
        assert word in json.loads(said.stdout)["error"]["message"]
    assert not (tmp_path / "out").exists()
