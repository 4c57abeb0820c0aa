"""Verify, level 4: the live source confirms what is held, and differences are told."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from household import Household

from backupd.demo.mailbox import StoredContent

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"


@pytest.fixture
def house(build: Build) -> Household:
    house = build(accounts=["amelia@*"], people=1, messages=30, oddities=False)
    assert house.backup().exit_code == 0
    return house


def verify(house: Household, *more: str) -> tuple[int, dict]:  # type: ignore[type-arg]
    said = house.command("verify", "--json", *more)
    return said.returncode, json.loads(said.stdout)


def test_after_a_sync_the_source_confirms_everything(house: Household) -> None:
    code, told = verify(house)
    assert code == 0, told
    (check,) = told["sources"]
    assert check["folders"] > 3
    assert check["same"] > 20
    assert not check["counts"]
    assert not list(house.home(AMELIA).folder.glob("tmp*"))


def test_what_came_since_is_a_difference_in_numbers(house: Household) -> None:
    house.tenant.state.deliver("amelia", "inbox", b"Subject: new\r\n\r\nx\r\n")
    code, told = verify(house)
    assert code == 3
    (differs,) = told["sources"][0]["counts"]
    assert differs["counted"] == differs["held"] + 1


def test_a_source_that_hands_out_other_bytes_is_found_out(house: Household) -> None:
    mailbox = house.tenant.state.user("amelia").mailbox
    assert mailbox is not None
    for folder in mailbox.folders.values():
        for message in folder.messages.values():
            message.content = StoredContent(message.content.mime().replace(b"a", b"e"))
    code, told = verify(house)
    assert code == 5
    assert told["sources"][0]["differing"] > 5
    assert told["sources"][0]["named"]


def test_a_cut_off_is_told_as_such(house: Household) -> None:
    house.tenant.cut_off("tenant_deleted")
    code, told = verify(house)
    assert code == 4
    assert told["errors"]
    text = house.command("verify")
    assert text.returncode == 4
    assert "error:" in text.stdout


def test_other_levels_are_refused_with_what_there_is(house: Household) -> None:
    said = house.command("verify", "--level", "2")
    assert said.returncode == 2
    assert "restic check" in said.stderr
