"""What every server of the tests needs: a free port, a folder, an ordinary user, a start and a stop."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

START = 30.0
"""Seconds after which a server that does not answer is a failure."""


def free_port() -> int:
    """A port on loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def need(*programs: str) -> None:
    """Skip the test unless every program (a name in PATH or a path) is there."""
    for each in programs:
        if shutil.which(each) is None and not Path(each).exists():
            pytest.skip(f"{each} is not installed")


def ordinary_user() -> str:
    """Who runs the servers: we, or `nobody` when we are root (mail servers refuse root)."""
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name


def give(path: Path) -> None:
    """Hand a tree to the ordinary user."""
    if os.geteuid() != 0:
        return
    user = pwd.getpwnam(ordinary_user())
    for each in (path, *path.rglob("*")):
        os.chown(each, user.pw_uid, user.pw_gid, follow_symlinks=False)


@contextmanager
def folder() -> Iterator[Path]:
    """A new folder with a short path that the ordinary user owns; gone afterwards."""
    made = Path(tempfile.mkdtemp(prefix="bs-", dir="/tmp"))
    try:
        give(made)
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def identity() -> dict[str, object]:
    """Arguments of Popen that make a child run as the ordinary user."""
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(ordinary_user())
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@contextmanager
def running(
    command: Sequence[str | Path],
    port: int,
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    as_user: bool = True,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server in the foreground of a process group of its own, from the moment it takes connections."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(each) for each in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={**os.environ, **(env or {})},
            cwd="/",
            start_new_session=True,
            **(identity() if as_user else {}),  # type: ignore[call-overload]
        )
    try:
        await_port(port, process, log)
        yield process
    finally:
        stop(process)


def await_port(
    port: int, process: subprocess.Popen[bytes], log: Path, *, within: float = START
) -> None:
    """Wait until something listens; fails with the end of the log."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        if process.poll() is not None:
            break
        time.sleep(0.05)
    stop(process)
    pytest.fail(f"{process.args!r} did not start:\n{log.read_text(errors='replace')[-3000:]}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a server with all its children."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def certificate(where: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost and 127.0.0.1, and its key."""
    cert, key = where / "cert.pem", where / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    give(where)
    return cert, key
