"""Files arrive at WebDAV servers as they were, beside what is there, once; read back by other means."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import stamina
from parcels import loaded, parcel, shelf
from servers import apache, cutting, nextcloudish, process, rclone, wsgidav

from backupd.errors import AuthError, TransientError, UserError
from backupd.model import Service
from backupd.ports import Claim, Parcel
from backupd.tls import fingerprint_of
from targets.dav.nextcloud import Nextcloud
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
    "nextcloudish": nextcloudish.running,
}


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """As many tries as ever, without the pauses between them."""
    with stamina.set_testing(True, attempts=5, cap=True):
        yield


@pytest.fixture(scope="module", params=SERVERS)
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Any]]:
    with SERVERS[request.param]() as running:
        yield request.param, running


@pytest.fixture
def served(server: tuple[str, Any], tmp_path: Path) -> Served:
    """A folder of its own at the server for each test."""
    name, running = server
    url = f"{running.url}{tmp_path.name}/"
    httpx.request("MKCOL", url, auth=("u1", "pw")).raise_for_status()
    endpoint = Endpoint(
        "there",
        "webdav",
        url=url,
        username="u1",
        secret=lambda: "pw",
        state=tmp_path,
    )
    return Served(
        running.files / tmp_path.name,
        endpoint,
        Nextcloud if name == "nextcloudish" else WebDav,
        running,
    )


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


def test_what_a_killed_run_left_behind_is_gone_after_the_next(served: Served) -> None:
    killed = served.target()
    list(killed.put(DRIVE, loaded([file("a.txt", b"a")]), look=False))
    killed._http.close()
    assert states(put(served, file("a.txt", b"a"), look=True)) == {"present"}
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


def test_a_connection_that_breaks_in_an_upload_leaves_no_half_file(served: Served) -> None:
    name, data = "a/big.bin", BIG
    with cutting.running(served.running.port, limit=len(data) // 2) as cut:
        broken = replace(
            served.endpoint,
            url=served.endpoint.url.replace(f":{served.running.port}/", f":{cut.port}/"),
            quirks={"chunk_size": len(data)},
        )
        target = served.build(broken)
        with suppress(TransientError):
            ((_, end),) = target.put(DRIVE, loaded([file(name, data)]), look=False)
            assert (
                end.state == "quarantined"
            )  # by a server that still holds its lock at the last try
        target.close()
        assert cut.cuts
    assert f"Documents/{name}" not in served.on_disk()
    (claim,) = put(served, file(name, data), look=True)
    assert claim.put.state == "restored"
    assert served.on_disk() == {f"Documents/{name}": data}


def test_a_server_that_cannot_move_gets_files_at_once_and_a_half_one_is_replaced(
    served: Served,
) -> None:
    served.endpoint = replace(served.endpoint, quirks={"move": False})
    put(served, file("theirs.txt", b"not ours"), file("half.txt", b"the first ha"))
    claims = put(
        served, file("theirs.txt", b"ours"), file("half.txt", b"the first half, and the rest")
    )
    there = served.on_disk()
    assert there["Documents/theirs.txt"] == b"not ours"
    assert there[claims[0].put.where] == b"ours"
    if served.build is WebDav:  # Nextcloud shows whole files only: that one is somebody's
        assert there["Documents/half.txt"] == b"the first half, and the rest"
    assert there[claims[1].put.where] == b"the first half, and the rest"


def test_a_date_is_kept_or_its_loss_is_told(served: Served) -> None:
    claims = put(served, file("dated.txt", b"old"))
    target = served.target()
    (proof,) = target.read_back(DRIVE, claims)
    target.close()
    kept = (served.files / "Documents/dated.txt").stat().st_mtime == 1551675967
    assert (proof.state, proof.what) == ("same", "" if kept else "its date was not kept")
    assert kept == (not isinstance(served.running, (apache.Apache, wsgidav.WsgiDav)))


def test_two_files_whose_names_differ_in_case_or_in_normal_form_are_both_there(
    served: Served,
) -> None:
    names = ("Notes.txt", "notes.txt", "e\u0301.txt", "\u00e9.txt")
    claims = put(served, *(file(name, name.encode()) for name in names))
    there = served.on_disk()
    assert len(there) == len({each.put.where for each in claims}) == 4
    assert sorted(there.values()) == sorted(name.encode() for name in names)
    assert states(put(served, *(file(name, name.encode()) for name in names))) == {"present"}


def test_a_server_that_goes_away_costs_a_second_run_and_nothing_twice() -> None:
    files = [file(f"{number}.txt", b"%d" % number) for number in range(20)]
    with apache.running() as first:
        endpoint = Endpoint(
            "there", "webdav", url=first.url, username="u1", secret=lambda: "pw", connections=1
        )
        served = Served(first.files, endpoint, WebDav, first)

        def until_it_stops() -> Iterator[tuple[Parcel, bytes]]:
            yield from files[:10]
            process.stop(first.process)
            yield from files[10:]

        target = WebDav(endpoint)
        done = []
        with pytest.raises(TransientError):
            done.extend(target.put(DRIVE, loaded(until_it_stops()), look=False))
        target.close()
        with apache.running(port=first.port, files=first.files):
            claims = put(served, *files, look=True)
        assert states(claims) == {"restored", "present"}
        assert served.on_disk() == {f"Documents/{n}.txt": b"%d" % n for n in range(20)}


def test_a_pinned_certificate_is_enough_and_another_one_is_refused() -> None:
    with apache.running(encrypted=True) as server:
        assert server.certificate is not None
        pin = fingerprint_of(ssl.PEM_cert_to_DER_cert(server.certificate.read_text()))
        endpoint = Endpoint("there", "webdav", url=server.url, username="u1", secret=lambda: "pw")
        served = Served(server.files, replace(endpoint, fingerprint=pin), WebDav, server)
        assert states(put(served, file("a.txt", b"a"))) == {"restored"}
        for wrong in (replace(endpoint, fingerprint="0" * 64), endpoint):
            target = WebDav(wrong)
            with pytest.raises(UserError) as caught:
                list(target.preflight())
            target.close()
            assert caught.value.reason == "certificate"


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Served]:
    """A double of Nextcloud that a test may change."""
    with nextcloudish.running() as double:
        endpoint = Endpoint(
            "there", "nextcloud", url=double.url, username="u1", secret=lambda: "pw", state=tmp_path
        )
        yield Served(double.files, endpoint, Nextcloud, double)


def test_a_large_file_goes_in_pieces_that_survive_a_break(cloud: Served) -> None:
    cloud.running.broken = "00003"
    with pytest.raises(TransientError):
        put(cloud, file("big.bin", BIG))
    assert cloud.on_disk() == {}
    cloud.running.broken = ""
    cloud.running.asked.clear()
    (claim,) = put(cloud, file("big.bin", BIG), look=True)
    sent = [path[-5:] for method, path in cloud.running.asked if method == "PUT"]
    assert (claim.put.state, sent) == ("restored", ["00003"])
    assert cloud.on_disk() == {"Documents/big.bin": BIG}
    assert cloud.running.uploads == {}


def test_pieces_that_the_server_forgot_are_sent_again(cloud: Served) -> None:
    cloud.running.broken = "00002"
    with pytest.raises(TransientError):
        put(cloud, file("big.bin", BIG))
    cloud.running.broken = ""
    cloud.running.uploads.clear()
    assert states(put(cloud, file("big.bin", BIG), look=True)) == {"restored"}
    assert cloud.on_disk() == {"Documents/big.bin": BIG}


def test_a_full_account_stops_the_run_and_leaves_no_pieces(cloud: Served) -> None:
    cloud.running.room = 15 << 20
    for data in (BIG, b"x" * (16 << 20)):
        with pytest.raises(UserError) as caught:
            put(cloud, file("big.bin", data))
        assert caught.value.reason == "quota"
    assert cloud.running.uploads == {}
    cloud.running.room = 0
    target = cloud.target()
    assert "error" in {each.level for each in target.preflight()}
    target.close()


def test_a_lock_is_waited_for(cloud: Served) -> None:
    cloud.running.locked = 2
    assert states(put(cloud, file("a.txt", b"a"))) == {"restored"}


def test_names_that_nextcloud_keeps_for_itself_are_mapped(cloud: Served) -> None:
    claims = put(cloud, file("movie.part", b"m"), file(".htaccess", b"h"))
    assert states(claims) == {"repaired"}
    assert cloud.on_disk() == {"Documents/movie%2Epart": b"m", "Documents/%2Ehtaccess": b"h"}


def test_another_large_file_in_the_way_stays_untouched(cloud: Served) -> None:
    other = BIG[::-1]
    put(cloud, file("big.bin", other))
    (claim,) = put(cloud, file("big.bin", BIG))
    assert cloud.on_disk() == {"Documents/big.bin": other, claim.put.where: BIG}
