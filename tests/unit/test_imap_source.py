"""The parts of the IMAP source that need no server: facts, cursors, ids, and adoption by content."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.imap.reader import uid_set
from backupd.imap.session import Mailbox, Session
from backupd.imap.wire import Answer
from backupd.model import Collection, Gap
from sources.imap import facts
from sources.imap.cursor import Blocks, Cursor, block_range, look_at, read, recent
from sources.imap.folders import Folders, list_folders

FLAGS = st.lists(st.sampled_from(["\\Seen", "\\Flagged", "Work", "$Forwarded"]), unique=True).map(tuple)  # fmt: skip
NUMBERS = st.integers(0, 2**63 - 1)


class TestFacts:
    @given(st.binary(max_size=300))
    def test_whatever_a_message_begins_with_gives_text_that_can_be_kept(self, head: bytes) -> None:
        for value in facts.of_header(b"Subject: " + head + b"\r\nDate: " + head).values():
            value.encode("utf-8")
            assert "\n" not in value

    @pytest.mark.parametrize(
        ("head", "expected"),
        [
            (b"Subject: =?utf-8?q?gr=C3=BCn?=\r\n =?utf-8?q?_und_blau?=\r\n\r\n", {"subject": "grün und blau"}),
            (b"Subject: two\r\n lines\r\n\r\nSubject: body", {"subject": "two lines"}),
            (b"Subject: first\r\nSubject: second\r\n\r\n", {"subject": "first"}),
            (b"SUBJECT:tight\n\nx", {"subject": "tight"}),
            (b"X-Subject: no\r\n\r\nSubject: body\r\n", {}),
            (b"Subject: =?x-unknown?q?a?=\r\n\r\n", {"subject": "=?x-unknown?q?a?="}),
            (b"Date: Thu, 4 Mar 2021 05:06:07 +0100\r\n\r\n", {"sent": "2021-03-04T04:06:07Z"}),
            (b"Date: yesterday\r\n\r\n", {}),
            (b"Message-ID:\r\n <a@b>\r\n\r\n", {"message_id": "<a@b>"}),
            (b"", {}),
        ],
    )  # fmt: skip
    def test_header_fields_are_read_as_people_see_them(self, head: bytes, expected: dict[str, str]) -> None:  # fmt: skip
        assert facts.of_header(head) == expected

    def test_flags_become_the_shared_words(self) -> None:
        told = facts.describe({"flags": ["\\SEEN", "$Forwarded", "Z&APw-rich"], "subject": "x"})
        assert told == {
            "subject": "x", "seen": True, "flagged": False, "answered": False, "draft": False,
            "forwarded": True, "categories": ["Zürich"],
        }  # fmt: skip

    def test_a_session_mark_is_no_flag(self) -> None:
        assert facts.of_flags(["\\Recent", "\\Seen"]) == {"flags": ["\\Seen"]}

    @given(st.text(max_size=40), st.integers(1, 2**32), st.integers(1, 2**32))
    def test_an_id_says_where_its_message_is(self, folder: str, validity: int, uid: int) -> None:
        assert facts.place_of(facts.id_of(folder, validity, uid)) == (folder, validity, uid)

    @given(st.text(max_size=60))
    def test_what_is_no_id_is_nowhere(self, text: str) -> None:
        assert facts.place_of(text)[2] >= 0


class TestLooks:
    HOUR = 3600.0

    def test_a_look_lasts_a_day_and_only_under_the_same_name(self) -> None:
        look = look_at(b"Old", 1e9)
        assert recent(look, b"Old", 1e9 + 22 * self.HOUR)
        assert not recent(look, b"Old", 1e9 + 25 * self.HOUR)
        assert not recent(look, b"New", 1e9), (
            "renamed: what it tells while it is closed may be of former times"
        )
        assert not recent(look, b"Old", 1e9 - 2 * self.HOUR), "the clock went back"

    @pytest.mark.parametrize("text", ["", "@", "x@", "@1", "0@-1", "00000000@" + "9" * 400])
    def test_what_is_no_look_is_none(self, text: str) -> None:
        assert not recent(text, b"Old", 1e9)


class Listing:
    """A server as far as its folders are listed: raw names, and what each says of itself."""

    prefix, foreign, software = "", (), ""

    def __init__(self, told: dict[bytes, dict[str, object] | Answer]) -> None:
        self._told = told

    def mailboxes(self) -> list[Mailbox]:
        return [Mailbox(raw.decode(), "/", frozenset(), raw) for raw in self._told]

    def statuses(self, mailboxes: list[bytes], asked: str) -> dict[bytes, Any]:
        del mailboxes, asked
        return self._told

    def can(self, capability: str) -> bool:
        return capability == "OBJECTID"


def status(id_: bytes = b"") -> dict[str, object]:
    said: dict[str, object] = {"MESSAGES": b"1", "UIDVALIDITY": b"7", "UIDNEXT": b"2"}
    return said | ({"MAILBOXID": [id_]} if id_ else {})


class TestFolders:
    def listed(self, told: dict[bytes, dict[str, object] | Answer]) -> Folders:
        return list_folders(cast("Session", Listing(told)))

    def test_an_id_that_is_none_does_not_name_a_folder(self) -> None:
        found = self.listed({b"A": status(b"good-1"), b"B": status(b"\xd9N\xd3#\xdaU"), b"C": status(b"x" * 256)})  # fmt: skip
        assert set(found.known) == {"i:good-1", "n:B", "n:C"}

    def test_two_folders_of_one_id_are_told_apart_by_their_names(self) -> None:
        found = self.listed({b"A": status(b"same"), b"A/B": status(b"same")})
        assert set(found.known) == {"i:same", "n:A/B"}
        parents = {each.id: each.parent for each in found.listed if isinstance(each, Collection)}
        assert parents == {"i:same": None, "n:A/B": "i:same"}

    @pytest.mark.parametrize(
        "answer",
        [
            Answer("NO", "NONEXISTENT", "", "gone"),
            Answer("NO", "", "", "Mailbox doesn't exist: A (0.001 secs)."),
            Answer("NO", "", "", "Mailbox does not exist"),
        ],
    )
    def test_a_name_that_is_only_the_name_of_other_folders_is_in_no_doubt(self, answer: Answer) -> None:  # fmt: skip
        found = self.listed({b"A": answer, b"A/B": status(b"b")})
        assert not found.doubtful
        assert set(found.known) == {"i:b"}
        assert not any(isinstance(each, Gap) for each in found.listed)

    @pytest.mark.parametrize(
        "answer",
        [
            Answer("NO", "", "", "Permission denied"),
            Answer("NO", "INUSE", "", "Mailbox doesn't exist: A"),
            Answer("NO", "", "", "Locked: Mailbox does not exist"),
            Answer("BAD", "", "", "Mailbox doesn't exist"),
        ],
    )
    def test_a_folder_that_is_refused_for_another_reason_may_exist(self, answer: Answer) -> None:
        found = self.listed({b"A": answer})
        assert found.doubtful
        assert [each.kind for each in found.listed if isinstance(each, Gap)] == ["folder"]


class TestCursors:
    @given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, st.none() | st.sets(st.integers(1, 5000)))
    def test_a_cursor_is_what_it_was(self, a: int, b: int, c: int, d: int, uids: set[int] | None) -> None:  # fmt: skip
        held = None if uids is None else uid_set(uids).decode()
        cursor = Cursor(a, b, c, d, held, None if uids is None else {"0": "ff"})
        assert read(cursor.text()) == cursor
        assert cursor.held() == (uids or set())

    @pytest.mark.parametrize(
        "text", [None, "", "-", "[]", "{", '{"v":"x"}', '{"v":-1}', '{"v":1,"u":3}', '{"b":[1]}', "null", "9" * 9000],
    )  # fmt: skip
    def test_what_is_no_cursor_asks_for_everything(self, text: str | None) -> None:
        assert read(text) is None

    @given(st.dictionaries(st.integers(1, 3000), FLAGS, max_size=30), st.randoms(use_true_random=False))  # fmt: skip
    def test_blocks_do_not_depend_on_order_and_see_one_changed_flag(
        self, held: dict[int, tuple[str, ...]], chance: Any
    ) -> None:
        one, other, changed = Blocks(), Blocks(), Blocks()
        pairs = list(held.items())
        for uid, flags in pairs:
            one.add(uid, flags)
        chance.shuffle(pairs)
        for uid, flags in pairs:
            other.add(uid, flags)
        assert not one.changed(other.written())
        if not pairs:
            return
        touched = pairs[0][0]
        for uid, flags in pairs:
            changed.add(uid, (*flags, "New") if uid == touched else flags)
        (block,) = changed.changed(one.written())
        first, last = map(int, block_range(block).split(":"))
        assert first <= touched <= last
