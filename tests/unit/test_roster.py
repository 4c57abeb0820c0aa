"""The list of a restore of many."""

from __future__ import annotations

from pathlib import Path

import pytest

from backupd.errors import UserError
from backupd.restore.roster import read_roster


def test_seats_with_and_without_other_names(tmp_path: Path) -> None:
    (tmp_path / "b.secret").write_text("x")
    (tmp_path / "map.csv").write_text(
        "account,target_account,password_file\nA@x.org,,\nb@x.org, bob@new.org , b.secret\n"
    )
    first, second = read_roster(tmp_path / "map.csv")
    assert (first.account, first.target_account, first.password_file) == ("a@x.org", "", None)
    assert (second.target_account, second.password_file) == ("bob@new.org", tmp_path / "b.secret")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column 'account'"),
        ("account\n", "names no account"),
        ("account,secret\na,b\n", "unknown column 'secret'"),
        ("account\na@x\na@x\n", "line 3: a@x again"),
        ("account,target_account\n,b@x\n", "line 2: no account"),
        ("account,target_account,password_file\na@x,,gone\n", "there is no file"),
    ],
)
def test_everything_wrong_is_told_at_once_and_nothing_is_started(
    tmp_path: Path, text: str, complaint: str
) -> None:
    (tmp_path / "map.csv").write_text(text)
    with pytest.raises(UserError, match="nothing was started") as caught:
        read_roster(tmp_path / "map.csv")
    assert complaint in str(caught.value)
