"""The bytes of a file: streamed from their own address, resumed after a cut, checked at the end.

The address is pre-authenticated and lies on another host: our token is never sent there. It
lives minutes to an hour; when it is refused, Graph is asked for a new one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from http import HTTPStatus
from pathlib import PurePosixPath
from typing import Self
from urllib.parse import urlsplit

import aiohttp

from backupd.errors import ItemUnreadable
from backupd.model import Facts, Item
from backupd.ports import Draft, Fetched
from backupd.quickxor import QuickXor
from sources.graph.answers import check_framed
from sources.graph.client import Call, Client, Json
from sources.graph.failures import Broken, Scope
from sources.graph.filefacts import file_facts

STRETCH = 1 << 20
"""Bytes gathered before a thread hashes and writes them; smaller ones are written on the loop."""

SLOWEST = 1 << 14
"""Bytes a second below which a download is given up: a drip must not hold a seat for ever."""

PATIENCE = 900.0
"""Seconds that any download may take, however small it is."""

FRESH_ADDRESSES = 3
"""New addresses in a row that may be refused without a single byte."""

EXPIRED = frozenset(
    {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}
)

ANSWERED = EXPIRED | {
    HTTPStatus.OK,
    HTTPStatus.PARTIAL_CONTENT,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
}
MOVED = frozenset({HTTPStatus.FOUND, HTTPStatus.TEMPORARY_REDIRECT})

REWRITTEN = frozenset(
    [
        ".doc",
        ".docm",
        ".docx",
        ".dot",
        ".dotm",
        ".dotx",
        ".pot",
        ".potm",
        ".potx",
        ".pps",
        ".ppsm",
        ".ppsx",
        ".ppt",
        ".pptm",
        ".pptx",
        ".vsd",
        ".vsdx",
        ".xls",
        ".xlsb",
        ".xlsm",
        ".xlsx",
        ".xlt",
        ".xltm",
        ".xltx",
        ".heic",
        ".heif",
    ]
)
"""Files that SharePoint changes when it stores them, so that hash and size may be those of before:
Office files (property promotion, reported since 2018) and photos of iPhones."""

CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
NOTHING_THERE = re.compile(r"bytes \*/(\d+)")

FIELDS = (
    "id",
    "size",
    "file",
    "cTag",
    "eTag",
    "fileSystemInfo",
    "createdDateTime",
    "lastModifiedDateTime",
)


class Expired(Exception):
    """The download address is no longer good."""


class Downloader:
    """Downloads files of one drive."""

    def __init__(self, client: Client, drive: str) -> None:
        self._client = client
        self._drive = client.sdk.root.drives.by_drive_id(drive)
        items = self._drive.items
        self._content = client.sdk.template(lambda id_: items.by_drive_item_id(id_).content)
        self._plain = urlsplit(client.base).scheme == "http"

    async def probe(self) -> Json:
        """Whether the drive still answers."""
        call = self._call(Scope.COLLECTION, "a drive")
        return await self._client.built(self._client.sdk.get(self._drive.root, select=["id"]), call)

    async def fetch(self, item: Item, draft: Draft) -> Fetched:
        """The file, whole and as the drive knows it; once more where it is not.

        Raises Refused, Broken, ItemUnreadable; OSError when the disk does not take the bytes.
        """
        body = await self._download(item, draft, str(item.hints.get("url") or ""))
        if not (differs := body.differs(item.facts)):
            return Fetched(item, draft)
        facts = await self._now(item)  # changed since it was listed?
        if body.differs(facts):
            body = await self._download(item, draft, "")
            differs = body.differs(facts)
        else:
            differs = ""
        if differs and not _may_differ(item):
            raise ItemUnreadable(
                f"The bytes of a file are not those the drive knows ({differs}).", reason=differs
            )
        return Fetched(item, draft, facts=facts, note=differs)

    async def _now(self, item: Item) -> Facts:
        builder = self._drive.items.by_drive_item_id(item.id)
        information = self._client.sdk.get(builder, select=list(FIELDS))
        return file_facts(await self._client.built(information, self._call(Scope.ITEM, "a file")))

    async def _download(self, item: Item, draft: Draft, address: str) -> _Body:
        body = _Body(draft)
        size = item.facts.get("size")
        limit = PATIENCE + (size / SLOWEST if isinstance(size, int) else 0)
        refused = 0
        try:
            async with asyncio.timeout(limit):
                while True:
                    before = body.size
                    address = address or await self._address(item)
                    try:
                        await self._go_on(address, body)
                    except Expired:
                        address, refused = "", 0 if body.size > before else refused + 1
                        if refused > FRESH_ADDRESSES:
                            raise Broken("a file", "every download address is refused") from None
                    except Broken:
                        if body.size <= before:
                            raise
                    else:
                        return body
        except TimeoutError as error:
            raise Broken("a file", f"not complete after {limit:.0f} seconds") from error

    async def _address(self, item: Item) -> str:
        """Where Graph says the bytes are, now."""
        url, call = self._content(item.id), self._call(Scope.ITEM, "a file")

        async def once() -> str:
            headers = await self._client.headers(call)
            async with self._client.opened(url, headers, call, MOVED) as answer:
                return answer.headers.get("Location", "")

        return await self._client.persist(call, once)

    async def _go_on(self, address: str, body: _Body) -> None:
        """From where `body` stands to the end."""
        self._check(address)
        call = self._call(Scope.ITEM, "a file")

        async def once() -> None:
            opened = self._client.opened(address, body.asks(), call, ANSWERED, follow=True)
            async with opened as answer:
                if answer.status in EXPIRED:
                    raise Expired
                if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    body.settle(answer)
                    return
                check_framed(answer)
                body.begin(answer)
                await body.take(answer.content.iter_any())

        await self._client.persist(call, once)

    def _check(self, address: str) -> None:
        scheme = urlsplit(address).scheme
        if scheme != "https" and not (self._plain and scheme == "http"):
            raise Broken("a file", "its download address is not encrypted")

    def _call(self, scope: Scope, what: str) -> Call:
        return Call(self._client.lanes.drives, scope, what)


class _Body:
    """A draft, its quickXorHash, and what a resumed request must ask for."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._hash = QuickXor()
        self._tag = ""
        self._ranges = True
        if draft.size:
            draft.restart()

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._draft.size

    def asks(self) -> dict[str, str]:
        """Headers of the next request: the rest, as long as it is still the same file."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        if self.size and self._ranges:
            headers["Range"] = f"bytes={self.size}-"
            if self._tag:
                headers["If-Range"] = self._tag
        elif self.size:
            self._restart()
        return headers

    def begin(self, answer: aiohttp.ClientResponse) -> None:
        """Make sure that what comes next belongs where the draft ends."""
        tag = answer.headers.get("ETag", "")
        self._tag = tag if tag.startswith('"') else ""
        if answer.status == HTTPStatus.OK:
            if self.size:
                self._restart()
            return
        match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if not match or int(match[1]) != self.size:
            self._ranges = False
            raise aiohttp.ClientPayloadError("another part than the one asked for")

    def settle(self, answer: aiohttp.ClientResponse) -> None:
        """416: complete already, or this server has no ranges and all of it is asked for again."""
        match = NOTHING_THERE.fullmatch(answer.headers.get("Content-Range", ""))
        if match and int(match[1]) == self.size:
            return
        self._ranges = False
        raise aiohttp.ClientPayloadError("a range that cannot be had")

    async def take(self, chunks: AsyncIterator[bytes]) -> None:
        """Write and hash; large files by a thread, so that the loop receives and serves others meanwhile."""
        waiting: list[bytes] = []
        size = 0
        async with _Behind(self._write) as behind:
            try:
                async for chunk in chunks:
                    waiting.append(chunk)
                    size += len(chunk)
                    if size >= STRETCH:
                        full, waiting, size = waiting, [], 0
                        await behind.do(full)
            except (aiohttp.ClientError, TimeoutError):
                await behind.drain()
                self._write(waiting)  # what came before the cut need not come again
                raise
        self._write(waiting)

    def differs(self, facts: Facts) -> str:
        """`size-differs` or `hash-differs` when the bytes are not those of `facts`, else ""."""
        size, quick = facts.get("size"), facts.get("quickXorHash")
        if size is not None and size != self.size:
            return "size-differs"
        if quick and quick != self._hash.base64():
            return "hash-differs"
        return ""

    def _write(self, pieces: Sequence[bytes]) -> None:
        for piece in pieces:
            self._draft.write(piece)
            self._hash.update(piece)

    def _restart(self) -> None:
        self._draft.restart()
        self._hash = QuickXor()


class _Behind:
    """Work in a thread, one piece at a time, while the loop goes on; left only when all of it has ended."""

    def __init__(self, work: Callable[[Sequence[bytes]], None]) -> None:
        self._work = work
        self._running: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *failed: object) -> None:
        if failed[0] is None:
            await self.drain()
        elif self._running is not None:
            await asyncio.wait([self._running])
            self._running.exception()  # what came first is told

    async def do(self, data: Sequence[bytes]) -> None:
        """Begin with `data` when the piece before it is done. Raises what that one raised."""
        await self.drain()
        self._running = asyncio.get_running_loop().run_in_executor(None, self._work, data)

    async def drain(self) -> None:
        """Wait for the end, cancelled or not. Raises what the work raised."""
        if (running := self._running) is None:
            return
        try:
            await asyncio.shield(running)
        except asyncio.CancelledError:
            await asyncio.wait([running])
            raise
        finally:
            self._running = None


def _may_differ(item: Item) -> bool:
    return PurePosixPath(item.name or "").suffix.lower() in REWRITTEN
