"""What every source of mail promises, whatever stands behind it.

A test module subclasses `SourceContract` and gives it a `world`: a source, and a way to live in its mailbox.
"""

from __future__ import annotations

import imaplib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from graph_desk import Desk, bytes_of, open_desk
from imap_house import Server, client, quoted, source

from backupd.demo.tenant import SimulatedTenant
from backupd.errors import ItemGone
from backupd.model import Account, Collection, Gone, Item, Page, Service
from backupd.ports import Fetched

MAIL = Service.MAIL


def letter(name: str) -> bytes:
    return (
        f"From: a@example.org\r\nTo: b@example.org\r\nDate: Thu, 4 Mar 2021 05:06:07 +0000\r\n"
        f"Message-ID: <{name}@example.org>\r\nSubject: {name}\r\n\r\nhello {name}\r\n"
    ).encode()


class World(Protocol):
    """A mailbox with an inbox and an archive, and somebody who works in it."""

    desk: Desk
    account: Account

    def deliver(self, name: str) -> None: ...
    def read(self, name: str) -> None: ...
    def archive(self, name: str) -> None: ...
    def delete(self, name: str) -> None: ...
    def folder(self, name: str) -> None: ...
    def remove_folder(self, name: str) -> None: ...


class SourceContract:
    """The promises; each test names one."""

    @pytest.fixture
    def world(self) -> Iterator[World]:
        raise AssertionError("a subclass gives the world")

    def test_the_inbox_is_known_and_parents_come_first(self, world: World) -> None:
        seen: set[str] = set()
        special = set()
        for each in world.desk.source.collections(world.account, MAIL):
            if isinstance(each, Collection):
                assert each.parent is None or each.parent in seen
                seen.add(each.id)
                special.add(each.special)
        assert {"inbox", "archive"} <= special

    def test_a_message_comes_byte_for_byte_and_each_is_answered_once(self, world: World) -> None:
        for name in ("one", "two", "three"):
            world.deliver(name)
        inbox = box(world, "inbox")
        items = world.desk.items(world.account, inbox)

        answers = world.desk.fetch(world.account, inbox, items)

        assert {id(each.item) for each in answers} == {id(item) for item in items}
        assert len(answers) == len(items)
        assert {letter(name) for name in ("one", "two", "three")} <= set(map(bytes_of, answers))

    def test_the_first_page_restarts_and_only_the_last_is_last(self, world: World) -> None:
        world.deliver("one")
        pages = world.desk.pages(world.account, box(world, "inbox"))

        assert [page.restart for page in pages] == [True] + [False] * (len(pages) - 1)
        assert [page.last for page in pages] == [False] * (len(pages) - 1) + [True]
        assert all(len(page.changes) <= 1000 for page in pages)

    def test_the_next_run_lists_only_what_changed(self, world: World) -> None:
        world.deliver("old")
        inbox = box(world, "inbox")
        cursor = world.desk.pages(world.account, inbox)[-1].cursor
        assert not changes(follow(world, inbox, cursor))

        world.deliver("new")

        pages = follow(world, inbox, cursor)
        assert len({each.id for each in changes(pages)}) == 1
        assert not any(page.restart for page in pages)
        assert not changes(follow(world, inbox, pages[-1].cursor))

    def test_a_cursor_that_means_nothing_is_no_error(self, world: World) -> None:
        world.deliver("one")
        inbox = box(world, "inbox")
        before = {each.id for each in changes(world.desk.pages(world.account, inbox))}

        pages = world.desk.pages(world.account, inbox, world.desk.pages(world.account, inbox)[-1].cursor[:-4] + "x")  # fmt: skip

        assert any(page.restart for page in pages)
        assert {each.id for each in changes(pages)} == before

    def test_a_mark_is_told_and_is_no_new_content(self, world: World) -> None:
        world.deliver("marked")
        inbox, source = box(world, "inbox"), world.desk.source
        pages = world.desk.pages(world.account, inbox)
        item = named(world, pages, "marked")

        world.read("marked")

        told = [c for c in changes(follow(world, inbox, pages[-1].cursor)) if isinstance(c, Item)]  # fmt: skip
        (change,) = [each for each in told if each.id == item.id]
        merged = {**item.facts, **change.facts}
        assert source.version(MAIL, merged) == source.version(MAIL, item.facts)
        assert not source.describe(MAIL, item.facts)["seen"]
        assert source.describe(MAIL, merged)["seen"]

    def test_a_moved_message_is_recognised_and_located(self, world: World) -> None:
        world.deliver("moving")
        inbox, archive, source = box(world, "inbox"), box(world, "archive"), world.desk.source
        item = named(world, world.desk.pages(world.account, inbox), "moving")
        before = world.desk.pages(world.account, archive)
        key = source.keys(world.account, MAIL, [item.id])[item.id]

        world.archive("moving")

        assert source.locate(world.account, MAIL, {key: item}) == {key: archive.id}
        arrived = changes(follow(world, archive, before[-1].cursor))
        (new,) = [each for each in arrived if isinstance(each, Item)]
        same_key = source.keys(world.account, MAIL, [new.id])[new.id] == key
        same_content = MAIL in source.recognises and source.version(MAIL, new.facts) == source.version(MAIL, item.facts)  # fmt: skip
        assert same_key or same_content

    def test_a_deleted_message_is_told_and_located_nowhere(self, world: World) -> None:
        world.deliver("going")
        world.deliver("staying")
        inbox, source = box(world, "inbox"), world.desk.source
        pages = world.desk.pages(world.account, inbox)
        going, staying = named(world, pages, "going"), named(world, pages, "staying")
        keys = source.keys(world.account, MAIL, [going.id, staying.id])

        world.delete("going")

        after = changes(follow(world, inbox, pages[-1].cursor))
        assert Gone(going.id) in after
        where = source.locate(world.account, MAIL, {keys[each.id]: each for each in (going, staying)})  # fmt: skip
        assert where == {keys[going.id]: None, keys[staying.id]: inbox.id}

    def test_what_vanished_before_it_was_fetched_is_gone_and_leaves_no_draft(
        self, world: World
    ) -> None:
        """Or it comes whole: Cyrus goes on to serve it to a session that has not heard of it."""
        world.deliver("going")
        inbox = box(world, "inbox")
        item = named(world, world.desk.pages(world.account, inbox), "going")
        world.delete("going")
        world.desk.landing.drafts.clear()

        (answer,) = world.desk.fetch(world.account, inbox, [item])

        if isinstance(answer, Fetched):
            assert bytes_of(answer) == letter("going")
            return
        assert isinstance(answer.error, ItemGone)
        assert all(draft.discarded for draft in world.desk.landing.drafts)

    def test_a_folder_that_is_gone_is_no_empty_folder(self, world: World) -> None:
        world.folder("Short")
        short = next(
            each for each in world.desk.source.collections(world.account, MAIL)
            if isinstance(each, Collection) and each.name == "Short"
        )  # fmt: skip
        cursor = world.desk.pages(world.account, short)[-1].cursor
        world.remove_folder("Short")

        with pytest.raises(ItemGone):
            world.desk.pages(world.account, short, cursor)

    def test_doctor_finds_nothing_wrong(self, world: World) -> None:
        assert [f for f in world.desk.source.check() if f.level == "error"] == []


def box(world: World, special: str) -> Collection:
    return world.desk.collection(world.account, MAIL, special)


def follow(world: World, where: Collection, cursor: str) -> list[Page]:
    """The next run: it lists the folders before it follows one."""
    world.desk.source.collections(world.account, MAIL)
    return world.desk.pages(world.account, where, cursor)


def changes(pages: list[Page]) -> list[object]:
    return [each for page in pages for each in page.changes]


def named(world: World, pages: list[Page], name: str) -> Item:
    """The item whose bytes are the letter of that name."""
    items = {each.id: each for each in changes(pages) if isinstance(each, Item)}
    inbox = box(world, "inbox")
    for answer in world.desk.fetch(world.account, inbox, list(items.values())):
        if isinstance(answer, Fetched) and bytes_of(answer) == letter(name):
            return answer.item
    raise AssertionError(f"{name} is not there")


class GraphWorld:
    """A simulated tenant."""

    def __init__(self, tenant: SimulatedTenant, desk: Desk) -> None:
        self.desk, self._state = desk, tenant.state
        self.account = desk.account("amelia")
        self._messages: dict[str, Any] = {}

    def deliver(self, name: str) -> None:
        self._messages[name] = self._state.deliver("amelia", "inbox", letter(name))

    def read(self, name: str) -> None:
        self._state.flag("amelia", self._messages[name], isRead=True)

    def archive(self, name: str) -> None:
        self._state.move_message("amelia", self._messages[name], "archive")

    def delete(self, name: str) -> None:
        self._state.delete_message("amelia", self._messages[name])

    def folder(self, name: str) -> None:
        self._messages[name] = self._state.create_folder("amelia", name)

    def remove_folder(self, name: str) -> None:
        self._state.delete_folder("amelia", self._messages[name])


@contextmanager
def graph_world(folder: Path) -> Iterator[GraphWorld]:
    with SimulatedTenant(seed=7, people=1, messages=3) as tenant, open_desk(tenant, folder) as desk:
        yield GraphWorld(tenant, desk)


class ImapWorld:
    """A mailbox of a real server, and another client in it."""

    def __init__(self, server: Server, user: str, desk: Desk) -> None:
        self.desk, self._server, self._user = desk, server, user
        (self.account,) = desk.source.accounts()

    def deliver(self, name: str) -> None:
        with client(self._server, self._user) as other:
            assert other.append("INBOX", None, None, letter(name))[0] == "OK"  # type: ignore[arg-type]

    def read(self, name: str) -> None:
        with self._at(name) as (other, number):
            other.store(number, "+FLAGS", r"(\Seen)")

    def archive(self, name: str) -> None:
        with self._at(name) as (other, number):
            other.copy(number, "Archive")
            self._expunge(other, number)

    def delete(self, name: str) -> None:
        with self._at(name) as (other, number):
            self._expunge(other, number)

    def folder(self, name: str) -> None:
        with client(self._server, self._user) as other:
            other.create(quoted(name))

    def remove_folder(self, name: str) -> None:
        with client(self._server, self._user) as other:
            other.delete(quoted(name))

    @contextmanager
    def _at(self, name: str) -> Iterator[tuple[imaplib.IMAP4, str]]:
        with client(self._server, self._user) as other:
            other.select("INBOX")
            _, [found] = other.search(None, "SUBJECT", name)
            yield other, found.decode().split()[-1]

    def _expunge(self, other: imaplib.IMAP4, number: str) -> None:
        other.store(number, "+FLAGS", r"(\Deleted)")
        other.expunge()


@contextmanager
def imap_world(folder: Path, server: Server, user: str) -> Iterator[ImapWorld]:
    """`user` has an empty inbox."""
    with client(server, user) as other:
        if other.select("INBOX")[1] != [b"0"]:
            other.store("1:*", "+FLAGS", r"(\Deleted)")
            other.expunge()
    with source(folder, server, username=user) as made:
        yield ImapWorld(server, user, Desk(made))  # type: ignore[arg-type]
