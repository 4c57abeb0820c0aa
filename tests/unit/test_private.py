"""Secrets are handed over to programs and stay nowhere."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

from backupd import private


def test_a_child_reads_what_is_handed_over_and_nothing_stays(tmp_path: Path) -> None:
    with private.handed_over("hunter2", tmp_path / "tmp") as place:
        for _ in range(2):  # restic reads it once for each start
            said = subprocess.run(["cat", place], capture_output=True, text=True, check=True)
            assert said.stdout == "hunter2"
    assert not place.exists()
    assert not any(tmp_path.rglob("secret-*"))


def test_without_memory_it_is_a_file_for_its_owner_and_the_dead_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "memfd_create")
    left = tmp_path / "secret-99999999-ab"
    left.write_text("of a process that was killed")
    with private.handed_over("hunter2", tmp_path) as place:
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert place.read_text() == "hunter2"
        assert not left.exists()
        with private.handed_over("other", tmp_path):
            assert place.exists()
    assert not list(tmp_path.iterdir())


def test_a_file_is_put_as_a_whole_and_never_over_another_by_chance(tmp_path: Path) -> None:
    private.put(tmp_path / "a", "one")
    private.put(tmp_path / "a", "two")
    assert (tmp_path / "a").read_text() == "two"
    with pytest.raises(FileExistsError):
        private.create(tmp_path / "a", "three")
    assert [each.name for each in tmp_path.iterdir()] == ["a"]
