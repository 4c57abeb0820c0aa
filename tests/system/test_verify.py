"""Verify: what is whole is proven so, level by level, and what the source says otherwise is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

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


def verify(house: Household, *more: str) -> tuple[int, list[dict[str, Any]]]:
    said = house.command("verify", "--json", *more)
    return said.returncode, json.loads(said.stdout)["verifications"]


def at_source(house: Household) -> tuple[int, dict[str, Any]]:
    code, (found,) = verify(house, "--level", "4")
    return code, found


def test_after_a_backup_three_levels_prove_everything(proven_copy: Household) -> None:
    code, found = verify(proven_copy)
    assert code == 0, found
    assert [(each["level"], each["storage"]) for each in found] == [
        (1, ""),
        *((level, name) for level in (1, 2, 3) for name in ("primary", "second")),
    ]
    mirror, listing, _, packs, _, content, _ = found
    assert {each["verdict"] for each in found} == {"whole"}
    assert {each["share"] for each in found} == {1.0}
    assert mirror["items"] == listing["items"] == content["items"] == content["of_items"] > 25
    assert packs["facts"]["subset"] == "1/1"
    assert listing["facts"]["by"] == content["facts"]["by"] == "catalog"


def test_a_snapshot_that_the_catalog_has_left_behind_is_proven_by_its_own_index(
    house: Household,
) -> None:
    _, before = verify(house, "--level", "1", "--storage", "primary")
    house.tenant.state.deliver("amelia", "inbox", b"Subject: new\r\n\r\nx\r\n")
    house.app.sync()
    code, (listing, content) = verify(house, "--level", "1", "--level", "3", "--storage", "primary")
    assert code == 0, (listing, content)
    assert listing["facts"]["by"] == content["facts"]["by"] == "snapshot"
    assert listing["facts"]["root"] == before[0]["facts"]["root"]
    assert content["items"] == before[0]["items"]


def test_a_drill_says_how_long_the_way_back_takes_and_leaves_nothing(
    proven_copy: Household,
) -> None:
    house = proven_copy
    code, (found,) = verify(house, "--level", "5", "--storage", "primary")
    assert code == 0, found
    assert found["items"] == found["of_items"] > 25
    assert found["seconds"] > found["facts"]["restored"] > 0
    assert not list((house.folder / "state" / "tmp").iterdir())
    said = house.command(
        "verify", "--level", "5", "--storage", "second", "--to", f"folder:{house.folder / 'drill'}"
    )
    assert said.returncode == 0
    assert "were back in" in said.stdout
    assert list((house.folder / "drill").rglob("*.ics"))


def test_after_a_sync_the_source_confirms_everything(house: Household) -> None:
    code, found = at_source(house)
    assert code == 0, found
    assert found["facts"]["folders"] > 3
    assert found["facts"]["same"] > 20
    assert not found["flaws"]
    assert not list(house.home(AMELIA).folder.glob("tmp*"))


def test_what_came_since_is_a_difference_in_numbers(house: Household) -> None:
    house.tenant.state.deliver("amelia", "inbox", b"Subject: new\r\n\r\nx\r\n")
    code, found = at_source(house)
    assert code == 3
    (differs,) = found["flaws"]
    assert differs["kind"] == "count"
    assert found["verdict"] == "unproven"


def test_a_source_that_hands_out_other_bytes_is_found_out(house: Household) -> None:
    mailbox = house.tenant.state.user("amelia").mailbox
    assert mailbox is not None
    for folder in mailbox.folders.values():
        for message in folder.messages.values():
            message.content = StoredContent(message.content.mime().replace(b"a", b"e"))
    code, found = at_source(house)
    assert code == 5
    assert found["verdict"] == "damaged"
    assert found["flawed"] > 5


def test_a_cut_off_is_told_as_such_and_stops_no_other_level(house: Household) -> None:
    house.tenant.cut_off("tenant_deleted")
    code, found = verify(house, "--level", "1", "--level", "4")
    assert code == 4
    assert [each["verdict"] for each in found] == ["whole", "whole", "unproven"]
    text = house.command("verify", "--level", "4")
    assert text.returncode == 4
    assert "NOT proven" in text.stdout


def test_an_account_that_is_not_held_is_refused_with_what_there_is(proven_copy: Household) -> None:
    said = proven_copy.command("verify", "nobody@example.org")
    assert said.returncode == 2
    assert "backupd accounts" in said.stderr
