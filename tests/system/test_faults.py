"""Each fault of the service is absorbed, or ends as one row of the retry ledger and exit code 3."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from household import Household, true_files, true_mail

from backupd.demo.changes import Refusal
from backupd.demo.faults import Fault
from backupd.mirror.files import hash_file
from backupd.model import Service

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"

ABSORBED = {
    "throttled by seconds": Fault("throttle", times=2, retry_after=0.2),
    "throttled by date": Fault("throttle", times=2, retry_after=1, date=True),
    "throttled without a time": Fault("throttle", route="*/$value", times=3, retry_after=-1),
    "503 with an empty body": Fault("unavailable", times=3),
    "502 with HTML": Fault("bad_gateway", times=3),
    "504": Fault("gateway_timeout", route="*/$value", times=2),
    "connection reset": Fault("reset", times=3),
    "body cut half-way": Fault("cut", route="*/$value", times=3),
    "listing cut half-way": Fault("cut", route="*/delta*", times=1),
    "short body": Fault("short", route="*/$value", times=2),
    "download cut half-way": Fault("cut", route="dl/*", times=3),
    "download short": Fault("short", route="dl/*", times=2),
    "download cleanly short": Fault("cleanly_short", route="dl/*", times=2),
    "download with a wrong byte": Fault("wrong_bytes", route="dl/*", times=1),
    "token expired in mid-run": Fault("expired_token", route="*/delta*", times=1),
    "claims challenge": Fault("claims_challenge", route="*/delta*", times=1),
    "JSON broken half-way": Fault("broken_json", route="*/delta*", times=1),
    "empty answer": Fault("empty", route="*/delta*", times=1),
    "login unavailable": Fault("unavailable", route="login/*", times=2),
}


@pytest.fixture
def house(build: Build) -> Household:
    return build(
        accounts=["amelia@*"], services=["mail", "files"], people=1, messages=15, oddities=False
    )


def everything_held(house: Household) -> None:
    with house.home(AMELIA).reading() as catalog:
        held = {item.sha256 for item in catalog.items()}
    state = house.tenant.state
    assert {digest for _, digest in true_mail(state, "amelia")} <= held
    assert set(true_files(state, "amelia").values()) <= held
    mirror = house.home(AMELIA).mirror_path
    for path in [*mirror.rglob("*.eml"), *mirror.glob("files/*/**/*")]:
        if path.is_file() and path.name != "index.jsonl":
            with path.open("rb") as file:
                assert hash_file(file) in held


@pytest.mark.parametrize("name", ABSORBED)
def test_a_passing_fault_is_absorbed(house: Household, name: str) -> None:
    fault = house.tenant.faults.add(ABSORBED[name])
    run = house.app.sync()
    assert fault.struck, "the fault never met a request"
    assert run.exit_code == 0, [str(error) for outcome in run.outcomes for error in outcome.errors]
    everything_held(house)


LASTING = {
    "throttled for long": Fault("throttle", route="*/delta*", times=30, retry_after=0.05),
    "listings cut again and again": Fault("cut", route="*/delta*", times=12),
    "JSON broken again and again": Fault("broken_json", route="*/delta*", times=12),
    "empty answers": Fault("empty", route="*/delta*", times=12),
    "downloads cut again and again": Fault("cut", route="dl/*", times=40),
}


@pytest.mark.parametrize("name", LASTING)
def test_a_lasting_fault_is_told_and_a_later_run_is_whole(house: Household, name: str) -> None:
    fault = house.tenant.faults.add(LASTING[name])
    run = house.app.sync()
    assert fault.struck
    assert run.exit_code in {0, 3, 75}
    house.tenant.faults.clear()
    with house.home(AMELIA).writing() as catalog, catalog.transaction() as session:
        for row in catalog.retries():
            row.next_try = 0
            session.add(row)
    assert house.app.sync().exit_code == 0
    everything_held(house)


@pytest.mark.parametrize("code", ["ErrorCorruptData", "ErrorItemUnreadable", "UnknownError"])
def test_refused_messages_are_rows_with_a_reason_and_the_rest_is_saved(
    house: Household, code: str
) -> None:
    fault = Fault("error", route="users/*/messages/*", status=500, code=code)
    house.tenant.faults.add(fault)
    run = house.app.sync()
    assert fault.struck
    assert run.exit_code in {3, 75}
    with house.home(AMELIA).reading() as catalog:
        rows = catalog.retries()
        assert catalog.totals(Service.FILES)[0] > 0
    assert rows
    assert all(row.reason and row.message for row in rows)
    house.tenant.faults.clear()
    with house.home(AMELIA).writing() as catalog, catalog.transaction() as session:
        for row in catalog.retries():
            row.next_try = 0
            session.add(row)
    assert house.app.sync().exit_code == 0
    everything_held(house)


def test_a_corrupt_message_is_rebuilt_and_noted_and_costs_nobody_else(house: Household) -> None:
    state = house.tenant.state
    message = state.deliver("amelia", "inbox", b"Subject: bad apple\r\n\r\nx\r\n")
    state.spoil("amelia", message)
    assert house.app.sync().exit_code == 0
    with house.home(AMELIA).reading() as catalog:
        assert catalog.notes() == {"rebuilt-from-json": 1}
    everything_held(house)


def test_a_file_with_malware_is_a_gap_and_not_an_error(build: Build) -> None:
    house = build(accounts=["amelia@*"], services=["files"], people=1)
    assert house.backup().exit_code == 0
    with house.home(AMELIA).reading() as catalog:
        kinds = {gap.kind for gap in catalog.gaps()}
    assert {"malware", "onenote", "shortcut"} <= kinds


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(410, "SyncStateNotFound"),
        Refusal(410, "syncStateNotFound"),
        Refusal(410, "resyncRequired", location=True),
        Refusal(400, "SyncStateInvalid"),
    ],
    ids=lambda refusal: f"{refusal.status}-{refusal.code}",
)
def test_a_refused_cursor_restarts_and_deletes_nothing(house: Household, refusal: Refusal) -> None:
    house.app.sync()
    house.tenant.state.expire_cursors(refusal=refusal)
    house.tenant.log.clear()
    run = house.app.sync()
    assert run.exit_code == 0
    assert not [each for each in house.tenant.log if each.path.endswith("/$value")]
    everything_held(house)


@pytest.mark.parametrize(
    ("scenario", "code"),
    [
        ("tenant_deleted", 4),
        ("tenant_fraud_block", 4),
        ("subscription_lapsed", 4),
        ("user_deleted", 4),
        ("licence_removed", 4),
        ("app_deleted", 1),
        ("secret_expired", 1),
        ("consent_revoked", 1),
    ],
)
def test_a_cut_off_removes_nothing_and_says_so(house: Household, scenario: str, code: int) -> None:
    house.backup()
    mirror = house.home(AMELIA).mirror_path
    before = sorted(path for path in mirror.rglob("*") if path.is_file())
    house.tenant.cut_off(scenario, "amelia")
    run = house.backup()
    assert run.exit_code == code, (
        run.source_errors,
        [str(e) for o in run.outcomes for e in o.errors],
    )
    assert sorted(path for path in mirror.rglob("*") if path.is_file()) == before
    assert len(house.app.vault(house.home(AMELIA)).snapshots()) == 1


def test_an_outage_everywhere_is_try_later_and_not_a_cut_off(house: Household) -> None:
    house.backup()
    house.tenant.faults.add(Fault("unavailable"))
    house.tenant.faults.add(Fault("unavailable", route="login/*"))
    assert house.backup().exit_code == 75


def test_limits_are_kept_and_secrets_stay_off_the_download_host(build: Build) -> None:
    house = build(people=2)
    house.tenant.switches.latency = 0.02
    house.backup()
    mailboxes = {each.mailbox for each in house.tenant.log if each.mailbox}
    assert max(house.tenant.log.most_in_flight(each) for each in mailboxes) <= 4
    downloads = house.tenant.log.where(door="download")
    assert downloads
    assert not any("authorization" in each.headers for each in downloads)
    assert all(
        "NONISV|" in each.headers["user-agent"] for each in house.tenant.log.where(door="graph")
    )
