"""Mirrors and a configuration with one target, without a source and a vault: what a restore alone needs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.dovecot import Dovecot

CONFIG = """
state_dir = "{folder}/state"
[targets.new]
type = "imap"
host = "127.0.0.1"
port = {port}
username = "{user}"
password_file = "{folder}/password"
{more}
"""


@dataclass(frozen=True)
class Desk:
    """A mirror and a configuration; no source, no vault."""

    folder: Path
    server: Dovecot

    def configure(self, user: str, more: str = "", password: str = "pw") -> None:
        (self.folder / "password").write_text(password)
        text = CONFIG.format(folder=self.folder, port=self.server.imaps, user=user, more=more)
        (self.folder / "config.toml").write_text(text)

    @property
    def trusted(self) -> str:
        return f'ca_file = "{self.server.cert}"'

    def start(self, *more: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "backupd", "--config", str(self.folder / "config.toml")]
        return subprocess.Popen(
            [*command, "restore", "--to", "new", *more], text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def restore(self, *more: str) -> tuple[int, str]:
        """Exit code and all that was said."""
        process = self.start(*more)
        out, err = process.communicate(timeout=120)
        return process.returncode, out + err

    def result(self, code: int = 0) -> dict[str, Any]:
        got, said = self.restore("--json")
        assert got == code, said[-3000:]
        return json.loads(said.splitlines()[0])["restore"]  # type: ignore[no-any-return]
