"""Access tokens of an application, for blocking callers: asked for when needed, renewed before they expire."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import stamina

from backupd import assertion
from backupd.errors import AuthError, ConfigError, Throttled, TransientError
from targets.endpoint import Application, Endpoint
from targets.microsoft365.answers import body_of, pause_of, worth_a_retry

EARLY = 300.0
"""Seconds before its end at which a token is renewed; Microsoft's advice is five minutes."""
_DENIED = (400, 401, 403)
_JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_HINTS = {
    7000215: "Check that client_secret_file holds the secret's value, not its id.",
    7000222: "The client secret has expired: create a new one in Entra (Certificates & secrets).",
    700016: "The application is not in this tenant: check tenant_id and client_id.",
    700027: "Upload the certificate to the application in Entra; it may have expired.",
    90002: "No such tenant: check tenant_id.",
}
_HINT = "Check tenant_id, client_id and the credential of the target in the configuration."


def application(endpoint: Endpoint) -> Application:
    """The application of an endpoint. Raises ConfigError where the configuration names none."""
    if endpoint.app is None:
        raise ConfigError(
            f"[targets.{endpoint.name}] does not say which application acts at Microsoft 365.",
            hint="Set tenant_id, client_id, and client_secret_file (or certificate_file and key_file).",
        )
    return endpoint.app


class Access:
    """The token of an application for one resource; from any thread.

    Args:
        resource: what it is for: `https://graph.microsoft.com`, say.
    """

    def __init__(self, app: Application, resource: str) -> None:
        self._app = app
        self._scope = f"{resource}/.default"
        self._url = f"{app.login_url}/{app.tenant_id}/oauth2/v2.0/token"
        self._lock = threading.Lock()
        self._token, self._renew_at = "", 0.0

    def token(self, stale: str = "") -> str:
        """A token that lives for a while, other than `stale`. Raises AuthError or TransientError."""
        with self._lock:
            if self._token in {"", stale} or time.monotonic() >= self._renew_at:
                self._ask()
            return self._token

    def roles(self) -> frozenset[str]:
        """The permissions that a token says it carries: for diagnosis, for a token is nobody's business."""
        try:
            claims = json.loads(base64.urlsafe_b64decode(self.token().split(".")[1] + "=="))
            return frozenset(map(str, claims.get("roles", ())))
        except (LookupError, ValueError, TypeError, AttributeError, RecursionError):
            return frozenset()

    def _ask(self) -> None:
        asked = time.monotonic()
        said = self._posted()
        token, life = said.get("access_token"), said.get("expires_in")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise TransientError("The token endpoint answers without a token.")
        seconds = float(life) if isinstance(life, int | float) else 3600.0
        self._token = token
        self._renew_at = asked + max(seconds - EARLY, seconds / 2)

    def _posted(self) -> Mapping[str, Any]:
        form = {
            "client_id": self._app.client_id,
            "grant_type": "client_credentials",
            "scope": self._scope,
            **self._credential(),
        }
        for attempt in stamina.retry_context(
            worth_a_retry, attempts=4, timeout=120.0, wait_initial=0.5, wait_max=10.0
        ):
            with attempt, _reached():
                return _read(httpx.post(self._url, data=form, timeout=60.0))
        raise AssertionError  # the loop ends by itself

    def _credential(self) -> Mapping[str, str]:
        if self._app.certificate is None or self._app.key is None:
            return {"client_secret": self._app.secret()}
        signed = assertion.signed(
            self._app.certificate, self._app.key, self._app.client_id, self._url
        )
        return {"client_assertion_type": _JWT_BEARER, "client_assertion": signed}


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise TransientError(
            f"The token endpoint cannot be reached ({type(error).__name__}).",
            hint="Check the network, DNS and login_url.",
            reason="unreachable",
        ) from error


def _read(answer: httpx.Response) -> Mapping[str, Any]:
    said = body_of(answer)
    if answer.status_code == httpx.codes.OK:
        return said
    if answer.status_code in _DENIED:
        codes = said.get("error_codes")
        code = codes[0] if isinstance(codes, list) and codes else None
        named = f"AADSTS{code}" if isinstance(code, int) else str(answer.status_code)
        raise AuthError(
            f"Entra ID gives the application of the target no token ({named}).",
            hint=_HINTS.get(code, _HINT) if isinstance(code, int) else _HINT,
            reason="credential",
        )
    raise Throttled(
        f"The token endpoint answers {answer.status_code}: later.", retry_after=pause_of(answer)
    )
