"""Receivers of alerts: one that takes what it is sent, one that refuses, one that never answers."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver:
    """Takes JSON by POST and pings by GET; `status` is what it answers."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.pings: list[str] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.told.append(json.loads(body))
                self._end()

            def do_GET(self) -> None:
                outer.pings.append(self.path)
                self._end()

            def _end(self) -> None:
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]

    @property
    def url(self) -> str:
        """As a channel, with a secret in it."""
        return f"json://user:hush-hush@127.0.0.1:{self.port}/hidden-path?rto=30&cto=30"

    @property
    def subjects(self) -> list[str]:
        """What was told."""
        return [each["title"] for each in self.told]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A running one."""
    made = Receiver()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join()


@contextmanager
def hanging() -> Iterator[str]:
    """The URL of a channel that takes the connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"json://user:hush-hush@127.0.0.1:{listening.getsockname()[1]}/?rto=60&cto=60"
