"""Forget and prune with a real restic: what goes, what never goes, and who is told when it fails."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from random import randbytes

import pytest
from keepers import ALICE, BOB, an_app, change_and_snapshot, keep, times
from servers.process import free_port, need

from backupd.app import App
from backupd.cutoff.incidents import Removal
from backupd.cutoff.verdict import Cause, Evidence
from backupd.home import Home
from backupd.jobs.keeping import due, findings, forget_all, prune_all
from backupd.vaults.forgotten import forgotten
from backupd.vaults.storages import Round
from backupd.vaults.vault import PINNED

NOTHING = {
    "keep_within": "0s", "keep_within_daily": "0s", "keep_within_weekly": "0s", "keep_within_monthly": "0s",
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two accounts with three snapshots each in two storages, made once: a restic costs half a second."""
    need("restic")
    folder = tmp_path_factory.mktemp("made")
    app = an_app(folder)
    for address in (ALICE, BOB):
        home = keep(app, address)
        for number in range(3):
            assert not change_and_snapshot(app, home, f"{number} " * 2000).errors
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


@pytest.fixture
def app(folder: Path) -> App:
    """One storage; the rules keep the newest snapshot only."""
    return an_app(folder, {"primary": {"repository": str(folder / "primary")}}, retention=NOTHING)


def test_what_the_rules_do_not_keep_goes_from_every_storage_and_nothing_else(folder: Path) -> None:
    app = an_app(folder, retention=NOTHING)
    home = app.home(ALICE)
    before = times(app, home)
    strangers = _somebody_elses_snapshot(app, home)
    dry = forget_all(app, [ALICE], dry_run=True)
    assert times(app, home) == before, "a dry run removed something"
    assert [len(each.drop) for each in dry.results[0].chosen.values()] == [2, 2]  # type: ignore[union-attr]
    assert forget_all(app, [ALICE]).exit_code == 0
    assert times(app, home) == before[-1:]
    assert len(times(app, home, "second")) == 1
    everything = app.vault(home).repository.run(["snapshots", "--no-lock"])
    assert strangers in {each["id"] for each in everything}
    assert len(forgotten(home.folder, "primary")) == 2, "verification is told what we let go"
    assert prune_all(app, [ALICE]).results[0].pruned  # type: ignore[union-attr]
    assert not prune_all(app, [ALICE]).results[0].pruned, "nothing was forgotten since"  # type: ignore[union-attr]


def _somebody_elses_snapshot(app: App, home: Home) -> str:
    other = home.folder / "others"
    other.mkdir()
    (other / "file").write_text("not ours")
    repository = app.vault(home, "primary").repository
    made = repository.run(["backup", "--host", ALICE, "."], folder=other)
    assert made
    tagged = {each["id"] for each in repository.run(["snapshots", "--tag", "backupd", "--no-lock"])}
    everything = {each["id"] for each in repository.run(["snapshots", "--no-lock"])}
    (stranger,) = everything - tagged
    return str(stranger)


def test_what_is_pinned_is_not_forgotten(app: App) -> None:
    home = app.home(ALICE)
    app.vault(home).pin()
    first = times(app, home)[-1:]
    change_and_snapshot(app, home, "later")
    forget_all(app, [ALICE])
    left = app.vault(home, "primary").snapshots()
    assert [each.time for each in left][:1] == first
    assert len(left) == 2
    assert PINNED in left[0].tags


def test_a_frozen_account_is_never_forgotten_nor_pruned(app: App) -> None:
    home, bob = app.home(ALICE), app.home(BOB)
    for number in range(2):
        app.incidents.hear(f"contoso/{ALICE}", Evidence(1000.0 + number, "sync", Cause.ACCOUNT))
    assert app.incidents.frozen("contoso", ALICE)
    rounds = forget_all(app, approved=True)
    assert len(times(app, home)) == 3
    assert len(times(app, bob)) == 1, "the others are not held back"
    assert (
        "frozen" in next(each for each in rounds.results if each.address == ALICE).held["primary"]
    )
    assert "primary" in prune_all(app, every_vault=True).results[0].held
    assert rounds.exit_code == 0, "what is held back on purpose is no failure"


def test_nothing_is_forgotten_while_a_removal_waits_for_a_person(app: App) -> None:
    app.incidents.stop(Removal("run1", "contoso", ALICE, {"mail": 500}, 1.0))
    assert "waits" in forget_all(app, [ALICE]).results[0].held["primary"]
    assert len(times(app, app.home(ALICE))) == 3


def test_a_case_that_cannot_be_read_holds_everything(app: App) -> None:
    broken = app.config.state_dir / "incidents" / "contoso.json"
    broken.parent.mkdir(parents=True)
    broken.write_text("{")
    assert "damaged" in forget_all(app, [ALICE]).results[0].held["primary"]
    assert len(times(app, app.home(ALICE))) == 3


def test_a_clock_that_ran_ahead_removes_nothing_before_a_person_has_looked(folder: Path) -> None:
    """Some snapshots of this week, and one that was made in a wrong year."""
    app = an_app(folder, {"primary": {"repository": str(folder / "primary")}}, retention={"keep_within": "60d"})  # fmt: skip
    home = app.home(ALICE)
    repository = app.vault(home).repository
    tags = ["--tag", "backupd", "--tag", f"account:{ALICE}"]
    for number in range(9):
        repository.run(["backup", "--time", f"2026-11-2{number % 5} 0{number % 9}:30:00", *tags, "."], folder=home.mirror_path)  # fmt: skip
    repository.run(["backup", "--time", "2041-01-01 00:00:00", *tags, "."], folder=home.mirror_path)
    assert forget_all(app, [ALICE]).results[0].chosen["primary"].drop == (), "what lies ahead ages nothing"  # type: ignore[union-attr]  # fmt: skip
    later = replace(app, clock=lambda: 2_240_611_200.0)  # this machine believes that it is 2041
    rounds = forget_all(later, [ALICE])
    assert rounds.exit_code == 4
    assert len(times(app, home)) == 13
    assert "clock" in rounds.results[0].errors["primary"].hint
    earlier = replace(app, clock=lambda: 0.0)
    assert forget_all(earlier, [ALICE]).results[0].chosen["primary"].drop == ()  # type: ignore[union-attr]


def test_one_vault_for_all_is_not_pruned_while_anybody_in_it_is_frozen(tmp_path: Path) -> None:
    need("restic")
    app = an_app(tmp_path, {"primary": {"repository": str(tmp_path / "all"), "shared": True}}, retention=NOTHING)  # fmt: skip
    for address in (ALICE, BOB):
        change_and_snapshot(app, keep(app, address), "hello")
    for number in range(2):
        app.incidents.hear(f"contoso/{ALICE}", Evidence(1000.0 + number, "sync", Cause.ACCOUNT))
    assert forget_all(app).exit_code == 0
    assert not any(each.pruned for each in prune_all(app, every_vault=True).results)  # type: ignore[union-attr]


def test_a_storage_that_is_append_only_is_left_alone_and_says_so(folder: Path) -> None:
    app = an_app(folder, {"primary": {"repository": str(folder / "primary"), "append_only": True}}, retention=NOTHING)  # fmt: skip
    rounds = forget_all(app)
    assert len(times(app, app.home(ALICE))) == 3
    assert "append-only" in rounds.results[0].held["primary"]
    assert not list(findings(app)), "it is meant so: nobody is told again and again"


# -- that it ended well is an aim of its own ------------------------------------------------------


def test_a_round_that_failed_is_noted_and_one_that_is_overdue_is_told(app: App) -> None:
    home = app.home(ALICE)
    assert due(app, "forget")
    assert forget_all(app).exit_code == 0
    assert not due(app, "forget")
    assert app.storages.health("primary").forget.good == app.storages.health("primary").forget.ended
    late = replace(app, clock=lambda: app.clock() + 4 * 86_400)
    assert due(late, "forget")
    assert any("no forget has ended well" in each.message for each in findings(late))
    (Path(app.vault(home, "primary").repository.location) / "config").unlink()
    assert forget_all(app).exit_code
    noted = app.storages.health("primary").forget
    assert (noted.failed, noted.good < noted.ended) == (1, True)
    assert any("failed for 1 accounts" in each.message for each in findings(app))


def test_a_round_over_some_accounts_says_nothing_of_all(app: App) -> None:
    forget_all(app, ["nobody@*"])
    assert app.storages.health("primary").forget == Round()


# -- storages that fail one by one ----------------------------------------------------------------


def test_a_storage_that_is_down_costs_the_others_nothing_and_is_asked_once(tmp_path: Path) -> None:
    need("restic")
    down = f"rest:http://127.0.0.1:{free_port()}/"
    app = an_app(tmp_path, {"primary": {"repository": str(tmp_path / "v")}, "down": {"repository": down}})  # fmt: skip
    homes = [keep(app, f"user{number}@harbourlight.example") for number in range(3)]
    for home in homes:
        result = change_and_snapshot(app, home, "hello")
        assert list(result.made) == ["primary"]
        assert result.errors["down"].exit_code == 75
    health = app.storages.health("down")
    assert health.failures == 1, "it was asked again for every account"
    assert app.storages.health("primary").well
    told = next(iter(findings(app)))
    assert told.subject == "storage.down"
    assert "refused" in told.message


@pytest.mark.slow
def test_an_upload_that_is_broken_off_goes_on_where_it_stopped(tmp_path: Path) -> None:
    """A slow line and a short limit: what was uploaded before is not uploaded again."""
    need("restic")
    slow = {"repository": str(tmp_path / "v"), "limit_upload": 4096, "run_within": "11s"}
    app = an_app(tmp_path, {"primary": slow})
    home = keep(app)
    home.mirror_path.mkdir(parents=True, exist_ok=True)
    (home.mirror_path / "drive").write_bytes(randbytes(64 << 20))
    first = change_and_snapshot(app, home, "hello").errors["primary"]
    assert (first.reason, first.exit_code) == ("unfinished", 75)
    app = an_app(tmp_path, {"primary": slow | {"limit_upload": 0, "run_within": "2h"}})
    assert app.storages.health("primary").well, "nothing is wrong with the storage"
    written = change_and_snapshot(app, home, "hello again").made["primary"]
    assert written.size > 64 << 20
    assert written.added < 56 << 20


def test_a_lock_of_a_dead_process_is_removed_and_one_of_another_machine_is_not(app: App) -> None:
    home = app.home(ALICE)
    vault = app.vault(home)
    _leave_a_lock(vault.repository.location, app)
    forget_all(app, [ALICE])
    assert len(times(app, home)) == 1, "our own dead lock was in the way"
    change_and_snapshot(app, home, "again")
    _leave_a_lock(vault.repository.location, app, host="elsewhere")
    error = forget_all(app, [ALICE]).results[0].errors["primary"]
    assert error.exit_code == 75
    assert "elsewhere" in str(error)
    assert "min ago" in str(error)
    assert len(list(Path(vault.repository.location, "locks").iterdir())) == 1


def _leave_a_lock(location: str, app: App, host: str = "") -> None:
    """Kill a restic that holds a lock, under a host name of its own where one is asked for."""
    command = ["restic", "-r", location, "backup", "--stdin", "--json"]
    if host:
        need("unshare")
        command = ["unshare", "-u", "sh", "-c", f'hostname {host} && exec "$@"', "-", *command]
    environment = {**os.environ, "RESTIC_PASSWORD_FILE": str(app.config.storage["primary"].password_file)}  # fmt: skip
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
    locks = Path(location, "locks")
    for _ in range(200):
        if [each for each in locks.iterdir() if "-tmp-" not in each.name]:
            break
        subprocess.run(["sleep", "0.05"], check=True)
    else:
        pytest.skip("no other host name can be had here")
    process.kill()
    process.communicate()


def test_the_health_of_storages_survives_what_is_not_json(app: App) -> None:
    path = app.config.state_dir / "storages" / "primary.json"
    assert json.loads(path.read_text())["reached"]
    path.write_text("{")
    assert app.storages.health("primary").well
    app.storages.reached("primary")
    assert app.storages.health("primary").reached
