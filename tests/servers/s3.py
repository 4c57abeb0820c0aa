"""Object stores that nobody here wrote: Ceph's gateway (locks objects for real), moto, rclone."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import process
from servers.rclone import PROGRAM as RCLONE

PATIENCE = 120.0
"""Seconds for Ceph's gateway to make its pools: twelve on a quiet machine."""

KEY, SECRET = "backupkey", "backup-secret-word"


@dataclass(frozen=True)
class S3:
    """A running store."""

    port: int
    locks: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> str:
        return f"AWS_ACCESS_KEY_ID={KEY}\nAWS_SECRET_ACCESS_KEY={SECRET}\n"

    def location(self, name: str, bucket: str = "vaults") -> str:
        return f"s3:{self.url}/{bucket}/{name}"

    def rclone(self, *arguments: str, given: bytes = b"") -> bytes:
        """Reach into the store with a client that is neither restic nor ours; the remote is `s3:`."""
        process.need(str(RCLONE))
        secret = {
            "RCLONE_CONFIG_S3_TYPE": "s3", "RCLONE_CONFIG_S3_PROVIDER": "Other", "RCLONE_CONFIG_S3_ENDPOINT": self.url,
            "RCLONE_CONFIG_S3_ACCESS_KEY_ID": KEY, "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY": SECRET,
        }  # fmt: skip
        command = [str(RCLONE), "--config", "/dev/null", *arguments]
        return subprocess.run(command, check=True, input=given, stdout=subprocess.PIPE, env={**os.environ, **secret}).stdout  # fmt: skip


@contextmanager
def rclone_s3() -> Iterator[S3]:
    """rclone's S3: it says yes to locks and does not keep them."""
    process.need(str(RCLONE))
    with process.folder() as root:
        port, files = process.free_port(), root / "files"
        files.mkdir()
        command = [RCLONE, "serve", "s3", files, "--addr", f"127.0.0.1:{port}", "--config", "/dev/null"]  # fmt: skip
        command += ["--vfs-cache-mode", "off"]
        secret = {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}
        with process.running(command, port, log=root / "log", env=secret, as_user=False):
            yield S3(port)


@contextmanager
def moto() -> Iterator[S3]:
    """moto's server: it accepts every key."""
    process.need("moto_server")
    program = shutil.which("moto_server")
    with process.folder() as root:
        port = process.free_port()
        command = [str(program), "-H", "127.0.0.1", "-p", str(port)]
        with process.running(command, port, log=root / "log", as_user=False):
            yield S3(port, locks=True)


CONF = """\
[global]
fsid = {fsid}
mon host = v1:127.0.0.1:{mon}
mon initial members = a
public network = 127.0.0.0/8
auth cluster required = none
auth service required = none
auth client required = none
auth supported = none
ms bind msgr2 = false
ms bind port min = {low}
ms bind port max = {high}
run dir = {root}/run
admin socket = {root}/run/$name.asok
log file = {root}/log/$name.log
pid file = {root}/run/$name.pid
keyring = {root}/keyring
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data avail crit = 1
mon osd full ratio = .99
debug mon = 0
debug osd = 0
debug ms = 0
debug paxos = 0
[mon]
mon data = {root}/mon
[osd]
osd data = {root}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
osd class load list = *
osd class default list = *
osd max object name len = 460
[client]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw thread pool size = 16
rgw enable usage log = false
rgw enable ops log = false
rgw run sync thread = false
"""


@contextmanager
def radosgw() -> Iterator[S3]:
    """Ceph on one node in memory, as an ordinary user."""
    process.need("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "monmaptool")
    with process.folder() as root, _alone():
        ceph = _Ceph(root)
        try:
            ceph.start()
            yield S3(ceph.port, locks=True)
        finally:
            ceph.stop()


@contextmanager
def _alone() -> Iterator[None]:
    """One Ceph at a time on this machine: two that start together find each other's ports."""
    with (Path(tempfile.gettempdir()) / "backupd-tests-ceph.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Ceph:
    """Monitor, one store and the gateway."""

    def __init__(self, root: Path) -> None:
        self.root, self.port, self._mon = root, process.free_port(), process.free_port()
        self._fsid = str(uuid.uuid4())
        low = process.free_port()
        text = CONF.format(fsid=self._fsid, mon=self._mon, low=low, high=low + 60, root=root, port=self.port)  # fmt: skip
        for each in ("mon", "osd", "run", "log"):
            (root / each).mkdir()
        (root / "ceph.conf").write_text(text)
        process.give(root)
        self._running: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        conf, root = self.root / "ceph.conf", self.root
        self._do("monmaptool", "--create", "--clobber", "--fsid", self._fsid, "--addv", "a", f"[v1:127.0.0.1:{self._mon}]", root / "monmap")  # fmt: skip
        self._do("ceph-authtool", "--create-keyring", root / "keyring", "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")  # fmt: skip
        self._do("ceph-authtool", root / "keyring", "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *")  # fmt: skip
        self._do("ceph-mon", "-c", conf, "--mkfs", "-i", "a", "--monmap", root / "monmap", "--keyring", root / "keyring")  # fmt: skip
        self._run("ceph-mon", "-f", "-c", conf, "-i", "a", port=self._mon)
        self._do("ceph-osd", "-c", conf, "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()), "--mkkey")  # fmt: skip
        self._do("ceph", "-c", conf, "osd", "new", (root / "osd/fsid").read_text().strip())
        self._run("ceph-osd", "-f", "-c", conf, "-i", "0")
        self._run("radosgw", "-f", "-c", conf, "-n", "client.admin", port=self.port)
        self._do("radosgw-admin", "-c", conf, "-n", "client.admin", "user", "create", "--uid", "bk", "--display-name", "bk", "--access-key", KEY, "--secret-key", SECRET)  # fmt: skip

    def stop(self) -> None:
        for each in reversed(self._running):
            process.stop(each)

    def _do(self, *command: str | Path) -> None:
        done = subprocess.run(
            [str(each) for each in command], check=False, capture_output=True, cwd=self.root, timeout=60, **process.identity()  # type: ignore[call-overload]
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stderr.decode()[-1000:]}"

    def _run(self, *command: str | Path, port: int = 0) -> None:
        log = self.root / "out"
        with log.open("ab") as out:
            made = subprocess.Popen(
                [str(each) for each in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                cwd=self.root, start_new_session=True, **process.identity(),  # type: ignore[call-overload]
            )  # fmt: skip
        self._running.append(made)
        if port:
            process.await_port(port, made, log, within=PATIENCE)
        else:
            time.sleep(0.5)
