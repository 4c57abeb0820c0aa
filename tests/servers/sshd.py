"""OpenSSH's SFTP server, as an ordinary user, with keys of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers import process

PROGRAM = Path("/usr/sbin/sshd")


@dataclass(frozen=True)
class Sshd:
    """A running server."""

    port: int
    user: str
    files: Path
    key: Path
    known_hosts: Path

    def location(self, name: str) -> str:
        return f"sftp://{self.user}@127.0.0.1:{self.port}/{self.files}/{name}"


@contextmanager
def running() -> Iterator[Sshd]:
    """An SFTP server that knows one key; its files lie in a folder of the ordinary user."""
    process.need(str(PROGRAM), "ssh", "ssh-keygen")
    with process.folder() as root, process.folder() as ours:
        port, key = process.free_port(), ours / "key"
        for each in (root / "host", key):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", each], check=True, stdin=subprocess.DEVNULL
            )  # fmt: skip
        (root / "authorized").write_text(key.with_suffix(".pub").read_text())
        (root / "files").mkdir()
        (root / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {root}/host\nPidFile {root}/pid\n"
            f"AuthorizedKeysFile {root}/authorized\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nUsePAM yes\nStrictModes no\nSubsystem sftp internal-sftp\n"
            "ForceCommand internal-sftp\nMaxSessions 20\nMaxStartups 50\n"
        )
        host = " ".join((root / "host.pub").read_text().split()[:2])
        known = ours / "known_hosts"
        known.write_text(f"[127.0.0.1]:{port} {host}\n")
        process.give(root)
        command = [PROGRAM, "-D", "-f", root / "sshd_config", "-E", root / "log"]
        with process.running(command, port, log=root / "out"):
            yield Sshd(port, process.ordinary_user(), root / "files", key, known)
