"""A mail server of forty lines: takes every letter and keeps it; or hangs, or refuses."""

from __future__ import annotations

import asyncio
import email
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import policy
from email.message import EmailMessage


class Letterbox:
    """What arrived, and on which port it arrives."""

    def __init__(self, *, refuse: bool = False) -> None:
        self.letters: list[EmailMessage] = []
        self.recipients: list[str] = []
        self.port = 0
        self._refuse = refuse

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: HELO, MAIL, RCPT, DATA, QUIT."""
        writer.write(b"220 letterbox\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                writer.write(b"354 go on\r\n")
                body = (await reader.readuntil(b"\r\n.\r\n"))[:-5].replace(b"\r\n..", b"\r\n.")
                self.letters.append(email.message_from_bytes(body, policy=policy.default))
            if verb == b"RCPT" and self._refuse:
                writer.write(b"550 nobody lives here\r\n")
                continue
            if verb == b"RCPT":
                self.recipients.append(line.decode().partition("<")[2].partition(">")[0])
            writer.write(b"221 bye\r\n" if verb == b"QUIT" else b"250 fine\r\n")
            if verb == b"QUIT":
                break
        writer.close()


@contextmanager
def letterbox(*, refuse: bool = False) -> Iterator[Letterbox]:
    """A running one."""
    box, loop = Letterbox(refuse=refuse), asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_server(box.serve, "127.0.0.1", 0))
    box.port = server.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield box
    finally:
        loop.call_soon_threadsafe(_end, server, loop)
        thread.join()
        loop.close()


def _end(server: asyncio.Server, loop: asyncio.AbstractEventLoop) -> None:
    """In the loop's own thread: a selector is changed by nobody else."""
    server.close()
    loop.stop()
