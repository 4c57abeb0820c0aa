"""Storages to keep vaults in, one kind each, on servers that really run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from servers import process, resting, s3, sshd

from backupd.config import Storage
from backupd.vaults.restic import Restic
from backupd.vaults.vault import Vault, vault_of

ADDRESS = "alice@harbourlight.example"


@dataclass(frozen=True)
class Place:
    """A storage.

    Attributes:
        files: where its files lie on this machine, if they do.
        store: the object store, where it is one.
    """

    kind: str
    location: Callable[[str], str]
    folder: Path
    files: Path | None = None
    environment: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    store: s3.S3 | None = None

    @property
    def append_only(self) -> bool:
        return self.kind.endswith("append-only")

    def damage(self, name: str) -> None:
        """Change every pack of a vault behind restic's back."""
        if self.store:
            packs = self.store.rclone("lsf", "-R", "--files-only", f"s3:vaults/{name}/data")
            for pack in packs.decode().splitlines()[:1]:
                self.store.rclone("rcat", f"s3:vaults/{name}/data/{pack}", given=b"no pack at all" * 99)  # fmt: skip
            return
        assert self.files
        for pack in self.files.glob(f"**/{name}/data/*/*"):
            pack.chmod(0o644)
            data = bytearray(pack.read_bytes())
            data[len(data) // 2] ^= 0xFF
            pack.write_bytes(data)

    def vault(self, name: str, *, address: str = ADDRESS, password: str = "correct horse", **more: Any) -> Vault:  # fmt: skip
        """A vault in it, as a configuration would describe it."""
        secret = self.folder / f"password-{hash(password)}"
        secret.write_text(password)
        made = {"name": self.kind, "repository": self.location(name), "password_file": str(secret), "shared": True}  # fmt: skip
        if self.environment:
            variables = self.folder / "environment"
            variables.write_text(self.environment)
            made["environment_file"] = str(variables)
        storage = Storage.model_validate(made | self.options | more)
        return vault_of(storage, Restic(), self.folder, ("demo", address))


@contextmanager
def local(folder: Path) -> Iterator[Place]:
    yield Place("local", lambda name: str(folder / "vaults" / name), folder, folder / "vaults")


@contextmanager
def sftp(folder: Path) -> Iterator[Place]:
    with sshd.running() as server:
        options = {"ssh_key_file": str(server.key), "ssh_known_hosts_file": str(server.known_hosts)}
        yield Place("sftp", server.location, folder, server.files, options=options)


def _rest(kind: str, server: Callable[..., AbstractContextManager[tuple[str, Path]]]) -> Any:
    @contextmanager
    def made(folder: Path) -> Iterator[Place]:
        secret = f"RESTIC_REST_USERNAME={resting.USER}\nRESTIC_REST_PASSWORD={resting.PASSWORD}\n"
        refuses = kind.endswith("append-only")
        with server(append_only=refuses) as (address, files):
            yield Place(kind, lambda name: f"{address}{name}/", folder, files, secret, {"append_only": refuses})  # fmt: skip

    return made


def _s3(kind: str, server: Callable[[], AbstractContextManager[s3.S3]]) -> Any:
    @contextmanager
    def made(folder: Path) -> Iterator[Place]:
        with server() as store:
            options = {"options": {"s3.bucket-lookup": "path"}, "answer_within": "8s"}
            yield Place(kind, store.location, folder, None, store.environment, options, store)

    return made


@contextmanager
def rclone(folder: Path) -> Iterator[Place]:
    """restic's own rclone backend, for whatever rclone can reach."""
    process.need(str(resting.RCLONE))
    config = folder / "rclone.conf"
    config.write_text("[away]\ntype = local\n")
    files = folder / "away"
    secret = f"RCLONE_CONFIG={config}\nPATH={resting.RCLONE.parent}:/usr/bin:/bin\n"
    yield Place("rclone", lambda name: f"rclone:away:{files}/{name}", folder, files, secret)


KINDS: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "local": local,
    "sftp": sftp,
    "rest": _rest("rest", resting.rest_server),
    "rest-append-only": _rest("rest-append-only", resting.rest_server),
    "s3-ceph": _s3("s3-ceph", s3.radosgw),
    "s3-rclone": _s3("s3-rclone", s3.rclone_s3),
    "s3-moto": _s3("s3-moto", s3.moto),
    "rclone": rclone,
    "rclone-restic": _rest("rclone-restic", resting.rclone_restic),
    "rclone-append-only": _rest("rclone-append-only", resting.rclone_restic),
}
