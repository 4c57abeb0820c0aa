"""The service proves an account at the usual levels every time, and against source and drill from time to time."""

from __future__ import annotations

from pathlib import Path

import pytest
from holdings import DAY, an_app, held

from backupd.jobs.drill import AMPLE
from backupd.jobs.verifications import in_turn
from backupd.verify import DRILL, SOURCE, USUAL
from backupd.verify.findings import Verification
from backupd.verify.record import changing

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ({}, (SOURCE, DRILL)),
        ({SOURCE: 1, DRILL: 1}, ()),
        ({SOURCE: 8, DRILL: 8}, (SOURCE,)),
        ({SOURCE: 1, DRILL: 31}, (DRILL,)),
    ],
)
def test_what_was_not_proven_for_long_is_due(
    tmp_path: Path, ages: dict[int, int], expected: tuple[int, ...]
) -> None:
    home = held(tmp_path, "alice@example.org")
    with changing(home) as record:
        for level, days in ages.items():
            record.take(Verification(home.address, "contoso", level, began=NOW - days * DAY))
    assert in_turn(an_app(tmp_path), home, NOW).levels == (*USUAL, *expected)


def test_nobody_who_says_never_gets_a_drill(tmp_path: Path) -> None:
    home = held(tmp_path, "alice@example.org")
    app = an_app(tmp_path, verify={"source": "0s", "drill": "0s"})
    assert in_turn(app, home, NOW).levels == USUAL


def test_a_drill_that_nobody_asked_for_leaves_room_for_everybody_else(tmp_path: Path) -> None:
    home = held(tmp_path, "alice@example.org")
    assert in_turn(an_app(tmp_path), home, NOW).spare == AMPLE > 1
