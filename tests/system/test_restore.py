"""A restore adds, proves, and can be repeated."""

from __future__ import annotations

import json
import mailbox
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from household import Household, true_mail

from backupd import cli
from backupd.demo.tenant import SimulatedTenant
from backupd.restore.contents import Selection

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"


@pytest.fixture(scope="module")
def backed_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    """One household that was backed up; tests get copies of its folder."""
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    with SimulatedTenant(7, people=1, messages=12) as tenant:
        house = Household(tmp_path_factory.mktemp("house"), tenant, accounts=["amelia@*"])
        assert house.backup().exit_code == 0
        yield house


@pytest.fixture
def house(backed_up: Household, tmp_path: Path) -> Household:
    """A household of one's own; its tenant is everybody's."""
    shutil.copytree(backed_up.folder, tmp_path / "house")
    return Household(tmp_path / "house", backed_up.tenant, accounts=["amelia@*"])


@pytest.fixture
def own(build: Build) -> Household:
    """A household whose tenant the test may change."""
    house = build(accounts=["amelia@*"], people=1, messages=12)
    assert house.backup().exit_code == 0
    return house


def restore(house: Household, target: Path, *more: str, code: int = 0) -> dict[str, Any]:
    said = house.command("restore", "--to", f"folder:{target}", "--json", *more)
    assert said.returncode == code, said.stdout + said.stderr
    answer: dict[str, Any] = json.loads(said.stdout)
    return answer


@pytest.mark.parametrize("origin", ["mirror", "vault"])
def test_everything_is_proven_and_a_second_run_adds_nothing(
    house: Household, tmp_path: Path, origin: str
) -> None:
    first = restore(house, tmp_path / "out", "--from", origin)["restore"]
    assert set(first["states"]) == {"restored"}
    assert first["proven"] == sum(first["expected"].values()) == first["states"]["restored"]
    before = sorted((tmp_path / "out").rglob("*"))
    second = restore(house, tmp_path / "out", "--from", origin)["restore"]
    assert second["states"] == {"present": first["proven"]}
    assert sorted((tmp_path / "out").rglob("*")) == before


def test_the_vault_alone_is_enough(own: Household, tmp_path: Path) -> None:
    expected = len(true_mail(own.tenant.state, "amelia"))
    shutil.rmtree(own.home(AMELIA).mirror_path)
    own.tenant.cut_off("tenant_deleted")
    result = restore(own, tmp_path / "out", "--only", "mail")["restore"]
    assert result["proven"] >= expected


def test_mail_programs_open_what_was_restored(own: Household, tmp_path: Path) -> None:
    message = own.tenant.state.deliver(
        "amelia", "inbox", b"Subject: seen\r\n\r\nx\r\n", isRead=True
    )
    own.backup()
    restore(own, tmp_path / "out", "--only", "mail")
    inbox = mailbox.Maildir(str(tmp_path / "out/mail/Inbox"), create=False)
    found = [each for each in inbox if each["Subject"] == "seen"]
    assert len(found) == 1
    assert "S" in found[0].get_flags()
    own.tenant.state.flag("amelia", message, isRead=False)
    own.backup()
    again = restore(own, tmp_path / "out", "--only", "mail")["restore"]
    assert set(again["states"]) == {"present"}, "a changed flag makes no second copy"


def test_a_file_of_the_user_is_never_overwritten(house: Household, tmp_path: Path) -> None:
    restore(house, tmp_path / "one", "--only", "files")
    some = next(path for path in (tmp_path / "one").rglob("*") if path.is_file())
    mine = tmp_path / "two" / some.relative_to(tmp_path / "one")
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    result = restore(house, tmp_path / "two", "--only", "files")["restore"]
    assert mine.read_text() == "mine"
    assert result["proven"] == sum(result["states"].values())


def test_a_folder_or_a_moment_can_be_chosen(own: Household, tmp_path: Path) -> None:
    own.tenant.state.deliver("amelia", "archive", b"Subject: later\r\n\r\nx\r\n")
    own.backup()
    first, second = own.app.vault(own.home(AMELIA)).snapshots()
    restore(own, tmp_path / "archive", "--folder", "arch*")
    assert {path.name for path in (tmp_path / "archive/mail").iterdir()} == {"Archive"}
    restore(own, tmp_path / "then", "--snapshot", first.short_id, "--folder", "archive")
    restore(own, tmp_path / "now", "--at", second.time, "--folder", "archive")
    count = [len(list((tmp_path / each).rglob("*backupd,S=*"))) for each in ("then", "now")]
    assert count[1] == count[0] + 1


def test_damaged_bytes_are_never_restored_quietly(house: Household, tmp_path: Path) -> None:
    victim = next(house.home(AMELIA).mirror_path.glob("mail/Inbox/*/*.eml"))
    victim.write_bytes(b"X" + victim.read_bytes()[1:])
    answer = restore(house, tmp_path / "out", "--from", "mirror", code=5)
    assert answer["restore"]["states"]["damaged"] == 1
    assert victim.name in answer["restore"]["problems"][0]["path"]
    restore(house, tmp_path / "good", "--from", "vault")


def test_a_file_lost_from_the_mirror_costs_only_itself(house: Household, tmp_path: Path) -> None:
    next(house.home(AMELIA).mirror_path.glob("mail/Inbox/*/*.eml")).unlink()
    result = restore(house, tmp_path / "out", "--from", "mirror", code=5)["restore"]
    assert result["states"]["damaged"] == 1
    assert result["proven"] == sum(result["expected"].values()) - 1


def test_a_dry_run_writes_nothing(house: Household, tmp_path: Path) -> None:
    answer = restore(house, tmp_path / "out", "--dry-run")
    assert answer["plan"]
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_looking_at_what_is_held(
    house: Household, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        ["status"],
        ["snapshots"],
        ["ls", "mail/Inbox"],
        ["find", "invoice"],
        ["accounts"],
        ["doctor"],
    ):
        said = house.command(*arguments, "--json")
        assert said.returncode == 0, said.stdout + said.stderr
        assert json.loads(said.stdout)
        code = cli.app(args=["--config", str(house.config), *arguments], standalone_mode=False)
        assert code == 0
        assert capsys.readouterr().out
    snapshot = house.app.vault(house.home(AMELIA)).snapshots()[0]
    said = house.command("ls", "mail", "--snapshot", snapshot.short_id)
    assert ".eml" in said.stdout
    said = house.command("export", "*.ics", "--output", str(tmp_path / "ics"))
    assert said.returncode == 0
    assert list((tmp_path / "ics").rglob("*.ics"))


def test_the_demonstration_proves_every_item() -> None:
    import subprocess  # noqa: PLC0415
    import sys  # noqa: PLC0415

    said = subprocess.run(
        [sys.executable, "-m", "backupd", "demo", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout + said.stderr
    facts = json.loads(said.stdout)["demo"]
    assert facts["restored"]["proven"] == facts["restored"]["expected"] > 400
    assert facts["cut_off"]["exit_code"] == 4
    assert facts["third"] == {
        "fetched": 0,
        "bytes": 0,
        "snapshots": 0,
        "waiting": facts["third"]["waiting"],
    }


def test_mail_leaves_as_mbox_files_that_mail_programs_read(
    house: Household, tmp_path: Path
) -> None:
    said = house.command("export", "--format", "mbox", "--output", str(tmp_path / "mbox"), "--json")
    assert said.returncode == 0, said.stdout + said.stderr
    expected = sum(true_mail(house.tenant.state, "amelia").values())
    assert json.loads(said.stdout)["exported"] >= expected
    inbox = mailbox.mbox(str(tmp_path / "mbox/Inbox.mbox"), create=False)
    assert len(inbox) > 0
    inbox.close()
    again = house.command("export", "--format", "mbox", "--output", str(tmp_path / "mbox"))
    assert again.returncode == 2
    assert "not empty" in again.stderr


def test_mail_leaves_in_the_form_that_protons_own_tool_restores(
    house: Household, tmp_path: Path
) -> None:
    said = house.command(
        "export", "--format", "proton", "--output", str(tmp_path / "out"), "--json"
    )
    assert said.returncode == 0, said.stdout + said.stderr
    told = json.loads(said.stdout)
    letters = list((tmp_path / "out").rglob("*.eml"))
    facts = list((tmp_path / "out").rglob("*.metadata.json"))
    assert told["exported"] == len(letters) == len(facts) > 0
    assert any("twice" in note for note in told["notes"])
    assert list((tmp_path / "out").rglob("labels.json"))


def test_out_of_a_vault_much_current_mail_comes_a_month_at_a_time_newest_first(
    house: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    def order(large: int) -> list[str]:
        monkeypatch.setattr("backupd.restore.unpacking.LARGE", large)
        with house.app.held(house.home(AMELIA)) as held:
            return [parcel.path for parcel, _ in held.walk(Selection())]

    by_month, at_once = order(0), order(1 << 40)
    assert sorted(by_month) == sorted(at_once)
    assert len(set(by_month)) == len(by_month)
    months = [path.split("/")[2] for path in by_month if path.startswith("mail/Inbox/2")]
    assert months == sorted(months, reverse=True)
    assert by_month[0].startswith("mail/Inbox/")
    assert at_once[0].startswith("mail/Inbox/")
