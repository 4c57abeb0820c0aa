"""A person signs in: by device code, or by a browser on this machine. Then never again.

Both end with a refresh token, kept in a file of mode 600 and replaced by each newer one.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import os
import secrets
import tempfile
import time
import webbrowser
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

from backupd.errors import AuthError, TransientError
from sources.graph.failures import read_token_refusal
from sources.graph.tokens import Endpoint, person_scopes

if TYPE_CHECKING:
    from backupd.config import Microsoft365

Prompt = Callable[[str], None]
"""Shows one text to the person at the terminal."""

DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
PATIENCE = 900.0
"""Seconds a person has to sign in; Entra's device codes live as long."""

DONE = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n"
    b"Signed in. You can close this window and go back to the terminal.\n"
)


class PersonGrant:
    """One person: the refresh token from its file, else a sign-in at the terminal."""

    def __init__(
        self, section: Microsoft365, endpoint: Endpoint, prompt: Prompt | None, scopes: str = ""
    ) -> None:
        self._section = section
        self._endpoint = endpoint
        self._prompt = prompt
        self._scopes = scopes or person_scopes(section)
        self._file = TokenFile(section)
        self._posted = ""
        self._retired = ""

    async def form(self, claims: str) -> Mapping[str, str]:  # noqa: ARG002 - same for any challenge
        """The refresh token, or what a fresh sign-in yields."""
        self._posted = refresh = self._file.read()
        if refresh and refresh != self._retired:
            return {
                "grant_type": "refresh_token",
                "refresh_token": refresh,
                "scope": self._scopes,
            }
        if self._prompt is None:
            raise AuthError(
                f"[sources.{self._section.name}] nobody has signed in yet.",
                hint="Run `backupd doctor` in a terminal once and sign in.",
                reason="credential",
            )
        if self._section.auth == "browser":
            return await by_browser(self._endpoint, self._scopes, self._prompt)
        return await by_device_code(self._endpoint, self._scopes, self._prompt)

    def keep(self, answer: Mapping[str, Any]) -> None:
        """Store the newest refresh token: Entra may retire the one before."""
        if isinstance(refresh := answer.get("refresh_token"), str):
            self._file.write(refresh)

    def retire(self) -> bool:
        """A refused refresh token is not posted again; a person at the terminal can sign in."""
        first_time = bool(self._posted) and self._posted != self._retired
        self._retired = self._posted
        return first_time and self._prompt is not None


class TokenFile:
    """Where the refresh token of a person lies; readable by its owner alone."""

    def __init__(self, section: Microsoft365) -> None:
        self._owner = {"tenant_id": section.tenant_id, "client_id": section.client_id}
        self._path = section.token_file or Path()

    def read(self) -> str:
        """The token, or "" when there is none for this tenant and application."""
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        if not isinstance(kept, dict) or any(kept.get(k) != v for k, v in self._owner.items()):
            return ""
        return str(kept.get("refresh_token") or "")

    def write(self, refresh: str) -> None:
        """Replace the token durably; a crash leaves the old one or the new one."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(dir=self._path.parent, prefix=".token-")  # mode 600
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump({**self._owner, "refresh_token": refresh}, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(self._path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


async def by_device_code(endpoint: Endpoint, scopes: str, prompt: Prompt) -> Mapping[str, str]:
    """Show a code, wait until it was entered; the form that redeems the refresh token.

    Raises AuthError when the person declines, is blocked, or takes too long.
    """
    start = await endpoint.post("devicecode", {"scope": scopes})
    prompt(
        f"To sign in, open {start.get('verification_uri')} and enter the code "
        f"{start.get('user_code')}"
    )
    form = {"grant_type": DEVICE_CODE, "device_code": str(start.get("device_code"))}
    pause = min(max(_seconds(start.get("interval"), 5.0), 0.05), 60.0)
    end = time.monotonic() + min(_seconds(start.get("expires_in"), PATIENCE), PATIENCE)
    while time.monotonic() < end:
        await asyncio.sleep(pause)
        status, headers, body = await endpoint.post_once("token", form)
        if status == HTTPStatus.OK:
            return _redeem(body, scopes)
        if (state := _oauth_error(body)) == "slow_down":
            pause += 5
        elif state != "authorization_pending":
            raise read_token_refusal(status, headers, body)
    raise AuthError("The code was not entered in time.", hint="Try again.", reason="credential")


async def by_browser(endpoint: Endpoint, scopes: str, prompt: Prompt) -> Mapping[str, str]:
    """Authorization code with PKCE: the browser comes back to a port on this machine.

    Raises AuthError when the person declines or takes too long.
    """
    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(24)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=")
    answer: asyncio.Future[Mapping[str, str]] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(_catcher(state, answer), "127.0.0.1", 0)
    async with server:
        redirect = f"http://localhost:{server.sockets[0].getsockname()[1]}"
        query = {
            "client_id": endpoint.client_id,
            "response_type": "code",
            "redirect_uri": redirect,
            "scope": scopes,
            "state": state,
            "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }
        address = f"{endpoint.base}/authorize?{urlencode(query)}"
        prompt(f"To sign in, open this address in a browser on this machine:\n{address}")
        await asyncio.to_thread(webbrowser.open, address)
        came_back = await _in_time(answer)
    return {
        "grant_type": "authorization_code",
        "code": _code_of(came_back),
        "redirect_uri": redirect,
        "code_verifier": verifier,
        "scope": scopes,
    }


async def _in_time(answer: asyncio.Future[Mapping[str, str]]) -> Mapping[str, str]:
    try:
        return await asyncio.wait_for(answer, PATIENCE)
    except TimeoutError as error:
        raise AuthError(
            "Nobody signed in in time.", hint="Try again.", reason="credential"
        ) from error


def _code_of(came_back: Mapping[str, str]) -> str:
    if not (code := came_back.get("code")):
        body = json.dumps(dict(came_back)).encode()
        raise read_token_refusal(HTTPStatus.BAD_REQUEST, {}, body)
    return code


def _catcher(state: str, answer: asyncio.Future[Mapping[str, str]]) -> Any:
    """Answers the one request that carries our `state`; others (favicon, scanners) get the same."""

    async def catch(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), 10)
            target = line.split(b" ")[1].decode("ascii") if line.count(b" ") > 1 else "/"
            fields = {key: values[0] for key, values in parse_qs(urlsplit(target).query).items()}
            if secrets.compare_digest(fields.get("state", ""), state) and not answer.done():
                answer.set_result(fields)
            writer.write(DONE)
            await writer.drain()
        except (OSError, ValueError, TimeoutError):
            pass  # a stray client; the person's browser will come
        finally:
            writer.close()

    return catch


def _redeem(body: bytes, scopes: str) -> Mapping[str, str]:
    """The device flow answers with tokens at once: go on with its refresh token."""
    try:
        refresh = json.loads(body).get("refresh_token")
    except (ValueError, AttributeError) as error:
        raise TransientError("The token endpoint did not answer with JSON.") from error
    if not isinstance(refresh, str):
        raise AuthError(
            "The sign-in gave no refresh token.",
            hint="Allow public client flows and offline access for the application.",
            reason="client",
        )
    return {"grant_type": "refresh_token", "refresh_token": refresh, "scope": scopes}


def _seconds(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) else default


def _oauth_error(body: bytes) -> str:
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return str(answer.get("error") or "") if isinstance(answer, dict) else ""
