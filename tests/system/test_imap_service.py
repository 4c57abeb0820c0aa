"""The service at an IMAP server: it hears of new mail instead of waiting for the next glance."""

from __future__ import annotations

import time
from pathlib import Path

from caretaker import until
from imap_house import House, fill
from servers.dovecot import dovecot

from backupd.config import Schedule
from backupd.daemon.engine import Engine
from backupd.daemon.events import Bulletin, Event
from backupd.daemon.history import History


def mail(number: int) -> bytes:
    return b"Subject: %d\r\nMessage-ID: <%d@example>\r\n\r\nhello\r\n" % (number, number)


def glances(heard: list[Event]) -> int:
    return sum(each.facts.get("verb") == "fast" for each in heard)


def test_mail_that_arrives_is_held_within_seconds_though_the_next_glance_is_hours_away(
    tmp_path: Path,
) -> None:
    with dovecot() as server:
        fill(server, "INBOX", [mail(1)])
        house = House(tmp_path, server)
        assert house.sync().exit_code == 0
        app = house.app
        rare = Schedule(sync=36_000, fast=36_000, snapshot=36_000, jitter=1e-6)
        object.__setattr__(app.config, "schedule", rare)
        heard: list[Event] = []
        engine = Engine(app, History(tmp_path / "service.json"), Bulletin([heard.append]))
        engine.start()
        try:
            until(lambda: {"fast", "sync", "snapshot"} <= {e.facts.get("verb") for e in heard}, 120)
            time.sleep(1)
            before = glances(heard)
            fill(server, "INBOX", [mail(2)])
            until(lambda: glances(heard) > before, 15)
            assert len(list(house.home().mirror_path.rglob("*.eml"))) == 2
        finally:
            assert engine.stop(10)
