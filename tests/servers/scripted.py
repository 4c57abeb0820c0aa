"""An HTTP server that says what a test tells it to, for answers that no server here gives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from targets.dav.http import Http
from targets.endpoint import Endpoint

Answer = tuple[int, dict[str, str], bytes]
Script = Callable[[str, str, bytes], Answer]


class Scripted:
    """A server that answers what a test tells it to, and remembers what it saw."""

    def __init__(self, script: Script) -> None:
        self.seen: list[tuple[str, str, bytes, str | None]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.seen.append((self.command, self.path, body, self.headers["Authorization"]))
                status, headers, data = script(self.command, self.path, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(data))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_PROPFIND = do_REPORT = do_MKCOL = do_MKCALENDAR = _answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"


@contextmanager
def scripted(script: Script) -> Iterator[tuple[Scripted, Http]]:
    """A running server and a client for it."""
    made = Scripted(script)
    thread = threading.Thread(target=made.server.serve_forever, args=(0.05,))
    thread.start()
    http = Http(Endpoint("t", "caldav", url=made.url, username="u", secret=lambda: "pä:ss"))
    try:
        yield made, http
    finally:
        http.close()
        made.server.shutdown()
        made.server.server_close()
        thread.join()
