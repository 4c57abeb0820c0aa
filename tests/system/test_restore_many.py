"""Many accounts at once, by a list: each on its own, none ending the others."""

from __future__ import annotations

import imaplib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from desks import Desk
from mirrors import MirrorMaker
from servers.dovecot import Dovecot, dovecot

from backupd.catalog import Catalog

ACCOUNTS = ("anna@old.org", "boris@old.org", "chloe@old.org")


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture
def desk(tmp_path: Path, server: Dovecot) -> Desk:
    for number, account in enumerate(ACCOUNTS):
        home = tmp_path / "state/accounts/hand" / account
        home.mkdir(parents=True)
        Catalog(home / "catalog.sqlite").close()
        maker = MirrorMaker(home / "mirror", account)
        inbox = maker.shelf("mail", "Inbox", special="inbox")
        for count in range(number + 1):
            maker.mail(inbox, b"Subject: %d\r\n\r\n%s\r\n" % (count, account.encode()), f"2025-01-0{count + 1}T00:00:00Z")  # fmt: skip
        maker.finish()
    desk = Desk(tmp_path, server)
    desk.configure("{account}", desk.trusted)
    return desk


def inbox(server: Dovecot, user: str) -> int:
    client = imaplib.IMAP4("127.0.0.1", server.imap)
    client.login(user, "pw")
    count = int(client.select("INBOX", readonly=True)[1][0])  # type: ignore[arg-type]
    client.logout()
    return count


def test_each_goes_to_its_own_account_and_a_wrong_secret_ends_only_itself(desk: Desk) -> None:
    (desk.folder / "right").write_text("pw")
    (desk.folder / "wrong").write_text("no")
    (desk.folder / "map.csv").write_text(
        "account,target_account,password_file\n"
        "anna@old.org,anna@new.org,right\n"
        "boris@old.org,boris@new.org,wrong\n"
        "chloe@old.org,chloe@new.org,\n"
    )
    code, said = desk.restore("--accounts", str(desk.folder / "map.csv"), "--json")
    assert code == 1
    anna, boris, chloe = json.loads(said.splitlines()[0])["restores"]
    assert (anna["proven"], chloe["proven"]) == (1, 3)
    assert boris["error"]["exit_code"] == 1
    assert [inbox(desk.server, f"{name}@new.org") for name in ("anna", "chloe")] == [1, 3]
    (desk.folder / "wrong").write_text("pw")
    code, said = desk.restore("--accounts", str(desk.folder / "map.csv"))
    assert code == 0, said
    assert "3 of 3 accounts are restored and proven" in said
    assert inbox(desk.server, "boris@new.org") == 2


def test_doctor_logs_in_at_the_target_and_says_what_it_found(desk: Desk) -> None:
    command = [sys.executable, "-m", "backupd", "--config", str(desk.folder / "config.toml"), "doctor", "--json"]  # fmt: skip
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=False).stdout)
    found = [each for each in told["findings"] if each["subject"].startswith("targets.new")]
    assert found
    assert all(each["level"] == "ok" for each in found)
