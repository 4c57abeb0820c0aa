"""What a refusal of Graph or of its token endpoint means, and whose move it is.

A refusal is read once into a `Refusal` (status, codes, message, pauses) and classed by its codes,
then by its status. The codes are data, in `codes.toml`; unknown ones get a safe default.

Inside `sources.graph` a refusal travels as `Refused`, so that code can decide on its class;
`Refused.error` is what leaves the package.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cache
from http import HTTPStatus
from importlib import resources
from typing import Any

from backupd.errors import (
    AuthError,
    BackupdError,
    CutOff,
    ItemGone,
    ItemUnreadable,
    Throttled,
    TransientError,
)

NESTING = 8
"""Levels of `innerError` that are read; Graph itself uses two or three."""

LONGEST_PAUSE = 24 * 3600.0
"""Seconds: a Retry-After beyond a day is a broken clock or a hostile server."""


class Class(StrEnum):
    """What a refusal says, and about whom."""

    TRANSIENT = "transient"
    THROTTLED = "throttled"
    CREDENTIAL = "credential"
    CONSENT = "consent"
    APP = "app"
    CLIENT = "client"
    ACCOUNT = "account"
    TENANT = "tenant"
    LICENCE = "licence"
    GONE = "gone"
    ITEM = "item"
    RESTART = "restart"
    FULL = "full"


class Scope(StrEnum):
    """What was asked for; a plain 404 means something else for each."""

    ITEM = "item"
    COLLECTION = "collection"
    SERVICE = "service"
    DRIVES = "drives"
    DIRECTORY = "directory"


OURS = frozenset({Class.CREDENTIAL, Class.CONSENT, Class.APP, Class.CLIENT})
THEIRS = frozenset({Class.ACCOUNT, Class.TENANT, Class.LICENCE})
VERDICTS = OURS | THEIRS | {Class.GONE}
RETRYABLE = frozenset({Class.TRANSIENT, Class.THROTTLED})

BY_STATUS: Mapping[int, Class] = {
    HTTPStatus.UNAUTHORIZED: Class.CREDENTIAL,
    HTTPStatus.PAYMENT_REQUIRED: Class.CLIENT,
    HTTPStatus.FORBIDDEN: Class.CONSENT,
    HTTPStatus.REQUEST_TIMEOUT: Class.TRANSIENT,
    HTTPStatus.GONE: Class.RESTART,
    HTTPStatus.LOCKED: Class.LICENCE,
    HTTPStatus.TOO_EARLY: Class.TRANSIENT,
    HTTPStatus.TOO_MANY_REQUESTS: Class.THROTTLED,
}
"""For codes that nobody has seen yet. 404 depends on the scope, 5xx is transient."""

MISSING = {
    Scope.ITEM: Class.ITEM,
    Scope.COLLECTION: Class.GONE,
    Scope.SERVICE: Class.LICENCE,
    Scope.DRIVES: Class.LICENCE,
    Scope.DIRECTORY: Class.CLIENT,
}
"""A 404 whose code says nothing. An item is "unreadable", not "gone": a gateway that answers 404
to everything must not look like a mailbox that was emptied."""

CLAIMS_CHALLENGE = re.compile(r'claims="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the table says about a code."""

    kind: Class
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer that was not the one asked for.

    Attributes:
        status: the HTTP status.
        codes: `error.code` and those of nested `innerError`s, outermost first, lower case.
        message: the server's sentence, cut to 200 characters.
        request_id: what Microsoft's support asks for.
        pause: seconds that the server asks us to wait, or None.
        claims: the JSON of a claims challenge, or "".
        empty: the body held nothing.
    """

    status: int
    codes: tuple[str, ...] = ()
    message: str = ""
    request_id: str = ""
    pause: float | None = None
    claims: str = ""
    empty: bool = False

    def meaning(self, scope: Scope) -> Meaning:
        """What this refusal says; codes first, then the status, then the scope."""
        if self.status == HTTPStatus.TOO_MANY_REQUESTS:
            return Meaning(Class.THROTTLED)
        table = codes("graph")
        for code in self.codes:
            if known := table.get(code):
                return self._in_scope(known, scope)
        if self.status == HTTPStatus.NOT_FOUND:
            return Meaning(MISSING[scope])
        if self.status == HTTPStatus.BAD_REQUEST and scope is Scope.DRIVES:
            return Meaning(Class.LICENCE)  # "Tenant does not have a SPO license." has no code
        if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return Meaning(Class.TRANSIENT)
        default = Class.ITEM if scope is Scope.ITEM else Class.CLIENT
        return Meaning(BY_STATUS.get(self.status, default))

    def _in_scope(self, known: Meaning, scope: Scope) -> Meaning:
        if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR and known.kind in VERDICTS:
            return Meaning(Class.TRANSIENT)  # a server in trouble judges nobody
        if known.kind is Class.GONE and scope in {Scope.SERVICE, Scope.DRIVES, Scope.DIRECTORY}:
            # "itemNotFound: User's mysite not found", "Requested site could not be found":
            # the same code as for a file, but what is missing is the whole drive.
            return Meaning(Class.LICENCE, known.hint)
        if known.kind is Class.CREDENTIAL and self.status != HTTPStatus.UNAUTHORIZED:
            return Meaning(BY_STATUS.get(self.status, Class.TRANSIENT), known.hint)
        return known

    @property
    def word(self) -> str:
        """A short stable word for ledgers: the outermost code, else the status."""
        return self.codes[0] if self.codes else f"http-{self.status}"


class Refused(Exception):
    """Graph refused a request; what it means depends on the scope that was asked for."""

    def __init__(self, refusal: Refusal, scope: Scope, what: str) -> None:
        super().__init__(f"{what}: {refusal.status} {refusal.word}")
        self.refusal = refusal
        self.scope = scope
        self.what = what

    @property
    def kind(self) -> Class:
        """The class of the refusal."""
        return self.refusal.meaning(self.scope).kind

    @property
    def error(self) -> BackupdError:
        """The same for the rest of backupd."""
        meaning = self.refusal.meaning(self.scope)
        return error_for(meaning, self.refusal, self.what)


class Broken(Exception):
    """The connection or the answer broke: no status, or a body that is cut or no JSON."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")
        self.what = what
        self.why = why

    @property
    def error(self) -> BackupdError:
        """The same for the rest of backupd."""
        return TransientError(f"{self.what}: {self.why}.", reason="connection")


def error_for(meaning: Meaning, refusal: Refusal, what: str) -> BackupdError:
    """The error a person sees: what was asked, the status and code, and what to do."""
    error = _error(meaning, refusal, what)
    error.code = refusal.word
    return error


def _error(meaning: Meaning, refusal: Refusal, what: str) -> BackupdError:
    text = f"{what}: {refusal.status} {refusal.word}"
    if refusal.message:
        text += f" ({refusal.message})"
    kind = meaning.kind
    if kind is Class.THROTTLED:
        return Throttled(text, retry_after=refusal.pause or 60.0)
    if kind in OURS:
        return AuthError(text, hint=meaning.hint or HINTS[kind], reason=kind.value)
    if kind in THEIRS:
        return CutOff(text, hint=meaning.hint or HINTS[kind], reason=kind.value)
    if kind is Class.GONE:
        return ItemGone(text, reason="gone")
    if kind is Class.ITEM:
        return ItemUnreadable(text, reason=refusal.word)
    return TransientError(text, reason=refusal.word)


HINTS = {
    Class.CREDENTIAL: "Renew the credential; `backupd doctor` shows which one is refused.",
    Class.CONSENT: "Grant the application the permissions it needs; `backupd doctor` names them.",
    Class.APP: "Look for the application in the Entra admin centre: it was disabled or deleted.",
    Class.CLIENT: "Check this source in the configuration; `backupd doctor` tries it step by step.",
    Class.ACCOUNT: "What is backed up stays; look at the account in the Microsoft 365 admin centre.",
    Class.TENANT: "What is backed up stays; contact Microsoft, and prepare a restore.",
    Class.LICENCE: "What is backed up stays; look at the licences of the account.",
}


def read(status: int, headers: Mapping[str, str], body: bytes) -> Refusal:
    """Read an answer that is not a success. Never raises, whatever the body holds."""
    error = _error_object(body)
    found: list[str] = []
    level: Any = error
    for _ in range(NESTING):
        if not isinstance(level, Mapping):
            break
        if isinstance(code := level.get("code"), str) and code:
            found.append(code.lower()[:80])
        level = level.get("innerError") or level.get("innererror")
    if "x-virus-infected" in headers:
        found.insert(0, "malwaredetected")
    message = error.get("message") if isinstance(error, Mapping) else error
    return Refusal(
        status=status,
        codes=tuple(found),
        message=_one_line(message) if isinstance(message, str) else "",
        request_id=headers.get("request-id", ""),
        pause=pause(headers),
        claims=_claims(headers.get("www-authenticate", "")),
        empty=not body.strip(),
    )


def pause(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: the longer of Retry-After (seconds or a date) and RateLimit-Reset."""
    waits = []
    if (after := headers.get("retry-after", "").strip()) and (wait := _wait(after)) is not None:
        waits.append(wait)
    remaining = _number(headers.get("ratelimit-remaining", ""))
    reset = _number(headers.get("ratelimit-reset", ""))
    if reset is not None and remaining is not None and remaining < 1:
        waits.append(reset)
    return min(max(waits), LONGEST_PAUSE) if waits else None


def rate_left(headers: Mapping[str, str]) -> tuple[float, float] | None:
    """(units left, seconds until the quota is full again) where SharePoint tells them."""
    remaining = _number(headers.get("ratelimit-remaining", ""))
    reset = _number(headers.get("ratelimit-reset", ""))
    if remaining is None or reset is None:
        return None
    return remaining, min(reset, LONGEST_PAUSE)


def read_token_refusal(status: int, headers: Mapping[str, str], body: bytes) -> BackupdError:
    """What an answer of the token endpoint means, without a word of what was sent there."""
    answer = _json(body)
    fields: Mapping[str, Any] = answer if isinstance(answer, Mapping) else {}
    name = fields.get("error")
    name = name.lower()[:80] if isinstance(name, str) else ""
    numbers = fields.get("error_codes")
    number = str(numbers[0]) if isinstance(numbers, list) and numbers else ""
    refusal = Refusal(
        status=status,
        codes=(f"aadsts{number}",) if number else (name,) if name else (),
        message=_one_line(str(fields.get("error_description") or "")),
        pause=pause(headers),
    )
    meaning = _token_meaning(status, name, number)
    return error_for(meaning, refusal, "The token endpoint refused us")


def _token_meaning(status: int, name: str, number: str) -> Meaning:
    by_name = codes("oauth").get(name)
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Meaning(Class.THROTTLED)
    if (
        status == HTTPStatus.REQUEST_TIMEOUT
        or status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or (by_name and by_name.kind is Class.TRANSIENT)
    ):
        return Meaning(Class.TRANSIENT)
    if known := codes("token").get(number):
        return known
    return by_name or Meaning(Class.CLIENT)


@cache
def codes(table: str) -> Mapping[str, Meaning]:
    """One table of `codes.toml`: `graph`, `oauth` or `token`."""
    text = resources.files("sources.graph").joinpath("codes.toml").read_text(encoding="utf-8")
    rows = tomllib.loads(text)[table]
    return {code: Meaning(Class(row["class"]), row.get("hint", "")) for code, row in rows.items()}


def _error_object(body: bytes) -> Any:
    answer = _json(body)
    if isinstance(answer, Mapping):
        return answer.get("error") or answer
    return answer  # a bare string, or None for HTML and nothing at all


def _json(body: bytes) -> Any:
    try:
        return json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return None


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text[:400]).split())[:200]


def _wait(after: str) -> float | None:
    seconds = _number(after)
    if seconds is not None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text, re.ASCII) else None


def _claims(challenge: str) -> str:
    match = CLAIMS_CHALLENGE.search(challenge)
    if not match:
        return ""
    try:
        return base64.b64decode(match[1] + "==", altchars=b"-_").decode("utf-8")
    except (binascii.Error, ValueError):
        return ""
