"""When the service evacuates by itself, and what people are told of an evacuation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from holdings import an_app, held

from backupd.alerts import notices
from backupd.app import App
from backupd.cutoff.verdict import Cause, Evidence
from backupd.daemon.evacuation import AGAIN, wanted

NOW = 1_800_000_000.0
ALICE = "contoso/alice@contoso.example"


def app_in(folder: Path, evacuate: str, *causes: Cause, scope: str = ALICE) -> App:
    held(folder, "alice@contoso.example")
    app = an_app(folder, cutoff={"evacuate": evacuate})
    for cause in causes:
        app.incidents.hear(scope, Evidence(NOW, "sync", cause))
    return app


A, P, T = Cause.ACCOUNT, Cause.CONSENT, Cause.TRANSIENT


@pytest.mark.parametrize(
    ("evacuate", "causes", "due"),
    [
        ("never", [A, A], False),
        ("degraded", [], False),
        ("degraded", [A], True),
        ("degraded", [P], True),
        ("degraded", [A, A], True),
        ("degraded", [T, T, T], False),
        ("degraded", [Cause.CREDENTIAL], False),
        ("degraded", [Cause.CLIENT], False),
        ("degraded", [A, A, Cause.NONE, Cause.NONE], False),
        ("suspected", [A], False),
        ("suspected", [A, A], True),
    ],
)
def test_it_begins_when_refused_and_never_for_an_outage_or_our_own_trouble(
    tmp_path: Path, evacuate: str, causes: list[Cause], due: bool
) -> None:
    assert wanted(app_in(tmp_path, evacuate, *causes), NOW) == (["contoso"] if due else [])


def test_once_a_day_and_source_at_most(tmp_path: Path) -> None:
    app = app_in(tmp_path, "degraded", A, A)
    (tmp_path / "evacuation.json").write_text(json.dumps({"contoso": NOW - AGAIN + 60}))
    assert not wanted(app, NOW)
    assert wanted(app, NOW + 61) == ["contoso"]
    (tmp_path / "evacuation.json").write_text("{damaged")
    assert wanted(app, NOW) == ["contoso"]


def test_a_case_that_a_person_released_or_of_a_source_that_is_gone_starts_nothing(
    tmp_path: Path,
) -> None:
    app = app_in(tmp_path, "degraded", A, A)
    app.incidents.hear("left/bob@left.example", Evidence(NOW, "sync", A))
    app.incidents.release(ALICE, "maria", "on purpose", NOW)
    assert not wanted(app, NOW)


def test_the_end_is_told_with_what_is_lacking_first() -> None:
    scopes, places = [f"demo/u{n}@x.example" for n in range(30)], ["primary", "second"]
    done = notices.of_evacuation(scopes, {}, places, NOW, 90)
    assert "done: a snapshot of everything is in primary and second" in done.subject
    assert done.level == "success"
    lacking = dict.fromkeys(scopes[:20], "the mailbox is gone")
    ended = notices.of_evacuation(scopes, lacking, places, NOW, 90)
    assert "20 of 30 are NOT complete" in ended.subject
    assert ended.level == "failure"
    assert "… and 10 more" in ended.body
    assert "NO storage" in notices.of_evacuation_begun(scopes, [], NOW).body
    assert len({done.matter, notices.of_evacuation_begun(scopes, places, NOW).matter}) == 2
