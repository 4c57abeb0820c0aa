"""WsgiDAV on cheroot: a second WebDAV server that keeps to the standard."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import process

USER, PASSWORD = "u1", "pw"


@dataclass(frozen=True)
class WsgiDav:
    """A running server, and the folder that it serves."""

    port: int
    files: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def running() -> Iterator[WsgiDav]:
    """WsgiDAV with one user, from the moment it takes connections."""
    program = Path(sys.executable).with_name("wsgidav")
    process.need(str(program))
    with process.folder() as root:
        port, files = process.free_port(), root / "files"
        files.mkdir()
        settings = {
            "host": "127.0.0.1",
            "port": port,
            "server": "cheroot",
            "provider_mapping": {"/": str(files)},
            "http_authenticator": {
                "domain_controller": None,
                "accept_basic": True,
                "accept_digest": False,
                "default_to_digest": False,
            },
            "simple_dc": {"user_mapping": {"*": {USER: {"password": PASSWORD}}}},
            "lock_storage": True,
            "verbose": 1,
        }
        (root / "config.json").write_text(json.dumps(settings))
        command = [sys.executable, program, "-c", root / "config.json"]
        with process.running(command, port, log=root / "log", as_user=False) as server:
            yield WsgiDav(port, files, server)
