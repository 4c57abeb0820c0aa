"""If you were cut off now: the answers are true, come first, and are the same in every form."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest
from holdings import DAY, HOUR, MINUTE, an_app, held

from backupd.catalog.rows import MISSING, ItemRow
from backupd.cutoff.incidents import Incidents, Removal
from backupd.cutoff.verdict import Cause, Evidence
from backupd.model import Service
from backupd.report.readiness import answers, as_document, as_page, as_text, readiness, verdict
from backupd.report.status import freshness, status_of

ALICE, BOB = "alice@contoso.example", "bob@contoso.example"
STORAGES = ["primary", "second"]
TOLD = {"urls": ["ntfys://ntfy.example.org/backup"]}


def refuse(state: Path, scope: str) -> None:
    for _ in range(2):
        Incidents(state).hear(scope, Evidence(time.time(), "user", Cause.ACCOUNT))


def near(seconds: int | None, wanted: float) -> bool:
    return seconds is not None and abs(seconds - wanted) < 10


def test_a_copy_that_lacks_nothing_is_as_young_as_the_sync(tmp_path: Path) -> None:
    home = held(tmp_path, ALICE, synced=2 * MINUTE, copies={"primary": 30 * DAY})
    assert near(freshness(home, STORAGES).protected[Service.MAIL], 2 * MINUTE)


def test_a_copy_that_lacks_changes_is_no_younger_than_itself(tmp_path: Path) -> None:
    home = held(tmp_path, ALICE, copies={"primary": 3 * HOUR, "second": DAY}, behind=True)
    fresh = freshness(home, STORAGES)
    assert near(fresh.protected[Service.MAIL], 3 * HOUR)
    assert near(fresh.worst, 3 * HOUR)
    assert near(freshness(home, ["second"]).worst, DAY)


def test_without_a_complete_sync_or_a_copy_nothing_counts_as_safe(tmp_path: Path) -> None:
    assert freshness(held(tmp_path, ALICE, synced=None), STORAGES).worst is None
    assert freshness(held(tmp_path, BOB, copies={}), STORAGES).worst is None


def test_figures_are_counted_once_and_again_after_a_change(tmp_path: Path) -> None:
    home = held(tmp_path, ALICE, amount=(3, 1))
    assert status_of(home, STORAGES).items[Service.MAIL] == 3
    assert (home.folder / "figures.json").exists()
    (home.folder / "figures.json").write_text("{damaged")
    assert status_of(home, STORAGES).size == 3000
    with home.writing() as catalog, catalog.transaction() as session:
        row = next(catalog.items())
        session.add(ItemRow(**row.model_dump() | {"id": None, "key": "new", "note": "rebuilt", "state": MISSING}))  # fmt: skip
        catalog.touched()
    status = status_of(home, STORAGES)
    assert status.items[Service.MAIL] == 4
    assert status.notes == {"rebuilt": 1}
    assert status.missing == 1


def test_the_answers_come_first_and_name_what_is_worst(tmp_path: Path) -> None:
    held(tmp_path, ALICE, amount=(3, 2))
    held(tmp_path, BOB, synced=DAY * 3, copies={"primary": 3 * DAY})
    found = readiness(an_app(tmp_path, alerts=TOLD))
    said = dict(answers(found))
    assert list(said) == [
        "safe",
        "missing",
        "copies",
        "proven",
        "run by",
        "keys",
        "frozen",
        "service",
        "next",
    ]
    assert said["safe"][0] == "Everything that the sources held up to 3 days ago is in a vault."
    assert f"worst off is {BOB}" in said["safe"]
    assert said["missing"] == ["2 items known of and not had yet: tried again"]
    assert "second: 1 account, the newest 60 min old, the oldest 60 min; LACKS 1 account" not in said["copies"]  # fmt: skip
    assert any(line.endswith("LACKS 1 account") for line in said["copies"])
    assert said["frozen"] == ["nothing"]


def test_an_account_in_no_vault_is_the_first_thing_said(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    held(tmp_path, BOB, copies={})
    found = readiness(an_app(tmp_path, alerts=TOLD))
    assert verdict(found).startswith("1 account is in NO vault")
    assert found.level == "bad"
    assert f"in NO vault: {BOB}" in dict(answers(found))["safe"]
    assert found.now.next == ["backupd snapshot"]


def test_a_freeze_of_the_whole_source_freezes_every_account(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    refuse(tmp_path, "contoso")
    found = readiness(an_app(tmp_path, alerts=TOLD))
    assert found.accounts[0].frozen
    assert found.accounts[0].problems[0] == "suspected, frozen"
    assert found.now.next[:2] == [
        "backupd incidents",
        f"backupd restore --account {ALICE} --to TARGET --dry-run",
    ]


def test_a_removal_that_waits_asks_for_a_look(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    Incidents(tmp_path).stop(Removal("abc", "contoso", ALICE, {"mail": 70}))
    found = readiness(an_app(tmp_path, alerts=TOLD))
    assert found.now.next == ["backupd incidents"]
    assert "the removal of 70 items waits" in dict(answers(found))["frozen"][0]


def test_all_is_well_only_when_somebody_would_be_told(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    assert readiness(an_app(tmp_path, alerts=TOLD)).level == "good"
    assert readiness(an_app(tmp_path)).level == "warn"
    to_alice = {"urls": [f"mailto://user:hush@example.net?to={ALICE}"]}
    found = readiness(an_app(tmp_path, alerts=to_alice))
    assert "every channel depends on Microsoft" in found.warnings[0].message
    assert "hush" not in as_page(found) + as_text(found) + json.dumps(as_document(found))


def test_nothing_held_is_said_as_such(tmp_path: Path) -> None:
    found = readiness(an_app(tmp_path))
    assert verdict(found) == "Nothing is held yet."
    assert found.now.next == ["backupd backup"]
    assert "Nothing is held yet." in as_page(found)


def test_one_damaged_catalog_hides_no_other_account(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    home = held(tmp_path, BOB)
    home.catalog_path.write_bytes(b"not a database at all" * 1000)
    found = readiness(an_app(tmp_path, alerts=TOLD))
    assert [each.address for each in found.accounts] == [ALICE]
    assert "damaged" in found.unreadable[BOB]
    assert found.level == "bad"
    assert "Cannot be read" in as_page(found)


def test_a_dead_service_is_told_from_a_living_one(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    app = an_app(tmp_path, alerts=TOLD)
    noted = {"updated": time.time() - HOUR, "stopped": None, "pid": os.getpid()}
    for change, running in (({}, True), ({"pid": 2**22 + 1}, False), ({"stopped": 1.0}, False)):
        (tmp_path / "service.json").write_text(json.dumps(noted | change))
        assert readiness(app).service.running is running
    assert "NOT running" in as_text(readiness(app))


def test_the_page_is_self_contained_and_hostile_names_stay_text(tmp_path: Path) -> None:
    held(tmp_path, "<script>alert(1)</script>@contoso.example")
    held(tmp_path, ALICE)
    page = as_page(readiness(an_app(tmp_path)))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"(src|href)=|@import|url\(|https?://", page.replace("github.com", ""))
    assert page.index("If you were cut off now") < page.index("<h2>")


def test_the_document_says_the_same_as_the_page(tmp_path: Path) -> None:
    held(tmp_path, ALICE)
    refuse(tmp_path, f"contoso/{ALICE}")
    found = readiness(an_app(tmp_path, alerts=TOLD))
    document = json.loads(json.dumps(as_document(found)))
    assert document["format"] == 1
    assert document["verdict"] in as_page(found)
    assert document["verdict"] in as_text(found)
    assert document["now"]["frozen"] == {f"contoso/{ALICE}": "account"}
    assert near(document["accounts"][0]["protected"]["mail"], 2 * MINUTE)


@pytest.mark.parametrize("many", [60])
def test_many_accounts_are_answered_in_an_instant(tmp_path: Path, many: int) -> None:
    for number in range(many):
        held(tmp_path, f"user{number}@contoso.example")
    app = an_app(tmp_path, alerts=TOLD)
    began = time.monotonic()
    assert readiness(app).now.accounts == many
    assert time.monotonic() - began < 10
