"""REST servers for restic: restic's own rest-server, and rclone, either of which may refuse to remove."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers import process
from servers.rclone import PROGRAM as RCLONE

USER, PASSWORD = "backup", "rest-secret-word"
NAMES = ("restic-rest-server", "rest-server")
"""What Debian calls it, and what everybody else does."""


@contextmanager
def rest_server(*, append_only: bool = False, max_size: int = 0) -> Iterator[tuple[str, Path]]:
    """restic's own server; its address without user and password, and its files."""
    found = next((each for each in NAMES if shutil.which(each)), None)
    process.need(found or NAMES[0])
    with process.folder() as root:
        port = process.free_port()
        (root / "files").mkdir()
        (root / "users").write_text(f"{USER}:{_sha(PASSWORD)}\n")
        command = [str(found), "--path", root / "files", "--listen", f"127.0.0.1:{port}"]
        command += ["--max-size", str(max_size)] if max_size else []
        command += ["--htpasswd-file", root / "users", *(["--append-only"] if append_only else [])]
        process.give(root)
        with process.running(command, port, log=root / "log"):
            yield f"rest:http://127.0.0.1:{port}/", root / "files"


@contextmanager
def rclone_restic(*, append_only: bool = False) -> Iterator[tuple[str, Path]]:
    """rclone's server for restic."""
    process.need(str(RCLONE))
    with process.folder() as root:
        port, files = process.free_port(), root / "files"
        files.mkdir()
        command = [RCLONE, "serve", "restic", files, "--addr", f"127.0.0.1:{port}"]
        command += ["--config", "/dev/null", *(["--append-only"] if append_only else [])]
        secret = {"RCLONE_USER": USER, "RCLONE_PASS": PASSWORD}
        with process.running(command, port, log=root / "log", env=secret, as_user=False):
            yield f"rest:http://127.0.0.1:{port}/", files


def _sha(password: str) -> str:
    """As htpasswd -s writes it."""
    return "{SHA}" + base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()  # noqa: S324
