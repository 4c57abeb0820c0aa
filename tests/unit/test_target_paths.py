"""Files get their true names at a target, as far as servers take them, and never one another's."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from parcels import parcel, shelf

from backupd.mirror import names
from backupd.model import Service
from backupd.ports import Parcel
from targets import paths

DRIVE = shelf(Service.FILES, "Documents")
anything = st.text(st.characters(codec=None, exclude_categories=[]), max_size=300)


def file(*inner: str, data: bytes = b"") -> Parcel:
    return parcel(DRIVE, inner[-1], data, inner=inner)


@pytest.mark.parametrize(
    "name",
    [
        "Über 100% sicher.docx",
        "#1 & more; a+b = (c) [d].txt",
        "👨‍👩‍👧 Familie 🎉.png",
        "日本\u3000語.pdf",
        "می‌خواهم.txt",
        ".hidden",
        "a" * 246 + ".txt",
    ],
)
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    there = paths.place(file("Folder", name))
    assert (there.path, there.why) == (f"Documents/Folder/{name}", "")


@pytest.mark.parametrize(
    ("name", "stored"),
    [
        ("a:b.txt", "a%3Ab.txt"),
        ("what?.txt", "what%3F.txt"),
        ("CON.txt", "%43ON.txt"),
        ("end.", "end%2E"),
        (" x ", "%20x%20"),
        ("a\\b", "a%5Cb"),
        ("..", ".%2E"),
        ("a\x00\x1f\u202eb", "a%00%1F%E2%80%AEb"),
        ("50%3A", "50%253A"),
    ],
)
def test_a_name_that_servers_refuse_is_mapped_readably_and_the_mapping_recorded(
    name: str, stored: str
) -> None:
    there = paths.place(file("Folder", name))
    assert there.path == f"Documents/Folder/{stored}"
    assert there.why == f"stored as {stored}"
    assert there.stored("").state == "repaired"


@given(anything)
@settings(max_examples=300, derandomize=True)
def test_no_name_leaves_its_folder(name: str) -> None:
    made = paths.component(name)
    assert made not in {"", ".", ".."}
    assert not set(made) & set('/\\:*?"<>|\0')
    assert not made.endswith((".", " "))
    assert len(made.encode()) <= paths.LIMIT
    assert not any(unicodedata.category(each) in {"Cc", "Cs"} for each in made)


percents = st.text(st.sampled_from("%25:3Aa.\u3000 \u200d"), max_size=12)


@given(percents | anything, percents | anything)
@settings(max_examples=500, derandomize=True)
def test_different_names_stay_different(one: str, two: str) -> None:
    assume(unicodedata.normalize("NFC", one) != unicodedata.normalize("NFC", two))
    assert paths.component(one) != paths.component(two)


@given(percents | anything)
@settings(max_examples=300, derandomize=True)
def test_a_name_that_is_not_cut_can_be_undone(name: str) -> None:
    made = paths.component(name)
    assume(f"~{names.short_key(name)[:8]}" not in made)
    assert names.unescape(made) == unicodedata.normalize("NFC", name)


def test_names_that_the_snapshot_had_to_tell_apart_are_apart_at_the_target() -> None:
    one = file("Notes.txt")
    other = parcel(DRIVE, names.twin("notes.txt", "key"), b"", inner=())
    other = Parcel(**{f: getattr(other, f) for f in other.__slots__} | {"inner": ("notes.txt",)})
    first, second = paths.place(one), paths.place(other)
    assert names.fold(first.path) != names.fold(second.path)
    assert second == paths.place(other)
    assert second.why.startswith("stored as notes~")


def test_a_file_beside_another_has_a_place_that_its_content_decides() -> None:
    there = paths.place(file("a.txt"))
    one, two = (paths.beside(there, file("a.txt", data=each)) for each in (b"1", b"2"))
    assert one.path != two.path != there.path
    assert one == paths.beside(there, file("a.txt", data=b"1"))
    assert re.fullmatch(r"Documents/a~[a-z2-7]{8}\.txt", one.path)
    assert "another file had its name" in one.why


def test_what_one_kind_of_server_refuses_is_mapped_for_it_alone() -> None:
    rules = paths.Rules(forbidden="§", refused=re.compile(r"(?i).*\.part|\.htaccess"))
    assert paths.component("§x", rules) == "%C2%A7x"
    assert paths.component("movie.part", rules) == "movie%2Epart"
    assert paths.component(".htaccess", rules) == "%2Ehtaccess"
    assert paths.component("§x.part") == "§x.part"


def test_a_changed_folder_is_told_with_the_whole_path() -> None:
    there = paths.place(file("a|b", "c.txt"))
    assert there.why == "stored as Documents/a%7Cb/c.txt"
