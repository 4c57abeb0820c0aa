"""Files arrive at a remote of rclone as they were, beside what is there, once, a hundred by one process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from parcels import loaded, parcel, shelf
from servers import process
from servers import rclone as server

from backupd.errors import ConfigError, TransientError, UserError
from backupd.model import Service
from backupd.ports import Claim, Parcel
from targets.endpoint import Endpoint
from targets.rclone import Rclone

DRIVE = shelf(Service.FILES, "Documents")
DATED = {"modified": "2019-03-04T05:06:07Z"}
AWKWARD = (
    "Über größer.txt",
    "🎉 party.txt",
    "#1 100% & a+b; c?.txt",
    "l" * 246 + ".txt",
    "␀\u201b.txt",
)
BIG = bytes(range(251)) * 120_000  # 30 MB


@dataclass
class Remote:
    """A remote, where its files lie on disk, and a target for it."""

    files: Path
    endpoint: Endpoint
    running: server.RcloneServer | None

    def on_disk(self) -> dict[str, bytes]:
        """Every file there is, by its path, without asking rclone."""
        found = (each for each in self.files.rglob("*") if each.is_file())
        return {str(each.relative_to(self.files)): each.read_bytes() for each in found}

    def look_again(self) -> None:
        """Let a server see what a test did on disk."""
        if self.running:
            self.running.look_again()


@pytest.fixture(scope="module", params=["local", "webdav"])
def running(request: pytest.FixtureRequest) -> Iterator[server.RcloneServer | None]:
    process.need(str(server.PROGRAM))
    if request.param == "local":
        yield None
        return
    with server.running() as started:
        yield started


@pytest.fixture
def remote(running: server.RcloneServer | None, tmp_path: Path) -> Remote:
    """A folder of its own at the remote for each test."""
    config = tmp_path / "rclone.conf"
    config.touch()
    files, address = tmp_path / "remote", str(tmp_path / "remote")
    if running:
        running.remote(config)
        files, address = running.files / tmp_path.name, f"dav:{tmp_path.name}"
    quirks = {"binary": str(server.PROGRAM), "config": str(config)}
    endpoint = Endpoint("there", "rclone", remote=address, state=tmp_path / "state", quirks=quirks)
    return Remote(files, endpoint, running)


def file(name: str, data: bytes) -> tuple[Parcel, bytes]:
    inner = tuple(name.split("/"))
    return parcel(DRIVE, inner[-1], data, inner=inner, about=DATED), data


def household() -> list[tuple[Parcel, bytes]]:
    small = [file(f"a/b c/{name}", name.encode()) for name in AWKWARD]
    return [*small, file("top.txt", b"top"), file("a/empty", b""), file("a/big.bin", BIG)]


def put(remote: Remote, *files: tuple[Parcel, bytes], look: bool = False) -> list[Claim]:
    target = Rclone(remote.endpoint)
    try:
        return [Claim(each, end) for each, end in target.put(DRIVE, loaded(files), look=look)]
    finally:
        target.close()


def states(claims: list[Claim]) -> set[str]:
    return {each.put.state for each in claims}


def test_every_file_arrives_whole_under_its_own_name(remote: Remote) -> None:
    claims = put(remote, *household())
    assert states(claims) == {"restored", "repaired"}
    there = remote.on_disk()
    assert there.keys() == {each.put.where for each in claims}
    assert there["Documents/a/b c/Über größer.txt"] == "Über größer.txt".encode()
    assert there["Documents/a/big.bin"] == BIG
    assert there["Documents/a/b c/%E2%90%80%E2%80%9B.txt"] == "␀\u201b.txt".encode()
    assert not (remote.endpoint.state / "staging").exists()
    assert (remote.files / "Documents/top.txt").stat().st_mtime == 1551675967 or remote.running


def test_a_second_restore_without_a_ledger_puts_nothing(remote: Remote) -> None:
    first = put(remote, *household())
    before = remote.on_disk()
    again = put(remote, *household(), look=True)
    assert states(again) == {"present"}
    assert remote.on_disk() == before
    assert {each.put.where for each in again} == {each.put.where for each in first}


def test_another_file_under_the_same_name_stays_untouched(remote: Remote) -> None:
    put(remote, file("a.txt", b"theirs"))
    (claim,) = put(remote, file("a.txt", b"ours, and longer"))
    (again,) = put(remote, file("a.txt", b"ours, and longer"), look=True)
    assert "another file had its name" in claim.put.why
    assert (again.put.state, again.put.where) == ("present", claim.put.where)
    assert remote.on_disk() == {"Documents/a.txt": b"theirs", claim.put.where: b"ours, and longer"}


def test_a_broken_upload_is_replaced(remote: Remote) -> None:
    put(remote, file("a.txt", b"the first ha"))
    (claim,) = put(remote, file("a.txt", b"the first half, and the rest"), look=True)
    assert claim.put.state == "restored"
    assert remote.on_disk() == {"Documents/a.txt": b"the first half, and the rest"}


def test_what_was_put_is_proven_by_its_bytes_and_by_its_size(remote: Remote) -> None:
    claims = put(remote, *household())
    target = Rclone(remote.endpoint)
    for deep in (True, False):
        asked = [replace(each, deep=deep) for each in claims]
        assert {each.state for each in target.read_back(DRIVE, asked)} == {"same"}


def test_a_file_that_changed_or_vanished_is_told(remote: Remote) -> None:
    claims = put(remote, *(file(name, b"as it was") for name in ("same", "gone", "other", "short")))
    claims.sort(key=lambda each: ["same", "gone", "other", "short"].index(each.parcel.inner[0]))
    (remote.files / "Documents/gone").unlink()
    (remote.files / "Documents/other").write_bytes(b"as it isn")
    (remote.files / "Documents/short").write_bytes(b"as")
    remote.look_again()
    target = Rclone(remote.endpoint)
    proofs = target.read_back(DRIVE, claims)
    assert [each.state for each in proofs] == ["same", "missing", "changed", "changed"]
    shallow = target.read_back(DRIVE, [replace(each, deep=False) for each in claims])
    assert [each.state for each in shallow] == ["same", "missing", "same", "changed"]


def test_two_files_whose_names_differ_in_case_or_in_normal_form_are_both_there(
    remote: Remote,
) -> None:
    names = ("Notes.txt", "notes.txt", "e\u0301.txt", "\u00e9.txt")
    claims = put(remote, *(file(name, name.encode()) for name in names))
    there = remote.on_disk()
    assert len(there) == len({each.put.where for each in claims}) == 4
    assert sorted(there.values()) == sorted(name.encode() for name in names)


def test_an_item_whose_bytes_are_wrong_is_damaged_and_not_put(remote: Remote) -> None:
    wrong, _ = file("a.txt", b"what was fetched")
    ((_, end), (_, fine)) = Rclone(remote.endpoint).put(
        DRIVE, loaded([(wrong, b"what came out"), file("b.txt", b"b")]), look=False
    )
    assert (end.state, fine.state) == ("damaged", "restored")
    assert remote.on_disk() == {"Documents/b.txt": b"b"}


def test_many_files_cost_a_handful_of_processes(remote: Remote, tmp_path: Path) -> None:
    counted = tmp_path / "rclone"
    counted.write_text(f'#!/bin/sh\necho >> {tmp_path}/started\nexec {server.PROGRAM} "$@"\n')
    counted.chmod(0o700)
    remote.endpoint = replace(
        remote.endpoint, quirks={**remote.endpoint.quirks, "binary": str(counted)}
    )
    claims = put(remote, *(file(f"{number}.txt", b"x%d" % number) for number in range(30)))
    list(Rclone(remote.endpoint).read_back(DRIVE, claims))
    assert len((tmp_path / "started").read_text()) <= 4
    assert len(remote.on_disk()) == 30


def test_a_remote_that_answers_is_told_before_anything_is_put(remote: Remote) -> None:
    findings = list(Rclone(remote.endpoint).preflight())
    assert {each.level for each in findings} == {"ok"}
    assert remote.on_disk() == {}


def test_an_empty_drive_is_a_folder(remote: Remote) -> None:
    Rclone(remote.endpoint).make_collection(DRIVE)
    assert (remote.files / "Documents").is_dir()


@pytest.fixture
def dav(tmp_path: Path) -> Iterator[Remote]:
    """A server that a test may stop."""
    with server.running() as started:
        config = tmp_path / "rclone.conf"
        started.remote(config)
        quirks = {"binary": str(server.PROGRAM), "config": str(config)}
        endpoint = Endpoint(
            "there", "rclone", remote="dav:x", state=tmp_path / "state", quirks=quirks
        )
        yield Remote(started.files / "x", endpoint, started)


def test_a_wrong_password_is_a_persons_matter_and_never_shown(dav: Remote) -> None:
    assert dav.running
    dav.running.remote(Path(str(dav.endpoint.quirks["config"])), password="not-this-one")
    target = Rclone(dav.endpoint)
    for attempt in (
        lambda: list(target.preflight()),
        lambda: list(target.put(DRIVE, loaded([file("a", b"a"), file("b", b"b")]), look=False)),
    ):
        with pytest.raises(UserError) as caught:
            attempt()
        assert "not-this-one" not in str(caught.value)
        assert "rclone config" in caught.value.hint


def test_a_server_that_goes_away_costs_a_second_run_and_nothing_twice(dav: Remote) -> None:
    files = [file(f"{number}.txt", b"%d" % number) for number in range(10)]
    files += [file("0.TXT", b"ends the batch"), file("11.txt", b"11")]

    def until_it_stops() -> Iterator[tuple[Parcel, bytes]]:
        yield from files[:11]
        assert dav.running
        process.stop(dav.running.process)
        yield from files[11:]

    done = []
    with pytest.raises(TransientError):
        done.extend(Rclone(dav.endpoint).put(DRIVE, loaded(until_it_stops()), look=False))
    assert dav.running
    with server.running(port=dav.running.port, files=dav.running.files):
        claims = put(dav, *files, look=True)
    assert states(claims) == {"restored", "present"}
    assert dav.on_disk() == {f"Documents/{each.inner[0]}": data for each, data in files}


def test_a_full_storage_stops_the_run(remote: Remote, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    if os.geteuid() != 0 or os.system(f"mount -t tmpfs -o size=1m tmpfs {full}"):  # noqa: S605
        pytest.skip("a small file system needs root and the right to mount")
    try:
        remote.endpoint = replace(remote.endpoint, remote=str(full))
        with pytest.raises(UserError) as caught:
            put(remote, file("big.bin", b"x" * (2 << 20)))
        assert caught.value.reason == "quota"
    finally:
        os.system(f"umount {full}")  # noqa: S605


def test_a_missing_program_is_told_with_what_to_do(tmp_path: Path) -> None:
    endpoint = Endpoint(
        "there", "rclone", remote="x:", state=tmp_path, quirks={"binary": "no-rclone"}
    )
    with pytest.raises(ConfigError) as caught:
        list(Rclone(endpoint).preflight())
    assert "apt install rclone" in caught.value.hint
