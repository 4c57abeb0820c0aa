"""Files go into Proton Drive by Proton's own program, once, beside what is there, and are read back."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from parcels import loaded, parcel, shelf
from servers.proton_drive import proton_drive

from backupd.errors import AuthError, ConfigError, TransientError
from backupd.model import Service
from backupd.ports import PRESENT, QUARANTINED, REPAIRED, RESTORED, Claim, Parcel, Put, Target
from targets.endpoint import Endpoint
from targets.proton import files
from targets.proton.drive import ProtonDrive
from targets.rclone import Rclone

DRIVE = shelf(Service.FILES, "OneDrive")


def endpoint(tmp_path: Path, script: Path | str) -> Endpoint:
    return Endpoint(
        name="proton", type="proton-files", state=tmp_path / "state", quirks={"binary": str(script)}
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def target(tmp_path: Path, home: Path) -> Target:
    return files(endpoint(tmp_path, proton_drive(home)))


def put(target: Target, contents: dict[str, bytes]) -> list[tuple[Parcel, Put]]:
    pairs = [
        (parcel(DRIVE, "", data, inner=tuple(name.split("/"))), data)
        for name, data in contents.items()
    ]
    return list(target.put(DRIVE, loaded(pairs), look=False))


def proofs(target: Target, answers: Iterable[tuple[Parcel, Put]]) -> list[str]:
    return [each.state for each in target.read_back(DRIVE, [Claim(*each) for each in answers])]


CONTENTS = {
    "a.txt": b"a",
    "Docs/b.txt": b"b",
    "Docs/-x [1].txt": b"c",
    "Docs/deep/ü.bin": bytes(9),
}


def test_files_arrive_and_a_second_run_puts_nothing(target: Target, home: Path) -> None:
    assert isinstance(target, ProtonDrive)
    answers = put(target, CONTENTS)
    assert {end.state for _, end in answers} == {RESTORED}
    there = home / "drive" / "Restored" / "OneDrive"
    assert {
        str(x.relative_to(there)): x.read_bytes() for x in there.rglob("*") if x.is_file()
    } == CONTENTS
    assert proofs(target, answers) == ["same"] * 4
    again = put(target, CONTENTS)
    assert {end.state for _, end in again} == {PRESENT}
    uploads = [x for x in (home / "calls").read_text().splitlines() if "upload" in x]
    assert len(uploads) == 1
    assert not (target._staging).exists()


def test_a_file_that_is_there_stays_and_ours_goes_beside_it(target: Target, home: Path) -> None:
    put(target, {"a.txt": b"first"})
    for expected in (REPAIRED, PRESENT):
        [(_, end)] = put(target, {"a.txt": b"second"})
        assert end.state == expected
    there = home / "drive" / "Restored" / "OneDrive"
    assert sorted(each.read_bytes() for each in there.iterdir()) == [b"first", b"second"]


def test_a_refused_file_is_quarantined_and_the_others_arrive(target: Target) -> None:
    answers = put(target, {"refused.txt": b"x", "b.txt": b"y"})
    assert {end.state: one.inner for one, end in answers} == {
        QUARANTINED: ("refused.txt",), RESTORED: ("b.txt",),
    }  # fmt: skip
    with pytest.raises(TransientError):
        put(target, {"refused.txt": b"x"})


def test_what_changed_or_vanished_in_drive_is_found_out(target: Target, home: Path) -> None:
    answers = put(target, {"a.txt": b"a", "b.txt": b"b", "c.txt": b"c"})
    there = home / "drive" / "Restored" / "OneDrive"
    (there / "a.txt").write_bytes(b"other")
    (there / "b.txt").write_bytes(b"x")
    (there / "c.txt").unlink()
    assert proofs(target, answers) == ["changed", "changed", "missing"]


def test_folders_may_be_empty(target: Target, home: Path) -> None:
    target.make_collection(DRIVE)
    target.make_collection(DRIVE)
    assert (home / "drive" / "Restored" / "OneDrive").is_dir()


def test_the_preflight_wants_a_login_and_a_current_version(tmp_path: Path) -> None:
    for place, version, logged_in, error in (
        ("old", "0.3.9", True, ConfigError),
        ("nobody", "0.5.0", False, AuthError),
    ):
        script = proton_drive(tmp_path / place, version=version, logged_in=logged_in)
        with pytest.raises(error) as caught:
            list(files(endpoint(tmp_path, script)).preflight())
        assert caught.value.hint
    target = files(endpoint(tmp_path, proton_drive(tmp_path / "new", version="0.5.0")))
    assert [each.level for each in target.preflight()] == ["ok", "warning"]
    assert "proton-drive auth login" in target.steps()[0]


def test_arguments_are_lists_and_nothing_of_ours_is_among_them(target: Target, home: Path) -> None:
    list(target.preflight())
    put(target, {"a.txt": b"a"})
    calls = [json.loads(each) for each in (home / "calls").read_text().splitlines()]
    assert ["version"] in calls
    upload = next(each for each in calls if "upload" in each)
    assert upload[:-2] == [
        "filesystem", "upload", "--folder-conflict-strategy", "merge", "--file-conflict-strategy", "skip",
        "--skip-thumbnails", "--json",
    ]  # fmt: skip
    assert upload[-1] == "/my-files"


def test_without_the_program_files_go_to_a_remote_or_into_a_folder_with_instructions(
    tmp_path: Path,
) -> None:
    absent = endpoint(tmp_path, tmp_path / "absent")
    assert isinstance(files(replace(absent, remote="proton:")), Rclone)
    laid = files(absent)
    answers = put(laid, {"a.txt": b"a"})
    assert (tmp_path / "state" / "proton-drive" / "files" / "OneDrive" / "a.txt").exists()
    assert proofs(laid, answers) == ["same"]
    assert "upload the folders" in laid.steps()[0]
    assert "warning" in {each.level for each in laid.preflight()}
