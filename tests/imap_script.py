"""An IMAP connection that says what is written, byte for byte, and keeps what it is told."""

from __future__ import annotations

import io


class Script:
    """What `backupd.imap.wire.Connection` asks for."""

    def __init__(self, said: bytes) -> None:
        self._said = io.BytesIO(said)
        self.told = b""

    def read(self, size: int, /) -> bytes:
        return self._said.read(size)

    def readline(self) -> bytes:
        return self._said.readline()

    def send(self, data: bytes, /) -> None:
        self.told += data
