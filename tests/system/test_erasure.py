"""Erasing one person: everywhere, said aloud, written down, and never of somebody who is cut off."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from keepers import ALICE, BOB, an_app, change_and_snapshot, keep, times
from servers.process import free_port, need
from typer.testing import CliRunner

from backupd.app import App
from backupd.catalog import Catalog
from backupd.cli.keeping import register
from backupd.cutoff.verdict import Cause, Evidence
from backupd.errors import GuardTripped, UserError
from backupd.vaults.erasure import RECORD, erase, of_person, records

SECRET = "the content of a letter that nobody may see again"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need("restic")
    folder = tmp_path_factory.mktemp("made")
    app = an_app(folder)
    for address in (ALICE, BOB):
        change_and_snapshot(app, keep(app, address), SECRET)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "copy")
    return tmp_path / "copy"


def _whatever_names(folder: Path, address: str) -> list[Path]:
    return [each for each in folder.rglob("*") if address in each.name]


def test_everything_of_a_person_goes_and_nothing_of_anybody_else(folder: Path) -> None:
    app = an_app(folder)
    desk = app.config.state_dir / "restores" / "contoso" / ALICE / "nextcloud" / "x"
    desk.mkdir(parents=True)
    (desk / "ledger.sqlite").write_text("ledger")
    app.incidents.hear(f"contoso/{ALICE}", Evidence(1.0, "sync", Cause.CONSENT, said=SECRET))
    (home,) = of_person(app, ALICE)
    erasure = erase(app, home, "root", "letter of 3 November")
    assert erasure.left == ()
    assert _whatever_names(folder, ALICE) == []
    assert len(times(app, app.home(BOB))) == 1
    with Catalog(app.home(BOB).catalog_path, read_only=True) as catalog:
        assert catalog.get("snapshot:primary:id")
    (line,) = (app.config.state_dir / RECORD).read_text().splitlines()
    told = json.loads(line)
    assert (told["who"], told["reason"], told["account"]) == ("root", "letter of 3 November", ALICE)
    assert SECRET not in line
    assert "snapshots in primary" in told["removed"]


def test_nobody_who_is_frozen_is_erased(folder: Path) -> None:
    app = an_app(folder)
    for number in range(2):
        app.incidents.hear(f"contoso/{ALICE}", Evidence(1.0 + number, "sync", Cause.ACCOUNT))
    with pytest.raises(GuardTripped, match="frozen"):
        of_person(app, ALICE)


def test_who_would_be_fetched_again_is_not_erased(folder: Path) -> None:
    source = {"type": "imap", "host": "imap.invalid", "username": "x", "accounts": ["*"]}
    with pytest.raises(UserError, match="fetch everything again") as caught:
        of_person(an_app(folder, sources={"contoso": source}), ALICE)
    assert f"!{ALICE}" in caught.value.hint


def test_who_is_in_the_care_of_a_running_service_is_not_erased(folder: Path) -> None:
    app = an_app(folder)
    told = {"pid": os.getpid(), "stopped": None, "accounts": {f"contoso/{ALICE}": {}}}
    (app.config.state_dir / "service.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="still cares"):
        of_person(app, ALICE)


def test_what_a_storage_does_not_let_go_is_named_and_can_be_tried_again(folder: Path) -> None:
    """One storage that only adds, one that is down: the rest goes, and the command stays usable."""
    gone = {"repository": f"rest:http://127.0.0.1:{free_port()}/"}
    kept: dict[str, Any] = {"repository": str(folder / "second"), "append_only": True}
    app = an_app(folder, {"primary": {"repository": str(folder / "primary")}, "second": kept, "down": gone})  # fmt: skip
    (home,) = of_person(app, ALICE)
    erasure = erase(app, home, "root", "asked")
    assert set(erasure.storages) == {"second", "down"}
    whys = {left.what: left.why for left in erasure.left}
    assert "append-only" in whys["the vault in second"]
    assert "refused" in whys["the vault in down"]
    assert not home.folder.exists()
    assert _whatever_names(folder / "primary", ALICE) == []
    later = an_app(folder)
    (home,) = of_person(later, ALICE)
    assert erase(later, home, "root", "asked again").storages == ()
    assert _whatever_names(folder, ALICE) == []
    with pytest.raises(UserError, match="Nothing is held"):
        of_person(later, ALICE)


def test_in_a_vault_for_all_the_others_keep_theirs(tmp_path: Path) -> None:
    need("restic")
    app = an_app(tmp_path, {"primary": {"repository": str(tmp_path / "all"), "shared": True}})
    for address in (ALICE, BOB):
        change_and_snapshot(app, keep(app, address), f"{address} {SECRET}")
    (home,) = of_person(app, ALICE)
    assert erase(app, home, "root", "asked").left == ()
    assert len(times(app, app.home(BOB))) == 1


# -- at the terminal --------------------------------------------------------------------------


def _command(app: App, *arguments: str) -> Any:
    import typer  # noqa: PLC0415

    door = typer.Typer()
    register(door)
    given = type("Given", (), {"app": lambda self: app})()
    return CliRunner().invoke(door, ["forget", *arguments], obj=given, standalone_mode=False)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--everything", "--account", ALICE],
        ["--account", ALICE, "--reason", "x"],
        ["--everything", "--reason", "x"],
        [ALICE, "--everything", "--account", ALICE, "--reason", "x"],
    ],
)
def test_half_an_order_erases_nothing(folder: Path, arguments: list[str]) -> None:
    result = _command(an_app(folder), *arguments)
    assert isinstance(result.exception, UserError)
    assert result.exception.reason == "usage"


@pytest.mark.parametrize("confirmed", [[], ["--yes-erase", "alice"]])
def test_nothing_is_erased_before_the_address_is_typed(folder: Path, confirmed: list[str]) -> None:
    app = an_app(folder)
    order = ["--everything", "--account", ALICE, "--reason", "x", *confirmed]
    result = _command(app, *order)
    assert isinstance(result.exception, UserError)
    assert result.exception.reason == "not-confirmed"
    assert app.home(ALICE).mirror_path.exists()
    assert list(records(app.config.state_dir)) == []


def test_a_script_confirms_with_the_whole_address(folder: Path) -> None:
    app = an_app(folder)
    result = _command(app, "--everything", "--account", ALICE, "--reason", "x", "--yes-erase", ALICE)  # fmt: skip
    assert result.exception is None, result.output
    assert "snapshots in second" in result.output
    assert _whatever_names(folder, ALICE) == []
