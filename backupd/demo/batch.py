"""`$batch`: up to twenty requests in one, each with its own status."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from multidict import CIMultiDict

from backupd.demo.arrivals import Arrival, Outcome
from backupd.demo.calls import Answer, Call, Json, bad_request, to_json

_MOST = 20
_AT_ONCE = 4

Handle = Callable[[Arrival], Awaitable[Outcome]]


async def run_batch(handle: Handle, call: Call) -> Answer:
    """Answer a batch: four parts at a time, dependent ones after what they depend on."""
    parts = _parts(call)
    order = {part["id"]: part for part in parts}
    statuses: dict[str, int] = {}
    answers: list[Json] = []
    gate = asyncio.Semaphore(_AT_ONCE)
    waiting = list(order)
    while waiting:
        ready = [name for name in waiting if set(_needs(order[name])) <= statuses.keys()]
        if not ready:
            raise bad_request("Invalid dependsOn in a batch request.")
        done = await asyncio.gather(*(_run(handle, call, order[n], statuses, gate) for n in ready))
        statuses |= {answer["id"]: answer["status"] for answer in done}
        answers += done
        waiting = [name for name in waiting if name not in statuses]
    return Answer({"responses": answers})


def _parts(call: Call) -> list[Json]:
    parts = call.json().get("requests")
    if not isinstance(parts, list) or not parts:
        raise bad_request("Invalid batch payload format.")
    if len(parts) > _MOST:
        raise bad_request(f"Number of batch request steps exceeds the maximum of {_MOST}.")
    for part in parts:
        if not _is_sound(part):
            raise bad_request("A batch request step lacks a valid id, method or relative url.")
    return parts


def _is_sound(part: Any) -> bool:
    if not isinstance(part, dict):
        return False
    texts = [part.get(name) for name in ("id", "method", "url")]
    return all(isinstance(text, str) and text for text in texts) and "://" not in part["url"]


def _needs(part: Json) -> list[str]:
    return [str(name) for name in part.get("dependsOn", [])]


async def _run(
    handle: Handle, call: Call, part: Json, statuses: dict[str, int], gate: asyncio.Semaphore
) -> Json:
    failed = [name for name in _needs(part) if statuses[name] >= HTTPStatus.BAD_REQUEST]
    if failed:
        return {"id": part["id"], "status": HTTPStatus.FAILED_DEPENDENCY, "headers": {}, "body": {}}
    async with gate:
        outcome = await handle(_arrival(call, part))
    answer = outcome.answer
    kind = {"Content-Type": answer.media_type} if answer.media_type else {}
    body: object = answer.body
    if not isinstance(body, dict):
        body = base64.b64encode(answer.octets()).decode()
    return {
        "id": part["id"],
        "status": int(answer.status),
        "headers": answer.headers | kind,
        "body": body,
    }


def _arrival(call: Call, part: Json) -> Arrival:
    """A part carries the batch's login unless it brings its own."""
    path, _, query = part["url"].partition("?")
    headers = CIMultiDict({"Authorization": call.headers.get("Authorization", "")})
    headers.update({str(k): str(v) for k, v in part.get("headers", {}).items()})
    body = part.get("body")
    raw = to_json(body) if isinstance(body, dict) else str(body or "").encode()
    host = call.base.removesuffix("/v1.0")
    return Arrival(part["method"].upper(), path, query, headers, raw, host, "batch")
