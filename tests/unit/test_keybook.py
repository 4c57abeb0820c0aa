"""What is noted of keys is told truly: what is missing, what was never tried, what has grown old."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from backupd.errors import IntegrityError
from backupd.keys import keybook
from backupd.keys.keybook import YEAR, Drill, Keybook, Noted, findings

NOW = 1_800_000_000.0
HELD = ["primary/s/a", "primary/s/b"]
GOOD = Keybook(
    "0badcafe", 2, 3, NOW - 10, {place: Noted("k", NOW) for place in HELD}, {1: NOW, 2: NOW, 3: NOW},
    Drill(NOW, "0badcafe", (1, 2), 2), kit=NOW, kit_vaults=2,
)  # fmt: skip


def told(book: Keybook, now: float = NOW) -> dict[str, tuple[str, str]]:
    return {each.subject: (each.level, each.message) for each in findings(book, HELD, now)}


def test_all_is_well_when_it_is() -> None:
    assert {level for level, _ in told(GOOD).values()} == {"ok"}
    assert "2 of 3 shares" in told(GOOD)["recovery keys"][1]
    assert list(findings(Keybook(), [], NOW)) == []


@pytest.mark.parametrize(
    ("changed", "subject", "level", "word"),
    [
        ({"mark": ""}, "recovery keys", "warning", "there are none"),
        ({"vaults": {HELD[0]: Noted("k", NOW)}}, "recovery keys", "warning", "not, for example: primary/s/b"),
        ({"drill": None}, "recovery drill", "warning", "never tried"),
        ({"drill": Drill(NOW, "older", (1, 2), 2)}, "recovery drill", "warning", "never tried"),
        ({"drill": Drill(NOW, "0badcafe", (1, 2), 1, 1)}, "recovery drill", "error", "1 vault did not open"),
        ({"shares": {1: NOW, 2: NOW}}, "recovery drill", "ok", "never tried: share 3"),
        ({"leaving": {HELD[0]: "k"}}, "rotation", "warning", "an old key still opens 1"),
        ({"kit": 0.0}, "recovery kit", "warning", "none was made"),
        ({"kit_vaults": 1}, "recovery kit", "warning", "lacks 1"),
    ],
)  # fmt: skip
def test_what_is_not_well_is_said(changed: dict[str, object], subject: str, level: str, word: str) -> None:  # fmt: skip
    said = told(replace(GOOD, **changed))  # type: ignore[arg-type]
    assert said[subject][0] == level
    assert word in said[subject][1]


def test_a_drill_grows_old() -> None:
    assert told(GOOD, NOW + YEAR + 1)["recovery drill"][0] == "warning"


def test_notes_are_kept_as_they_were_and_damage_is_told(tmp_path: Path) -> None:
    assert keybook.load(tmp_path) == Keybook()
    keybook.save(tmp_path, GOOD)
    assert keybook.load(tmp_path) == GOOD
    for damage in ("", "[]", '{"format": 1}', '{"format": 1, "drill": null, "vaults": {"a": 3}, "shares": {}}'):  # fmt: skip
        (tmp_path / "keys.json").write_text(damage)
        with pytest.raises(IntegrityError, match="damaged"):
            keybook.load(tmp_path)
