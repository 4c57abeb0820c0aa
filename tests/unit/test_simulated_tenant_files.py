"""Drives and downloads of the simulated tenant."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from tenant_client import TenantClient

from backupd.demo import quickxor
from backupd.demo.drive import BLOCK, SyntheticContent
from backupd.demo.faults import Fault
from backupd.demo.tenant import SimulatedTenant

if TYPE_CHECKING:
    from collections.abc import Iterator

WHO = "amelia"
URL = "@microsoft.graph.downloadUrl"


@pytest.fixture
def client() -> Iterator[TenantClient]:
    with (
        SimulatedTenant(people=1, messages=0) as tenant,
        TenantClient(tenant) as connected,
    ):
        yield connected


def delta(client: TenantClient, options: str = "") -> str:
    return f"drives/{client.tenant.state.drive(WHO).id}/root/delta{options}"


def named(client: TenantClient) -> dict[str, dict[str, Any]]:
    return {row["name"]: row for row in client.rows(delta(client, "?$top=500"))}


def fetch(client: TenantClient, url: str, **headers: str) -> Any:
    return client.http.get(url, headers=headers)


def test_quick_xor_hash_matches_known_vectors() -> None:
    vectors = {
        b"": "AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        b"J": "SgAAAAAAAAAAAAAAAQAAAAAAAAA=",
        b"\xb5\xb4": "taAFAAAAAAAAAAAAAgAAAAAAAAA=",
        b"\xd2\x96\x4f": "0rDEEwAAAAAAAAAAAwAAAAAAAAA=",
    }
    assert {data: quickxor.quick_xor(data) for data in vectors} == vectors


@pytest.mark.parametrize("size", [1, BLOCK, BLOCK + 1, 2 * BLOCK + 17, 3 * BLOCK + 1761, 5 * BLOCK])
def test_synthetic_content_knows_its_hash_without_being_read(size: int) -> None:
    content = SyntheticContent(size, "x")
    whole = b"".join(content.read(0, size))
    assert len(whole) == size
    assert content.quick_xor == quickxor.quick_xor(whole)
    assert b"".join(content.read(size // 3, size)) == whole[size // 3 :]


def test_every_file_can_be_downloaded_from_the_other_host_and_has_its_hash(
    client: TenantClient,
) -> None:
    trouble = {"invoice.exe", "Brief (rewritten).docx"}
    for name, row in named(client).items():
        if "file" not in row or name in trouble:
            continue
        content = fetch(client, row[URL]).content
        assert len(content) == row["size"], name
        if content:
            assert row["file"]["hashes"]["quickXorHash"] == quickxor.quick_xor(content), name
    downloads = client.tenant.log.where(door="download")
    assert downloads
    assert not any("authorization" in record.headers for record in downloads)


def test_what_a_drive_cannot_hand_out(client: TenantClient) -> None:
    rows = named(client)
    office = rows["Brief (rewritten).docx"]
    assert len(fetch(client, office[URL]).content) != office["size"]
    assert "hashes" not in rows["empty.txt"]["file"]
    assert rows["Team notebook"]["package"] == {"type": "oneNote"}
    assert rows["Shared with me"]["remoteItem"]["parentReference"]["driveId"]
    virus = rows["invoice.exe"]
    assert URL not in virus
    refused = client.get(f"drives/{client.tenant.state.drive(WHO).id}/items/{virus['id']}/content")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "malwareDetected")
    assert "X-Virus-Infected" in refused.headers


def test_paths_are_told_by_items_but_never_by_delta(client: TenantClient) -> None:
    row = named(client)["photo 1.png"]
    assert "path" not in row["parentReference"]
    drive = row["parentReference"]["driveId"]
    found = client.get(f"drives/{drive}/items/{row['id']}").json()
    assert found["parentReference"]["path"] == f"/drives/{drive}/root:/Cases/Novak/Evidence"


def test_a_download_host_refuses_the_token(client: TenantClient) -> None:
    url = named(client)["notes.txt"][URL]
    assert fetch(client, url, Authorization="Bearer x").status_code == 401
    assert fetch(client, url).status_code == 200


def test_content_is_a_redirect_and_an_unchanged_tag_is_not_sent_again(client: TenantClient) -> None:
    row = named(client)["notes.txt"]
    path = f"drives/{row['parentReference']['driveId']}/items/{row['id']}/content"
    answer = client.get(path)
    assert (answer.status_code, answer.content) == (302, b"")
    assert answer.headers["Location"].startswith(client.tenant.download_url + "/dl/")
    assert client.get(path, **{"If-None-Match": row["cTag"]}).status_code == 304


def test_addresses_expire(client: TenantClient) -> None:
    client.tenant.switches.download_lifetime = -1
    assert fetch(client, named(client)["notes.txt"][URL]).status_code == 401
    client.tenant.switches.download_lifetime = 60
    url = named(client)["notes.txt"][URL]
    assert fetch(client, url).status_code == 200
    client.tenant.expire_downloads()
    assert fetch(client, url).status_code == 401


def test_ranges_are_served_ignored_or_refused(client: TenantClient) -> None:
    url = named(client)["scan.tif"][URL]
    whole = fetch(client, url).content
    part = fetch(client, url, Range="bytes=1000000-")
    assert (part.status_code, part.content) == (206, whole[1_000_000:])
    assert part.headers["Content-Range"] == f"bytes 1000000-{len(whole) - 1}/{len(whole)}"
    assert fetch(client, url, Range="bytes=5-9").content == whole[5:10]
    assert fetch(client, url, Range=f"bytes={len(whole)}-").status_code == 416
    client.tenant.switches.range_mode = "whole"
    assert fetch(client, url, Range="bytes=5-9").content == whole
    client.tenant.switches.range_mode = "unsatisfiable"
    assert fetch(client, url, Range="bytes=5-9").status_code == 416


def test_downloads_can_be_damaged(client: TenantClient) -> None:
    row = named(client)["notes.txt"]
    client.tenant.faults.add(Fault("wrong_bytes", route="dl/*", times=1))
    damaged = fetch(client, row[URL]).content
    assert quickxor.quick_xor(damaged) != row["file"]["hashes"]["quickXorHash"]
    assert (
        quickxor.quick_xor(fetch(client, row[URL]).content) == row["file"]["hashes"]["quickXorHash"]
    )


def test_a_deletion_looks_like_an_update_unless_it_is_selected(client: TenantClient) -> None:
    _, plain = client.round(delta(client, "?$select=id,name"))
    _, careful = client.round(delta(client, "?$select=id,name,deleted"))
    client.tenant.state.delete_item(WHO, "notes.txt")
    assert "deleted" not in client.round(plain)[0][0]
    assert client.round(careful)[0][0]["deleted"] == {"state": "deleted"}
    assert "name" not in client.round(careful)[0][0]


def test_a_renamed_or_moved_folder_comes_without_its_children(client: TenantClient) -> None:
    state = client.tenant.state
    _, link = client.round(delta(client))
    state.rename_item(WHO, "Cases/Novak", "Novák")
    state.move_item(WHO, "Cases/Novák", "Office")
    assert [row["name"] for row in client.round(link)[0]] == ["Novák", "Novák"]
    state.delete_item(WHO, "Office/Novák")
    gone = [row for row in client.round(link)[0] if "deleted" in row]
    assert len(gone) == 5


def test_latest_begins_now(client: TenantClient) -> None:
    rows, link = client.round(delta(client, "?token=latest"))
    assert rows == []
    client.tenant.state.put_file(WHO, "new.txt", b"new\n")
    assert [row["name"] for row in client.round(link)[0]] == ["new.txt"]


def test_older_versions_can_be_had_and_the_current_one_only_as_content(
    client: TenantClient,
) -> None:
    row = named(client)["History.txt"]
    path = f"drives/{row['parentReference']['driveId']}/items/{row['id']}/versions"
    assert [version["id"] for version in client.rows(path)] == ["3.0", "2.0", "1.0"]
    first = client.get(f"{path}/1.0/content").headers["Location"]
    assert fetch(client, first).content == b"first\n"
    assert client.get(f"{path}/3.0/content").status_code == 400


def test_names_reach_the_client_as_they_are(client: TenantClient) -> None:
    names = set(named(client))
    assert {
        "ends with a dot.",
        "Twin.txt",
        "twin.TXT",
        "new\nline.txt",
        "bell\x07.txt",
        "caf\u00e9.txt",
        "cafe\u0301.txt",
    } <= names
    raw = client.get(delta(client, "?$top=500")).content
    assert b"bell\x07.txt" in raw


def test_four_gigabytes_take_no_memory(client: TenantClient) -> None:
    size = 4 * 1024**3 + 7
    client.tenant.state.put_big_file(WHO, "Scans/disk.img", size)
    row = named(client)["disk.img"]
    assert row["size"] == size
    assert len(row["file"]["hashes"]["quickXorHash"]) == 28
    tail = fetch(client, row[URL], Range=f"bytes={size - 10}-")
    assert (tail.status_code, len(tail.content)) == (206, 10)
    with client.http.stream("GET", row[URL]) as answer:
        assert int(answer.headers["Content-Length"]) == size
        assert len(next(answer.iter_raw())) > 0


def test_content_can_come_from_a_function(client: TenantClient) -> None:
    def pieces() -> Iterator[bytes]:
        return (bytes([number]) * 1000 for number in range(10))

    client.tenant.state.put_file(WHO, "made.bin", pieces, 10_000)
    row = named(client)["made.bin"]
    assert "hashes" not in row["file"]
    whole = b"".join(pieces())
    assert (
        hashlib.sha256(fetch(client, row[URL]).content).digest() == hashlib.sha256(whole).digest()
    )
    assert fetch(client, row[URL], Range="bytes=2500-4499").content == whole[2500:4500]


def test_a_site_has_libraries(client: TenantClient) -> None:
    site = client.get("sites/getAllSites").json()["value"][0]["id"]
    assert client.get("sites?search=*").json()["value"][0]["id"] == site
    libraries = client.rows(f"sites/{site}/drives")
    assert [drive["name"] for drive in libraries] == ["Documents", "Court filings"]
    assert all(client.rows(f"drives/{drive['id']}/root/delta") for drive in libraries)
