"""How an answer travels, and how it can be damaged on the way."""

from __future__ import annotations

import asyncio
import contextlib
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from backupd.demo.calls import Answer, Refused
from backupd.demo.cutoffs import claims_challenge
from backupd.demo.throttle import retry_after

if TYPE_CHECKING:
    from collections.abc import Iterable

    from backupd.demo.faults import Fault

_DRIPS = 20
_BAD_GATEWAY = b"<html><head><title>502 Bad Gateway</title></head><body>Our services aren't available right now</body></html>"
_ON_THE_WIRE = frozenset({"cut", "short", "cleanly_short", "slow", "wrong_bytes", "broken_json"})


def replaces(fault: Fault | None) -> bool:
    """Whether a fault takes the place of the answer instead of damaging it."""
    return fault is not None and fault.kind not in _ON_THE_WIRE | {"hang"}


def replacement(fault: Fault) -> Answer:
    """The answer that a fault gives instead of the service's."""
    if fault.kind == "unavailable":
        return Answer(b"", HTTPStatus.SERVICE_UNAVAILABLE)
    if fault.kind == "bad_gateway":
        return Answer(_BAD_GATEWAY, HTTPStatus.BAD_GATEWAY, content_type="text/html")
    if fault.kind == "empty":
        return Answer(b"")
    return _refusal(fault).answer()


def _refusal(fault: Fault) -> Refused:
    if fault.kind == "throttle":
        style = "none" if fault.retry_after < 0 else "date" if fault.date else "seconds"
        headers = retry_after(style, fault.retry_after)
        code = fault.code if fault.code != "UnknownError" else "TooManyRequests"
        return Refused(HTTPStatus.TOO_MANY_REQUESTS, code, "Too many requests.", headers=headers)
    if fault.kind == "expired_token":
        message = "Lifetime validation failed, the token is expired."
        return Refused(HTTPStatus.UNAUTHORIZED, "InvalidAuthenticationToken", message)
    if fault.kind == "claims_challenge":
        return claims_challenge()
    if fault.kind == "gateway_timeout":
        return Refused(HTTPStatus.GATEWAY_TIMEOUT, "UnknownError", "")
    return Refused(fault.status, fault.code, fault.message)


async def send(request: web.Request, answer: Answer, fault: Fault | None) -> web.StreamResponse:
    """Send an answer, damaged by `fault` if there is one."""
    if fault is not None and fault.kind in _ON_THE_WIRE:
        return await _damaged(request, answer, fault)
    if isinstance(answer.body, bytes | dict):
        return web.Response(body=answer.octets(), status=answer.status, headers=_headers(answer))
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    response.content_length = answer.length
    return await _stream(request, response, answer.body)


async def _stream(
    request: web.Request, response: web.StreamResponse, pieces: Iterable[bytes]
) -> web.StreamResponse:
    await response.prepare(request)
    with contextlib.suppress(ConnectionResetError):  # the client has heard enough
        for piece in pieces:
            await response.write(piece)
        await response.write_eof()
    return response


async def _damaged(request: web.Request, answer: Answer, fault: Fault) -> web.StreamResponse:
    whole = answer.octets()
    half = whole[: len(whole) // 2]
    if fault.kind == "cleanly_short":
        return web.Response(body=half, status=answer.status, headers=_headers(answer))
    if fault.kind in {"wrong_bytes", "broken_json"}:
        body = _flipped(whole) if fault.kind == "wrong_bytes" else half + b'"\x00{'
        return web.Response(body=body, status=answer.status, headers=_headers(answer))
    response = web.StreamResponse(status=answer.status, headers=_headers(answer))
    response.content_length = len(whole)
    await response.prepare(request)
    if fault.kind == "slow":
        return await _drip(response, whole, fault.seconds)
    await response.write(half)
    hang_up(request, abruptly=fault.kind == "cut")
    return response


def _flipped(whole: bytes) -> bytes:
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :] if whole else whole


async def _drip(response: web.StreamResponse, whole: bytes, seconds: float) -> web.StreamResponse:
    size = len(whole) // _DRIPS + 1
    with contextlib.suppress(ConnectionResetError):
        for at in range(0, len(whole), size):
            await response.write(whole[at : at + size])
            await asyncio.sleep(seconds / _DRIPS)
        await response.write_eof()
    return response


def hang_up(request: web.Request, *, abruptly: bool) -> None:
    """Close the connection: at once (reset), or after what was written has left."""
    transport = request.transport
    if transport is not None:
        if abruptly and isinstance(transport, asyncio.Transport):
            transport.abort()
        else:
            transport.close()


def _headers(answer: Answer) -> dict[str, str]:
    kind = {"Content-Type": answer.media_type} if answer.media_type else {}
    return kind | answer.headers
