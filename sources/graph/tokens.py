"""Access tokens: asked for directly at the token endpoint, cached, renewed before they expire.

The endpoint is posted to without MSAL, because MSAL turns "this tenant is gone" into a bare
ValueError and hides the code. A token is opaque: its claims are read for `doctor` only.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import aiohttp
import stamina

from backupd import assertion
from backupd.errors import AuthError, BackupdError, CutOff, Throttled, TransientError
from backupd.model import Service
from sources.graph.failures import read_token_refusal

if TYPE_CHECKING:
    from backupd.config import Microsoft365
    from backupd.limits import Pace

EARLY = 300.0
"""Seconds before its end at which a token is renewed; Microsoft's advice is five minutes."""

LARGEST_ANSWER = 1 << 20
"""Bytes read from the token endpoint at most; a real answer has about 4 kB."""

REFUSED_FOR = 5.0
"""Seconds for which a refusal is remembered, so that many accounts do not ask the same again."""

CONTINUOUS_ACCESS = {"access_token": {"xms_cc": {"values": ["cp1"]}}}
"""Tells Entra that we understand a claims challenge: longer tokens, revoked at once."""

DELEGATED = {
    Service.MAIL: ("Mail.Read", "MailboxSettings.Read"),
    Service.CALENDAR: ("Calendars.Read",),
    Service.CONTACTS: ("Contacts.Read",),
    Service.FILES: ("Files.Read",),
}


class Grant(Protocol):
    """A way to be someone: what is posted to get a token, and what is kept of the answer."""

    async def form(self, claims: str) -> Mapping[str, str]:
        """The fields of the token request, `client_id` and `claims` aside."""
        ...

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Store what must outlive this process (a new refresh token)."""
        ...

    def retire(self) -> bool:
        """What was posted last is refused for good: whether there is another way in."""
        ...


Post = Callable[[str, Mapping[str, str]], Any]


class Endpoint:
    """The token endpoint of one tenant."""

    def __init__(
        self, section: Microsoft365, session: Callable[[], aiohttp.ClientSession], pace: Pace
    ) -> None:
        self.client_id = section.client_id
        self.base = f"{section.login_url}/{section.tenant_id}/oauth2/v2.0"
        self._session = session
        self._pace = pace

    async def post(self, path: str, form: Mapping[str, str]) -> Mapping[str, Any]:
        """Post a form; retried while the failure is transient. Raises BackupdError otherwise."""
        async for attempt in stamina.retry_context(
            on=_pause,
            attempts=4,
            timeout=120.0,
            wait_initial=self._pace.first_wait,
            wait_max=10.0,
            wait_jitter=self._pace.first_wait,
        ):
            with attempt:
                status, headers, body = await self.post_once(path, form)
                if status != HTTPStatus.OK:
                    raise read_token_refusal(status, headers, body)
                return _object(body)
        raise AssertionError("unreachable")  # the last attempt returns or raises

    async def post_once(
        self, path: str, form: Mapping[str, str]
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One post: status, headers and body. Raises TransientError when there is no answer."""
        try:
            async with self._session().post(
                f"{self.base}/{path}",
                data={"client_id": self.client_id, **form},
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=60),
            ) as answer:
                body = await answer.content.read(LARGEST_ANSWER)
                while chunk := await answer.content.read(LARGEST_ANSWER):
                    body += chunk
                    if len(body) > LARGEST_ANSWER:
                        raise TransientError("The token endpoint answers without end.")
                return answer.status, answer.headers, body
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TransientError(
                f"The token endpoint cannot be reached ({type(error).__name__}).",
                hint="Check the network, DNS and login_url.",
                reason="connection",
            ) from error


class Tokens:
    """The one access token of a source; asked for once, however many requests wait for it."""

    def __init__(self, endpoint: Endpoint, grant: Grant) -> None:
        self._endpoint = endpoint
        self._grant = grant
        self._lock = asyncio.Lock()
        self._header = ""
        self._renew_at = 0.0
        self._refused: tuple[float, BackupdError] | None = None

    async def bearer(self) -> str:
        """The Authorization header. Raises AuthError, CutOff or TransientError."""
        if time.monotonic() < self._renew_at:
            return self._header
        return await self.renew(self._header)

    async def renew(self, stale: str, claims: str = "") -> str:
        """A header other than `stale`; who comes second gets what the first one fetched."""
        async with self._lock:
            if self._header != stale and time.monotonic() < self._renew_at:
                return self._header
            self._recall()
            try:
                await self._ask(claims)
            except (AuthError, CutOff) as error:
                self._refused = (time.monotonic() + REFUSED_FOR, error)
                raise
            return self._header

    async def anew(self) -> None:
        """Ask for a token whatever we have or were told: the answer is of this moment."""
        async with self._lock:
            self._refused = None
            await self._ask("")

    def roles(self) -> frozenset[str]:
        """Permissions inside the current token: for diagnosis, never for decisions."""
        claims = _claims(self._header.removeprefix("Bearer "))
        roles = claims.get("roles") or str(claims.get("scp") or "").split()
        return frozenset(str(role) for role in roles) if isinstance(roles, list) else frozenset()

    async def _ask(self, claims: str) -> None:
        asked = time.monotonic()
        try:
            answer = await self._post(claims)
        except AuthError:
            if not self._grant.retire():
                raise
            answer = await self._post(claims)
        token, life = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise TransientError("The token endpoint answered without a token.")
        seconds = float(life) if isinstance(life, (int, float, str)) and _is_number(life) else 3600
        self._grant.keep(answer)
        self._header = f"Bearer {token}"
        self._renew_at = asked + max(seconds - EARLY, seconds / 2)
        self._refused = None

    async def _post(self, claims: str) -> Mapping[str, Any]:
        form = dict(await self._grant.form(claims))
        form["claims"] = json.dumps(merge_claims(claims))
        return await self._endpoint.post("token", form)

    def _recall(self) -> None:
        if self._refused and time.monotonic() < self._refused[0]:
            error = self._refused[1]
            again = type(error)(str(error), hint=error.hint, reason=error.reason)
            again.code = error.code
            raise again


@dataclass(frozen=True, slots=True, repr=False)
class SecretGrant:
    """An application with a client secret, read anew each time so that it can be replaced."""

    secret: Callable[[], str | None]
    scope: str

    async def form(self, claims: str) -> Mapping[str, str]:  # noqa: ARG002 - same for any challenge
        """Client credentials with the secret."""
        return {
            "grant_type": "client_credentials",
            "scope": self.scope,
            "client_secret": self.secret() or "",
        }

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Nothing outlives the process."""

    def retire(self) -> bool:
        """There is no other way in."""
        return False


@dataclass(frozen=True, slots=True, repr=False)
class CertificateGrant:
    """An application with a certificate: each request carries a freshly signed assertion."""

    certificate: Path
    key: Path
    client_id: str
    audience: str
    scope: str

    async def form(self, claims: str) -> Mapping[str, str]:  # noqa: ARG002 - same for any challenge
        """Client credentials with a signed assertion."""
        return {
            "grant_type": "client_credentials",
            "scope": self.scope,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion.signed(
                self.certificate, self.key, self.client_id, self.audience
            ),
        }

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Nothing outlives the process."""

    def retire(self) -> bool:
        """There is no other way in."""
        return False


def app_grant(section: Microsoft365, endpoint: Endpoint) -> Grant:
    """The grant of an application: certificate if one is configured, else the secret."""
    scope = f"{resource(section)}/.default"
    if section.certificate_file and section.key_file:
        return CertificateGrant(
            section.certificate_file,
            section.key_file,
            section.client_id,
            f"{endpoint.base}/token",
            scope,
        )
    return SecretGrant(lambda: section.client_secret, scope)


def resource(section: Microsoft365) -> str:
    """What the token is for: the host of `graph_url`; for a simulated one, the global cloud."""
    where = urlsplit(section.graph_url)
    return f"https://{where.netloc}" if where.scheme == "https" else "https://graph.microsoft.com"


def person_scopes(section: Microsoft365) -> str:
    """What a person is asked to consent to: reading the configured services, nothing else."""
    names = [name for service in section.services for name in DELEGATED[service]]
    full = [f"{resource(section)}/{name}" for name in ("User.Read", *names)]
    return " ".join(["offline_access", *full])


def merge_claims(challenge: str) -> Mapping[str, Any]:
    """The claims to ask for: our own, and those of a challenge."""
    try:
        asked = json.loads(challenge) if challenge else {}
    except (ValueError, RecursionError):
        asked = {}
    inner = asked.get("access_token") if isinstance(asked, dict) else None
    extra = inner if isinstance(inner, dict) else {}
    return {"access_token": {**extra, **CONTINUOUS_ACCESS["access_token"]}}


def _pause(error: Exception) -> bool | float:
    if isinstance(error, Throttled):
        return error.retry_after if error.retry_after <= 60 else False  # noqa: PLR2004 - a minute
    return isinstance(error, TransientError)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = json.loads(body, strict=False)
    except (ValueError, RecursionError) as error:
        raise TransientError("The token endpoint did not answer with JSON.") from error
    if not isinstance(answer, dict):
        raise TransientError("The token endpoint did not answer with an object.")
    return answer


def _claims(token: str) -> Mapping[str, Any]:
    parts = token.split(".")
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=="))
    except (IndexError, ValueError, RecursionError):
        return {}
    return claims if isinstance(claims, dict) else {}


def _is_number(value: float | str) -> bool:
    return str(value).replace(".", "", 1).isdigit()
