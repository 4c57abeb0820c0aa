"""A name server of a few lines: answers what it is told to, or keeps silent."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


class NameServer:
    """What it knows, and who was asked for.

    Attributes:
        mail: domain → its mail hosts as `10 mx.example.net`; every other name does not exist.
        addresses: names that exist and have an address.
        silent: it does not answer at all.
        broken: it answers SERVFAIL.
    """

    def __init__(self) -> None:
        self.mail: dict[str, list[str]] = {}
        self.addresses: set[str] = set()
        self.silent = self.broken = False
        self.asked: list[str] = []
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.socket.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                wire, whom = self.socket.recvfrom(4096)
                if not wire:
                    return
                answer = self._answer(dns.message.from_wire(wire))
                if not self.silent:
                    self.socket.sendto(answer.to_wire(), whom)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer, (question,) = dns.message.make_response(query), query.question
        answer.flags |= dns.flags.RA
        name = question.name.to_text(omit_final_dot=True).lower()
        self.asked.append(name)
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif name not in self.mail and name not in self.addresses:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype == dns.rdatatype.MX and self.mail.get(name):
            answer.answer.append(dns.rrset.from_text(f"{name}.", 300, "IN", "MX", *self.mail[name]))
        elif question.rdtype == dns.rdatatype.A and name in self.addresses:
            answer.answer.append(dns.rrset.from_text(f"{name}.", 300, "IN", "A", "192.0.2.1"))
        return answer


@contextmanager
def name_server() -> Iterator[NameServer]:
    """A running one."""
    server = NameServer()
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", server.socket.getsockname())
        thread.join()
        server.socket.close()
