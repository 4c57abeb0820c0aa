"""Requests before they are understood, and what becomes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.demo.odata import parse_query
from backupd.demo.requestlog import RequestRecord

if TYPE_CHECKING:
    from collections.abc import Mapping

    from multidict import CIMultiDict

    from backupd.demo.calls import Answer
    from backupd.demo.faults import Fault

_LOGGED = ("user-agent", "prefer", "content-type", "range", "client-request-id", "if-none-match")


@dataclass(frozen=True)
class Arrival:
    """A request before it is understood: from the network, or a part of a batch."""

    method: str
    path: str
    query: str
    headers: CIMultiDict[str]
    body: bytes
    host: str
    door: str = "graph"


@dataclass
class Outcome:
    """What becomes of an arrival: the answer and the fault that befell it."""

    answer: Answer
    fault: Fault | None = None


def logged(arrival: Arrival) -> RequestRecord:
    """The record of an arrival: no secret goes into it."""
    headers = {name: arrival.headers[name] for name in _LOGGED if name in arrival.headers}
    if "Authorization" in arrival.headers:
        headers["authorization"] = arrival.headers["Authorization"].partition(" ")[0]
    query: Mapping[str, str] = parse_query(arrival.query)
    return RequestRecord(arrival.door, arrival.method, arrival.path, query, headers)
