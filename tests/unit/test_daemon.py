"""The small parts of the service: what it tells systemd and the journal, and what it remembers."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from backupd.daemon.attention import Attention, Stopping
from backupd.daemon.events import Bulletin, Event
from backupd.daemon.history import Ended, History
from backupd.daemon.logs import JournalFormatter
from backupd.daemon.notify import notify, reloading, watchdog_seconds
from backupd.daemon.service import prepared
from backupd.errors import ConfigError
from backupd.marks import mark_of


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_hears_on_a_real_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"backupd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"\0{name}" if abstract else name)
        systemd.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        assert notify(READY=1, STATUS="two\nMAINPID=1 lines")
        assert systemd.recv(1000) == b"READY=1\nSTATUS=two MAINPID=1 lines"
        reloading()
        told = dict(line.split("=") for line in systemd.recv(1000).decode().splitlines())
        assert told["RELOADING"] == "1"
        assert int(told["MONOTONIC_USEC"]) > 0


def test_nobody_listening_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY=1)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    assert not notify(READY=1)


def test_the_watchdog_of_another_process_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "90000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert watchdog_seconds() == 90
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_seconds() is None


def test_every_line_for_the_journal_carries_its_priority() -> None:
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "one\ntwo", (), None)
    assert JournalFormatter("%(message)s").format(record) == "<3>one\n<3>two"


def test_an_account_has_the_same_mark_every_day_and_another_one_in_another_source() -> None:
    assert mark_of("contoso", "a@b.example") == mark_of("contoso", "a@b.example")
    assert mark_of("contoso", "a@b.example") != mark_of("legacy", "a@b.example")
    assert "a@b" not in mark_of("contoso", "a@b.example")


def test_the_history_counts_failures_in_a_row_and_keeps_the_last_good_run(tmp_path: Path) -> None:
    history = History(tmp_path / "service.json")
    history.ended("s/a", "sync", Ended(ended=1, seconds=1, ok=True))
    history.ended("s/a", "sync", Ended(ended=2, seconds=1, ok=False, code=1))
    history.ended("s/a", "sync", Ended(ended=3, seconds=1, ok=False, code=1))
    assert history.failing == 1
    history.save(at_once=True)
    told = json.loads((tmp_path / "service.json").read_text())["accounts"]["s/a"]["sync"]
    assert (told["failures"], told["succeeded"], told["ended"]) == (2, 1, 3)
    history.ended("s/a", "sync", Ended(ended=4, seconds=1, ok=True))
    assert history.failing == 0


def test_a_listener_that_stumbles_keeps_nobody_from_hearing() -> None:
    heard: list[Event] = []

    def stumbles(event: Event) -> None:
        raise RuntimeError(event.kind)

    Bulletin([stumbles, heard.append]).tell("minute", accounts=3)
    assert [(each.kind, each.facts["accounts"]) for each in heard] == [("minute", 3)]


def test_a_job_that_shall_end_does_so_at_its_next_step_and_closes_what_it_reads_from() -> None:
    stop, closed = threading.Event(), []

    def pages() -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            closed.append(True)

    steps = Attention("sync", "-", stop).each(pages())
    assert next(steps) == 0
    stop.set()
    with pytest.raises(Stopping):
        next(steps)
    assert closed == [True]


def test_a_mailbox_without_a_password_keeps_the_service_from_beginning(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(
        f'state_dir = "{tmp_path}/state"\nrestic = "true"\n'
        '[sources.a]\ntype = "imap"\nhost = "h"\nusername = "bob"\n'
        f'[storage.s]\nrepository = "{tmp_path}"\npassword_command = "true"\n'
    )
    with pytest.raises(ConfigError, match="no password for bob"):
        prepared(path)
