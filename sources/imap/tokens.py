"""Access tokens for IMAP at Exchange Online, by the ways in that the Graph source has.

The token machinery is asynchronous; here it is run to its end for each token, once an hour.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import aiohttp

from backupd.errors import AuthError, TransientError
from backupd.limits import Pace
from sources.graph.signin import PersonGrant, Prompt
from sources.graph.tokens import EARLY, CertificateGrant, Endpoint, Grant, SecretGrant

if TYPE_CHECKING:
    from backupd.config import Imap, Microsoft365

APP_SCOPE = "https://outlook.office365.com/.default"
PERSON_SCOPES = "offline_access https://outlook.office.com/IMAP.AccessAsUser.All"


class Tokens:
    """The token of an application or a person, renewed before its end; from any thread."""

    def __init__(self, section: Imap, prompt: Prompt | None) -> None:
        self._section, self._prompt = section, prompt
        self._lock = threading.Lock()
        self._token, self._renew_at = "", 0.0

    def token(self, stale: str = "") -> str:
        """A token that lives for a while, other than `stale`. Raises AuthError, CutOff or TransientError."""
        with self._lock:
            if self._token in {"", stale} or time.monotonic() >= self._renew_at:
                self._renew()
            return self._token

    def _renew(self) -> None:
        asked = time.monotonic()
        answer = asyncio.run(self._asked())
        token, life = answer.get("access_token"), answer.get("expires_in")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise TransientError("The token endpoint answered without a token.")
        seconds = float(life) if isinstance(life, int | float) else 3600.0
        self._token = token
        self._renew_at = asked + max(seconds - EARLY, seconds / 2)

    async def _asked(self) -> Mapping[str, Any]:
        async with aiohttp.ClientSession() as session:
            endpoint = Endpoint(self._as_graph(), lambda: session, Pace())
            grant = self._grant(endpoint)
            try:
                answer = await endpoint.post("token", await grant.form(""))
            except AuthError:
                if not grant.retire():
                    raise
                answer = await endpoint.post("token", await grant.form(""))
            grant.keep(answer)
            return answer

    def _grant(self, endpoint: Endpoint) -> Grant:
        section = self._section
        if section.sign_in != "app":
            return PersonGrant(self._as_graph(), endpoint, self._prompt, PERSON_SCOPES)
        if section.certificate_file and section.key_file:
            where = f"{endpoint.base}/token"
            files = (section.certificate_file, section.key_file)
            return CertificateGrant(*files, endpoint.client_id, where, APP_SCOPE)
        return SecretGrant(lambda: section.client_secret, APP_SCOPE)

    def _as_graph(self) -> Microsoft365:
        """What the token machinery reads of a section."""
        names = ("name", "tenant_id", "client_id", "login_url", "token_file")
        values = {name: getattr(self._section, name) for name in names}
        return cast("Microsoft365", SimpleNamespace(auth=self._section.sign_in, **values))
