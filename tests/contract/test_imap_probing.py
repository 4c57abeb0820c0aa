"""The rungs of an IMAP source: good answers, a refused mailbox, a server that is away."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.dovecot import Dovecot, dovecot

from backupd.config import Imap
from backupd.cutoff.verdict import Cause
from backupd.meters import meter_of
from backupd.ports import Probing
from sources.imap.source import ImapSource


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


def source(server: Dovecot, folder: Path, password: str = "pw") -> ImapSource:
    (folder / "secret").write_text(password)
    return ImapSource(
        Imap.model_validate(
            {"name": "legacy", "type": "imap", "host": "127.0.0.1", "port": server.imap,
             "security": "plain", "username": "alice@example.org", "password_file": folder / "secret"}
        )
    )  # fmt: skip


def causes(source: ImapSource) -> tuple[list[Cause], list[Cause]]:
    """Of the server, and of its one mailbox."""
    [account] = source.accounts()
    found = (
        [each.cause for each in source.probe(None)],
        [each.cause for each in source.probe(account)],
    )
    source.close()
    return found


def test_a_mailbox_that_opens_is_a_good_answer(server: Dovecot, tmp_path: Path) -> None:
    made = source(server, tmp_path)
    assert isinstance(made, Probing)
    assert not list(made.warnings([]))
    before = meter_of("legacy").read().requests.get("ok", 0)
    assert causes(made) == ([Cause.NONE], [Cause.NONE])
    assert meter_of("legacy").read().requests["ok"] > before


def test_a_refused_login_is_about_the_mailbox_and_not_the_server(
    server: Dovecot, tmp_path: Path
) -> None:
    assert causes(source(server, tmp_path, "wrong")) == ([Cause.NONE], [Cause.CREDENTIAL])
    assert meter_of("legacy").read().requests["credential"] >= 1


def test_a_server_that_is_away_accuses_nobody(server: Dovecot, tmp_path: Path) -> None:
    server.stop()
    try:
        assert causes(source(server, tmp_path)) == ([Cause.TRANSIENT], [Cause.TRANSIENT])
    finally:
        server.start()
