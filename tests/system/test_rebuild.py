"""A catalog that is lost comes back out of the mirror's own files, and nothing is fetched again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from household import Household
from imap_house import House, fill, letter
from servers.dovecot import Dovecot, dovecot

from backupd.app import Run
from backupd.catalog import Catalog
from backupd.demo.tenant import SimulatedTenant
from backupd.errors import IntegrityError
from backupd.home import Home
from backupd.mirror.index import write_account
from backupd.sync.rebuild import Rebuilt, account_of, rebuild

TOLD = ("folder", "name", "source_id", "key", "size", "sha256", "facts", "about", "note")


def described(home: Home) -> dict[str, Any]:
    account = home.account()
    assert account is not None
    with home.writing() as catalog:
        write_account(catalog, home.mirror(), account)
    whole: dict[str, Any] = json.loads((home.mirror_path / "account.json").read_text())
    return whole


def lost(home: Home, told: dict[str, Any]) -> Rebuilt:
    """The catalog is removed and made anew."""
    for file in home.folder.glob("catalog.sqlite*"):
        file.unlink()
    with Catalog(home.catalog_path) as catalog:
        return rebuild(catalog, home.mirror_path, told)


def contents(home: Home) -> list[dict[str, Any]]:
    with home.reading() as catalog:
        paths = {row.id: row.path for row in catalog.all_folders()}
        rows = [{word: getattr(item, word) for word in TOLD} for item in catalog.items()]
    return sorted(
        (row | {"folder": paths[row["folder"]]} for row in rows), key=lambda row: (row["folder"], row["name"])
    )  # fmt: skip


def fetched(run: Run) -> list[int]:
    done = [tally for each in run.outcomes if each.sync for tally in each.sync.tallies.values()]
    return [sum(getattr(tally, word) for tally in done) for word in ("fetched", "moved", "removed")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    with SimulatedTenant(7, people=1, messages=12) as tenant:
        house = Household(tmp_path_factory.mktemp("rebuild") / "house", tenant, accounts=["*@*", "*/*"])  # fmt: skip
        assert house.app.sync().exit_code in {0, 3}
        yield house


def test_every_service_of_every_account_comes_back_as_it_was(house: Household) -> None:
    for home in house.app.homes():
        told, before, account = described(home), contents(home), home.account()
        found = lost(home, told)
        assert found.items == len(before)
        assert not found.damaged
        assert contents(home) == before
        seen = account_of(told)
        assert account is not None
        assert asdict(seen) | {"services": None} == asdict(account) | {"services": None}
    assert fetched(house.app.sync()) == [0, 0, 0]
    assert house.app.sync().exit_code in {0, 3}


def test_a_file_that_is_not_as_its_index_says_is_fetched_again(house: Household) -> None:
    home = next(each for each in house.app.homes() if "amelia" in each.address)
    told = described(home)
    first, second = sorted(home.mirror_path.glob("mail/**/*.eml"))[:2]
    whole = first.read_bytes()
    first.write_bytes(whole[:-1])
    second.unlink()
    found = lost(home, told)
    assert sorted(found.damaged) == sorted(
        each.relative_to(home.mirror_path).as_posix() for each in (first, second)
    )
    assert fetched(house.app.sync())[0] == 2
    assert first.stat().st_size >= len(whole)
    assert not lost(home, described(home)).damaged


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "[1]",
        '{"file": "../../../etc/passwd", "sha256": "x", "size": 1, "id": "a", "key": "b"}',
        '{"file": "a/b", "sha256": "x", "size": 1, "id": "a", "key": "b"}',
        '{"file": "x.eml", "sha256": "x", "size": "big", "id": "a", "key": "b"}',
        '{"file": "x.eml", "sha256": "x"}',
    ],
)
def test_an_index_that_is_none_of_ours_is_refused(tmp_path: Path, line: str) -> None:
    folder = tmp_path / "mail" / "Inbox" / "2026-11"
    folder.mkdir(parents=True)
    (folder / "index.jsonl").write_text(line + "\n")
    told = {"collections": [{"service": "mail", "path": "mail/Inbox", "id": "i", "name": "Inbox"}]}
    with Catalog(tmp_path / "catalog.sqlite") as catalog, pytest.raises(IntegrityError):
        rebuild(catalog, tmp_path, told)


@pytest.mark.parametrize("path", ["../mail", "mail/../../x", "files/x", "mail//x"])
def test_a_collection_cannot_lie_outside(tmp_path: Path, path: str) -> None:
    told = {"collections": [{"service": "mail", "path": path, "id": "i", "name": "Inbox"}]}
    with Catalog(tmp_path / "catalog.sqlite") as catalog, pytest.raises(IntegrityError):
        rebuild(catalog, tmp_path, told)


@pytest.fixture(scope="module")
def dove() -> Iterator[Dovecot]:
    with dovecot() as server:
        yield server


def test_mail_of_an_imap_server_is_not_fetched_again_either(dove: Dovecot, tmp_path: Path) -> None:
    house = House(tmp_path / "house", dove)
    fill(dove, "INBOX", [letter(number) for number in range(5)])
    fill(dove, "Projects/2026", [letter(number) for number in range(5, 8)])
    assert house.sync().exit_code == 0
    home = house.home()
    told, before = described(home), contents(home)
    lost(home, told)
    assert contents(home) == before
    assert fetched(house.sync()) == [0, 0, 0]
    fill(dove, "INBOX", [letter(99)])
    assert fetched(house.sync()) == [1, 0, 0]
