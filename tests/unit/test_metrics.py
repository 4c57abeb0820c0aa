"""The figures are true, name nobody, and are there as a file and on loopback."""

from __future__ import annotations

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from holdings import HOUR, an_app, held
from prometheus_client.parser import text_string_to_metric_families
from servers.process import free_port

from backupd.catalog.rows import RetryRow
from backupd.cutoff.incidents import Incidents
from backupd.cutoff.verdict import Cause, Evidence
from backupd.home import home_of
from backupd.marks import mark_of
from backupd.meters import meter_of
from backupd.report import metrics

ALICE = "alice@contoso.example"
MARK = mark_of("contoso", ALICE)


def figures(text: str) -> dict[tuple[str, str], float]:
    """Alice's, by name and what tells it apart."""
    return {
        (sample.name, _kind(sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("account", MARK) == MARK
    }


def _kind(labels: dict[str, str]) -> str:
    named = (labels.get(each) for each in ("service", "storage", "verb", "source"))
    return next((each for each in named if each), "")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    held(tmp_path, ALICE, amount=(3, 2), copies={"primary": 2 * HOUR})
    held(tmp_path, "bob@contoso.example", synced=None, copies={})
    incidents = Incidents(tmp_path)
    for _ in range(2):
        incidents.hear(f"contoso/{ALICE}", Evidence(time.time(), "user", Cause.ACCOUNT))
    run = {"ended": 5.0, "seconds": 1.0, "ok": False, "failures": 4}
    (tmp_path / "service.json").write_text(json.dumps({"accounts": {f"contoso/{ALICE}": {"sync": run}}}))  # fmt: skip
    return tmp_path


def test_the_textfile_holds_ages_amounts_states_and_runs(state: Path) -> None:
    path = state / "node" / "backupd.prom"
    assert metrics.write(an_app(state, metrics={"textfile": str(path)}))
    found = figures(path.read_text())
    assert found["backupd_protected_age_seconds", "mail"] == pytest.approx(120, abs=5)
    assert found["backupd_protected_timestamp_seconds", "mail"] == pytest.approx(time.time() - 120, abs=5)  # fmt: skip
    assert found["backupd_snapshot_timestamp_seconds", "primary"] == pytest.approx(time.time() - 2 * HOUR, abs=5)  # fmt: skip
    assert found["backupd_items_held", "mail"] == 3
    assert found["backupd_items_waiting", "contoso"] == 2
    assert found["backupd_bytes_held", "contoso"] == 3000
    assert found["backupd_case_state", "contoso"] == 3
    assert found["backupd_frozen", "contoso"] == 1
    assert found["backupd_run_success", "sync"] == 0
    assert found["backupd_run_failures_in_a_row", "sync"] == 4
    assert found["backupd_disk_free_bytes", ""] > 0


def test_no_address_is_in_them_and_what_is_unknown_is_left_out(state: Path) -> None:
    path = state / "backupd.prom"
    metrics.write(an_app(state, metrics={"textfile": str(path)}))
    text = path.read_text()
    assert "@" not in text
    assert "alice" not in text
    bob = mark_of("contoso", "bob@contoso.example")
    assert f'backupd_items_held{{account="{bob}"' in text
    assert f'backupd_protected_age_seconds{{account="{bob}"' not in text
    assert sorted(each.name for each in state.iterdir() if "prom" in each.name) == ["backupd.prom"]


def test_every_name_is_documented(state: Path) -> None:
    path = state / "backupd.prom"
    metrics.write(an_app(state, metrics={"textfile": str(path)}))
    for family in text_string_to_metric_families(path.read_text()):
        assert f"{family.name}" in (metrics.__doc__ or "")


def test_they_are_answered_on_loopback_while_the_service_runs(state: Path) -> None:
    port = free_port()
    exporter = metrics.Exporter(an_app(state, metrics={"port": port, "textfile": str(state / "f")}))
    try:
        exporter.listen("anything")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
            assert figures(answer.read().decode())["backupd_items_held", "mail"] == 3
    finally:
        exporter.close()
    assert (state / "f").exists()
    again = metrics.Exporter(an_app(state, metrics={"port": port}))
    again.close()


def test_nothing_is_written_unless_asked_and_a_full_disk_breaks_nothing(
    state: Path, caplog: Any
) -> None:
    assert not metrics.write(an_app(state))
    (state / "file").write_text("")
    assert not metrics.write(an_app(state, metrics={"textfile": str(state / "file" / "f")}))
    assert "cannot be written" in caplog.text
    assert mark_of("a", "b") != mark_of("a/b", "")


def test_requests_retries_and_pauses_are_counted_by_source(state: Path) -> None:
    meter = meter_of("a-source-of-this-test")
    for outcome in ("ok", "ok", "throttled"):
        meter.count(outcome)
    meter.retry()
    meter.pause(2.5)
    path = state / "backupd.prom"
    assert metrics.write(an_app(state, metrics={"textfile": str(path)}))
    said = path.read_text()
    source = 'source="a-source-of-this-test"'
    assert f'backupd_requests_total{{outcome="ok",{source}}} 2.0' in said
    assert f'backupd_requests_total{{outcome="throttled",{source}}} 1.0' in said
    assert f"backupd_retries_total{{{source}}} 1.0" in said
    assert f"backupd_throttled_seconds_total{{{source}}} 2.5" in said


def test_the_retry_ledger_is_told_by_why_and_a_server_s_words_are_no_label(state: Path) -> None:
    with home_of(state, "contoso", ALICE).writing() as catalog, catalog.transaction() as session:
        for number, reason in enumerate(("evil\nbackupd_info 0", "alice@contoso.example")):
            row = catalog.retries()[0].model_dump() | {"id": None, "reason": reason, "source_id": f"x{number}"}  # fmt: skip
            session.add(RetryRow(**row))
    path = state / "backupd.prom"
    assert metrics.write(an_app(state, metrics={"textfile": str(path)}))
    lines = [line for line in path.read_text().splitlines() if line.startswith("backupd_retry_ledger_items")]  # fmt: skip
    assert sorted(line.rpartition("reason=")[2] for line in lines) == [
        '"unnamed",source="contoso"} 2.0',
        '"unreadable",source="contoso"} 2.0',
    ]
