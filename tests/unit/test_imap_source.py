"""The parts of the IMAP source that need no server: facts, cursors, ids, and adoption by content."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.imap.reader import uid_set
from sources.imap import facts
from sources.imap.cursor import Blocks, Cursor, block_range, read

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
