"""Reports: what a third party can check, what the schema promises, and what the service makes by itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from damages import AMELIA, alter_same_size, vault
from household import PASSWORD, Household

from backupd.alerts.tidings import Found, event_of
from backupd.daemon import rounds
from backupd.daemon.engine import Engine
from backupd.daemon.events import Bulletin, Event
from backupd.daemon.history import History
from backupd.report.integrity import chain_of, issue, page, schema, short, text
from backupd.report.signing import signing_key

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def house(proven_copy: Household) -> Household:
    """With two reports."""
    return proven_copy


def script(house: Household, *reports: Path) -> subprocess.CompletedProcess[str]:
    """What docs/reports.md tells a third party to run, with the openssl, restic and Python of this machine."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    document = (ROOT / "docs" / "reports.md").read_text()
    (found,) = re.findall(r"```python\n(.*?)```", document, re.DOTALL)
    program, key = house.folder / "check.py", house.folder / "key.pem"
    program.write_text(found)
    key.write_text(signing_key(house.folder / "state").public.pem)
    environment = {"PATH": os.environ["PATH"], "HOME": str(house.folder), "RESTIC_PASSWORD": PASSWORD, "RESTIC_REPOSITORY": str(vault(house))}  # fmt: skip
    command = [sys.executable, "-I", str(program), str(key), AMELIA, "primary", *map(str, reports)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_the_script_of_the_documentation_checks_a_real_report_and_a_real_vault(
    house: Household,
) -> None:
    reports = chain_of(house.folder / "state").files()
    said = script(house, *reports)
    assert said.returncode == 0, said.stderr
    assert re.match(r"2 reports and \d\d items of snapshot \w{8} are as signed", said.stdout)
    for damage, complaint in (
        (lambda: reports[1].write_text(reports[1].read_text().replace('"whole"', '"xhole"', 1)), "openssl"),
        (lambda: _resigned_root(house, reports), "not the one that was reported"),
    ):  # fmt: skip
        damage()
        said = script(house, *reports)
        assert said.returncode != 0
        assert complaint in said.stderr


def _resigned_root(house: Household, reports: list[Path]) -> None:
    """A report that was signed with a root that does not belong to the snapshot."""
    document = json.loads(reports[1].read_text())
    for snapshot in document["accounts"][0]["snapshots"]["primary"]:
        snapshot["root"] = snapshot["root"] and "0" * 64
    data = json.dumps(document).encode()
    reports[1].write_bytes(data)
    signed = signing_key(house.folder / "state").sign(data)
    reports[1].with_name(f"{reports[1].name}.sig").write_bytes(signed)


def test_every_report_keeps_the_promises_of_its_schema(house: Household) -> None:
    alter_same_size(house)
    assert house.command("verify", "--level", "1", "--level", "5", "--storage", "primary").returncode in {0, 5}  # fmt: skip
    assert house.command("verify", "--level", "1").returncode == 5
    checker = jsonschema.Draft202012Validator(schema())
    checker.check_schema(schema())
    documents: list[dict[str, Any]] = [json.loads(each.read_text()) for each in chain_of(house.folder / "state").files()]  # fmt: skip
    assert len(documents) == 4
    for document in documents:
        checker.validate(document)
    assert documents[-1]["level"] == "bad"
    assert any("DAMAGED" in each["what"] for each in documents[-1]["unproven"])


def test_every_form_says_the_same_and_the_page_needs_nothing_from_elsewhere(
    house: Household,
) -> None:
    alter_same_size(house)
    assert house.command("verify", "--level", "1").returncode == 5
    issued = issue(house.app)
    for form in (page(issued), text(issued), "\n".join(short(issued))):
        assert "found damage" in form
        assert str(issued.document["sequence"]) in form
        assert issued.document["public_key"] in form
    whole = page(issued)
    assert not re.search(r"(src|href)=|@import|url\(|https?://", whole.replace("github.com", ""))
    assert "DAMAGED" in whole
    assert "Not proven" in whole
    assert "<polyline" in whole, "two reports are a line"
    assert PASSWORD not in whole + text(issued)


def test_the_command_shows_the_key_and_checks_the_chain(house: Household) -> None:
    assert house.command("report", "--format", "json", "--output", str(house.folder / "r.json")).returncode == 0  # fmt: skip
    key = house.command("report", "key")
    assert key.stdout.startswith("-----BEGIN PUBLIC KEY-----")
    (house.folder / "key.pem").write_text(key.stdout)
    good = house.command("report", "verify", "--key", str(house.folder / "key.pem"), str(house.folder / "r.json"))  # fmt: skip
    assert good.returncode == 0, good.stderr
    files = chain_of(house.folder / "state").files()
    files[0].unlink()
    said = house.command("report", "verify")
    assert said.returncode == 5
    assert "begins with report 2" in said.stdout
    files[1].unlink()
    files[2].unlink()
    bad = house.command("report", "verify")
    assert bad.returncode == 5
    assert "no longer there" in bad.stdout


def test_the_service_verifies_what_is_due_reports_once_and_tells_of_damage(
    house: Household,
) -> None:
    house.configure('[schedule]\nverify = "1s"\n')
    alter_same_size(house)
    events: list[Event] = []
    engine = Engine(house.app, History(house.folder / "history.json"), Bulletin([events.append]))
    before = len(chain_of(house.folder / "state").files())
    rounds.verify(engine)
    assert len(chain_of(house.folder / "state").files()) == before + 1
    (told,) = [each for each in events if each.kind == "found"]
    found = event_of(told)
    assert isinstance(found, Found)
    assert "DAMAGE" in found.findings[0].message
    assert found.findings[0].hint
    house.configure('[schedule]\nverify = "1d"\n')
    rounds.verify(Engine(house.app, History(house.folder / "history.json"), Bulletin([])))
    assert len(chain_of(house.folder / "state").files()) == before + 1, "nothing was due"
