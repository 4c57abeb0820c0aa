"""What all writes have in common: permission, preconditions, extended properties."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.calls import Answer, Call, Json, Refused, bad_request
from backupd.demo.odata import EXTENDED, context, paged, project, selection
from backupd.demo.workloads import workload

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILTER = re.compile(r"id eq '((?:[^']|'')*)'", re.IGNORECASE)
LARGEST = 4 * 1024 * 1024
"""Bytes that a request about a mailbox may have."""


def writable(call: Call, *permissions: str) -> Json:
    """The body of a write, once the caller may write; refuses with 403 and 413 as Graph does."""
    may_write(call, *permissions)
    if len(call.body) > LARGEST:
        raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "RequestEntityTooLarge", "Too large.")
    return call.json()


def may_write(call: Call, *permissions: str) -> None:
    """Refuse a caller without one of the permissions, which are prefixes."""
    if not any(role.startswith(permissions) for role in call.identity.roles):
        raise workload(call.route).denied()


def unchanged(call: Call, tag: str) -> None:
    """Refuse with 412 when `If-Match` names another version."""
    wanted = call.headers.get("If-Match", "*")
    if wanted not in {"*", tag}:
        message = "The change key passed in the request does not match the current change key."
        raise Refused(HTTPStatus.PRECONDITION_FAILED, "ErrorIrresolvableConflict", message)


def created(call: Call, row: Json) -> Answer:
    """201 with the new object."""
    body = {"@odata.context": context(call, f"{call.path}/$entity")}
    return Answer(body | row, HTTPStatus.CREATED)


def text(body: Json, name: str) -> str:
    """A property that must be a non-empty text."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise bad_request(f"The property '{name}' is required.", "ErrorInvalidRequest")
    return value


def extended(body: Json) -> dict[str, str]:
    """The extended properties of a body, taken out of it, by their ids in lower case."""
    rows = body.pop(EXTENDED, None) or []
    if not all(isinstance(r, dict) and {"id", "value"} <= r.keys() for r in rows):
        raise bad_request("An extended property needs id and value.", "ErrorInvalidProperty")
    return {str(row["id"]): str(row["value"]) for row in rows}


def expanded(
    call: Call, rows: Sequence[Json], held: Sequence[dict[str, str]], most: int = 1_000
) -> Answer:
    """A page of a list, each row with those of its extended properties that `$expand` asks for."""
    expand = call.query.get("$expand", "")
    wanted = EXTENDED.lower() in expand.lower()
    asked = [found.replace("''", "'").lower() for found in _FILTER.findall(expand)]
    page, body = paged(call, list(zip(rows, held, strict=True)), most=most)
    shown = []
    for row, mine in page:
        made = project(row, selection(call))
        more = [{"id": k, "value": v} for k, v in mine.items() if k.lower() in asked]
        shown.append(made | {EXTENDED: more} if wanted and more else made)
    return Answer(body | {"value": shown})
