"""The door to Graph: authorised, paced, retried, streamed.

Everything asynchronous of this source runs on the one loop that `Client` owns. Requests that
happen once a page are built by the SDK (`sdk`); links that the server hands out are followed
verbatim; the bytes of messages and files are read straight from the pool.

The pool is aiohttp's, for both. `benchmarks/transport.py` measured CPU time of the client alone
(2 cores, Python 3.11, 32 KiB messages written to a file, 64 MiB downloads):

    aiohttp              0.69 ms a message     0.9 ms a MiB
    httpx over aiohttp   1.29 ms a message     2.2 ms a MiB
    httpx                2.61 ms a message     3.2 ms a MiB
    GraphSource.fetch    0.75 ms a message     (1.1 to 1.2 times the bare aiohttp loop)
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Container, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import urlsplit

import aiohttp
import stamina
from yarl import URL

from backupd import __version__
from backupd.errors import TransientError
from backupd.limits import LOOPBACK, PATIENCE, UNHURRIED, Lane, Lanes, Pace
from backupd.meters import CONNECTION, DONE, meter_of
from sources.graph.again import Again
from sources.graph.answers import (
    OK,
    POUR_TIME,
    Opened,
    bounded,
    broken,
    check_framed,
    in_time,
    open_session,
)
from sources.graph.failures import Broken, Refused, Scope, rate_left, read
from sources.graph.loop import Loop
from sources.graph.sdk import Sdk
from sources.graph.signin import PersonGrant, Prompt
from sources.graph.tokens import Endpoint, Tokens, app_grant

if TYPE_CHECKING:
    from backupd.config import Microsoft365
    from backupd.ports import Draft

logging.getLogger("stamina").setLevel(logging.ERROR)
"""A retry is no event for an operator; what stays refused is."""

T = TypeVar("T")
Json = Mapping[str, Any]
Answer = tuple[int, Mapping[str, str], bytes]

LARGEST_BLOB = 160 << 20
"""Bytes of one attachment or photo; Exchange takes messages of up to 150 MB."""

ANSWER_TIME = 120.0
"""Seconds for a JSON answer; Graph's own gateway gives up after 100."""

ESCAPED_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked: in which lane, at which price, and what a refusal would be about.

    Attributes:
        what: for people: "the folders of alice@example.org".
        prefer: the Prefer header; links do not carry it, so each request repeats it.
        units: price in the lane's units.
        whole: takes every seat of the lane (a batch).
        attempts: how often it may be sent, or 0 for the pace's own figure.
    """

    lane: Lane
    scope: Scope
    what: str
    prefer: str = ""
    units: float = 1
    whole: bool = False
    attempts: int = 0


class Watch(Protocol):
    """Sees a body stream by."""

    def begin(self) -> None:
        """Another attempt begins: forget the one before."""
        ...

    def see(self, chunk: bytes) -> None:
        """The next bytes."""
        ...


class Client:
    """One tenant's Graph. Blocking methods are for other threads, `async` ones for its loop."""

    def __init__(
        self, section: Microsoft365, *, pace: Pace | None = None, prompt: Prompt | None = None
    ) -> None:
        self.base = section.graph_url
        self.host = _origin(section.graph_url)
        self.lanes = Lanes(pace or pace_for(section.graph_url), meter_of(section.name))
        self._run = str(uuid.uuid4())[:24]  # a GUID whose last group counts our requests
        self._numbers = itertools.count(1)
        self.endpoint = Endpoint(section, lambda: self.session, self.lanes.pace)
        app = section.auth == "app"
        self.tokens = Tokens(
            self.endpoint,
            app_grant(section, self.endpoint)
            if app
            else PersonGrant(section, self.endpoint, prompt),
        )
        headers = {
            "User-Agent": f"NONISV|{section.company}|backupd/{__version__}",
            "Accept": "application/json",
            "return-client-request-id": "true",
        }
        self.loop = Loop(f"graph-{section.name}")
        self.session = self.loop.call(open_session(headers))
        self.sdk = Sdk(section.graph_url, self.session)

    def close(self) -> None:
        """End the loop, its thread and every connection; safe to call twice."""
        self.loop.close(self._release)

    def ask(self, builder: Any, call: Call, **query: Any) -> Json:
        """GET what an SDK builder points at; blocking."""
        return self.loop.call(self.built(self.sdk.get(builder, **query), call))

    def follow(self, link: str, call: Call) -> Json:
        """GET a link that Graph handed out, verbatim; blocking."""
        return self.loop.call(self.linked(link, call))

    async def built(self, information: Any, call: Call) -> Json:
        """GET or POST a request that the SDK built."""

        async def once() -> Answer:
            request = await self.sdk.convert(information)
            request.headers.update(await self.headers(call))
            response = await self.sdk.http.send(request, stream=True)
            try:
                body = await bounded(response.aiter_bytes())
            finally:
                await response.aclose()
            return response.status_code, response.headers, body

        return await self._json(once, call)

    async def linked(self, link: str, call: Call) -> Json:
        """GET a link of this Graph. Raises TransientError for one that leads elsewhere."""
        self.check_host(link)
        return await self.sent("GET", link, call)

    async def sent(self, method: str, url: str, call: Call, body: Json | None = None) -> Json:
        """Send `body` as JSON, read JSON."""
        target = URL(url, encoded=True)

        async def once() -> Answer:
            async with self.session.request(
                method, target, json=body, headers=await self.headers(call), allow_redirects=False
            ) as answer:
                return answer.status, answer.headers, await bounded(answer.content.iter_any())

        return await self._json(once, call)

    async def pour(
        self, url: str, call: Call, draft: Draft, watch: Watch | None = None, least: int = 0
    ) -> None:
        """Stream the bytes behind `url` into `draft`, whole or not at all.

        `watch` sees each chunk of each attempt. A body that is cut, that has fewer than `least`
        bytes, or whose end nobody can know, is asked for again.

        Raises Refused or Broken; OSError when the disk does not take the bytes.
        """
        about = (call.scope, call.what)

        async def once() -> None:
            if draft.size:
                draft.restart()
            if watch:
                watch.begin()
            headers = await self.headers(call)
            headers["Accept-Encoding"] = "identity"
            end = time.monotonic() + POUR_TIME
            async with Opened(self.session, url, headers, about) as answer:
                check_framed(answer)
                while chunk := await answer.content.readany():
                    draft.write(chunk)
                    if watch:
                        watch.see(chunk)
                    if time.monotonic() > end:
                        raise TimeoutError
                if draft.size < least:
                    raise aiohttp.ClientPayloadError("an empty answer")

        await self.persist(call, once)

    async def raw(self, url: str, call: Call) -> tuple[bytes, str]:
        """The bytes behind `url`, at most LARGEST_BLOB of them, and their media type."""

        async def once() -> tuple[bytes, str]:
            headers = await self.headers(call)
            async with self.opened(url, headers, call) as answer:
                check_framed(answer)
                body = await bounded(in_time(answer), LARGEST_BLOB)
                return body, answer.content_type

        return await self.persist(call, once)

    def opened(
        self,
        url: str,
        headers: Mapping[str, str],
        call: Call,
        expected: Container[int] = OK,
        *,
        follow: bool = False,
    ) -> Opened:
        """One GET without retries; `follow` is for files on other hosts."""
        about = (call.scope, call.what)
        return Opened(self.session, url, headers, about, expected, follow=follow)

    async def headers(self, call: Call) -> dict[str, str]:
        """What every request carries, beside the session's own headers."""
        headers = {
            "Authorization": await self.tokens.bearer(),
            "client-request-id": f"{self._run}{next(self._numbers):012x}",
        }
        if call.prefer:
            headers["Prefer"] = call.prefer
        return headers

    def check_host(self, link: str) -> None:
        """A link from elsewhere would carry our token there. Raises TransientError."""
        if _origin(link) != self.host:
            raise TransientError(
                f"Graph handed out a link to another host: {_origin(link)[:80]}.",
                reason="foreign-link",
            )

    async def _json(self, once: Callable[[], Awaitable[Answer]], call: Call) -> Json:
        async def attempt() -> Json:
            with broken(call.what):
                async with asyncio.timeout(ANSWER_TIME):
                    status, headers, body = await once()
            if left := rate_left(headers):
                call.lane.observe(*left)
            if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
                raise Refused(read(status, headers, body), call.scope, call.what)
            return parse(body, call.what)

        return await self.persist(call, attempt)

    async def persist(self, call: Call, once: Callable[[], Awaitable[T]]) -> T:
        """Do it in its lane until it is done, refused for good, or not worth another try."""
        self.lanes.budget.earn()
        try:
            return await self._turn(call, once)
        except (Refused, Broken) as failure:
            again = Again(self.lanes.budget, self.tokens, failure)
        # stamina counts the failure above as its first attempt: the happy path costs nothing.
        pace = self.lanes.pace
        async for attempt in stamina.retry_context(
            on=again.worth_it,
            attempts=call.attempts or pace.attempts,
            timeout=PATIENCE,
            wait_initial=pace.first_wait,
            wait_max=pace.longest_wait,
            wait_jitter=pace.first_wait,
        ):
            with attempt:
                await again.prepare()
                self.lanes.meter.retry()
                return await self._turn(call, once)
        raise AssertionError("unreachable")  # the last attempt returns or raises

    async def _turn(self, call: Call, once: Callable[[], Awaitable[T]]) -> T:
        lane = call.lane
        await (lane.enter_whole(call.units) if call.whole else lane.enter(call.units))
        try:
            answer = await once()
        except Broken:
            self.lanes.meter.count(CONNECTION)
            raise
        except Refused as refused:
            self.lanes.meter.count(refused.kind.value)
            if refused.refusal.pause is not None:
                lane.close_for(refused.refusal.pause)
            raise
        else:
            self.lanes.meter.count(DONE)
            return answer
        finally:
            (lane.leave_whole if call.whole else lane.leave)()

    async def _release(self) -> None:
        await self.sdk.close()
        await self.session.close()


def pace_for(graph_url: str) -> Pace:
    """Microsoft's limits for Microsoft; a simulated Graph on this machine has no rate to keep."""
    host = urlsplit(graph_url).hostname
    return LOOPBACK if host in {"127.0.0.1", "localhost", "::1"} else UNHURRIED


def parse(body: bytes, what: str) -> Json:
    """A JSON object; control characters inside strings are taken as they are.

    Raises Broken for anything else.
    """
    try:
        value = json.loads(body, strict=False)
    except (ValueError, RecursionError) as error:
        raise Broken(what, "the answer is not JSON") from error
    if not isinstance(value, dict):
        raise Broken(what, "the answer is not a JSON object")
    return _mended(value) if ESCAPED_SURROGATE.search(body) else value


def _mended(value: Any) -> Any:
    """Half of a surrogate pair is no character: no file and no database takes it."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_mended(each) for each in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(each) for key, each in value.items()}
    return value


def _origin(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.scheme}://{parts.netloc}".lower()
    except ValueError:
        return ""
