"""Every way to be cut off, and everything that only looks like one: the verdict, and how soon.

One tenant of two people is backed up once. Then each scenario befalls it for half a simulated hour
with a sync every five minutes, as the service does it, and service is restored. The clock is the
test's own. Whatever happens, not one byte of the last good state may be gone.
"""

from __future__ import annotations

import itertools
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from certificates import certificate
from world import AMELIA, CYCLE, TENANT, World, befallen, never_frozen, settled

import sources
from backupd.cutoff.verdict import Cause, State
from backupd.demo.faults import Fault


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    with settled(tmp_path_factory.mktemp("house")) as world:
        yield world


@pytest.fixture
def world(place: World) -> Iterator[World]:
    """The same world for every test: nothing of it is lost, and it heals when service is back."""
    with befallen(place):
        yield place


GRAVE = [
    ("tenant_deleted", TENANT, Cause.TENANT),
    ("tenant_fraud_block", TENANT, Cause.TENANT),
    ("subscription_lapsed", TENANT, Cause.TENANT),
    ("app_deleted", TENANT, Cause.APP),
    ("app_disabled_two_stage", TENANT, Cause.APP),
    ("user_deleted", AMELIA, Cause.ACCOUNT),
    ("licence_removed", AMELIA, Cause.LICENCE),
    ("onedrive_locked", AMELIA, Cause.LICENCE),
    ("msa_suspended", AMELIA, Cause.ACCOUNT),
]


@pytest.mark.parametrize(("scenario", "scope", "cause"), GRAVE)
def test_a_cut_off_is_suspected_with_the_first_sync_and_confirmed_in_half_an_hour(
    world: World, scenario: str, scope: str, cause: Cause
) -> None:
    world.tenant.cut_off(scenario)
    world.live(CYCLE + 30, only="amelia@*")
    case = world.app.incidents.case(scope)
    assert (case.state, case.cause) == (State.CONFIRMED, cause), world.thought()
    suspected, confirmed = world.seen[scope, State.SUSPECTED], world.seen[scope, State.CONFIRMED]
    assert suspected <= CYCLE, "the ladder answers with the very first sync"
    assert suspected + 25 <= confirmed <= CYCLE + 30
    assert case.facts["pinned"] == "yes"
    frozen = {each.scope for each in world.app.incidents.cases() if each.frozen}
    assert frozen == {scope}, "nobody else is accused"
    _asked_from_the_bottom(world, scope)
    print(f"{scenario:<24} {scope:<32} {cause:<9} after {suspected} min, {confirmed} min")


def test_a_tenant_that_is_gone_is_found_out_though_an_old_token_still_opens_its_doors(
    world: World,
) -> None:
    with world.app.source("demo") as source:
        list(source.accounts())
        world.tenant.cut_off("tenant_deleted")
        for _ in range(5):
            world.app.watch(world.now)
            world.app.vigil.listed(source, None)  # as a listing with a token of before says
            world.now += 60
    case = world.app.incidents.case(TENANT)
    assert (case.state, case.cause) == (State.SUSPECTED, Cause.TENANT), world.thought()
    assert case.frozen


INNOCENT = [
    ("secret_expired", TENANT, State.DEGRADED, Cause.CREDENTIAL),
    ("consent_revoked", TENANT, State.DEGRADED, Cause.CONSENT),
    ("access_policy", AMELIA, State.DEGRADED, Cause.CONSENT),
    ("user_disabled", AMELIA, State.HEALTHY, Cause.NONE),
    ("cae_revoked", TENANT, State.HEALTHY, Cause.NONE),
    ("mailbox_full", AMELIA, State.HEALTHY, Cause.NONE),
    ("regional_outage", TENANT, State.DEGRADED, Cause.TRANSIENT),
    ("imap_auth_failed", AMELIA, State.HEALTHY, Cause.NONE),
    ("spo_app_block", AMELIA, State.DEGRADED, Cause.TRANSIENT),
]


@pytest.mark.parametrize(("scenario", "scope", "state", "cause"), INNOCENT)
def test_what_is_no_cut_off_never_freezes(
    world: World, scenario: str, scope: str, state: State, cause: Cause
) -> None:
    world.tenant.cut_off(scenario)
    world.live(3 * CYCLE, only="amelia@*")
    never_frozen(world)
    case = world.app.incidents.case(scope)
    assert (case.state, case.cause) == (state, cause), world.thought()
    assert cause is Cause.NONE or not _never(world, scope)
    print(f"{scenario:<24} {scope:<32} {cause or 'none':<9} {state}")


@pytest.mark.parametrize(
    ("scenario", "cause"), [("cert_removed", Cause.CREDENTIAL), ("clock_skew", Cause.CLIENT)]
)
def test_a_certificate_that_is_refused_and_a_wrong_clock_are_ours_to_repair(
    world: World, tmp_path: Path, scenario: str, cause: Cause
) -> None:
    cert, key, pem = certificate(tmp_path)
    world.tenant.register_certificate(pem)
    world.app = world.with_config(_changed(world, tmp_path, _by_certificate(world, cert, key)))
    assert world.app.backup().exit_code == 0
    world.tenant.cut_off(scenario)
    world.live(3 * CYCLE)
    never_frozen(world)
    assert world.app.incidents.case(TENANT).cause is cause
    print(f"{scenario:<24} {TENANT:<32} {cause:<9} {world.state(TENANT)}")


def test_a_person_who_signed_in_and_is_disabled_is_cut_off(world: World, tmp_path: Path) -> None:
    secret = f'client_secret_file = "{world.house.folder}/client_secret"'
    changes = {secret: 'auth = "device-code"', 'accounts = ["*"]': 'accounts = ["amelia@*"]'}
    world.app = world.with_config(_changed(world, tmp_path, changes))
    world.tenant.switches.device_code_interval = 0
    world.tenant.sign_in_as("amelia")
    source = sources.connect(world.app.config.sources["demo"])
    source._client.tokens._grant._prompt = lambda _: None  # the person at the terminal
    assert len(list(source.accounts())) == 1
    source.close()
    world.tenant.cut_off("user_disabled", "amelia")
    world.live(CYCLE + 30)
    case = world.app.incidents.case(TENANT)
    assert (case.state, case.cause) == (State.CONFIRMED, Cause.ACCOUNT), world.thought()
    print(f"{'user_disabled, delegated':<24} {TENANT:<32} {case.cause:<9} suspected {world.seen[TENANT, State.SUSPECTED]}")  # fmt: skip


def test_throttling_for_six_hours_is_patience_and_nothing_else(world: World) -> None:
    world.tenant.faults.add(Fault("throttle", "users/*/mailFolders*", retry_after=-1))
    world.live(6 * 60, cycle=60, only="amelia@*")
    never_frozen(world)
    assert world.state(AMELIA) is State.HEALTHY, world.thought()


def test_a_provider_out_of_reach_is_an_outage(world: World, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    base = world.tenant.graph_url.rpartition("/")[0]
    world.app = world.with_config(_changed(world, tmp_path, {base: f"http://127.0.0.1:{port}"}))
    world.live(30)
    never_frozen(world)
    case = world.app.incidents.case(TENANT)
    assert (case.state, case.cause) == (State.DEGRADED, Cause.TRANSIENT), world.thought()
    assert world.seen[TENANT, State.DEGRADED] == 3 * CYCLE, "the third failure in a row is told"


def test_probes_go_on_at_growing_distances(world: World) -> None:
    world.tenant.cut_off("tenant_deleted")
    climbed: list[int] = []
    for minute in range(130):
        before = world.state(TENANT)
        if world.app.watch(world.now) or before is not world.state(TENANT) is State.SUSPECTED:
            climbed.append(minute)
        world.now += 60
    distances = [later - sooner for sooner, later in itertools.pairwise(climbed)]
    assert distances == [1, 2, 5, 15, 30, 60]
    assert world.state(TENANT) is State.CONFIRMED, "they confirm it alone when no sync runs"


def test_early_warnings_come_before_the_cut_off(world: World, tmp_path: Path) -> None:
    assert not list(world.app.warnings())
    world.tenant.state.sku_status = "Warning"
    world.tenant.cut_off("user_disabled", "amelia")
    told = {finding.subject: finding.message for finding in world.app.warnings()}
    assert "30 days" in told["[sources.demo] subscription O365_BUSINESS_ESSENTIALS"]
    assert "blocked" in told["[sources.demo] amelia@harbourlight.example"]
    cert, key, pem = certificate(tmp_path, days=5)
    world.tenant.register_certificate(pem)
    app = world.with_config(_changed(world, tmp_path, _by_certificate(world, cert, key)))
    told = {finding.subject: finding for finding in app.warnings()}
    assert told["[sources.demo] certificate"].level == "error"


def _by_certificate(world: World, cert: Path, key: Path) -> dict[str, str]:
    secret = f'client_secret_file = "{world.house.folder}/client_secret"'
    return {secret: f'certificate_file = "{cert}"\nkey_file = "{key}"'}


def _asked_from_the_bottom(world: World, scope: str) -> None:
    told = world.app.incidents.evidence(scope)
    rungs = {each.rung for each in told}
    if scope == TENANT:
        assert "openid" in rungs
        return
    assert {"openid", "token", "organization", "skus", "user"} <= rungs
    peers = [each for each in told if each.rung == "peer"]
    assert peers, "a second account is asked before anybody is blamed"
    assert all(each.cause is Cause.NONE and "jean-baptiste" in each.said for each in peers)


def _never(world: World, scope: str) -> bool:
    return not any(each == scope for each, _ in world.seen)


def _changed(world: World, folder: Path, changes: dict[str, str]) -> Path:
    """The household's configuration with other words in it."""
    text = world.house.config.read_text()
    for was, now in changes.items():
        assert was in text
        text = text.replace(was, now)
    path = folder / "config.toml"
    path.write_text(text)
    return path
