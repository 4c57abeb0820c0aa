"""The rungs of the probe ladder: cheap questions, one at a time, each with an answer of its own.

The rungs of the tenant begin with ourselves (network, clock) and end at the first one that makes
the others pointless. A rung that we have no permission for says nothing and is left out: only what
was granted once can be taken away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp

from backupd.cutoff.verdict import Cause, Evidence, cause_of
from backupd.errors import BackupdError, ConfigError
from backupd.model import Account, AccountKind, Service
from sources.graph.addresses import quoted
from sources.graph.answers import bounded
from sources.graph.client import Call, Client
from sources.graph.failures import Broken, Refused, Scope, read_token_refusal
from sources.graph.fields import mappings
from sources.graph.listing import string

if TYPE_CHECKING:
    from backupd.config import Microsoft365

BOX = 20.0
"""Seconds for one rung: a gateway that hangs must not hold the ladder up."""

SKEW = 300.0
"""Seconds: Entra refuses assertions whose times are off by more than five minutes."""

ALIVE = frozenset({"enabled", "warning"})
"""`capabilityStatus` of a subscription whose data can be reached (in `Warning` for 30 days more)."""

MAILBOX = frozenset({Service.MAIL, Service.CALENDAR, Service.CONTACTS})


class Probes:
    """The rungs of one tenant. See `backupd.ports.Probing`."""

    def __init__(self, client: Client, section: Microsoft365) -> None:
        self._client = client
        self._section = section

    def tenant(self) -> Iterator[Evidence]:
        """Ourselves, the tenant's public document, a token, the organisation, its subscriptions."""
        said, date = self._openid()
        yield from _clock(date)
        yield said
        if said.cause is not Cause.NONE:
            return
        token = self._token()
        yield token
        if token.cause is not Cause.NONE or self._section.auth != "app":
            return
        yield from self._organization()
        yield from self._skus()

    def account(self, account: Account) -> Iterator[Evidence]:
        """The person (or site), the mailbox, the drive."""
        where = f"{self._client.base}/users/{quoted(account.id)}"
        if account.kind is AccountKind.SITE:
            site = f"{self._client.base}/sites/{quoted(account.id)}?$select=id"
            yield self._asked("drive", site, Scope.DRIVES, f"the site {account.address}")
            return
        if self._section.auth == "app":
            yield self._user(where, account)
        if account.services & MAILBOX:
            inbox = f"{where}/mailFolders/inbox?$select=id,totalItemCount"
            yield self._asked("mailbox", inbox, Scope.SERVICE, f"the mailbox of {account.address}")
        if Service.FILES in account.services:
            root = f"{where}/drive/root?$select=id"
            yield self._asked("drive", root, Scope.DRIVES, f"the OneDrive of {account.address}")

    # -- the tenant ---------------------------------------------------------------------------

    def _openid(self) -> tuple[Evidence, str]:
        """Without logging in: is the login host there, and does it know the tenant?"""
        try:
            status, date, body = self._client.loop.call(self._document())
        except (aiohttp.ClientError, TimeoutError) as error:
            name = type(error).__name__
            said = f"The login host of Microsoft cannot be reached ({name})."
            return _told("network", Cause.TRANSIENT, name, said), ""
        if status == HTTPStatus.OK:
            return _told("openid", Cause.NONE, "", "The login host knows the tenant."), date
        return _failed("openid", read_token_refusal(status, {}, body)), date

    async def _document(self) -> tuple[int, str, bytes]:
        base = f"{self._section.login_url}/{self._section.tenant_id}"
        async with self._client.session.get(
            f"{base}/v2.0/.well-known/openid-configuration",
            timeout=aiohttp.ClientTimeout(total=BOX),
            allow_redirects=False,
        ) as answer:
            body = await bounded(answer.content.iter_any())
            return answer.status, answer.headers.get("Date", ""), body

    def _token(self) -> Evidence:
        async def anew() -> None:
            async with asyncio.timeout(BOX):
                await self._client.tokens.anew()

        try:
            self._client.loop.call(anew())
        except TimeoutError:
            return _told("token", Cause.TRANSIENT, "timeout", "No answer from the token endpoint.")
        except ConfigError as error:
            return _told("token", Cause.CREDENTIAL, error.reason, str(error))
        except BackupdError as error:
            return _failed("token", error)
        return _told("token", Cause.NONE, "", "A token was issued.")

    def _organization(self) -> Iterator[Evidence]:
        where = f"{self._client.base}/organization?$select=id,displayName"
        said = self._asked("organization", where, Scope.DIRECTORY, "the organisation")
        if said.cause is not Cause.CONSENT:
            yield said

    def _skus(self) -> Iterator[Evidence]:
        try:
            found = mappings(
                self._ask(self._skus_url, Scope.DIRECTORY, "the subscriptions"), "value"
            )
        except (Refused, Broken, BackupdError) as failure:
            refused = _failed("skus", failure)
            if refused.cause is not Cause.CONSENT:
                yield refused
            return
        states = {string(each, "capabilityStatus").lower() for each in found}
        if states and not states & ALIVE:
            told = ", ".join(sorted(states))
            said = f"No subscription of the tenant is alive any more: {told}."
            yield _told("skus", Cause.LICENCE, told, said)
        else:
            yield _told("skus", Cause.NONE, "", "A subscription of the tenant is alive.")

    @property
    def _skus_url(self) -> str:
        return f"{self._client.base}/subscribedSkus?$select=skuPartNumber,capabilityStatus"

    # -- an account ---------------------------------------------------------------------------

    def _user(self, where: str, account: Account) -> Evidence:
        fields = "$select=id,userPrincipalName,accountEnabled"
        try:
            found = self._ask(f"{where}?{fields}", Scope.DIRECTORY, account.address)
        except Refused as refused:
            if refused.refusal.status == HTTPStatus.NOT_FOUND:
                return self._gone(account, refused.refusal.word)
            return _failed("user", refused)
        except (Broken, BackupdError) as failure:
            return _failed("user", failure)
        blocked = found.get("accountEnabled") is False and account.kind is AccountKind.USER
        said = "is blocked from signing in, and its data can be read" if blocked else "exists"
        return _told("user", Cause.NONE, "", f"{account.address} {said}.")

    def _gone(self, account: Account, code: str) -> Evidence:
        """Deleted: a look into the recycle bin tells whether it can be had back."""
        where = f"{self._client.base}/directory/deletedItems/{quoted(account.id)}?$select=id"
        bin_ = self._asked("user", where, Scope.DIRECTORY, account.address)
        if bin_.cause is Cause.NONE:
            said = "was deleted; an administrator can restore it within 30 days"
        else:
            said = "does not exist any more"
        return _told("user", Cause.ACCOUNT, code, f"{account.address} {said}.")

    # -- asking -------------------------------------------------------------------------------

    def _asked(self, rung: str, url: str, scope: Scope, what: str) -> Evidence:
        try:
            self._ask(url, scope, what)
        except (Refused, Broken, BackupdError) as failure:
            return _failed(rung, failure)
        return _told(rung, Cause.NONE, "", f"{what[:1].upper()}{what[1:]} answers.")

    def _ask(self, url: str, scope: Scope, what: str) -> Mapping[str, Any]:
        """GET, twice at most: a 401 with a challenge is answered with a new token."""
        call = Call(self._client.lanes.directory, scope, what, attempts=2)

        async def boxed() -> Mapping[str, Any]:
            async with asyncio.timeout(BOX):
                return await self._client.linked(url, call)

        try:
            return self._client.loop.call(boxed())
        except TimeoutError as error:
            raise Broken(what, f"no answer within {BOX:.0f} seconds") from error


def _clock(date: str) -> Iterator[Evidence]:
    """Only a wrong clock is worth a word."""
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return
    if abs(skew) > SKEW:
        way = "ahead of" if skew > 0 else "behind"
        said = f"The clock of this machine is {abs(skew):.0f} seconds {way} Microsoft's."
        yield _told("clock", Cause.CLIENT, "skew", said)


def _failed(rung: str, failure: Refused | Broken | BackupdError) -> Evidence:
    error = failure if isinstance(failure, BackupdError) else failure.error
    return _told(rung, cause_of(error), error.code or error.reason, str(error))


def _told(rung: str, cause: Cause, code: str, said: str) -> Evidence:
    return Evidence(time.time(), rung, cause, code, said)
