"""The second host: downloads whose address is the permission, for as long as it lives."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo import wire
from backupd.demo.calls import Answer, to_json
from backupd.demo.faults import Faults, Subject
from backupd.demo.requestlog import RequestLog, RequestRecord

if TYPE_CHECKING:
    from aiohttp import web

    from backupd.demo.drive import FileContent
    from backupd.demo.switches import Switches

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")
_LOGGED = ("user-agent", "range", "accept")
_KEPT = 50_000


@dataclass
class Downloads:
    """Hands out addresses and serves them. Refuses any request that carries an Authorization header."""

    switches: Switches
    faults: Faults
    log: RequestLog
    base: str = ""
    _tickets: dict[str, tuple[FileContent, float]] = field(default_factory=dict)
    _made: int = 0

    def address(self, content: FileContent, name: str) -> str:
        """A pre-authenticated URL that hands out `content` until it expires."""
        self._made += 1
        ticket = f"{name}-{self._made:x}"
        self._tickets[ticket] = (content, time.monotonic() + self.switches.download_lifetime)
        if len(self._tickets) > _KEPT:
            del self._tickets[next(iter(self._tickets))]
        return f"{self.base}/dl/download.aspx?UniqueId={name}&tempauth={ticket}"

    def expire(self) -> None:
        """Let every address handed out so far expire."""
        self._tickets.clear()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one download."""
        record = self._logged(request)
        self.log.append(record)
        await asyncio.sleep(self.switches.latency)
        door = f"dl/{request.query.get('UniqueId', '')}"
        fault = self.faults.strike(Subject(request.method, "dl", door, frozenset()))
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        instead = fault is not None and wire.replaces(fault)
        answer = wire.replacement(fault) if fault and instead else self._answer(request)
        record.status, record.fault = answer.status, fault.kind if fault else ""
        if fault is not None and fault.kind == "reset":
            record.status = 0
            wire.hang_up(request, abruptly=True)
        response = await wire.send(request, answer, fault)
        record.end = time.monotonic()
        return response

    def _logged(self, request: web.Request) -> RequestRecord:
        headers = {name: request.headers[name] for name in _LOGGED if name in request.headers}
        if "Authorization" in request.headers:
            headers["authorization"] = request.headers["Authorization"].partition(" ")[0]
        return RequestRecord("download", request.method, request.path, {}, headers, route="dl")

    def _answer(self, request: web.Request) -> Answer:
        if "Authorization" in request.headers:
            return _refusal(HTTPStatus.UNAUTHORIZED, "unauthenticated")
        ticket = self._tickets.get(request.query.get("tempauth", ""))
        if ticket is None or time.monotonic() > ticket[1]:
            return _refusal(HTTPStatus.UNAUTHORIZED, "accessDenied")
        return self._content(ticket[0], request.headers.get("Range", ""))

    def _content(self, content: FileContent, asked: str) -> Answer:
        wanted = _RANGE.fullmatch(asked)
        size = content.size
        if wanted is None or self.switches.range_mode == "whole":
            return Answer(
                content.read(0, size), HTTPStatus.OK, {"Accept-Ranges": "bytes"}, _OCTETS, size
            )
        start = int(wanted[1])
        stop = min(int(wanted[2]) + 1, size) if wanted[2] else size
        if start >= stop or self.switches.range_mode == "unsatisfiable":
            headers = {"Content-Range": f"bytes */{size}"}
            return Answer(b"", HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers)
        headers = {"Content-Range": f"bytes {start}-{stop - 1}/{size}", "Accept-Ranges": "bytes"}
        body = content.read(start, stop)
        return Answer(body, HTTPStatus.PARTIAL_CONTENT, headers, _OCTETS, stop - start)


_OCTETS = "application/octet-stream"


def _refusal(status: int, code: str) -> Answer:
    body = to_json({"error": {"code": code, "message": "Access denied"}})
    return Answer(body, status, content_type="application/json")
