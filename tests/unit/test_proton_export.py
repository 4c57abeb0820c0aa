"""The folder that Proton's export tool restores from: complete, deterministic, and honest about its limits."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from parcels import Checked, parcel, shelf

from backupd.errors import UserError
from backupd.model import Service
from backupd.ports import Parcel, Reader, Shelf
from targets.proton.export import Summary, write

INBOX = shelf(Service.MAIL, "Inbox", special="inbox")
SENT = shelf(Service.MAIL, "Sent Items", special="sentitems")
DRAFTS = shelf(Service.MAIL, "Drafts", special="drafts")
DEEP = shelf(Service.MAIL, "Work", "2024", "work")
EMPTY = shelf(Service.MAIL, "Nothing")
SHELVES = [INBOX, SENT, DRAFTS, DEEP, EMPTY]
ABOUT = {"received": "2024-03-05T06:07:08Z", "message_id": "<1@example.org>", "subject": "Hello"}


def mail(sender: str = "ann@example.org") -> bytes:
    return (
        f"From: {sender}\r\nDate: Tue, 5 Mar 2024 06:00:00 +0000\r\nMessage-ID: <1@example.org>\r\n\r\nHi\r\n"
    ).encode()


def entry(
    where: Shelf, leaf: str, data: bytes | None = None, **about: object
) -> tuple[Shelf, Parcel, Reader]:
    data = mail() if data is None else data
    one = parcel(where, leaf, data, about={**ABOUT, **about})
    return where, one, Checked(one, data)


def some() -> Iterator[tuple[Shelf, Parcel, Reader]]:
    yield entry(INBOX, "a", seen=True, flagged=True, categories=["Work", "Red"], answered=True)
    yield entry(SENT, "b")
    yield entry(DRAFTS, "c", draft=True)
    yield entry(DEEP, "d")
    yield entry(DEEP, "e", mail("Me <me@example.org>"))


def exported(folder: Path) -> Summary:
    return write(folder, SHELVES, some(), own=("me@example.org",))


def payloads(folder: Path) -> list[dict[str, Any]]:
    found = []
    for each in folder.glob("*.metadata.json"):
        whole = json.loads(each.read_text())
        assert whole["Version"] == 1
        assert each.name == f"{whole['Payload']['ID']}.metadata.json"
        assert (folder / f"{whole['Payload']['ID']}.eml").exists()
        found.append(whole["Payload"])
    return found


def labels(folder: Path) -> dict[str, dict[str, Any]]:
    whole = json.loads((folder / "labels.json").read_text())
    assert whole["Version"] == 1
    return {each["ID"]: each for each in whole["Payload"]}


def test_every_message_has_its_two_files_and_every_label_is_listed(tmp_path: Path) -> None:
    summary = exported(tmp_path / "out")
    assert (summary.messages, summary.failed) == (5, [])
    known = labels(tmp_path / "out")
    for each in payloads(tmp_path / "out"):
        assert set(each["LabelIDs"]) <= set(known)
        assert each["Time"] == 1709618828
        assert each["ExternalID"] == "1@example.org"


def test_folders_labels_and_marks_are_those_of_proton(tmp_path: Path) -> None:
    exported(tmp_path / "out")
    known = labels(tmp_path / "out")
    by_place = {
        (known[each["LabelIDs"][0]]["Path"], each["Flags"], each["Unread"]): each
        for each in payloads(tmp_path / "out")
    }
    received, sent = 1, 2
    assert set(by_place) == {
        ("Inbox", received | 32, 0), ("Sent", sent, 1), ("Drafts", 0, 1),
        ("Work/2024/work (1)", received, 1), ("Work/2024/work (1)", sent, 1),
    }  # fmt: skip
    marks = [known[each]["Path"] for each in by_place["Inbox", received | 32, 0]["LabelIDs"]]
    assert marks == ["Inbox", "Starred", "Work (2)", "Red"]


def test_names_are_unique_among_folders_and_labels_and_parents_come_first(tmp_path: Path) -> None:
    exported(tmp_path / "out")
    seen: set[str] = set()
    names: list[str] = []
    for number, each in labels(tmp_path / "out").items():
        assert not each["ParentID"] or each["ParentID"] in seen
        assert number.isdecimal() == (each["Type"] == 4)
        seen.add(number)
        names += [each["Name"].casefold()] if each["Type"] != 4 else []
    assert len(names) == len(set(names))
    assert "nothing" in names


def test_the_same_items_make_the_same_files(tmp_path: Path) -> None:
    for name in "ab":
        exported(tmp_path / name)
    ours = {each.name: each.read_bytes() for each in (tmp_path / "a").iterdir()}
    assert ours == {each.name: each.read_bytes() for each in (tmp_path / "b").iterdir()}
    assert "second run makes every message twice" in ours["README.txt"].decode()


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(UserError, match="not empty"):
        exported(tmp_path)


def test_a_damaged_item_is_named_and_the_others_are_written(tmp_path: Path) -> None:
    where, one, _ = entry(INBOX, "a")
    damaged = (where, one, Checked(one, b"other"))
    summary = write(tmp_path / "out", SHELVES, [damaged, entry(INBOX, "b", b"no header")])
    assert (summary.messages, summary.repaired) == (1, 1)
    assert [path for path, _ in summary.failed] == ["mail/Inbox/a"]
