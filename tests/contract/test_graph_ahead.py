"""The changes of many folders in one request: none is missed, and what goes wrong shows where it belongs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from graph_desk import Desk, open_desk

from backupd.demo.tenant import SimulatedTenant
from backupd.model import Account, Collection, Service
from backupd.ports import Expecting
from sources.graph.batch import LARGEST_BATCH

Known = list[tuple[Collection, str]]
MAIL = b"Subject: %d\r\n\r\nhello\r\n"


@pytest.fixture(scope="module")
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(seed=7, people=1, messages=12) as running:
        yield running


@pytest.fixture
def desk(tenant: SimulatedTenant, tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tenant, tmp_path) as opened:
        yield opened


def followed(desk: Desk, account: Account) -> Known:
    """Every folder, listed to its end, with its cursor."""
    folders = [
        each
        for each in desk.source.collections(account, Service.MAIL)
        if isinstance(each, Collection)
    ]
    return [(each, desk.pages(account, each)[-1].cursor) for each in folders]


def changed(desk: Desk, account: Account, known: Known) -> tuple[Known, int]:
    """The cursors afterwards, and how many changes there were."""
    after, count = [], 0
    for folder, cursor in known:
        pages = desk.pages(account, folder, cursor)
        count += sum(len(page.changes) for page in pages)
        after.append((folder, pages[-1].cursor))
    return after, count


def asked(tenant: SimulatedTenant) -> int:
    return len(tenant.log.where(door="graph"))


def test_folders_come_in_batches_and_nothing_is_missed(tenant: SimulatedTenant, desk: Desk) -> None:
    assert isinstance(desk.source, Expecting)
    amelia = desk.account("amelia")
    known = followed(desk, amelia)
    for number in range(60):  # more than come along at once
        tenant.state.deliver("amelia", "inbox", MAIL % number)
    tenant.state.deliver("amelia", "archive", MAIL % 99)
    tenant.log.clear()
    desk.source.expect(amelia, known)
    batches = -(-len(known) // LARGEST_BATCH)
    assert asked(tenant) == batches
    after, count = changed(desk, amelia, known)
    assert count == 61
    assert asked(tenant) == batches + 1  # what was more than comes along
    assert changed(desk, amelia, after)[1] == 0


def test_what_came_ahead_is_handed_out_once_and_only_for_its_cursor(
    tenant: SimulatedTenant, desk: Desk
) -> None:
    amelia = desk.account("amelia")
    known = followed(desk, amelia)
    desk.source.expect(amelia, known)
    tenant.state.deliver("amelia", "inbox", MAIL % 1)
    inbox = next(each for each in known if each[0].special == "inbox")
    assert not desk.pages(amelia, inbox[0], inbox[1])[-1].changes
    assert desk.pages(amelia, inbox[0], inbox[1])[-1].changes
    sent = next(each for each in known if each[0].special == "sentitems")
    assert desk.pages(amelia, sent[0])[0].restart


def test_a_refused_folder_is_asked_for_by_itself_and_spoils_no_other(desk: Desk) -> None:
    amelia = desk.account("amelia")
    known = followed(desk, amelia)
    folder, cursor = known[0]
    held = json.loads(cursor)
    spoilt = json.dumps(held | {"link": held["link"][:-6] + "AAAAAA"})
    desk.source.expect(amelia, [(folder, spoilt), *known[1:]])
    assert desk.pages(amelia, folder, spoilt)[0].restart
    assert changed(desk, amelia, known[1:])[1] == 0


def test_which_folders_are_the_well_known_ones_is_not_asked_each_time(
    tenant: SimulatedTenant, desk: Desk
) -> None:
    amelia = desk.account("amelia")
    first = desk.source.collections(amelia, Service.MAIL)
    tenant.log.clear()
    assert desk.source.collections(amelia, Service.MAIL) == first
    few = len(tenant.log)
    tenant.state.create_folder("amelia", "Just made")
    tenant.log.clear()
    more = desk.source.collections(amelia, Service.MAIL)
    assert len(more) == len(first) + 1
    assert len(tenant.log) > 2 * few
