"""Who else is asked when a source refuses, and what lasts too long to be innocent; in simulated time."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.dovecot import dovecot
from servers.names import NameServer, name_server
from world import AMELIA, CYCLE, TENANT, World, befallen, never_frozen, settled

from backupd.cutoff.mx import FRESH
from backupd.cutoff.verdict import Cause, State

DOMAIN = "harbourlight.example"
AT_MICROSOFT = "harbourlight-example.mail.protection.outlook.com"
MORE = """
[sources.legacy]
type = "imap"
host = "127.0.0.1"
port = {port}
security = "plain"
username = "amelia@harbourlight.example"
password_file = "{folder}/imap"
[dns]
servers = ["{names}"]
[cutoff]
blocked = "6h"
"""


@pytest.fixture(scope="module")
def names() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, names: NameServer) -> Iterator[World]:
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    folder = tmp_path_factory.mktemp("house")
    names.mail = {DOMAIN: [f"0 {AT_MICROSOFT}."]}
    with dovecot() as server:
        (folder / "imap").write_text(server.password)
        more = MORE.format(port=server.imap, folder=folder, names=names.place)
        with settled(folder, more) as world:
            yield world


@pytest.fixture
def world(place: World, names: NameServer) -> Iterator[World]:
    names.mail, names.silent = {DOMAIN: [f"0 {AT_MICROSOFT}."]}, False
    with befallen(place):
        yield place
        (place.house.folder / "imap").write_text("pw")


def hours(world: World, count: int) -> None:
    """A sync every hour, and what is due."""
    for _ in range(count):
        world.now += 3600
        world.app.backup(["amelia@*"])
        world.app.watch(world.now)


def test_a_mailbox_that_imap_still_opens_is_frozen_and_not_called_cut_off(world: World) -> None:
    world.tenant.cut_off("licence_removed", "amelia")
    world.live(CYCLE + 40, only="amelia@*")
    assert world.state(AMELIA) is State.SUSPECTED, world.thought()
    told = {each.rung: each for each in world.app.incidents.evidence(AMELIA)}
    assert told["second"].cause is Cause.NONE
    assert "[legacy]" in told["second"].said
    assert AT_MICROSOFT in told["mx"].said
    assert world.state("legacy/amelia@harbourlight.example") is State.HEALTHY
    (world.house.folder / "imap").write_text("wrong")
    world.app = world.with_config(world.house.config)
    world.live(60, only="amelia@*")
    assert world.state(AMELIA) is State.CONFIRMED, "now the other way in is shut as well"


def test_a_permission_that_stays_withdrawn_is_suspected(world: World) -> None:
    world.tenant.cut_off("consent_revoked")
    hours(world, 2)
    never_frozen(world)
    hours(world, 4)
    case = world.app.incidents.case(TENANT)
    assert (case.state, case.cause) == (State.SUSPECTED, Cause.CONSENT), world.thought()
    assert case.frozen
    assert case.facts["pinned"] == "yes"


def test_one_mailbox_that_a_policy_shuts_out_is_suspected_and_the_others_are_asked(
    world: World,
) -> None:
    world.tenant.cut_off("access_policy", "amelia")
    hours(world, 6)
    case = world.app.incidents.case(AMELIA)
    assert (case.state, case.cause) == (State.SUSPECTED, Cause.CONSENT), world.thought()
    assert case.facts["others"] == "answer"
    assert world.state(TENANT) is State.HEALTHY


def test_one_service_that_fails_for_long_while_all_else_answers_is_suspected(
    world: World,
) -> None:
    world.tenant.cut_off("spo_app_block")
    hours(world, 6)
    assert world.state(AMELIA) is State.DEGRADED, world.thought()
    hours(world, 4)
    case = world.app.incidents.case(AMELIA)
    assert (case.state, case.cause) == (State.SUSPECTED, Cause.APP), world.thought()


def test_a_tenant_out_of_order_for_twice_as_long_is_an_outage(world: World) -> None:
    world.tenant.cut_off("regional_outage")
    hours(world, 12)
    never_frozen(world)
    assert not [case for case in world.app.incidents.cases() if case.frozen], world.thought()


def test_mail_that_goes_elsewhere_is_noticed_while_all_is_well(
    world: World, names: NameServer
) -> None:
    world.app.watch(world.now)
    names.mail = {DOMAIN: ["10 mx.elsewhere.example."]}
    world.now += FRESH + 1
    for _ in range(3):
        world.app.watch(world.now)
        world.now += 60
    found = [each for each in world.app.incidents.evidence(TENANT) if each.code == "moved"]
    assert len(found) == 1, "noted once"
    assert "mx.elsewhere.example" in found[0].said
    assert AT_MICROSOFT in found[0].said
    never_frozen(world)
    (finding,) = world.app.warnings()
    assert (finding.level, finding.subject) == ("warning", f"domain {DOMAIN}")
    world.now += 2 * 86_400
    assert not list(world.app.warnings()), "after a day it is how things are"


@pytest.mark.parametrize("trouble", ["silent", "gone"])
def test_names_neither_make_nor_hinder_a_verdict(
    world: World, names: NameServer, trouble: str
) -> None:
    names.mail, names.silent = ({}, False) if trouble == "gone" else (names.mail, True)
    world.now += FRESH + 1
    world.live(3)
    never_frozen(world)
    world.tenant.cut_off("tenant_deleted")
    world.now += FRESH + 1
    world.live(CYCLE)
    assert world.state(TENANT) is State.SUSPECTED
    told = [each for each in world.app.incidents.evidence(TENANT) if each.rung == "mx"]
    assert {each.cause for each in told} <= {Cause.TRANSIENT, Cause.DOMAIN}
    assert told


def test_the_domain_of_a_channel_that_lies_at_microsoft_is_told(world: World, names: NameServer) -> None:  # fmt: skip
    names.mail = {"club.example": ["0 club-example.mail.protection.outlook.com."]}
    text = world.house.config.read_text()
    path = Path(world.house.folder / "alerts.toml")
    urls = '[alerts]\nurls = ["mailto://a:hush@mail.example.net?to=me@club.example"]\n'
    path.write_text(text + urls)
    house = world.house
    told = house.command("--config", str(path), "doctor", "--json").stdout
    assert "the mail of club.example goes to club-example.mail.protection.outlook.com" in told
    assert "every channel depends on Microsoft" in told
    assert "hush" not in told
    told = house.command("--config", str(path), "status", "--json").stdout
    assert "the mail of club.example goes to" in told, "remembered, without asking anybody"
