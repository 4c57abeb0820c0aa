"""Hostile names stay inside their folder, readable and distinct."""

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backupd.mirror import names

anything = st.text(st.characters(codec=None, exclude_categories=[]), max_size=300)


@given(anything)
@settings(max_examples=300, derandomize=True)
def test_any_name_becomes_one_harmless_component(name: str) -> None:
    local = names.component(name)
    assert local not in {"", ".", ".."}
    assert "/" not in local
    assert "\0" not in local
    assert not local.endswith((".", " "))
    assert len(local.encode()) <= names.LIMIT
    assert local.isprintable()


@given(anything)
@settings(max_examples=300, derandomize=True)
def test_escaping_is_reversible(name: str) -> None:
    assert names.unescape(names.escape(name)) == name


@given(st.text(max_size=400), st.text(min_size=1, max_size=20))
@settings(max_examples=200, derandomize=True)
def test_a_twin_fits_and_differs(name: str, key: str) -> None:
    local = names.component(name)
    other = names.twin(local, key)
    assert names.fold(other) != names.fold(local)
    assert len(other.encode()) <= names.LIMIT


@pytest.mark.parametrize(
    "name", ["..", ".", "", "CON", "nul.txt", "a/b", "a\\b", "x\0y", "end.", "end "]
)
def test_known_bad_names_are_escaped(name: str) -> None:
    assert "%" in names.component(name)


@pytest.mark.parametrize(
    "name", ["Inbox", "Données 2026", "Ελληνικά", ".profile", "a~b", "r\u00e9sum\u00e9.docx"]
)
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert names.component(name) == name


def test_a_folder_that_looks_like_a_month_does_not_collide_with_one() -> None:
    assert not names.SHARD.fullmatch(names.component("2026-11"))
    assert names.fold(names.component("Index.JSONL")) not in names.OURS


def test_a_long_name_keeps_its_extension_and_differs_from_its_neighbour() -> None:
    one = names.component("x" * 300 + "1.pdf")
    two = names.component("x" * 300 + "2.pdf")
    assert one.endswith(".pdf")
    assert one != two


def test_a_mail_is_named_by_month_time_subject_and_key() -> None:
    when = datetime(2026, 11, 20, 10, 0, 0, tzinfo=UTC)
    name = names.mail_name(when, "Re: the  plan/", "AAMk=")
    assert name == f"2026-11/20261120T100000Z_Re%3A the plan%2F_{names.short_key('AAMk=')}.eml"


@given(anything, st.one_of(st.none(), st.datetimes(timezones=st.just(UTC))))
@settings(max_examples=200, derandomize=True)
def test_any_subject_gives_a_mail_name_of_two_components(
    subject: str, when: datetime | None
) -> None:
    name = names.mail_name(when, subject, "k")
    shard, _, leaf = name.partition("/")
    assert shard
    assert "/" not in leaf
    assert len(leaf.encode()) <= names.LIMIT


def test_a_time_with_seven_digits_is_read() -> None:
    assert names.parse_time("2026-11-20T10:00:00.1234567Z") == datetime(
        2026, 11, 20, 10, 0, 0, 123456, UTC
    )
    assert names.parse_time("yesterday") is None
    assert names.parse_time(None) is None
