"""Up to 20 requests in one: for many small answers, never for bytes.

The SDK's batch builder loses the ids it is given and retries no part, so the envelope is
written here. A batch can be 200 with throttled parts inside; those are asked again.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any

from multidict import CIMultiDict

from sources.graph.client import Call, Client, Json
from sources.graph.failures import RETRYABLE, Refusal, Refused, read

LARGEST_BATCH = 20
"""Requests per batch; Graph refuses more."""

ROUNDS = 5
"""How often throttled parts are asked again before their refusal is handed on."""


@dataclass(frozen=True, slots=True)
class Part:
    """One GET of a batch: a path below the base address, with its query."""

    path: str
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to one part: an object, or the refusal."""

    body: Json
    refusal: Refusal | None = None


async def ask_all(client: Client, parts: Sequence[Part], call: Call) -> Sequence[Reply]:
    """The replies to `parts`, in their order. Raises Refused when a whole batch is refused."""
    replies: list[Reply] = []
    for some in _batches(parts):
        replies += await _ask_until_settled(client, some, call)
    return replies


async def _ask_until_settled(client: Client, parts: Sequence[Part], call: Call) -> list[Reply]:
    replies: dict[int, Reply] = {}
    open_parts = dict(enumerate(parts))
    for _ in range(ROUNDS):
        answers = await _post(client, open_parts, call)
        replies |= answers
        open_parts = {i: open_parts[i] for i, reply in answers.items() if _again(reply, call)}
        if not open_parts:
            break
        call.lane.close_for(_longest_pause(client, replies, open_parts))
    return [replies[i] for i in range(len(parts))]


async def _post(client: Client, parts: Mapping[int, Part], call: Call) -> dict[int, Reply]:
    requests = [
        {"id": str(i), "method": "GET", "url": part.path, "headers": dict(part.headers)}
        for i, part in parts.items()
    ]
    answer = await client.sent(
        "POST",
        f"{client.base}/$batch",
        replace(call, units=call.units * len(parts)),
        {"requests": requests},
    )
    found = {str(each.get("id")): each for each in _objects(answer.get("responses"))}
    return {i: _reply(found.get(str(i)), call) for i in parts}


def _reply(response: Json | None, call: Call) -> Reply:
    if response is None:  # left out: treated as a part that was not executed
        return Reply({}, Refusal(status=HTTPStatus.SERVICE_UNAVAILABLE, empty=True))
    status, body = response.get("status"), response.get("body")
    if not isinstance(status, int):
        raise Refused(Refusal(HTTPStatus.BAD_GATEWAY), call.scope, call.what)
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Reply(body if isinstance(body, dict) else {})
    headers = response.get("headers")
    pairs = headers.items() if isinstance(headers, dict) else ()
    known = CIMultiDict({str(key): str(value) for key, value in pairs})
    return Reply({}, read(status, known, json.dumps(body).encode() if body else b""))


def _again(reply: Reply, call: Call) -> bool:
    return reply.refusal is not None and reply.refusal.meaning(call.scope).kind in RETRYABLE


def _longest_pause(client: Client, replies: Mapping[int, Reply], parts: Iterable[int]) -> float:
    asked = [
        refusal.pause if refusal.pause is not None else client.lanes.pace.first_wait
        for i in parts
        if (refusal := replies[i].refusal)
    ]
    return max(asked, default=0.0)


def _batches(parts: Sequence[Part]) -> Iterator[Sequence[Part]]:
    source = iter(parts)
    while some := tuple(itertools.islice(source, LARGEST_BATCH)):
        yield some


def _objects(value: Any) -> list[Json]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
