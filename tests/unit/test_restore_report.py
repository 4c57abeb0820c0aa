"""The report of a restore: true verdicts, and no page that runs what a folder is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from backupd.errors import TransientError
from backupd.model import Service
from backupd.restore.report import as_page, verdict, write_report
from backupd.restore.result import RestoreResult, Tally

HOSTILE = '<script>alert("x")</script>\udcff'


def result(**states: int) -> RestoreResult:
    made = RestoreResult("alice@example.org", "new", "alice@new.org")
    made.expected[Service.MAIL] = sum(states.values())
    made.states.update(states)
    made.proven = states.get("restored", 0)
    made.collections.append(Tally(Service.MAIL, HOSTILE, expected=sum(states.values())))
    return made


def test_a_hostile_folder_name_stays_text_in_page_and_document(tmp_path: Path) -> None:
    made = result(restored=2)
    made.problem(HOSTILE, "quarantined", HOSTILE)
    page = write_report(tmp_path, made)
    assert "<script>" not in page.read_text()
    document = json.loads(page.with_suffix(".json").read_text("utf-8", "surrogatepass"))
    assert document["collections"][0]["name"] == HOSTILE
    assert document["exit_code"] == 0


@pytest.mark.parametrize(
    ("made", "level", "words"),
    [
        (result(restored=3), "good", "All 3 items"),
        (result(restored=2, quarantined=1), "warn", "1 of 3 items are not at the target"),
        (result(restored=2, missing=1), "bad", "1 of 3 items are not proven"),
        (result(restored=2, damaged=1), "bad", "1 of 3 items are not proven"),
    ],
)
def test_the_verdict_is_never_better_than_what_was_proven(
    made: RestoreResult, level: str, words: str
) -> None:
    told = verdict(made)
    assert told.level == level
    assert words in told.words


def test_a_restore_that_broke_off_says_so_first() -> None:
    made = result(restored=3)
    made.error = TransientError("the server is gone")
    assert verdict(made).words == "Not finished: the server is gone"
    assert "Not finished" in as_page(made)
