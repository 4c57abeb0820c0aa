"""A scripted double of Nextcloud's files: its documented rules for uploads, and the faults tests ask for.

No Nextcloud can be installed without a web server, PHP and a database of its own. This knows
`dav/files/USER` and `dav/uploads/USER` only: If-None-Match, X-OC-Mtime, OC-Checksum, names that are
reserved, quota, locks, and uploads in pieces (version 2) with their names, sizes and headers.
"""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest
from servers import process

USER, PASSWORD = "u1", "pw"
DAV = "/remote.php/dav"
FILES, UPLOADS = f"{DAV}/files/{USER}", f"{DAV}/uploads/{USER}"
SMALLEST, MOST = 5 << 20, 10_000

Environ = dict[str, Any]
Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Nextcloudish:
    """The server; its attributes can be changed while it runs.

    Attributes:
        room: bytes it still takes, or None.
        locked: how many of the next writing requests are answered 423.
        broken: the name of a piece whose upload is cut off.
        asked: method and path of every request.
    """

    files: Path
    port: int = 0
    room: int | None = None
    locked: int = 0
    broken: str = ""
    uploads: dict[str, dict[str, bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}{FILES}/"

    def __call__(self, environ: Environ, start: Any) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1").decode()
        self.asked.append((environ["REQUEST_METHOD"], path))
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, headers, data = self._answer(environ, path, body)
        start(f"{status} .", [*headers.items(), ("Content-Length", str(len(data)))])
        return [data]

    def _answer(self, environ: Environ, path: str, body: bytes) -> Answer:
        given = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if environ.get("HTTP_AUTHORIZATION") != f"Basic {given}":
            return 401, {"WWW-Authenticate": 'Basic realm="Nextcloud"'}, b""
        method = environ["REQUEST_METHOD"]
        if self.locked and method in {"PUT", "MOVE"}:
            self.locked -= 1
            return 423, {}, b""
        if path.startswith(f"{UPLOADS}/"):
            return self._upload(environ, path.removeprefix(f"{UPLOADS}/").strip("/"), body)
        if path.startswith(FILES):
            return self._file(environ, path.removeprefix(FILES).strip("/"), body)
        return 404, {}, b""

    def _file(self, environ: Environ, path: str, body: bytes) -> Answer:
        where, method = self.files / path, environ["REQUEST_METHOD"]
        if method == "PROPFIND":
            return self._listed(where, path, environ.get("HTTP_DEPTH"))
        if method == "MKCOL":
            return self._made(where)
        if method == "PUT":
            taken = environ.get("HTTP_IF_NONE_MATCH") == "*" and where.exists()
            return (412, {}, b"") if taken else self._store(environ, where, body)
        if method == "GET" and where.is_file():
            when = formatdate(where.stat().st_mtime, usegmt=True)
            return 200, {"Last-Modified": when}, where.read_bytes()
        return 404, {}, b""

    def _made(self, where: Path) -> Answer:
        if where.exists() or not where.parent.is_dir():
            return (405 if where.exists() else 409), {}, b""
        where.mkdir()
        return 201, {}, b""

    def _store(self, environ: Environ, where: Path, body: bytes) -> Answer:
        if where.name.lower().endswith((".part", ".filepart")) or where.name == ".htaccess":
            return 400, {}, b""
        if not where.parent.is_dir() or where.is_dir():
            return 409, {}, b""
        if self.room is not None and len(body) > self.room:
            return 507, {}, b""
        kind, _, told = environ.get("HTTP_OC_CHECKSUM", "").partition(":")
        if kind == "SHA1" and hashlib.sha1(body, usedforsecurity=False).hexdigest() != told:
            return 400, {}, b""
        new, headers = not where.exists(), {}
        where.write_bytes(body)
        if stamp := environ.get("HTTP_X_OC_MTIME"):
            os.utime(where, (int(stamp), int(stamp)))
            headers["X-OC-Mtime"] = "accepted"
        return (201 if new else 204), headers, b""

    def _upload(self, environ: Environ, path: str, body: bytes) -> Answer:
        identity, _, leaf = path.partition("/")
        target, method = environ.get("HTTP_DESTINATION"), environ["REQUEST_METHOD"]
        if method == "MKCOL" and target and not leaf:
            known = identity in self.uploads
            self.uploads.setdefault(identity, {})
            return (405 if known else 201), {}, b""
        if identity not in self.uploads:
            return 404, {}, b""
        if method in {"PUT", "MOVE"}:
            if not target or "HTTP_OC_TOTAL_LENGTH" not in environ:
                return 400, {}, b""
            if method == "PUT":
                return self._piece(self.uploads[identity], leaf, body)
            return self._assemble(environ, identity, target)
        return self._whole(method, identity)

    def _whole(self, method: str, identity: str) -> Answer:
        """List or drop an upload."""
        if method == "DELETE":
            del self.uploads[identity]
            return 204, {}, b""
        above = f"{UPLOADS}/{identity}/"
        named = ((f"{above}{name}", data) for name, data in self.uploads[identity].items())
        return _multistatus([_entry(above, None, 0), *(_entry(a, len(b), 0) for a, b in named)])

    def _piece(self, pieces: dict[str, bytes], leaf: str, body: bytes) -> Answer:
        if not leaf.isdecimal() or not 1 <= int(leaf) <= MOST:
            return 400, {}, b""
        if leaf == self.broken:
            return 503, {"Retry-After": "0"}, b""
        if self.room is not None and sum(map(len, pieces.values())) + len(body) > self.room:
            return 507, {}, b""
        pieces[leaf] = body
        return 201, {}, b""

    def _assemble(self, environ: Environ, identity: str, target: str) -> Answer:
        pieces = [data for _, data in sorted(self.uploads[identity].items())]
        whole = b"".join(pieces)
        if any(len(each) < SMALLEST for each in pieces[:-1]):
            return 400, {}, b""
        if len(whole) != int(environ["HTTP_OC_TOTAL_LENGTH"]):
            return 400, {}, b""
        where = self.files / unquote(urlsplit(target).path).removeprefix(FILES).strip("/")
        if environ.get("HTTP_OVERWRITE") == "F" and where.exists():
            return 412, {}, b""
        answer = self._store(environ, where, whole)
        if answer[0] < 300:
            del self.uploads[identity]
        return answer

    def _listed(self, where: Path, path: str, depth: str | None) -> Answer:
        if not where.exists():
            return 404, {}, b""
        inside = sorted(where.iterdir()) if where.is_dir() and depth == "1" else []
        entries = [_of_file(where, path)]
        entries += [_of_file(each, f"{path}/{each.name}".strip("/")) for each in inside]
        return _multistatus(entries, self.room)


def _of_file(where: Path, path: str) -> str:
    href = quote(f"{FILES}/{path}") + ("/" if where.is_dir() and path else "")
    status = where.stat()
    return _entry(href, None if where.is_dir() else status.st_size, status.st_mtime)


def _entry(href: str, size: int | None, modified: float) -> str:
    kind = "<D:collection/>" if size is None else ""
    length = "" if size is None else f"<D:getcontentlength>{size}</D:getcontentlength>"
    when = formatdate(modified, usegmt=True)
    return (
        f"<D:response><D:href>{escape(href)}</D:href><D:propstat><D:prop>"
        f"<D:resourcetype>{kind}</D:resourcetype>{length}<D:getlastmodified>{when}"
        "</D:getlastmodified>ROOM</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat></D:response>"
    )


def _multistatus(entries: list[str], room: int | None = None) -> Answer:
    told = f"<D:quota-available-bytes>{-3 if room is None else room}</D:quota-available-bytes>"
    body = f'<D:multistatus xmlns:D="DAV:">{"".join(entries)}</D:multistatus>'
    return 207, {"Content-Type": "application/xml"}, body.replace("ROOM", told).encode()


@contextmanager
def running() -> Iterator[Nextcloudish]:
    """The double in a thread of its own, from the moment it takes connections."""
    wsgi = pytest.importorskip("cheroot.wsgi")
    with process.folder() as root:
        double = Nextcloudish(root)
        server = wsgi.Server(("127.0.0.1", 0), double, numthreads=4, accepted_queue_timeout=1)
        server.prepare()
        double.port = server.bind_addr[1]
        thread = threading.Thread(target=server.serve, daemon=True)
        thread.start()
        try:
            yield double
        finally:
            server.stop()
            thread.join(5)
