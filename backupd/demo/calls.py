"""One request and its answer, apart from how they travel: alone, or inside a batch."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from multidict import CIMultiDict

    from backupd.demo.directory import User
    from backupd.demo.drive import FileContent
    from backupd.demo.state import TenantState
    from backupd.demo.switches import Switches
    from backupd.demo.tokens import CursorCodec, Identity

Json = dict[str, Any]
Body = bytes | Json | Iterable[bytes]


@dataclass
class Answer:
    """What goes back. A body that is an iterable is streamed; then `length` says how long it is.

    With `raw_controls`, control characters stand in JSON strings as they are.
    """

    body: Body = b""
    status: int = HTTPStatus.OK
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = ""
    length: int | None = None
    raw_controls: bool = False

    def octets(self) -> bytes:
        """The whole body; a stream is read to its end."""
        if isinstance(self.body, bytes):
            return self.body
        if isinstance(self.body, dict):
            return to_json(self.body, raw_controls=self.raw_controls)
        return b"".join(self.body)

    @property
    def media_type(self) -> str:
        """The content type, guessed from the kind of body where none was given."""
        if self.content_type or not self.body:
            return self.content_type
        return "application/json" if isinstance(self.body, dict) else "application/octet-stream"


class Refused(Exception):
    """An answer in Graph's error shape."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        inner: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {code}")
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner
        self.headers = dict(headers or {})

    def answer(self) -> Answer:
        """The refusal as it travels; without a code it has no body."""
        if not self.code:
            return Answer(b"", self.status, self.headers)
        error: Json = {"code": self.code, "message": self.message}
        error["innerError"] = {"code": self.inner} if self.inner else {}
        return Answer({"error": error}, self.status, self.headers)


_ESCAPED = re.compile(r"(\\\\)|\\u00([01][0-9a-f])")


def to_json(value: object, *, raw_controls: bool = False) -> bytes:
    """JSON as Graph writes it: UTF-8, no spaces; control characters raw, as seen in the wild."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if raw_controls:
        text = _ESCAPED.sub(lambda m: m[1] or chr(int(m[2], 16)), text)
    return text.encode("utf-8", "replace")


@dataclass
class Call:
    """A request to Graph, on its way to a handler.

    Attributes:
        route: the template that matched, for instance `users/{user}/messages/{message}`.
        params: what stood at the placeholders of the template, decoded.
        tickets: makes a download address for content under a name.
        base: what absolute links begin with, ending in `/v1.0`.
        applied: preferences that the answer honours, for `Preference-Applied`.
        applied_headers: headers that the answer carries whatever it says.
    """

    state: TenantState
    switches: Switches
    cursors: CursorCodec
    method: str
    path: str
    route: str
    params: dict[str, str]
    query: dict[str, str]
    headers: CIMultiDict[str]
    base: str
    tickets: Callable[[FileContent, str], str]
    identity: Identity
    body: bytes = b""
    applied: list[str] = field(default_factory=list)
    applied_headers: dict[str, str] = field(default_factory=dict)

    def user(self) -> User:
        """The user named in the path; refuses as Graph does when there is none."""
        return self.state.directory.user(self.params["user"])

    def json(self) -> Json:
        """The request body as an object."""
        try:
            value = json.loads(self.body)
        except ValueError as problem:
            raise bad_request("Unable to read JSON request payload.") from problem
        if not isinstance(value, dict):
            raise bad_request("Unable to read JSON request payload.")
        return value

    def preference(self, name: str) -> str | None:
        """The value of one `Prefer` entry, without quotes."""
        for line in self.headers.getall("Prefer", []):
            for entry in line.split(","):
                key, _, value = entry.strip().partition("=")
                if key.lower() == name.lower():
                    return value.strip('"')
        return None

    @property
    def immutable(self) -> bool:
        """Whether ids are asked for in their immutable form."""
        asked = (self.preference("IdType") or "").lower() == "immutableid"
        if asked and 'IdType="ImmutableId"' not in self.applied:
            self.applied.append('IdType="ImmutableId"')
        return asked

    def number(self, name: str, default: int, most: int) -> int:
        """A query option that is a whole number; at most `most`."""
        text = self.query.get(name)
        if text is None:
            return default
        if not text.isdigit():
            raise bad_request(f"Invalid value '{text}' for the {name} query option.")
        return min(int(text), most)

    def max_page_size(self, most: int) -> int:
        """What `Prefer: odata.maxpagesize` asks for; the small default page without it."""
        asked = self.preference("odata.maxpagesize")
        if asked is None or not asked.isdigit() or int(asked) < 1:
            return self.switches.page_size
        self.applied.append(f"odata.maxpagesize={asked}")
        return min(int(asked), most)


Handler = Callable[[Call], Answer]
Routes = Mapping[str, Handler]
"""Handlers by "METHOD template"."""


def bad_request(message: str, code: str = "BadRequest") -> Refused:
    """400 in Graph's shape."""
    return Refused(HTTPStatus.BAD_REQUEST, code, message)


def not_found(code: str = "ErrorItemNotFound", message: str = "") -> Refused:
    """404 in Graph's shape."""
    text = message or "The specified object was not found in the store."
    return Refused(HTTPStatus.NOT_FOUND, code, text)


def key(text: str) -> str:
    """A path key as the service writes it: percent-encoded, slashes included."""
    return quote(text, safe="")
