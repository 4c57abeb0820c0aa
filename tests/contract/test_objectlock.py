"""S3 Object Lock against stores that nobody here wrote: Ceph keeps locks, rclone only says so."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from keepers import ALICE, an_app, change_and_snapshot, keep
from minio import Minio
from minio.error import S3Error
from servers import process, s3

from backupd.config import Storage
from backupd.cutoff.verdict import Cause, Evidence
from backupd.errors import AuthError, VaultError, VaultUnreachable
from backupd.jobs.keeping import findings, forget_all
from backupd.vaults.forget import ForgetResult
from backupd.vaults.locked import look_at_all
from backupd.vaults.objectlock import extend, look


@pytest.fixture(scope="module")
def ceph() -> Iterator[s3.S3]:
    with s3.radosgw() as store:
        yield store


def client(store: s3.S3) -> Any:
    return Minio(f"127.0.0.1:{store.port}", s3.KEY, s3.SECRET, secure=False)


def storage(folder: Path, location: str, keys: str, **more: object) -> Storage:
    (folder / "keys").write_text(keys)
    raw = {"name": "away", "repository": location, "password_file": folder / "none", "environment_file": folder / "keys"}  # fmt: skip
    return Storage.model_validate(raw | more)


def test_a_bucket_with_object_lock_is_recognised(tmp_path: Path, ceph: s3.S3) -> None:
    client(ceph).make_bucket("locked", object_lock=True)
    place = ceph.location("alice", "locked")
    assert look(storage(tmp_path, place, ceph.environment), place).state == "locks"


def test_a_bucket_without_it_says_what_that_means(tmp_path: Path, ceph: s3.S3) -> None:
    client(ceph).make_bucket("plain")
    place = ceph.location("alice", "plain")
    offer = look(storage(tmp_path, place, ceph.environment), place)
    assert offer.state == "none"
    assert "destroy" in offer.said


def test_a_store_that_only_says_yes_is_seen_through(tmp_path: Path) -> None:
    with s3.rclone_s3() as store:
        client(store).make_bucket("locked", object_lock=True)
        place = store.location("alice", "locked")
        assert look(storage(tmp_path, place, store.environment), place).state == "none"


def test_what_a_vault_needs_is_locked_and_nothing_beside_it(tmp_path: Path, ceph: s3.S3) -> None:
    bucket, store = "vaults", client(ceph)
    store.make_bucket(bucket, object_lock=True)
    ours = [
        "alice/config",
        "alice/data/ab/abcd",
        "alice/keys/1",
        "alice/snapshots/1",
        "alice/index/1",
    ]
    others = ["alice/locks/1", "alice2/data/ab/abcd", "alice/config.old", "bob/config"]
    versions = {
        name: store.put_object(bucket, name, io.BytesIO(b"x"), 1).version_id
        for name in ours + others
    }
    place = ceph.location("alice", bucket)
    until = datetime.now(UTC) + timedelta(days=1)
    assert extend(storage(tmp_path, place, ceph.environment), place, until, "compliance") == len(
        ours
    )
    for name in ours:
        with pytest.raises(S3Error) as caught:
            store.remove_object(bucket, name, version_id=versions[name])
        assert caught.value.code == "AccessDenied"
    for name in others:
        store.remove_object(bucket, name, version_id=versions[name])


def test_a_key_that_is_not_known_and_a_bucket_that_is_not_there_are_told_apart(tmp_path: Path, ceph: s3.S3) -> None:  # fmt: skip
    place = ceph.location("alice", "nothere")
    with pytest.raises(VaultError, match="no bucket") as missing:
        look(storage(tmp_path, place, ceph.environment), place)
    assert "Create it with Object Lock" in missing.value.hint
    keys = "AWS_ACCESS_KEY_ID=who\nAWS_SECRET_ACCESS_KEY=a-secret-word\n"
    with pytest.raises(AuthError) as denied:
        look(storage(tmp_path, place, keys), place)
    assert "a-secret-word" not in str(denied.value) + denied.value.hint


def test_a_store_that_is_down_is_out_of_reach() -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = f"s3:http://127.0.0.1:{process.free_port()}/bucket/alice"
        with pytest.raises(VaultUnreachable):
            look(storage(Path(folder), place, "AWS_ACCESS_KEY_ID=a\nAWS_SECRET_ACCESS_KEY=b\n"), place)  # fmt: skip


def test_vaults_are_locked_again_with_every_forget_frozen_or_not(tmp_path: Path, ceph: s3.S3) -> None:  # fmt: skip
    process.need("restic")
    store = client(ceph)
    store.make_bucket("round", object_lock=True)
    (tmp_path / "keys").write_text(ceph.environment)
    section = {
        "repository": f"s3:{ceph.url}/round", "environment_file": str(tmp_path / "keys"), "object_lock": "1d",
        "object_lock_mode": "compliance", "options": {"s3.bucket-lookup": "path"},
    }  # fmt: skip
    app = an_app(tmp_path, {"away": section, "here": {"repository": str(tmp_path / "here")}})
    home = keep(app)
    assert not change_and_snapshot(app, home, "hello").errors
    for number in range(2):
        app.incidents.hear(f"contoso/{ALICE}", Evidence(1.0 + number, "sync", Cause.ACCOUNT))
    (result,) = forget_all(app).results
    assert isinstance(result, ForgetResult)
    packs = list(store.list_objects("round", prefix=f"contoso/{ALICE}/data/", recursive=True, include_version=True))  # fmt: skip
    assert result.locked["away"] >= len(packs) > 0
    with pytest.raises(S3Error):
        store.remove_object("round", packs[0].object_name, version_id=packs[0].version_id)
    (again,) = forget_all(app).results
    assert again.locked == {}, "it is locked for a day yet"  # type: ignore[union-attr]
    assert app.storages.health("away").object_lock == "locks"
    assert app.storages.health("here").object_lock == "other"


def test_a_storage_that_should_lock_and_cannot_is_an_error_that_everybody_sees(tmp_path: Path, ceph: s3.S3) -> None:  # fmt: skip
    client(ceph).make_bucket("unlocked")
    (tmp_path / "keys").write_text(ceph.environment)
    section = {"repository": f"s3:{ceph.url}/unlocked", "environment_file": str(tmp_path / "keys"), "object_lock": "1d"}  # fmt: skip
    app = an_app(tmp_path, {"away": section})
    assert look_at_all(app) == {}
    (told,) = findings(app)
    assert told.level == "error"
    assert "NOT locked" in told.message
