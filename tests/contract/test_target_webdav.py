"""Files arrive at WebDAV servers as they were, beside what is there, once; read back by other means."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from parcels import loaded, parcel, shelf
from servers import apache, rclone, wsgidav

from backupd.errors import AuthError
from backupd.model import Service
from backupd.ports import Claim, Parcel
from targets.dav.webdav import WebDav
from targets.endpoint import Endpoint

DRIVE = shelf(Service.FILES, "Documents")
DATED = {"modified": "2019-03-04T05:06:07Z"}
AWKWARD = ("Über größer.txt", "🎉 party.txt", "#1 100% & a+b; c?.txt", "l" * 246 + ".txt")
BIG = bytes(range(251)) * 120_000  # 30 MB


@dataclass
class Served:
    """A server, where its files lie on disk, and a target for it."""

    files: Path
    endpoint: Endpoint
    build: Callable[[Endpoint], WebDav]
    running: Any

    def look_again(self) -> None:
        """Servers that remember folders must see what a test did on disk."""
        if isinstance(self.running, rclone.RcloneServer):
            self.running.look_again()

    def target(self) -> WebDav:
        return self.build(self.endpoint)

    def on_disk(self) -> dict[str, bytes]:
        """Every file there is, by its path, without asking the server."""
        found = (each for each in self.files.rglob("*") if each.is_file())
        ours = {str(each.relative_to(self.files)): each.read_bytes() for each in found}
        return {path: data for path, data in ours.items() if ".DAV/" not in path}


SERVERS: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "apache": apache.running,
    "wsgidav": wsgidav.running,
    "rclone": rclone.running,
}
BUILD = dict.fromkeys(SERVERS, WebDav)


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    with SERVERS[request.param]() as running:
        yield request.param, running


@pytest.fixture
def served(server: tuple[str, Any], tmp_path: Path) -> Served:
    """A folder of its own at the server for each test."""
    name, running = server
    url = f"{running.url}{tmp_path.name}/"
    httpx.request("MKCOL", url, auth=("u1", "pw"), verify=False).raise_for_status()
    endpoint = Endpoint(
        "there",
        "webdav",
        url=url,
        username="u1",
        secret=lambda: "pw",
        state=tmp_path,
    )
    return Served(running.files / tmp_path.name, endpoint, BUILD[name], running)


def file(name: str, data: bytes, *, about: dict[str, str] | None = None) -> tuple[Parcel, bytes]:
    inner = tuple(name.split("/"))
    return parcel(DRIVE, inner[-1], data, inner=inner, about=about or DATED), data


def household() -> list[tuple[Parcel, bytes]]:
    small = [file(f"a/b c/{name}", name.encode()) for name in AWKWARD]
    return [*small, file("top.txt", b"top"), file("a/empty", b""), file("a/big.bin", BIG)]


def put(served: Served, *files: tuple[Parcel, bytes], look: bool = False) -> list[Claim]:
    target = served.target()
    try:
        target.make_collection(DRIVE)
        return [Claim(each, end) for each, end in target.put(DRIVE, loaded(files), look=look)]
    finally:
        target.close()


def states(claims: list[Claim]) -> set[str]:
    return {each.put.state for each in claims}


def test_every_file_arrives_whole_under_its_own_name(served: Served) -> None:
    claims = put(served, *household())
    assert states(claims) == {"restored", "repaired"}
    there = served.on_disk()
    expected = {each.put.where: each.parcel.sha256 for each in claims}
    assert there.keys() == expected.keys()
    assert there["Documents/a/b c/Über größer.txt"] == "Über größer.txt".encode()
    assert there["Documents/a/big.bin"] == BIG
    assert there["Documents/a/empty"] == b""
    assert there["Documents/a/b c/#1 100% & a+b; c%3F.txt"] == b"#1 100% & a+b; c?.txt"
    assert "stored as #1 100% & a+b; c%3F.txt" in {each.put.why for each in claims}


def test_nothing_temporary_is_left_behind(served: Served) -> None:
    put(served, file("a.txt", b"a"))
    assert [each.name for each in served.files.iterdir() if each.name != ".DAV"] == ["Documents"]


def test_a_second_restore_without_a_ledger_puts_nothing(served: Served) -> None:
    first = put(served, *household())
    before = served.on_disk()
    again = put(served, *household(), look=True)
    assert states(again) == {"present"}
    assert served.on_disk() == before
    assert {each.put.where for each in again} == {each.put.where for each in first}


def test_another_file_under_the_same_name_stays_untouched(served: Served) -> None:
    put(served, file("a.txt", b"theirs, and longer"))
    for look in (False, True):
        (claim,) = put(served, file("a.txt", b"ours"), look=look)
        assert "another file had its name" in claim.put.why or claim.put.state == "present"
        there = served.on_disk()
        assert there.pop("Documents/a.txt") == b"theirs, and longer"
        assert there == {claim.put.where: b"ours"}


def test_what_was_put_is_proven_by_its_bytes_and_by_its_size(served: Served) -> None:
    claims = put(served, *household())
    target = served.target()
    for deep in (True, False):
        asked = [replace(each, deep=deep) for each in claims]
        assert {each.state for each in target.read_back(DRIVE, asked)} == {"same"}
    target.close()


def test_a_file_that_changed_or_vanished_is_told(served: Served) -> None:
    claims = put(served, *(file(name, b"as it was") for name in ("same", "gone", "other", "short")))
    (served.files / "Documents/gone").unlink()
    (served.files / "Documents/other").write_bytes(b"as it isn")
    (served.files / "Documents/short").write_bytes(b"as")
    served.look_again()
    target = served.target()
    proofs = list(target.read_back(DRIVE, claims))
    shallow = list(target.read_back(DRIVE, [replace(each, deep=False) for each in claims]))
    target.close()
    assert [each.state for each in proofs] == ["same", "missing", "changed", "changed"]
    assert [each.state for each in shallow] == ["same", "missing", "same", "changed"]


def test_a_wrong_password_is_a_matter_of_credentials(served: Served) -> None:
    target = served.build(replace(served.endpoint, secret=lambda: "wrong"))
    with pytest.raises(AuthError) as caught:
        list(target.preflight())
    target.close()
    assert "wrong" not in str(caught.value)


def test_a_server_that_answers_is_told_before_anything_is_put(served: Served) -> None:
    target = served.target()
    assert {each.level for each in target.preflight()} == {"ok"}
    target.close()
    assert served.on_disk() == {}


def test_an_item_whose_bytes_are_wrong_is_damaged_and_not_put(served: Served) -> None:
    wrong, _ = file("a.txt", b"what was fetched")
    target = served.target()
    ((_, end),) = target.put(DRIVE, loaded([(wrong, b"what came out")]), look=False)
    target.close()
    assert end.state == "damaged"
    assert served.on_disk() == {}
