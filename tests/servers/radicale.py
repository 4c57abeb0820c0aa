"""Radicale: calendars and address books without any scheduling, over HTTP or TLS."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import process

USER, PASSWORD = "u1", "pw"

_CONFIG = """
[server]
hosts = 127.0.0.1:{port}
max_content_length = 100000000
ssl = {ssl}
certificate = {cert}
key = {key}
[auth]
type = htpasswd
htpasswd_filename = {root}/users
htpasswd_encryption = plain
delay = 0
[storage]
filesystem_folder = {root}/collections
[rights]
type = owner_only
[web]
type = none
"""


@dataclass(frozen=True)
class Radicale:
    """A running server; its process can be stopped by the test."""

    port: int
    certificate: Path | None
    process: object

    @property
    def url(self) -> str:
        return f"{'https' if self.certificate else 'http'}://127.0.0.1:{self.port}/"


@contextmanager
def running(*, encrypted: bool = False) -> Iterator[Radicale]:
    """Radicale with one user, from the moment it takes connections."""
    program = Path(sys.executable).with_name("radicale")
    process.need(str(program))
    with process.folder() as root:
        port = process.free_port()
        cert, key = process.certificate(root) if encrypted else (root / "none", root / "none")
        (root / "users").write_text(f"{USER}:{PASSWORD}\n")
        settings = {"port": port, "ssl": encrypted, "cert": cert, "key": key, "root": root}
        (root / "config").write_text(_CONFIG.format(**settings))
        process.give(root)
        command = [sys.executable, "-m", "radicale", "--config", root / "config"]
        with process.running(command, port, log=root / "log", as_user=False) as server:
            yield Radicale(port, cert if encrypted else None, server)
