"""What every storage must do, over real servers: make, list, read back, pin, forget, prune, say what is wrong."""

from __future__ import annotations

import socket
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import randbytes

import pytest
from places import KINDS, Place
from servers import process, resting

from backupd.config import Storage
from backupd.errors import BackupdError, UserError, VaultError, VaultUnreachable
from backupd.vaults.locations import parse
from backupd.vaults.restic import Restic
from backupd.vaults.vault import COMPLETE, PINNED, Vault, vault_of

SLOW = {"s3-moto", "rclone-restic", "rclone-append-only"}
"""Second opinions on what another kind has shown already."""

OURS = ("account:alice@harbourlight.example",)


@dataclass(frozen=True)
class Kept:
    """A vault with three snapshots: the first one complete, the last one of the letter as it is now."""

    place: Place
    vault: Vault
    letter: bytes
    ids: list[str]


@pytest.fixture(
    scope="module",
    params=[pytest.param(each, marks=[pytest.mark.slow] * (each in SLOW)) for each in KINDS],
)
def kept(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:  # fmt: skip
    process.need("restic")
    folder = tmp_path_factory.mktemp(request.param)
    mirror = folder / "mirror" / "mail"
    mirror.mkdir(parents=True)
    (mirror / "ballast").write_bytes(bytes(range(256)) * 2000)
    with KINDS[request.param](folder) as place:
        vault = place.vault("alice")
        assert vault.create()
        ids = []
        for number, state in enumerate((COMPLETE, "state:partial", "state:partial")):
            letter = f"Subject: {number}\r\n\r\n{number * 'lorem ipsum '}".encode() * 999
            (mirror / "letter.eml").write_bytes(letter)
            ids.append(vault.make(mirror.parent, [*OURS, state]).snapshot_id)
        yield Kept(place, vault, letter, ids)


def test_a_vault_is_created_once(kept: Kept) -> None:
    assert not kept.vault.create()


def test_what_was_snapshotted_is_listed_and_reads_back(kept: Kept) -> None:
    found = kept.vault.snapshots()
    assert [each.id[:8] for each in found] == [each[:8] for each in kept.ids]
    with kept.vault.tar(found[-1]) as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
        read = {each.name.lstrip("./"): tar.extractfile(each).read() for each in tar if each.isfile()}  # type: ignore[union-attr]  # fmt: skip
    assert read["mail/letter.eml"] == kept.letter
    assert len(read["mail/ballast"]) == 512_000


def test_a_wrong_password_opens_nothing_and_hides_nothing(kept: Kept) -> None:
    wrong = kept.place.vault("alice", password="battery staple")
    with pytest.raises(BackupdError, match="password") as caught:
        wrong.repository.exists()
    if Restic().version >= (0, 17) or kept.place.kind == "local":
        assert caught.value.reason == "wrong-password"
    assert not isinstance(caught.value, VaultUnreachable)


def test_what_is_pinned_stays_and_the_rest_can_go(kept: Kept) -> None:
    first, second, third = kept.vault.snapshots()
    if kept.place.append_only:
        with pytest.raises(VaultError):
            kept.vault.run(["forget", second.id], within=4)  # restic itself tries for a while
        assert len(kept.vault.snapshots()) == 3, "an append-only storage has lost a snapshot"
        return
    renamed = kept.vault.pin()
    assert set(renamed) == {first.id, third.id}
    assert kept.vault.pin() == {}, "what is pinned already is not touched again"
    kept.vault.forget([second.id])
    kept.vault.prune(everything=True)
    left = kept.vault.snapshots()
    assert [each.time for each in left] == [first.time, third.time]
    assert all(PINNED in each.tags for each in left)
    with kept.vault.content(left[-1], "mail/letter.eml") as stream:
        assert stream.read() == kept.letter


def test_damage_is_seen(kept: Kept) -> None:
    kept.place.damage("alice")
    with pytest.raises(VaultError) as caught:
        kept.vault.run(["check", "--read-data"])
    assert not isinstance(caught.value, VaultUnreachable)


# -- storages that do not answer ------------------------------------------------------------------

NOBODY = ("rest:http://127.0.0.1:{port}/x", "s3:http://127.0.0.1:{port}/bucket/x", "sftp://nobody@127.0.0.1:{port}//x")  # fmt: skip


def _vault(folder: Path, location: str, **more: object) -> Vault:
    (folder / "password").write_text("pw")
    raw = {"name": "away", "repository": location, "password_file": folder / "password", "shared": True}  # fmt: skip
    return vault_of(Storage.model_validate(raw | more), Restic(), folder, ("demo", "a@example.org"))


@pytest.mark.parametrize("location", NOBODY)
def test_where_nobody_listens_is_told_at_once(tmp_path: Path, location: str) -> None:
    vault = _vault(tmp_path, location.format(port=process.free_port()))
    began = time.monotonic()
    with pytest.raises(VaultError) as caught:
        vault.create()
    assert time.monotonic() - began < 10
    if parse(location.format(port=1)).kind != "sftp":  # what ssh says is all there is to know
        assert isinstance(caught.value, VaultUnreachable)
        assert "refused" in str(caught.value)


def test_a_server_that_takes_connections_and_never_answers_costs_no_more_than_its_time(
    tmp_path: Path,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        vault = _vault(tmp_path, f"rest:http://127.0.0.1:{mute.getsockname()[1]}/x", answer_within="2s")  # fmt: skip
        began = time.monotonic()
        with pytest.raises(VaultUnreachable) as caught:
            vault.create()
        assert time.monotonic() - began < 12
    assert caught.value.exit_code == 75


def test_a_full_rest_server_is_told_and_what_was_there_can_still_be_read(tmp_path: Path) -> None:
    with resting.rest_server(max_size=300_000) as (address, _):
        secret = tmp_path / "environment"
        secret.write_text(f"RESTIC_REST_USERNAME={resting.USER}\nRESTIC_REST_PASSWORD={resting.PASSWORD}\n")  # fmt: skip
        vault = _vault(tmp_path, f"{address}x/", environment_file=secret, run_within="6s")
        mirror = tmp_path / "mirror"
        mirror.mkdir()
        (mirror / "small.eml").write_bytes(b"small")
        vault.create()
        vault.make(mirror, ["account:a@example.org"])
        (mirror / "large.eml").write_bytes(randbytes(2_000_000))
        with pytest.raises(BackupdError) as caught:
            vault.make(mirror, ["account:a@example.org"])
        assert resting.PASSWORD not in str(caught.value)
        assert "507" in str(caught.value), "what restic complained about is told"
        with vault.content(vault.pick(), "small.eml") as stream:
            assert stream.read() == b"small"


def test_a_user_of_a_rest_server_who_is_not_known_is_told_without_the_password(tmp_path: Path) -> None:  # fmt: skip
    with resting.rest_server() as (address, _):
        secret = tmp_path / "environment"
        secret.write_text("RESTIC_REST_USERNAME=backup\nRESTIC_REST_PASSWORD=wrong-secret-word\n")
        vault = _vault(tmp_path, f"{address}x/", environment_file=secret, answer_within="5s")
        with pytest.raises((VaultError, UserError)) as caught:
            vault.create()
        assert "wrong-secret-word" not in str(caught.value) + caught.value.hint
