"""rclone as a WebDAV server: one that overwrites whatever a client minds (`If-None-Match`)."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import process

USER, PASSWORD = "u1", "pw"
PROGRAM = Path(sys.executable).with_name("rclone")


@dataclass(frozen=True)
class RcloneServer:
    """A running server, and the folder that it serves."""

    port: int
    files: Path
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def look_again(self) -> None:
        """Let it forget what it remembers of its folders, after a change on disk."""
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.2)

    def remote(self, config: Path, password: str = PASSWORD) -> None:
        """Write an rclone configuration in which this server is the remote `dav`."""
        command = [PROGRAM, "obscure", password]
        obscured = subprocess.run(
            command, check=True, capture_output=True, text=True
        ).stdout.strip()
        config.write_text(
            f"[dav]\ntype = webdav\nurl = {self.url}\nvendor = other\nuser = {USER}\npass = {obscured}\n"
        )


@contextmanager
def running(*, port: int = 0, files: Path | None = None) -> Iterator[RcloneServer]:
    """`rclone serve webdav` with one user; `port` and `files` are those of an earlier one that comes back."""
    process.need(str(PROGRAM))
    with process.folder() as root:
        port, files = port or process.free_port(), files or root / "files"
        files.mkdir(exist_ok=True)
        command = [PROGRAM, "serve", "webdav", files, "--addr", f"127.0.0.1:{port}"]
        command += ["--config", "/dev/null", "--vfs-cache-mode", "off"]
        secret = {"RCLONE_USER": USER, "RCLONE_PASS": PASSWORD}
        with process.running(command, port, log=root / "log", env=secret, as_user=False) as server:
            yield RcloneServer(port, files, server)
