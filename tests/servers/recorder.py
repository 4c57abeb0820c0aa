"""A proxy that stands before an HTTP server of the tests and remembers every request."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_HOP = {"connection", "transfer-encoding", "keep-alive"}


@dataclass(frozen=True)
class Request:
    """What a client sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Recorder:
    """A running proxy; `requests` grows while it runs."""

    url: str
    requests: list[Request] = field(default_factory=list)

    def written(self) -> list[Request]:
        """The requests that put or removed something."""
        return [each for each in self.requests if each.method in {"PUT", "POST", "DELETE"}]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.seen = Recorder(f"http://127.0.0.1:{self.server_address[1]}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):
            return self._pass
        raise AttributeError(name)

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.requests.append(Request(self.command, self.path, dict(self.headers), body))
        try:
            answer, data = self._asked(body)
        except OSError:
            self.close_connection = True
            return
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {*_HOP, "content-length", "server", "date"}:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(data)

    def _asked(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        inner = http.client.HTTPConnection("127.0.0.1", self.server.upstream, timeout=60)
        try:
            inner.request(self.command, self.path, body or None, headers)
            answer = inner.getresponse()
            return answer, answer.read()
        finally:
            inner.close()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def recorder(upstream: int) -> Iterator[Recorder]:
    """A proxy on a free port before the server at `upstream`."""
    server = _Server(upstream)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.seen
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
