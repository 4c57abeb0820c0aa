"""Graph's front door: who calls, may they, is it too much, and then the route."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import jwt
from aiohttp import web
from multidict import CIMultiDict

from backupd.demo import odata, wire
from backupd.demo.arrivals import Arrival, Outcome, logged
from backupd.demo.batch import run_batch
from backupd.demo.calls import Answer, Call, Handler, Refused
from backupd.demo.chance import Chance
from backupd.demo.directory import User
from backupd.demo.faults import Faults, Subject
from backupd.demo.moments import now
from backupd.demo.tokens import CursorCodec, Identity, TokenMint
from backupd.demo.workloads import workload

if TYPE_CHECKING:
    from backupd.demo.cutoffs import Cutoffs
    from backupd.demo.downloads import Downloads
    from backupd.demo.requestlog import RequestLog
    from backupd.demo.routing import Router
    from backupd.demo.state import TenantState
    from backupd.demo.switches import Switches
    from backupd.demo.throttle import Throttle

_ONE_UNIT = ("delta", "content", "root", "{item}")


@dataclass
class Gateway:
    """Everything between the network and the routes."""

    state: TenantState
    switches: Switches
    faults: Faults
    cutoffs: Cutoffs
    mint: TokenMint
    cursors: CursorCodec
    log: RequestLog
    router: Router
    throttle: Throttle
    downloads: Downloads
    _chance: Chance = field(default_factory=lambda: Chance("requests"))

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer one request from the network."""
        path, _, query = request.raw_path.partition("?")
        headers = CIMultiDict(request.headers)
        body = await request.read()
        host = f"{request.scheme}://{request.host}"
        arrival = Arrival(request.method, path, query, headers, body, host)
        outcome = await self.handle(arrival)
        if outcome.fault is not None and outcome.fault.kind == "reset":
            wire.hang_up(request, abruptly=True)
            return web.Response()
        return await wire.send(request, outcome.answer, outcome.fault)

    async def handle(self, arrival: Arrival) -> Outcome:
        """Answer one arrival; its time in flight ends before the first byte of the body is sent."""
        record = logged(arrival)
        self.log.append(record)
        call, handler, refused = self._understood(arrival)
        mailbox = self._mailbox(call)
        record.route, record.user = call.route, call.params.get("user", "")
        record.mailbox, record.in_flight = mailbox, self.throttle.enter(mailbox)
        try:
            await asyncio.sleep(self.switches.latency)
            outcome = await self._outcome(call, handler, refused, mailbox)
        finally:
            self.throttle.leave(mailbox)
            record.end = time.monotonic()
        record.status = outcome.answer.status
        record.fault = outcome.fault.kind if outcome.fault else ""
        self._finish(call, outcome.answer)
        return outcome

    async def _outcome(
        self, call: Call, handler: Handler | None, refused: Refused | None, mailbox: str
    ) -> Outcome:
        fault = self.faults.strike(self._subject(call))
        if fault is not None and fault.kind == "hang":
            await asyncio.sleep(fault.seconds)
        if fault is not None and wire.replaces(fault):
            return Outcome(wire.replacement(fault), fault)
        if self.cutoffs.outage():
            return Outcome(Answer(b"", HTTPStatus.SERVICE_UNAVAILABLE), fault)
        try:
            if refused is not None or handler is None:
                raise refused or Refused(HTTPStatus.NOT_FOUND, "NotFound", "")
            self._admit(call, mailbox)
            return Outcome(await self._answer(call, handler), fault)
        except Refused as refusal:
            return Outcome(refusal.answer(), fault)

    async def _answer(self, call: Call, handler: Handler) -> Answer:
        if call.route == "$batch":
            return await run_batch(self.handle, call)
        with self.state.lock:
            return handler(call)

    def _understood(self, arrival: Arrival) -> tuple[Call, Handler | None, Refused | None]:
        """Parse an arrival as far as possible; what cannot be routed is refused after login."""
        base = f"{arrival.host}/v1.0"
        steps, arguments = odata.segments(arrival.path.removeprefix("/v1.0"))
        query = odata.parse_query(arrival.query) | arguments
        call = Call(
            *(self.state, self.switches, self.cursors, arrival.method, arrival.path, "", {}, query),
            *(arrival.headers, base, self.downloads.address, _NOBODY, arrival.body),
        )
        try:
            call.identity = self._identity(arrival.headers)
            steps = self._without_me(call, steps)
            call.route, call.params, handler = self.router.find(arrival.method, steps)
        except Refused as refused:
            return call, None, refused
        call.path = odata.canonical(call.route, call.params)
        return call, handler, None

    def _identity(self, headers: CIMultiDict[str]) -> Identity:
        scheme, _, token = headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorised("Access token is empty.")
        try:
            return self.mint.identity(token)
        except jwt.ExpiredSignatureError:
            raise _unauthorised("Lifetime validation failed, the token is expired.") from None
        except jwt.InvalidTokenError:
            raise _unauthorised("CompactToken parsing failed.") from None

    def _without_me(self, call: Call, steps: list[str]) -> list[str]:
        if not steps or steps[0].lower() != "me":
            return steps
        if not call.identity.user:
            message = "/me request is only valid with delegated authentication flow."
            raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", message)
        return ["users", call.identity.user, *steps[1:]]

    def _admit(self, call: Call, mailbox: str) -> None:
        """Everything that can keep a request from its route."""
        work = workload(call.route)
        odata.check_options(call.query, call.route)
        self.cutoffs.check_identity(call.identity)
        self.cutoffs.check_workload(work)
        if not any(role.startswith(work.permissions) for role in call.identity.roles | {""}):
            raise work.denied()
        if mailbox:
            self.throttle.check_mailbox(mailbox)
        if work.files:
            self._spend_units(call)
        if (owner := self._owner(call)) is not None:
            self.cutoffs.check_account(owner, work)

    def _spend_units(self, call: Call) -> None:
        cheap = call.route.rpartition("/")[2] in _ONE_UNIT and "token" in f"{call.query}"
        call.applied_headers |= self.throttle.check_units(1 if cheap else 2)

    def _owner(self, call: Call) -> User | None:
        """The account a request is about, when it exists."""
        directory = self.state.directory
        if "user" in call.params and len(call.route.split("/")) > len(("users", "{user}")):
            return directory.user(call.params["user"])
        if "drive" not in call.params:
            return None
        owner = directory.drive_owner(directory.drive(call.params["drive"]))
        return owner if isinstance(owner, User) else None

    def _mailbox(self, call: Call) -> str:
        """The mailbox whose limits a request counts against, or ""."""
        if not call.route or not workload(call.route).outlook:
            return ""
        try:
            return self.state.directory.find(call.params["user"]).id
        except KeyError:
            return ""

    def _subject(self, call: Call) -> Subject:
        names = {call.params.get("user", "").casefold()} - {""}
        for name in list(names):
            try:
                user = self.state.directory.find(name)
            except KeyError:
                continue
            names |= {user.id, user.upn.casefold(), user.upn.partition("@")[0]}
        path = call.path.strip("/").removeprefix("v1.0/")
        return Subject(call.method, call.route, path, frozenset(names))

    def _finish(self, call: Call, answer: Answer) -> None:
        """The headers that every answer carries, and the ids in an error."""
        answer.raw_controls = self.switches.control_characters
        request_id = self._chance.guid()
        client_id = call.headers.get("client-request-id", request_id)
        answer.headers |= call.applied_headers
        answer.headers |= {"request-id": request_id, "client-request-id": client_id}
        if call.applied:
            answer.headers["Preference-Applied"] = ", ".join(dict.fromkeys(call.applied))
        if isinstance(answer.body, dict) and "innerError" in answer.body.get("error", {}):
            answer.body["error"]["innerError"] |= {
                "date": now().strftime("%Y-%m-%dT%H:%M:%S"),
                "request-id": request_id,
                "client-request-id": client_id,
            }


_NOBODY = Identity("", "", frozenset(), "", 0.0)


def _unauthorised(message: str) -> Refused:
    headers = {"WWW-Authenticate": 'Bearer realm="", error="invalid_token"'}
    return Refused(HTTPStatus.UNAUTHORIZED, "InvalidAuthenticationToken", message, headers=headers)
