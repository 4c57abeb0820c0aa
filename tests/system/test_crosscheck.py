"""The same mailbox through Graph and through IMAP: each way finds out what the other does not see."""

from __future__ import annotations

import imaplib
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from household import Household
from servers.dovecot import Dovecot, dovecot

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"

SECOND = """
[sources.second]
type = "imap"
host = "127.0.0.1"
port = {port}
security = "plain"
username = "amelia@harbourlight.example"
password_file = "{folder}/second_password"
"""

PLACES = {"inbox": "INBOX", "sentitems": "Sent", "drafts": "Drafts", "archive": "Archive"}


@pytest.fixture
def server() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


@pytest.fixture
def house(build: Build, server: Dovecot) -> Household:
    """Every mail of the well-known folders lies on both servers, there with other headers in front."""
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=25, oddities=False)
    mailbox = house.tenant.state.user("amelia").mailbox
    assert mailbox is not None
    client = login(server)
    for folder in mailbox.folders.values():
        place = PLACES.get(folder.well_known or "")
        for message in folder.messages.values() if place else ():
            mime = b"X-Rebuilt: yes\r\n" + message.content.mime()
            assert client.append(place, None, None, mime)[0] == "OK"
    client.logout()
    (house.folder / "second_password").write_text("pw")
    house.configure(SECOND.format(port=server.imap, folder=house.folder))
    assert house.backup().exit_code == 0
    return house


def login(server: Dovecot) -> imaplib.IMAP4:
    client = imaplib.IMAP4("127.0.0.1", server.imap)
    client.login(AMELIA, "pw")
    return client


def crossed(house: Household) -> dict[str, Any]:
    said = house.command("verify", "--level", "4", "--json")
    found = [each for each in json.loads(said.stdout)["verifications"] if each["storage"]]
    assert len(found) == 1
    return found[0]["facts"]  # type: ignore[no-any-return]


def test_two_ways_agree_though_one_server_writes_headers_anew(house: Household) -> None:
    found = crossed(house)
    known = [each for each in found["folders"] if each["label"] in PLACES]
    assert len(known) == 4
    assert sum(each["counts"][0] for each in known) > 10, found["folders"]
    assert all(each["counts"][0] == each["counts"][1] for each in known), found["folders"]
    assert not any(each["only_first"] or each["only_second"] for each in known)
    assert found["compared"] > 10
    assert found["differing"] == 0


def test_what_only_one_way_sees_is_named(house: Household, server: Dovecot) -> None:
    client = login(server)
    client.select("INBOX")
    client.store("1", "+FLAGS", "\\Deleted")
    client.expunge()
    client.append(
        "INBOX", None, None, b"Subject: only here\r\nMessage-ID: <only@here>\r\n\r\nx\r\n"
    )
    client.logout()
    assert house.backup().exit_code == 0
    found = crossed(house)
    (inbox,) = [each for each in found["folders"] if each["label"] == "inbox"]
    assert {inbox["only_first"], inbox["only_second"]} == {1}
    assert any("only here" in line for line in found["named"])
    text = house.command("verify", "--level", "4")
    assert text.returncode == 3
    assert "only here" in text.stdout
