"""Mail of an IMAP server into mirror and vault: byte for byte, once, and whatever happens in between."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_house import (
    House,
    Server,
    client,
    fill,
    index_lines,
    kept,
    letter,
    quoted,
    truth,
    watching,
)
from servers.cyrus import cyrus
from servers.dovecot import Dovecot, dovecot
from servers.process import need

from backupd.model import Service

MAIL = Service.MAIL
AWKWARD = (
    "Projects/2026/März", 'quo"ted', "back\\slash", "x & y", "wild*card%", "~home", "日本語", "CON",
    "trailing ", "(paren) [brackets]", "a" * 120, "INBOX/child",
)  # fmt: skip


@pytest.fixture(scope="module")
def dove() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture(scope="module")
def bare() -> Iterator[Dovecot]:
    """Dovecot as a poor server: no lasting names, no modification numbers, no search by range."""
    with dovecot(capability="IMAP4rev1 LITERAL+ UIDPLUS") as server:
        yield server


@pytest.fixture(params=["dovecot", "cyrus"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "dovecot":
        yield request.getfixturevalue("dove")
        return
    with cyrus() as started:
        yield started


def fetched(run: object) -> int:
    (outcome,) = run.outcomes  # type: ignore[attr-defined]
    assert not outcome.errors, [(str(e), e.hint) for e in outcome.errors]
    return int(outcome.sync.tallies[MAIL].fetched)


class TestEverything:
    def test_every_mail_of_the_corpus_lies_in_the_vault_as_the_server_delivers_it(
        self, server: Server, corpus: Path, tmp_path: Path
    ) -> None:
        need("restic")
        mails = [path.read_bytes() for path in sorted((corpus / "mail").rglob("*")) if path.is_file()]  # fmt: skip
        share = len(mails) // len(AWKWARD) + 1
        taken = sum(
            fill(server, name, mails[n * share : (n + 1) * share]) for n, name in enumerate(AWKWARD)
        )
        assert taken > len(mails) // 2, "the server takes hardly anything"
        with watching(server.imap) as proxy:
            house = House(tmp_path, server, proxy.port)
            first = house.backup()
            asked = proxy.bodies
            second = house.backup()

            assert fetched(first) == taken
            assert asked
            assert fetched(second) == 0
            assert proxy.bodies == asked, "the second run asked for messages"
        tree = house.restored(tmp_path / "back")
        assert kept(next(tree.rglob("account.json")).parent) == truth(server)
        with client(server) as other:
            for name in ("INBOX/child", "Projects/2026/März"):
                other.select(quoted(name), readonly=True)
                assert other.search(None, "SEEN")[1] == [b""], "reading has marked something"

    def test_flags_keywords_and_dates_are_in_the_index(self, dove: Dovecot, tmp_path: Path) -> None:
        with client(dove, "flags") as other:
            date = '" 2-Jan-2023 04:05:06 +0100"'
            marks = r"(\Seen \Flagged \Answered Work $Forwarded)"
            other.append("INBOX", marks, date, letter(1))
            other.append("INBOX", r"(\Draft)", date, b"Subject: =?utf-8?q?gr=C3=BCn?=\r\n\r\nx\r\n")  # fmt: skip
        house = House(tmp_path, dove, user="flags")
        house.sync()
        lines = {line["about"]["subject"]: line["about"] for line in index_lines(house.home().mirror_path)}  # fmt: skip

        assert lines["letter 1"] == {
            "subject": "letter 1", "message_id": "<1@example.org>", "received": "2023-01-02T03:05:06Z",
            "sent": "2021-03-04T05:06:07Z", "seen": True, "flagged": True, "answered": True, "draft": False,
            "forwarded": True, "categories": ["Work"],
        }  # fmt: skip
        assert lines["grün"]["draft"]
        assert not lines["grün"]["seen"]
        with client(dove, "flags") as other:
            other.select("INBOX")
            other.store("2", "+FLAGS", r"(\Seen)")
        assert fetched(house.sync()) == 0
        lines = {line["about"]["subject"]: line["about"] for line in index_lines(house.home().mirror_path)}  # fmt: skip
        assert lines["grün"]["seen"]


def live_on(server: Server, user: str) -> None:
    """What happens in a mailbox between two runs."""
    with client(server, user) as other:
        other.select("INBOX")
        other.store("1", "+FLAGS", r"(\Seen \Flagged)")
        other.copy("2", quoted("Other"))
        other.store("2:4", "+FLAGS", r"(\Deleted)")
        other.expunge()
        other.append("INBOX", None, None, letter(901))  # type: ignore[arg-type]


@pytest.fixture(params=["dovecot", "bare", "cyrus"])
def any_server(request: pytest.FixtureRequest) -> Iterator[tuple[Server, str]]:
    user = "u2" if request.param == "cyrus" else request.node.name
    if request.param != "cyrus":
        yield request.getfixturevalue("dove" if request.param == "dovecot" else "bare"), _plain(user)  # fmt: skip
        return
    with cyrus() as started:
        yield started, user


def _plain(name: str) -> str:
    return "".join(each for each in name.lower() if each.isalnum())[:40]


class TestChanges:
    def test_what_changed_is_followed_and_nothing_comes_twice(
        self, any_server: tuple[Server, str], tmp_path: Path
    ) -> None:
        server, user = any_server
        fill(server, "INBOX", [letter(n) for n in range(40)], user)
        fill(server, "Other", [letter(n) for n in range(100, 110)], user)
        house = House(tmp_path, server, user=user)
        assert fetched(house.sync()) == 50

        live_on(server, user)

        assert fetched(house.sync()) == 1, "only the new one; the moved one is held"
        assert house.mirrored() == truth(server, user)
        assert sum(line["about"]["flagged"] for line in index_lines(house.home().mirror_path)) == 1
        assert fetched(house.sync()) == 0

    def test_a_folder_that_is_renamed_moved_or_deleted_costs_no_message_twice(
        self, any_server: tuple[Server, str], tmp_path: Path
    ) -> None:
        server, user = any_server
        for folder in ("Old", "Moving", "Going"):
            fill(server, folder, [letter(hash(folder) + n) for n in range(5)], user)
        house = House(tmp_path, server, user=user)
        assert fetched(house.sync()) == 15

        with client(server, user) as other:
            other.rename("Old", "New")
            other.create("Above")
            other.rename("Moving", quoted("Above/Moving"))
            other.delete("Going")

        assert fetched(house.sync()) == 0
        assert house.mirrored() == truth(server, user)

    def test_a_folder_numbered_anew_is_recognised_by_content(
        self, any_server: tuple[Server, str], tmp_path: Path
    ) -> None:
        server, user = any_server
        same = [b"From: a@b.c\r\nSubject: twins\r\n\r\nsame\r\n"] * 3
        fill(server, "Box", [*(letter(n) for n in range(60)), *same], user)
        house = House(tmp_path, server, user=user)
        assert fetched(house.sync()) == 63
        keys = {line["key"] for line in index_lines(house.home().mirror_path)}

        renumber(server, user, "Box")

        assert fetched(house.sync()) == 0
        assert house.mirrored() == truth(server, user)
        assert {line["key"] for line in index_lines(house.home().mirror_path)} == keys

    @pytest.mark.parametrize("capability", ["", "IMAP4rev1", "IMAP4rev1 CONDSTORE ENABLE ESEARCH"])
    def test_messages_moved_in_either_direction_are_moved_in_the_mirror(
        self, capability: str, tmp_path: Path
    ) -> None:
        with dovecot(capability=capability) as server:
            fill(server, "INBOX", [letter(n) for n in range(100)])
            fill(server, "Archive", [letter(1000 + n) for n in range(100)])
            house = House(tmp_path, server)
            assert fetched(house.sync()) == 200
            with client(server) as other:
                other.select("INBOX")
                other.copy("1:80", "Archive")
                other.store("1:80", "+FLAGS", r"(\Deleted)")
                other.expunge()
                other.create("Zoo")
                other.select("Archive")
                other.copy("1:50", "Zoo")
                other.copy("51:90", "INBOX")
                other.store("1:90", "+FLAGS", r"(\Deleted)")
                other.expunge()

            run = house.sync()

            assert fetched(run) == 0
            assert run.outcomes[0].sync is not None
            assert run.outcomes[0].sync.tallies[MAIL].moved == 170
            assert house.mirrored() == truth(server)
            assert run.exit_code == 0, "the guard takes a move for a deletion"


def renumber(server: Server, user: str, folder: str) -> None:
    """Give every message of a folder a new number under a new UIDVALIDITY, with the old dates."""
    with client(server, user) as other:
        before = other.status(quoted(folder), "(UIDVALIDITY)")[1]
        time.sleep(1.1)  # a numbering is a time in seconds
        other.create("Aside")
        other.select(quoted(folder))
        other.copy("1:*", "Aside")
        other.close()
        other.delete(quoted(folder))
        other.rename("Aside", quoted(folder))
        assert other.status(quoted(folder), "(UIDVALIDITY)")[1] != before


class TestTrouble:
    def test_a_killed_run_is_made_right_by_the_next(self, dove: Dovecot, tmp_path: Path) -> None:
        fill(dove, "INBOX", [letter(n, size=20_000) for n in range(300)], "killed")
        house = House(tmp_path, dove, user="killed")
        for seconds in (1.2, 1.6, 2.0):
            process = house.start()
            time.sleep(seconds)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

        house.sync()

        assert house.mirrored() == truth(dove, "killed")
        assert not list((house.home().folder / "drafts").iterdir())
        with sqlite3.connect(house.home().catalog_path) as catalog:
            assert not catalog.execute("SELECT * FROM journalrow").fetchall()

    def test_connections_that_break_in_the_middle_of_messages_are_made_again(
        self, dove: Dovecot, tmp_path: Path
    ) -> None:
        fill(dove, "INBOX", [letter(n, size=30_000) for n in range(150)], "broken")
        with watching(dove.imap, cut_after=1_000_000) as proxy:
            run = House(tmp_path, dove, proxy.port, user="broken").sync()

            assert fetched(run) == 150
            assert proxy.cuts >= 3
        house = House(tmp_path, dove, user="broken")
        assert house.mirrored() == truth(dove, "broken")
        assert not list((house.home().folder / "drafts").iterdir())

    def test_a_server_that_allows_one_connection_is_enough(self, tmp_path: Path) -> None:
        with dovecot() as own:
            config = own.folder / "dovecot.conf"
            config.write_text(config.read_text().replace("userip_connections = 50", "userip_connections = 1"))  # fmt: skip
            fill(own, "INBOX", [letter(n) for n in range(250)], "modest")
            own.restart()
            house = House(tmp_path, own, user="modest")
            assert fetched(house.sync()) == 250
            assert house.mirrored() == truth(own, "modest")

    def test_a_server_that_restarts_is_waited_for(self, tmp_path: Path) -> None:
        with dovecot() as own:
            fill(own, "INBOX", [letter(n, size=20_000) for n in range(300)], "again")
            house = House(tmp_path, own, user="again")
            with watching(own.imap) as proxy:
                house = House(tmp_path, own, proxy.port, user="again")
                process = house.start()
                while proxy.bodies < 2:
                    time.sleep(0.05)
                own.restart()
                assert process.wait(60) == 0
            assert house.mirrored() == truth(own, "again")

    def test_a_message_deleted_while_it_is_fetched_is_no_failure(
        self, dove: Dovecot, tmp_path: Path
    ) -> None:
        fill(dove, "INBOX", [letter(n) for n in range(20)], "expunged")
        with watching(dove.imap) as proxy:
            done: list[bool] = []

            def edit(data: bytes) -> bytes:
                if proxy.asked and not done and b"X-GUID" in data:
                    done.append(True)
                    with client(dove, "expunged") as other:
                        other.select("INBOX")
                        other.store("3:5", "+FLAGS", r"(\Deleted)")
                        other.expunge()
                return data

            proxy.edit = edit
            house = House(tmp_path, dove, proxy.port, user="expunged")
            run = house.sync()
            proxy.edit = None
            assert done
            assert not run.outcomes[0].errors
            assert run.exit_code == 0
            house.sync()
        assert house.mirrored() == truth(dove, "expunged")

    def test_a_folder_that_empties_itself_trips_the_guard(
        self, dove: Dovecot, tmp_path: Path
    ) -> None:
        fill(dove, "INBOX", [letter(n) for n in range(60)], "emptied")
        house = House(tmp_path, dove, user="emptied", guard=10)
        house.sync()
        with client(dove, "emptied") as other:
            other.select("INBOX")
            other.store("1:*", "+FLAGS", r"(\Deleted)")
            other.expunge()

        assert house.sync().exit_code == 4
        assert sum(house.mirrored().values()) == 60
