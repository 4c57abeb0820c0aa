"""Keys of real vaults: recovery by shares alone, and new passwords that no crash can lock us out with."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from household import PASSWORD, Household

from backupd.cli import app
from backupd.config import Storage
from backupd.demo.tenant import SimulatedTenant
from backupd.jobs import keyring
from backupd.keys import shares
from backupd.keys.vault_keys import keys_of
from backupd.vaults.restic import Restic
from backupd.vaults.vault import vault_of

KILLER = """\
#!/bin/sh
case "$*" in *"{word}"*)
  echo x >> "{count}"
  [ "$(wc -l < "{count}")" -eq {at} ] && {{ {first}; kill -9 $PPID; exit 1; }} ;;
esac
exec restic "$@"
"""
"""A restic that ends backupd at a moment of our choice: before its own work is done, or after."""


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    folder = tmp_path_factory.mktemp("keys") / "house"
    with SimulatedTenant(7, people=2, messages=4) as tenant:
        house = Household(folder, tenant, accounts=["amelia@*", "jean*"], services=["contacts"])
        house.config.write_text(f"{house.config.read_text()}[limits]\nworkers = 1\n")
        assert house.backup().exit_code == 0
        house.restics()
        (folder / "tenant").write_text(tenant.tenant_id)
    return folder


@pytest.fixture
def house(origin: Path, tmp_path: Path) -> Household:
    """A copy of the household, whose tenant nobody needs any more."""
    folder = tmp_path / "house"
    shutil.copytree(origin, folder)
    for name in ("config.toml", "restic"):
        text = (folder / name).read_text().replace(str(origin), str(folder))
        (folder / name).write_text(text)
    made = object.__new__(Household)
    made.folder = folder
    return made


def run(house: Household, *arguments: str, code: int = 0) -> dict[str, object]:
    """A command in this process: starting another one costs more than what it does."""
    with redirect_stdout(io.StringIO()) as out:
        got = app(
            args=["--config", str(house.config), *arguments, "--json"],
            prog_name="backupd",
            standalone_mode=False,
        )
    assert got == code, out.getvalue()
    found: dict[str, object] = json.loads(out.getvalue())
    return found


def told(house: Household) -> str:
    """What status says of keys."""
    return json.dumps(run(house, "status")["keys"])


def shares_of(house: Household, *more: str, name: str = "shares") -> list[Path]:
    run(house, "keys", "recovery", "--output", str(house.folder / name), *more)
    return sorted((house.folder / name).glob("*.txt"))


def given(files: list[Path]) -> list[str]:
    return [word for file in files for word in ("--shares", str(file))]


def vaults(house: Household) -> list[Path]:
    return sorted(each.parent for each in (house.folder / "vaults").glob("*/*/config"))


def only_one(house: Household) -> Household:
    """Every start of restic costs half a second: most promises are as well seen on one vault."""
    for kind in ("state/accounts", "vaults"):
        shutil.rmtree(next((house.folder / kind).glob("demo/jean*")))
    return house


def opens(vault: Path, password: str) -> bool:
    """Whether stock restic opens a vault with a password."""
    environment = {**os.environ, "RESTIC_PASSWORD": password}
    said = subprocess.run(["restic", "-r", str(vault), "cat", "config", "--no-lock", "--no-cache"], capture_output=True, check=False, env=environment)  # fmt: skip
    return said.returncode == 0


def password(house: Household) -> str:
    return (house.folder / "password").read_text().strip()


def derived(files: list[Path], vault: Path) -> str:
    secret = shares.join([file.read_text() for file in files])
    return secret.password(f"{vault.parent.name}/{vault.name}")


def test_two_of_three_shares_open_every_vault_and_no_secret_is_left_behind(
    house: Household,
) -> None:
    files = shares_of(house)
    assert [stat.S_IMODE(each.stat().st_mode) for each in files] == [0o600] * 3
    for pair in ([0, 1], [0, 2], [1, 2]):
        chosen = [files[at] for at in pair]
        assert all(opens(vault, derived(chosen, vault)) for vault in vaults(house))
    one, other = vaults(house)
    assert not opens(one, derived(files[:2], other))
    log = "\n".join(house.restics())
    words = [derived(files[:2], one), PASSWORD, *(each.read_text().strip() for each in files)]
    assert not any(word in log for word in words)
    assert not list(house.folder.rglob("secret-*"))
    for kept in (house.folder / "state").glob("*.json"):
        assert not any(word in kept.read_text() for word in words)


def test_a_drill_needs_nothing_but_shares_and_is_remembered(house: Household) -> None:
    only_one(house)
    assert "there are none" in told(house)
    files = shares_of(house)
    assert "never tried" in told(house)
    shutil.move(house.folder / "password", house.folder / "elsewhere")
    (house.folder / "password").write_text("not the password")
    assert len(run(house, "keys", "drill", "--all", *given(files[1:]))["done"]) == 1  # type: ignore[arg-type]
    assert "last done on" in told(house)
    assert "never tried: share 1" in told(house)


@pytest.mark.slow
def test_a_vault_that_does_not_open_makes_a_drill_fail(house: Household) -> None:
    only_one(house)
    files = shares_of(house)
    vault = vaults(house)[0]
    listed = run(house, "keys", "list")["vaults"]
    key = next(key["id"] for each in listed for key in each["keys"] if key["user"] == "recovery" and vault.name in each["place"])  # type: ignore[attr-defined] # fmt: skip
    subprocess.run(["restic", "-r", str(vault), "key", "remove", key], check=True, capture_output=True, env={**os.environ, "RESTIC_PASSWORD": PASSWORD})  # fmt: skip
    failed = run(house, "keys", "drill", "--all", *given(files[:2]), code=1)["failed"]
    assert [vault.name in place for place in failed] == [True]  # type: ignore[attr-defined]
    assert "did not open" in told(house)
    run(house, "keys", "recovery", "--extend", *given(files[:2]))
    run(house, "keys", "drill", "--all", *given(files[1:]))
    assert opens(vault, derived(files[:2], vault))


def test_shares_are_not_written_into_a_pipe_and_a_set_is_not_replaced_by_chance(
    house: Household,
) -> None:
    said = house.command("keys", "recovery")
    assert said.returncode == 2
    assert "--output" in said.stderr
    assert not (house.folder / "state" / "keys.json").exists()
    shares_of(house)
    said = house.command("keys", "recovery", "--output", str(house.folder / "more"))
    assert said.returncode == 2
    assert "--renew" in said.stderr
    said = house.command("keys", "recovery", "--renew", "--output", str(house.folder / "shares"))
    assert said.returncode == 2
    assert "not empty" in said.stderr


def test_a_set_that_reached_nobody_is_not_noted(house: Household) -> None:
    only_one(house)

    def full(_: object) -> None:
        raise OSError("no space left on the disk of the shares")

    with pytest.raises(OSError, match="no space"):
        keyring.make(house.app, (2, 3), full, lambda _: None, renew=False)
    assert "there are none" in told(house)


@pytest.mark.slow
def test_an_older_set_opens_until_the_new_one_was_tried(house: Household) -> None:
    only_one(house)
    old = shares_of(house)
    new = shares_of(house, "--renew", "--shares-of", "3/4", name="new")
    vault = vaults(house)[0]
    assert opens(vault, derived(old[:2], vault))
    assert house.command("keys", "retire").returncode == 2
    said = house.command("keys", "drill", *given(old[:2]))
    assert said.returncode == 2
    assert "in use is" in said.stderr
    run(house, "keys", "drill", *given(new[1:]))
    run(house, "keys", "retire")
    assert not opens(vault, derived(old[:2], vault))
    assert opens(vault, derived(new[:3], vault))
    assert opens(vault, PASSWORD)


def test_a_new_password_opens_and_the_old_one_no_longer_does(house: Household) -> None:
    only_one(house)
    run(house, "keys", "rotate")
    assert password(house) != PASSWORD
    for vault in vaults(house):
        assert opens(vault, password(house))
        assert not opens(vault, PASSWORD)
    assert (house.folder / "password.before").read_text() == PASSWORD
    assert not (house.folder / "password.new").exists()


@pytest.mark.parametrize(
    ("word", "at", "first"),
    [
        pytest.param("key add", 2, "restic $*", marks=pytest.mark.slow),
        ("key remove", 1, ":"),
        pytest.param("key add", 1, ":", marks=pytest.mark.slow),
        pytest.param("key remove", 2, "restic $*", marks=pytest.mark.slow),
    ],
)
def test_a_rotation_that_is_killed_leaves_vaults_that_open_and_is_taken_up_again(
    house: Household, word: str, at: int, first: str
) -> None:
    if at == 1:
        only_one(house)
    plain = (house.folder / "restic").read_text()
    killer = KILLER.format(word=word, count=house.folder / "count", at=at, first=first)
    (house.folder / "restic").write_text(killer)
    assert house.command("keys", "rotate").returncode == -9
    assert all(opens(vault, password(house)) for vault in vaults(house))
    (house.folder / "restic").write_text(plain)
    run(house, "keys", "rotate")
    assert password(house) != PASSWORD
    for vault in vaults(house):
        assert opens(vault, password(house))
        assert not opens(vault, PASSWORD)
    assert json.loads((house.folder / "state" / "keys.json").read_text())["leaving"] == {}


@pytest.mark.slow
def test_a_vault_that_cannot_be_reached_keeps_the_old_password_for_all(house: Household) -> None:
    gone = vaults(house)[0]
    shutil.move(gone, house.folder / "away")
    run(house, "keys", "rotate", code=1)
    assert password(house) == PASSWORD
    shutil.move(house.folder / "away", gone)
    run(house, "keys", "rotate")
    assert all(opens(vault, password(house)) for vault in vaults(house))


def test_a_password_that_no_file_holds_is_left_to_the_person(house: Household) -> None:
    config = house.folder / "config.toml"
    text = config.read_text().replace("password_file =", "password_command =")
    config.write_text(text.replace(f'"{house.folder}/password"', f'"cat {house.folder}/password"'))
    said = house.command("keys", "rotate")
    assert said.returncode == 2
    assert "restic key add" in said.stderr


def test_accounts_that_begin_a_shared_vault_at_once_leave_one_key(tmp_path: Path) -> None:
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    (tmp_path / "password").write_text(PASSWORD)
    storage = Storage(name="primary", repository=str(tmp_path / "vault"), password_file=tmp_path / "password", shared=True)  # fmt: skip
    begun = [vault_of(storage, Restic(), tmp_path, ("s", f"{who}@a.example")) for who in "abc"]
    with ThreadPoolExecutor(3) as workers:
        made = list(workers.map(lambda vault: vault.create(), begun))
    assert sorted(made) == [False, False, True]
    assert len(keys_of(begun[0].repository)) == 1
