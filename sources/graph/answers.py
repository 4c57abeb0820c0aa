"""Answers as they come: one request without retries, its body bounded, framed and in time.

Every timer costs a request as much as its file does, so there is one for silence, which aiohttp keeps, and none for the
whole: whoever reads a body looks at the clock with each chunk, and silence ends within a minute.
"""

from __future__ import annotations

import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Container, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any
from urllib.request import getproxies

import aiohttp
import httpx
from yarl import URL

from sources.graph.failures import Broken, Refused, Scope, read

LARGEST_JSON = 64 << 20
"""Bytes of one JSON answer; a page of 999 events with every property has about 10 MiB."""

CONNECTIONS = 64
"""Sockets in the pool: 4 per mailbox for a dozen mailboxes at a time, and the drives."""

SILENCE = 60.0
"""Seconds without a byte after which a connection counts as broken."""

POUR_TIME = 900.0
"""Seconds for one message or attachment: 150 MB at 170 kB/s."""

CONNECT_TIME = 30.0
"""Seconds to make a connection, TLS included."""

TIMES = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIME, sock_read=SILENCE)

OK: Container[int] = (HTTPStatus.OK,)


class Opened:
    """One GET without retries, its body still to be read; used with `async with`.

    Raises Refused for a status that is not `expected`, Broken for what the network does.

    Args:
        scope: what a refusal would be about; `what` is the same for people.
        follow: whether redirects are followed: for files on other hosts.
    """

    __slots__ = ("_context", "_expected", "_scope", "_what")

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
        about: tuple[Scope, str],
        expected: Container[int] = OK,
        *,
        follow: bool = False,
    ) -> None:
        target = URL(url, encoded=True)
        self._context = session.get(target, headers=headers, allow_redirects=follow)
        self._scope, self._what = about
        self._expected = expected

    async def __aenter__(self) -> aiohttp.ClientResponse:
        try:
            answer = await self._context.__aenter__()
            if answer.status in self._expected:
                return answer
            try:
                body = await bounded(answer.content.iter_any())
            finally:
                answer.release()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Broken(self._what, type(error).__name__) from error
        raise Refused(read(answer.status, answer.headers, body), self._scope, self._what)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._context.__aexit__(kind, error, trace)
        if isinstance(error, (aiohttp.ClientError, TimeoutError)):
            raise Broken(self._what, type(error).__name__) from error


async def in_time(answer: aiohttp.ClientResponse, limit: float = POUR_TIME) -> AsyncIterator[bytes]:
    """The body chunk by chunk. Raises TimeoutError when it drips for longer than `limit` seconds."""
    end = time.monotonic() + limit
    async for chunk in answer.content.iter_any():
        yield chunk
        if time.monotonic() > end:
            raise TimeoutError


@contextlib.contextmanager
def broken(what: str) -> Any:
    """Failures of the network as `Broken`."""
    try:
        yield
    except (aiohttp.ClientError, httpx.HTTPError, httpx.StreamError, TimeoutError) as error:
        raise Broken(what, type(error).__name__) from error


def check_framed(answer: aiohttp.ClientResponse) -> None:
    """Raise unless a cut body can be told from a whole one (aiohttp then does the telling)."""
    headers = answer.headers
    if "Content-Length" not in headers and headers.get("Transfer-Encoding", "") != "chunked":
        raise aiohttp.ClientPayloadError("the answer says neither its length nor its end")


async def bounded(chunks: AsyncIterator[bytes], limit: int = LARGEST_JSON) -> bytes:
    """All of a body that must not be large. Raises ClientPayloadError beyond `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size > limit:
            raise aiohttp.ClientPayloadError(f"more than {limit} bytes")
    return b"".join(parts)


async def open_session(headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """The pool of one tenant."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=CONNECTIONS, ttl_dns_cache=300, ssl=ssl.create_default_context()
        ),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers=headers,
        timeout=TIMES,
        read_bufsize=1 << 18,
        trust_env=bool(getproxies()),  # it costs two thread hops a request to look
    )
