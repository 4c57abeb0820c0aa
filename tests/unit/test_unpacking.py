"""Bytes out of a vault: the most urgent first, in few starts of restic, whatever folders are called."""

from __future__ import annotations

import hashlib
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from mirrors import ADDRESS, MirrorMaker

from backupd.errors import IntegrityError, VaultError
from backupd.model import Service
from backupd.restore import unpacking
from backupd.restore.contents import Selection
from backupd.restore.unpacking import VaultContents, from_vault
from backupd.vaults.restic import Repository, Restic
from backupd.vaults.vault import Vault

ODD = ("[a-z]*", "back\\slash", "quest?ion", "-v", "!not", "b*", "{x,y}", "$HOME")
COUNTING = '#!/bin/sh\necho "$1" >> "{log}"\nexec {restic} "$@"\n'


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Vault, Path, dict[str, str]]:
    """A vault of one snapshot, the log of restic's starts, and the hash of every item."""
    if not (restic := shutil.which("restic")):
        pytest.skip("restic is not installed")
    folder = tmp_path_factory.mktemp("unpacking")
    maker, held = MirrorMaker(folder / "mirror"), {}

    def mail(shelf: str, number: int, month: int = 1) -> None:
        data = b"Subject: %d\r\n\r\n" % number + random.Random(number).randbytes(3000)
        path = maker.mail(
            shelf, data, f"2025-{month:02}-01T00:00:{number % 60:02}Z", key=f"{shelf}{number}"
        )
        held[path] = hashlib.sha256(data).hexdigest()

    inbox = maker.shelf("mail", "Inbox", special="inbox")
    for number in range(24):
        mail(inbox, number, 1 + number % 6)
    for number, name in enumerate(ODD):
        mail(maker.shelf("mail", name), 30 + number)
    mail(maker.shelf("mail", "Inbox", "below"), 60)
    drive = maker.shelf("files", "OneDrive")
    held[maker.file(drive, "a[1]/b*.txt", b"file")] = hashlib.sha256(b"file").hexdigest()
    maker.finish()
    log, counting = folder / "log", folder / "restic"
    counting.write_text(COUNTING.format(log=log, restic=restic))
    counting.chmod(0o700)
    (folder / "password").write_text("pw")
    repository = Repository(
        Restic(str(counting)), str(folder / "vault"), folder / "password", folder / "cache"
    )
    vault = Vault("hand", ADDRESS, repository)
    vault.create()
    vault.make(maker.root, [f"account:{ADDRESS}"])
    return vault, log, held


def walked(held: VaultContents, selection: Selection = Selection()) -> dict[str, str]:  # noqa: B008
    return {
        parcel.path: hashlib.sha256(content.read()).hexdigest()
        for parcel, content in held.walk(selection)
    }


@pytest.mark.parametrize("large", [0, 10_000])
def test_every_item_comes_out_once_and_whole(
    kept: tuple[Vault, Path, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    large: int,
) -> None:
    vault, _, expected = kept
    monkeypatch.setattr(unpacking, "LARGE", large)
    with from_vault(vault, vault.pick(), tmp_path) as held:
        found = [
            (parcel.path, hashlib.sha256(content.read()).hexdigest())
            for parcel, content in held.walk(Selection())
        ]
        assert sorted(found) == sorted(expected.items())


def test_small_collections_share_a_start_of_restic(
    kept: tuple[Vault, Path, dict[str, str]], tmp_path: Path
) -> None:
    vault, log, expected = kept
    with from_vault(vault, vault.pick(), tmp_path) as held:
        log.unlink()
        assert walked(held) == expected
        assert log.read_text().split() == ["restore"]


def test_nothing_that_was_unpacked_stays(
    kept: tuple[Vault, Path, dict[str, str]], tmp_path: Path
) -> None:
    vault, _, _ = kept
    with from_vault(vault, vault.pick(), tmp_path) as held:
        next(held.walk(Selection()))
    assert not list(tmp_path.iterdir())


def test_the_inbox_comes_first_and_files_last(
    kept: tuple[Vault, Path, dict[str, str]], tmp_path: Path
) -> None:
    vault, _, _ = kept
    with from_vault(vault, vault.pick(), tmp_path) as held:
        paths = [parcel.path for parcel, _ in held.walk(Selection())]
        only = [parcel.path for parcel, _ in held.walk(Selection(frozenset({Service.FILES})))]
    assert paths[0].startswith("mail/Inbox/2025-06")
    assert paths[-1:] == only == ["files/OneDrive/a[1]/b*.txt"]


@pytest.mark.parametrize("large", [0, 1 << 30])
def test_of_a_damaged_vault_what_is_whole_comes_out_and_the_damage_is_told(
    kept: tuple[Vault, Path, dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    large: int,
) -> None:
    monkeypatch.setattr(unpacking, "LARGE", large)
    vault, _, expected = kept
    copy = tmp_path / "vault"
    shutil.copytree(vault.repository.location, copy)
    with from_vault(vault, vault.pick(), tmp_path) as held:
        biggest = max(
            (copy / "data").rglob("*"), key=lambda each: each.stat().st_size * each.is_file()
        )
        biggest.chmod(0o600)
        data = bytearray(biggest.read_bytes())
        data[len(data) // 2] ^= 1
        biggest.write_bytes(data)
        repository = Repository(
            vault.repository.restic, str(copy), vault.repository.password, tmp_path / "cache"
        )
        damaged = VaultContents(held.root, Vault("hand", ADDRESS, repository), vault.pick())
        found, told = {}, None
        try:
            for parcel, content in damaged.walk(Selection()):
                with suppress(IntegrityError):
                    found[parcel.path] = hashlib.sha256(content.read()).hexdigest()
        except VaultError as error:
            told = error
    assert told
    assert 0 < len(found) < len(expected)
    assert {path: expected[path] for path in found} == found
