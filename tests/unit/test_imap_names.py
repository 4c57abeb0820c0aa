"""Names and keywords that a server can bear, whatever they were."""

from __future__ import annotations

import io
import re
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from targets.imap import naming
from targets.imap.finder import id_in, id_named, id_of
from targets.imap.layout import USES, known_names
from targets.imap.marks import marks
from targets.imap.proof import place_of

NAMES = st.text(st.characters(), max_size=300)
DELIMITERS = st.sampled_from(["/", ".", "\\", "|", ""])
ATOM = re.compile(rb"[^\x00-\x20\x7f-\xff(){%*\"\\\]]+")


@given(NAMES, DELIMITERS)
def test_a_name_holds_nothing_that_a_server_acts_upon(name: str, delimiter: str) -> None:
    for made in (naming.faithful(name, delimiter), naming.plain_punctuation(name, delimiter), naming.ascii_only(name)):  # fmt: skip
        assert made
        assert made.isprintable() or all(unicodedata.category(c) != "Cc" for c in made)
        assert not set(made) & {"*", "%", *([delimiter] if delimiter else [])}
        assert made[0] not in "#~"
        assert len(naming.encoded(made)) <= naming.LONGEST + 1
        assert made.strip(" ") == made


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("Projekte 2024", "Kunden & Partner", "Ünïcödé", "日本語", "(alt)", "a.b"):
        assert naming.faithful(name, "/") == name


def test_names_that_differ_stay_different() -> None:
    names = [
        "a/b",
        "a.b",
        "a b",
        " a b",
        "a b ",
        "a*b",
        "a%b",
        "a\tb",
        "a\nb",
        "x" * 400,
        "x" * 401,
    ]
    assert len({naming.faithful(each, "/") for each in names}) == len(names)


@given(NAMES)
def test_a_category_becomes_an_atom(category: str) -> None:
    made = naming.keyword(category).encode("ascii")
    assert ATOM.fullmatch(made)
    assert len(made) <= 60


def test_an_address_is_read_whatever_the_folder_is_called() -> None:
    assert place_of("a;b;1;2;33;4") == ("a;b;1;2", 33, 4)
    assert place_of("INBOX;1;2") == ("INBOX", 1, 2)
    for wrong in ("", "INBOX", "INBOX;1", "INBOX;x;1", "a;1;-2"):
        assert place_of(wrong) == ("", 0, 0)


def test_keywords_that_are_not_kept_are_told() -> None:
    about = {"categories": ["Red", "Blue"], "seen": True, "received": "2024-01-01T00:00:00Z"}
    made = marks(about, frozenset({"red"}), dated=True)
    assert made.flags == ("\\Seen", "Red")
    assert made.notes == ("category 'Blue' not kept, for the server takes no such keyword",)


def test_an_index_of_nonsense_gives_no_marks() -> None:
    about = {"categories": "Red", "received": 7, "sent": {"x": 1}, "seen": None}
    assert marks(about, None, dated=True) == marks({}, None, dated=True)


def test_every_use_has_names_and_no_name_has_two_uses() -> None:
    names = [each.casefold() for some in known_names().values() for each in some]
    assert len(set(names)) == len(names)
    assert set(known_names()) == set(USES.values()) - {"INBOX"}


def test_only_one_well_formed_message_id_counts() -> None:
    one = id_of(b"Message-ID: <a@b>\r\n\r\n")
    assert one == id_of(b"message-id:\r\n <a@b>\r\n") == id_named("<a@b>") != 0
    for unclear in (b"", b"Message-ID: a@b\r\n", b"Message-ID: <a@b>\r\nMessage-ID: <a@b>\r\n", b"Message-ID: <a b>\r\n"):  # fmt: skip
        assert id_of(unclear) == 0


def test_a_message_id_in_the_body_is_none() -> None:
    assert id_in(io.BytesIO(b"Subject: x\r\n\r\nMessage-ID: <a@b>\r\n")) == 0
    assert id_in(io.BytesIO(b"Subject: x\r\nMessage-Id: <a@b>\r\n\r\nMessage-ID: <c@d>\r\n")) != 0
