"""A network that breaks: a port in front of a server, where connections end in the middle of an upload."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class Cutting:
    """The port; `limit` can be changed while it runs.

    Attributes:
        limit: bytes from the client after which a connection is cut; None lets everything pass.
        cuts: connections that were cut.
    """

    server: int
    port: int = 0
    limit: int | None = None
    cuts: int = 0
    sockets: list[socket.socket] = field(default_factory=list)

    def accept(self, listening: socket.socket) -> None:
        """Take connections until the port is closed."""
        with suppress(OSError):
            while True:
                client, _ = listening.accept()
                server = socket.create_connection(("127.0.0.1", self.server))
                self.sockets += [client, server]
                for ends in ((client, server, True), (server, client, False)):
                    threading.Thread(target=self.pass_on, args=ends, daemon=True).start()

    def pass_on(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        """Copy one direction until it ends or is cut."""
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if counted and self.limit is not None and passed > self.limit:
                    self.cuts += 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()  # what is unread now makes a reset of it


@contextmanager
def running(server: int, *, limit: int | None = None) -> Iterator[Cutting]:
    """Such a port in front of the server at another one."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        cutting = Cutting(server, listening.getsockname()[1], limit)
        thread = threading.Thread(target=cutting.accept, args=(listening,), daemon=True)
        thread.start()
        try:
            yield cutting
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for each in cutting.sockets:
                each.close()
