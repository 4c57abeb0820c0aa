"""What goes wrong at a target on the bad day: a clear message, nothing lost, and the next run goes on."""

from __future__ import annotations

import hashlib
import signal
import ssl
import threading
import time
from collections.abc import Iterator

import pytest
from caretaker import until
from desks import Desk
from mirrors import ADDRESS, MirrorMaker
from servers.dovecot import dovecot

from backupd.catalog import Catalog

MESSAGES = 120


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("desk")
    home = folder / "state/accounts/hand" / ADDRESS
    home.mkdir(parents=True)
    Catalog(home / "catalog.sqlite").close()
    maker = MirrorMaker(home / "mirror")
    inbox = maker.shelf("mail", "Inbox", special="inbox")
    for number in range(MESSAGES):
        body = hashlib.sha256(bytes(number)).hexdigest().encode() * 150
        letter = b"Message-ID: <%d@x>\r\nSubject: %d\r\n\r\n%b\r\n" % (number, number, body)
        maker.mail(inbox, letter, f"2025-01-01T00:{number // 60:02}:{number % 60:02}Z")
    maker.finish()
    with dovecot(quota="100M") as server:
        yield Desk(folder, server)


def test_a_wrong_password_is_told_and_the_right_one_goes_on(desk: Desk) -> None:
    desk.configure("wrong", desk.trusted, password="not it")
    code, said = desk.restore()
    assert code == 1
    assert "password" in said
    assert "hint:" in said
    assert "not it" not in said
    desk.configure("wrong", desk.trusted)
    assert desk.result()["states"] == {"restored": MESSAGES}


def test_a_certificate_that_nobody_signed_is_refused_until_it_is_pinned(desk: Desk) -> None:
    desk.configure("pinned")
    code, said = desk.restore()
    assert code == 2
    assert "certificate" in said
    assert "fingerprint" in said
    desk.configure("pinned", f'fingerprint = "{"0" * 64}"')
    code, said = desk.restore()
    assert code == 2
    assert "another certificate than the pinned one" in said
    shown = hashlib.sha256(ssl.PEM_cert_to_DER_cert(desk.server.cert.read_text())).hexdigest()
    desk.configure("pinned", f'fingerprint = "sha256:{shown}"')
    assert desk.result()["proven"] == MESSAGES


def test_a_server_that_goes_away_is_told_and_the_next_run_goes_on(desk: Desk) -> None:
    desk.configure("gone", desk.trusted)
    desk.server.stop()
    code, said = desk.restore()
    desk.server.start()
    assert code == 75
    assert "127.0.0.1" in said
    assert desk.result()["proven"] == MESSAGES


def test_a_server_that_restarts_in_the_middle_costs_no_message(desk: Desk) -> None:
    desk.configure("restarted", desk.trusted)
    timer = threading.Timer(1.2, desk.server.restart)
    timer.start()
    process = desk.start("--json")
    out, _ = process.communicate(timeout=120)
    timer.join()
    assert process.returncode in {0, 75}, out
    result = desk.result()
    assert result["proven"] == MESSAGES
    assert sum(result["states"].values()) == MESSAGES


def test_a_full_mailbox_is_told_and_with_more_room_the_rest_follows(desk: Desk) -> None:
    with dovecot(quota="500k") as small:
        tight = Desk(desk.folder, small)
        tight.configure("full", tight.trusted)
        code, said = tight.restore()
        assert code == 2
        assert "full" in said
        assert "Make room there, then run the same command again" in said
        config = small.folder / "dovecot.conf"
        config.write_text(config.read_text().replace("storage=500k", "storage=100M"))
        small.restart()
        result = tight.result()
    assert result["states"]["present"] > 0
    assert result["states"]["restored"] > 0
    assert result["proven"] == MESSAGES


def test_whoever_interrupts_is_told_that_nothing_is_lost(desk: Desk) -> None:
    desk.configure("interrupted", desk.trusted)
    process = desk.start()
    ledger = desk.folder / "state/restores/hand" / ADDRESS / "interrupted"
    until(lambda: any(ledger.rglob("*.sqlite")) or process.poll() is not None, every=0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    if process.returncode:  # it was not over yet
        assert process.returncode == 130, out + err
        assert "Run the same command again" in err
    assert desk.result()["proven"] == MESSAGES


def test_nobody_to_ask_and_no_password_names_the_ways_to_give_one(desk: Desk) -> None:
    desk.configure("nobody", desk.trusted)
    config = desk.folder / "config.toml"
    config.write_text(
        "\n".join(line for line in config.read_text().splitlines() if "password" not in line)
    )
    code, said = desk.restore()
    assert code == 2
    assert "has no password for mail" in said
    assert "password_file" in said


def test_two_restores_of_the_same_account_at_once_are_one_too_many(desk: Desk) -> None:
    desk.configure("twice", desk.trusted)
    first = desk.start("--json")
    deadline, codes = time.monotonic() + 30, set()
    while first.poll() is None and time.monotonic() < deadline:
        code, said = desk.restore("--json")
        codes.add(code)
        if code == 75:
            assert "is working on the restore of" in said
    first.communicate()
    assert codes <= {0, 75}
    assert desk.result()["states"] == {"present": MESSAGES}
