"""The network side: two ports on the loopback interface, served by a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from backupd.demo import wire
from backupd.demo.faults import Subject
from backupd.demo.odata import parse_query
from backupd.demo.requestlog import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from backupd.demo.control import Control
    from backupd.demo.downloads import Downloads
    from backupd.demo.gateway import Gateway
    from backupd.demo.routes_login import Login
    from backupd.demo.uploads import Uploads

HOST = "127.0.0.1"
_BODY_LIMIT = 256 * 1024 * 1024
_HEADER_LIMIT = 64 * 1024


class Server:
    """Runs the two doors. `start` returns when both listen; `stop` when nothing runs any more."""

    def __init__(
        self,
        gateway: Gateway,
        login: Login,
        downloads: Downloads,
        uploads: Uploads,
        control: Control,
    ) -> None:
        self._gateway = gateway
        self._login = login
        self._downloads = downloads
        self._uploads = uploads
        self._control = control
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread
        self._runners: list[web.AppRunner] = []

    def start(self, port: int = 0) -> tuple[int, int]:
        """Listen on `port` (0 for any) and on a second free one; the two port numbers."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated-tenant")
        self._thread.daemon = True
        self._thread.start()
        main, side = self._run(self._listen(port)).result()
        return main, side

    def stop(self) -> None:
        """Close every connection and end the thread."""
        self._run(self._close()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    async def _listen(self, port: int) -> tuple[int, int]:
        main = await self._site(self._front_door, port)
        side = await self._site(self._side_door, 0)
        self._downloads.base = self._uploads.base = f"http://{HOST}:{side}"
        return main, side

    async def _site(self, handler: Callable[[web.Request], Any], port: int) -> int:
        app = web.Application(client_max_size=_BODY_LIMIT)
        app.router.add_route("*", "/{path:.*}", handler)
        runner = web.AppRunner(
            app,
            access_log=None,
            max_line_size=_HEADER_LIMIT,
            max_field_size=_HEADER_LIMIT,
            shutdown_timeout=0.1,
        )
        await runner.setup()
        site = web.TCPSite(runner, HOST, port)
        await site.start()
        self._runners.append(runner)
        return int(runner.addresses[0][1])

    async def _close(self) -> None:
        for runner in self._runners:
            await runner.cleanup()
        hanging = asyncio.all_tasks() - {asyncio.current_task()}
        for task in hanging:  # answers that a fault holds back: nobody waits for them any more
            task.cancel()
        await asyncio.gather(*hanging, return_exceptions=True)

    async def _front_door(self, request: web.Request) -> web.StreamResponse:
        path = request.raw_path.partition("?")[0]
        if path.startswith("/v1.0/"):
            return await self._gateway.serve(request)
        if path.startswith("/login/"):
            return await self._serve_login(request, path.removeprefix("/login/"))
        if path.startswith("/_control/"):
            answer = self._control.handle(path.removeprefix("/_control/"), await request.read())
            return await wire.send(request, answer, None)
        return web.Response(status=HTTPStatus.NOT_FOUND)

    async def _side_door(self, request: web.Request) -> web.StreamResponse:
        if request.path.startswith("/up/"):
            return await self._uploads.serve(request)
        return await self._downloads.serve(request)

    async def _serve_login(self, request: web.Request, path: str) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        query = parse_query(request.raw_path.partition("?")[2])
        base = f"{request.scheme}://{request.host}/login"
        record = RequestRecord("login", request.method, f"/login/{path}", {}, {})
        self._gateway.log.append(record)
        door = f"login/{path}"
        fault = self._gateway.faults.strike(Subject(request.method, door, door, frozenset()))
        if fault is not None and wire.replaces(fault):
            answer = wire.replacement(fault)
        else:
            answer = self._login.handle(request.method, path.split("/"), query | form, base)
        record.status, record.fault = answer.status, fault.kind if fault else ""
        return await wire.send(request, answer, fault)
