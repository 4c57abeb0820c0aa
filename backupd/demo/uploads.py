"""Upload sessions: files that arrive in pieces, at an address that is the permission by itself."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo import wire
from backupd.demo.calls import Answer, Json, Refused
from backupd.demo.faults import Faults, Subject
from backupd.demo.moments import now, stamp
from backupd.demo.requestlog import RequestLog, RequestRecord

if TYPE_CHECKING:
    from aiohttp import web

    from backupd.demo.switches import Switches

GRAIN = 320 * 1024
"""What the length of every piece but the last must be a multiple of."""
LARGEST = 60 * 1024 * 1024
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

Finish = Callable[[bytes], Json]
"""Stores a complete file; raises Refused."""


@dataclass
class Session:
    """A file under way."""

    finish: Finish
    expires: float
    held: bytearray = field(default_factory=bytearray)
    total: int | None = None

    def status(self) -> Json:
        """What the service says of it."""
        left = max(0.0, self.expires - time.monotonic())
        return {
            "expirationDateTime": stamp(now() + timedelta(seconds=left)),
            "nextExpectedRanges": [f"{len(self.held)}-"],
        }


@dataclass
class Uploads:
    """Hands out addresses to upload to and serves them; refuses any Authorization header."""

    switches: Switches
    faults: Faults
    log: RequestLog
    base: str = ""
    _sessions: dict[str, Session] = field(default_factory=dict)
    _made: int = 0

    def open(self, finish: Finish) -> Json:
        """Begin a session; the answer of `createUploadSession`."""
        self._made += 1
        name = f"up-{self._made:x}"
        session = Session(finish, time.monotonic() + self.switches.upload_lifetime)
        self._sessions[name] = session
        return session.status() | {"uploadUrl": f"{self.base}/up/{name}?tempauth=v1.{name}"}

    def expire(self) -> None:
        """Let every session end as it does after some days."""
        self._sessions.clear()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request about a session."""
        data = await request.read()
        headers = {"content-range": request.headers.get("Content-Range", "")}
        if "Authorization" in request.headers:
            headers["authorization"] = request.headers["Authorization"].partition(" ")[0]
        record = RequestRecord("upload", request.method, request.path, {}, headers, route="up")
        self.log.append(record)
        await asyncio.sleep(self.switches.latency)
        subject = Subject(request.method, "up", request.path.strip("/"), frozenset())
        fault = self.faults.strike(subject)
        if fault is not None and wire.replaces(fault):
            answer = wire.replacement(fault)
        else:
            answer = self._answer(request, data)
        record.status, record.fault = answer.status, fault.kind if fault else ""
        if fault is not None and fault.kind == "reset":
            record.status = 0
            wire.hang_up(request, abruptly=True)
        response = await wire.send(request, answer, fault)
        record.end = time.monotonic()
        return response

    def _answer(self, request: web.Request, data: bytes) -> Answer:
        name = request.path.rpartition("/")[2]
        try:
            session = self._session(name, request)
            if request.method == "GET":
                return Answer(session.status())
            if request.method == "DELETE":
                del self._sessions[name]
                return Answer(b"", HTTPStatus.NO_CONTENT)
            return self._take(name, session, request.headers.get("Content-Range", ""), data)
        except Refused as refused:
            return refused.answer()

    def _session(self, name: str, request: web.Request) -> Session:
        if "Authorization" in request.headers:
            raise Refused(HTTPStatus.UNAUTHORIZED, "unauthenticated", "No token belongs here.")
        session = self._sessions.get(name)
        if session is None or time.monotonic() > session.expires:
            raise Refused(HTTPStatus.NOT_FOUND, "itemNotFound", "The session was not found.")
        return session

    def _take(self, name: str, session: Session, said: str, data: bytes) -> Answer:
        start, total = _checked(said, data)
        session.total = total if session.total is None else session.total
        if start != len(session.held) or total != session.total:
            status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            raise Refused(status, "invalidRange", "The fragment overlaps or leaves a gap.")
        last = start + len(data) == total
        if not last and len(data) % GRAIN:
            message = "A piece must be a multiple of 320 KiB."
            raise Refused(HTTPStatus.BAD_REQUEST, "invalidRequest", message)
        session.held += data
        if not last:
            return Answer(session.status(), HTTPStatus.ACCEPTED)
        del self._sessions[name]
        return Answer(session.finish(bytes(session.held)), HTTPStatus.CREATED)


def _checked(said: str, data: bytes) -> tuple[int, int]:
    """Where a piece begins and how long the whole is; refuses what contradicts the bytes."""
    found = _RANGE.fullmatch(said)
    if found is None or int(found[2]) - int(found[1]) + 1 != len(data) or len(data) > LARGEST:
        message = "The Content-Range header does not fit the body."
        raise Refused(HTTPStatus.BAD_REQUEST, "invalidRequest", message)
    return int(found[1]), int(found[3])
