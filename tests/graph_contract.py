"""Microsoft's OpenAPI description of Graph as the judge of requests and answers.

The description itself is not part of this repository: $BACKUPD_GRAPH_CONTRACT names the folder
with `requests.yaml` and `responses.yaml`, else `../shared/testbed/graph-contract`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

ROOT = Path(__file__).resolve().parent.parent
HOST = "https://graph.microsoft.com"

BEYOND = (
    re.compile(r"users/\{user\}/messages/\{message\}/attachments/\{attachment\}/\$value"),
    re.compile(
        r"users/\{user\}/(calendars?/.*)?events/\{event\}/attachments/\{attachment\}/\$value"
    ),
    re.compile(r"users/\{user\}/(calendars?/.*)?events/\{event\}/attachments/\{attachment\}"),
    re.compile(r"users/\{user\}/calendar/events/\{event\}(/.*)?"),
    re.compile(r"users/\{user\}/calendar"),
    re.compile(r"users/\{user\}/drive/root.*"),
    re.compile(r"sites/\{site\}/drive/root.*"),
    re.compile(r"drives/\{drive\}/root/children"),
    re.compile(r"users/\{user\}/translateExchangeIds"),
    re.compile(r"(organization|subscribedSkus|directory/deletedItems.*|sites/getAllSites)"),
    re.compile(r""),
)
"""Routes of Graph that the cut of the description leaves out; they cannot be judged."""


def folder() -> Path | None:
    """Where the description lies, or None."""
    named = os.environ.get("BACKUPD_GRAPH_CONTRACT")
    place = Path(named) if named else ROOT.parent / "shared" / "testbed" / "graph-contract"
    return place if (place / "responses.yaml").is_file() else None


class Contract:
    """Judges by the description in one folder; reading it takes seconds, so keep the object."""

    def __init__(self, place: Path) -> None:
        self._place = place

    @cached_property
    def _description(self) -> dict[str, Any]:
        text = (self._place / "responses.yaml").read_bytes()
        return yaml.load(text, Loader=yaml.CSafeLoader)

    @cached_property
    def _judge(self) -> OpenAPI:
        return OpenAPI.from_dict(self._description)

    def covers(self, method: str, route: str) -> bool:
        """Whether the description knows a route template such as `users/{user}/messages`."""
        return self._operation(method, route) is not None

    def request_problems(
        self, method: str, route: str, query: Mapping[str, str], body: bytes = b""
    ) -> list[str]:
        """What is wrong with a request; an empty list when Microsoft would take it."""
        operation = self._operation(method, route)
        if operation is None:
            beyond = any(pattern.fullmatch(route) for pattern in BEYOND)
            return [] if beyond else [f"no such route: {method} {route}"]
        problems = self._unknown_options(operation, query)
        judged = {name: value for name, value in query.items() if name not in problems}
        judged = {name: _without_annotations(value) for name, value in judged.items()}
        try:
            self._judge.validate_request(_request(method, route, judged, body))
        except OpenAPIError as error:
            return [*problems, f"{type(error).__name__}: {error}: {error.__cause__}"]
        return [f"no such option: {name}" for name in problems]

    def answer_problems(self, method: str, route: str, status: int, body: bytes) -> list[str]:
        """What is wrong with an answer."""
        judged = json.loads(body)
        judged.pop("@odata.context", None)  # the description takes it for an object
        response = MockResponse(
            json.dumps(judged).encode(), status_code=status, content_type="application/json"
        )
        try:
            self._judge.validate_response(_request(method, route, {}, b""), response)
        except OpenAPIError as error:
            causes = getattr(error.__cause__, "schema_errors", [error.__cause__])
            return [_shown(cause) for cause in causes]
        return []

    def log_problems(self, records: Iterable[Any]) -> list[str]:
        """What is wrong with the requests in a simulated tenant's log."""
        return [
            f"{record.method} {record.route}?{dict(record.query)}: {problem}"
            for record in records
            if record.door in {"graph", "batch"} and record.method == "GET"
            for problem in self.request_problems(record.method, record.route, record.query)
        ]

    def routes(self) -> list[str]:
        """Every GET route that the description knows, with `{}` for each key."""
        return sorted(shape for shape, entry in self._paths.items() if "get" in entry)

    def _operation(self, method: str, route: str) -> Mapping[str, Any] | None:
        found = self._paths.get(_shape(route), {}).get(method.lower())
        return found if isinstance(found, Mapping) else None

    @cached_property
    def _paths(self) -> dict[str, Mapping[str, Any]]:
        return {_shape(path): entry for path, entry in self._description["paths"].items()}

    def _unknown_options(self, operation: Mapping[str, Any], query: Mapping[str, str]) -> list[str]:
        known = {self._resolved(entry)["name"] for entry in operation.get("parameters", [])}
        known |= {"$skiptoken", "$deltatoken", "token"}
        return [name for name in query if name not in known]

    def _resolved(self, entry: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in entry:
            return entry
        found: Any = self._description
        for step in entry["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        return found


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path.strip("/")).casefold()


def _without_annotations(value: str) -> str:
    """The description does not list annotations such as `@microsoft.graph.downloadUrl`."""
    kept = [name for name in value.split(",") if not name.startswith("@microsoft")]
    return ",".join(kept)


def _request(method: str, route: str, query: Mapping[str, str], body: bytes) -> MockRequest:
    path = "/v1.0/" + re.sub(r"\{[^}]*\}", "x", route.strip("/"))
    headers = {"Authorization": "Bearer x"}
    kind = "application/json"
    return MockRequest(
        HOST, method.lower(), path, args=dict(query), headers=headers, data=body, content_type=kind
    )


def _shown(cause: object) -> str:
    place = "/".join(str(step) for step in getattr(cause, "absolute_path", []))
    return f"{place}: {getattr(cause, 'message', cause)}"
