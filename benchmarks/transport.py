"""What a message costs on the wire: CPU per request and per MiB, for each way to ask.

A server in a process of its own answers like `$value` and like a file download. Measured is the
CPU time of this process alone, four requests in flight, as Exchange allows per mailbox.

    python benchmarks/transport.py            a table
    python benchmarks/transport.py --json     one object for the gate

`source` is the whole path of `GraphSource.fetch`: lane, token, draft on disk, results handed to
another thread. Its peer is a bare loop over aiohttp that writes the same files.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import resource
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import aiohttp
import httpx
from aiohttp import web
from httpx_aiohttp import AiohttpTransport

from backupd.config import Microsoft365
from backupd.model import Account, AccountKind, Collection, Item, Service
from sources.graph.source import GraphSource

MESSAGE = b"Subject: benchmark\r\n\r\n" + b"0123456789abcdef" * 2048
"""32 KiB, between the median and the mean of real mail."""
FILE_MIB = 64
WIDTH = 4
GOAL = 1.3
TOKEN = {"token_type": "Bearer", "expires_in": 3599, "access_token": "opaque"}


def serve(door: Connection) -> None:
    """The server: a message, a file, a token."""
    block = bytes(1 << 20)

    async def message(_: web.Request) -> web.Response:
        return web.Response(body=MESSAGE, content_type="text/plain")

    async def token(_: web.Request) -> web.Response:
        return web.json_response(TOKEN)

    async def file(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(FILE_MIB << 20)})
        await response.prepare(request)
        for _ in range(FILE_MIB):
            await response.write(block)
        return response

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/v1.0/users/{user}/messages/{id}/$value", message)
        app.router.add_get("/file", file)
        app.router.add_post("/login/{tenant}/oauth2/v2.0/token", token)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        door.send(runner.addresses[0][1])
        await asyncio.to_thread(door.recv)
        await runner.cleanup()

    asyncio.run(main())


Get = Callable[[str], AsyncIterator[bytes]]


@dataclass(frozen=True)
class Transport:
    name: str
    opened: Callable[[], Any]


async def _aiohttp_get(session: aiohttp.ClientSession, url: str) -> AsyncIterator[bytes]:
    async with session.get(url) as answer:
        async for chunk in answer.content.iter_any():
            yield chunk


async def _httpx_get(client: httpx.AsyncClient, url: str) -> AsyncIterator[bytes]:
    async with client.stream("GET", url) as answer:
        async for chunk in answer.aiter_raw():
            yield chunk


async def with_aiohttp(work: Callable[[Get], Awaitable[None]]) -> None:
    async with aiohttp.ClientSession(read_bufsize=1 << 18) as session:
        await work(lambda url: _aiohttp_get(session, url))


async def with_httpx(work: Callable[[Get], Awaitable[None]]) -> None:
    async with httpx.AsyncClient(timeout=60) as client:
        await work(lambda url: _httpx_get(client, url))


async def with_httpx_aiohttp(work: Callable[[Get], Awaitable[None]]) -> None:
    async with (
        aiohttp.ClientSession(read_bufsize=1 << 18) as session,
        httpx.AsyncClient(transport=AiohttpTransport(client=session), timeout=60) as client,
    ):
        await work(lambda url: _httpx_get(client, url))


TRANSPORTS = {
    "aiohttp": with_aiohttp,
    "httpx over aiohttp": with_httpx_aiohttp,
    "httpx": with_httpx,
}


class FileDraft:
    """A draft as the mirror makes them: hashed while it is written."""

    def __init__(self, folder: Path, number: int) -> None:
        self.path = folder / f"{number}.part"
        self._file = self.path.open("wb", buffering=0)
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._file.write(data)
        self._hash.update(data)
        self.size += len(data)

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._hash, self.size = hashlib.sha256(), 0

    def discard(self) -> None:
        self._file.close()


def cpu(work: Callable[[], object]) -> float:
    """Seconds of CPU that `work` takes in this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def requests_with(transport: Callable[..., Any], url: str, count: int, folder: Path) -> float:
    """CPU seconds per message: read, hashed and written to a file."""

    async def work(get: Get) -> None:
        numbers = iter(range(count))

        async def worker() -> None:
            for number in numbers:
                draft = FileDraft(folder, number)
                async for chunk in get(f"{url}/v1.0/users/u/messages/{number}/$value"):
                    draft.write(chunk)
                draft.discard()

        await asyncio.gather(*(worker() for _ in range(WIDTH)))

    return cpu(lambda: asyncio.run(transport(work))) / count


def stream_with(transport: Callable[..., Any], url: str) -> float:
    """CPU seconds per MiB of one large download."""

    async def work(get: Get) -> None:
        size = 0
        async for chunk in get(f"{url}/file"):
            size += len(chunk)
        if size != FILE_MIB << 20:
            raise SystemExit(f"the download was cut at {size} bytes")

    return cpu(lambda: asyncio.run(transport(work))) / FILE_MIB


def source_requests(source: GraphSource, count: int, folder: Path) -> float:
    """CPU seconds per message through `GraphSource.fetch`."""
    account = Account("u", "u@example.org", "U", AccountKind.USER, "b", frozenset(Service))
    where = Collection(Service.MAIL, "inbox", None, "Inbox")
    numbers = iter(range(count))
    items = (Item(str(n), {"hasAttachments": False}) for n in range(count))

    def work() -> None:
        for each in source.fetch(account, where, items, lambda: FileDraft(folder, next(numbers))):
            each.draft.discard()  # type: ignore[union-attr]  # a Failed one would end it here

    return cpu(work) / count


def measure(url: str, folder: Path, count: int, rounds: int) -> Iterator[tuple[str, str, float]]:
    """(name, unit, median) of each figure."""
    secret = folder / "secret"
    secret.write_text("x")
    section = Microsoft365(
        name="bench",
        type="microsoft365",
        tenant_id="t",
        client_id="c",
        client_secret_file=secret,
        graph_url=f"{url}/v1.0",
        login_url=f"{url}/login",
    )
    source = GraphSource(section)
    try:
        found: dict[str, list[float]] = {}
        for _ in range(rounds + 1):
            for name, transport in TRANSPORTS.items():
                found.setdefault(name, []).append(requests_with(transport, url, count, folder))
            found.setdefault("source", []).append(source_requests(source, count, folder))
    finally:
        source.close()
    for name, values in found.items():
        yield name, "ms CPU/message", statistics.median(values[1:]) * 1000
    for name, transport in TRANSPORTS.items():
        values = [stream_with(transport, url) for _ in range(rounds)]
        yield name, "ms CPU/MiB", statistics.median(values) * 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    server = context.Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    with tempfile.TemporaryDirectory() as folder:
        url = f"http://127.0.0.1:{ours.recv()}"
        figures = list(measure(url, Path(folder), asked.count, asked.rounds))
    ours.send("stop")
    server.join()
    report(figures, as_json=asked.json)


def report(figures: list[tuple[str, str, float]], *, as_json: bool) -> None:
    value = {(name, unit): figure for name, unit, figure in figures}
    mine, peer = value["source", "ms CPU/message"], value["aiohttp", "ms CPU/message"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if as_json:
        figure = {
            "name": "fetch a message",
            "ours": round(mine, 4),
            "peer": round(peer, 4),
            "peer_name": "bare aiohttp loop",
            "ratio": round(mine / peer, 3),
            "goal": GOAL,
            "unit": "ms CPU/message",
            "peak_mb": round(peak, 1),
        }
        print(json.dumps({"figures": [figure]}))
        return
    for name, unit, figure in figures:
        print(f"{name:20} {figure:8.3f} {unit}")
    print(f"source / bare aiohttp: {mine / peer:.2f} (goal {GOAL}); peak {peak:.0f} MiB")


if __name__ == "__main__":
    main()
