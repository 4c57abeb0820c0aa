"""mbox files: every message can be had back, and mail programs read them."""

from __future__ import annotations

import mailbox
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parcels import Checked, loaded, parcel, shelf

from backupd.errors import UserError
from backupd.model import Service
from backupd.ports import Parcel, Reader, Shelf
from targets.mbox import TAIL, write

INBOX = shelf(Service.MAIL, "Inbox")


def packed(
    *messages: bytes, where: Shelf = INBOX, **about: object
) -> Iterator[tuple[Shelf, Parcel, Reader]]:
    facts = {"received": "2025-02-03T04:05:06Z", **about}
    pairs = [
        (parcel(where, f"{number}.eml", data, about=facts), data)
        for number, data in enumerate(messages)
    ]
    for each, content in loaded(pairs):
        yield where, each, content


def read(path: Path) -> list[bytes]:
    """The messages of a file as mboxrd says, without the headers that were added."""
    found: list[list[bytes]] = []
    for line in path.read_bytes().splitlines(keepends=True):
        if line.startswith(b"From "):
            found.append([])
        else:
            found[-1].append(line)
    return [_unquoted(lines) for lines in found]


def _unquoted(lines: list[bytes]) -> bytes:
    while lines and lines[0].startswith((b"Status: ", b"X-Status: ", b"X-Keywords: ")):
        lines.pop(0)
    text = b"".join(lines)
    return re.sub(rb"^>(>*From )", rb"\1", text, flags=re.MULTILINE).removesuffix(b"\n")


LINES = st.lists(
    st.sampled_from([b"From x", b">From y", b">>From z", b"", b"plain", b"\rodd", b"From " * 20])
)


@given(LINES, st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_message_can_be_had_back(tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], crlf: bool) -> None:  # fmt: skip
    message = b"Subject: x\n\n" + b"\n".join(lines) + b"\n"
    folder = tmp_path_factory.mktemp("m") / "out"
    write(folder, packed(message.replace(b"\n", b"\r\n") if crlf else message, message))
    first, second = read(folder / "Inbox.mbox")
    assert first == second == message


def test_a_line_longer_than_any_buffer_is_not_quoted_in_its_middle(tmp_path: Path) -> None:
    message = b"Subject: x\n\n" + b"y" * (TAIL - 12) + b"From " * (1 << 18) + b"\nFrom end\n"
    write(tmp_path / "out", packed(message))
    assert read(tmp_path / "out/Inbox.mbox") == [message]


def test_a_mail_program_sees_messages_and_flags(tmp_path: Path) -> None:
    write(
        tmp_path / "out",
        packed(
            b"Subject: a\r\n\r\nx\r\n", b"Subject: b\r\n\r\nFrom me\r\n", seen=True, flagged=True
        ),
    )
    with closing(mailbox.mbox(tmp_path / "out/Inbox.mbox", create=False)) as box:
        assert [each["Subject"] for each in box] == ["a", "b"]
        assert {each.get_flags() for each in box} == {"ROF"}


def test_folders_are_files_and_damaged_items_are_named_and_left_out(tmp_path: Path) -> None:
    nested = shelf(Service.MAIL, "Clients", "Novak")
    good, bad = b"Subject: good\n\n", b"Subject: bad\n\n"
    ((where, broken, _),) = packed(bad, where=nested)
    told = write(
        tmp_path / "out",
        [*packed(good, where=nested), (where, broken, Checked(broken, b"Subject: evil\n\n"))],
    )
    assert (told.messages, told.files, told.damaged) == (1, 1, (broken.path,))
    assert read(tmp_path / "out/Clients/Novak.mbox") == [good]
    with pytest.raises(UserError, match="not empty"):
        write(tmp_path / "out", packed(good))
