"""What `doctor` asks: are we who we say, may we do what we must, and does everything answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp

from backupd.errors import BackupdError
from backupd.model import Account, Collection, Gap, Service
from backupd.ports import Finding
from sources.graph.answers import bounded
from sources.graph.client import Client
from sources.graph.failures import read_token_refusal

if TYPE_CHECKING:
    from backupd.config import Microsoft365
    from backupd.ports import Source

NEEDED: Mapping[Service, tuple[str, ...]] = {
    Service.MAIL: ("Mail.Read", "MailboxSettings.Read"),
    Service.CALENDAR: ("Calendars.Read",),
    Service.CONTACTS: ("Contacts.Read",),
    Service.FILES: ("Files.Read.All", "Sites.Read.All"),
}
DIRECTORY = "User.Read.All"

ALSO_GRANTS: Mapping[str, tuple[str, ...]] = {
    "User.Read.All": ("User.ReadWrite.All", "Directory.Read.All", "Directory.ReadWrite.All"),
    "Files.Read.All": ("Files.ReadWrite.All", "Sites.Read.All", "Sites.ReadWrite.All"),
    "Sites.Read.All": ("Sites.ReadWrite.All", "Sites.Manage.All", "Sites.FullControl.All"),
}
"""Wider permissions that include a needed one; for all others `.ReadWrite` does."""

SKEW = 300.0
"""Seconds: Entra refuses assertions whose times are off by more than five minutes."""

UNEASY = 60.0


class Checks:
    """The checks of one source."""

    def __init__(self, client: Client, section: Microsoft365, source: Source) -> None:
        self._client = client
        self._section = section
        self._source = source

    def run(self) -> Iterator[Finding]:
        """Every finding, in the order in which one depends on the other."""
        yield from self._tenant()
        try:
            self._client.loop.call(self._client.tokens.bearer())
        except BackupdError as error:
            yield _problem("sign-in", error)
            return
        yield Finding("ok", "sign-in", "a token was issued")
        if self._section.auth == "app":
            yield from self._permissions()
        yield from self._services()

    def missing(self) -> Iterator[Finding]:
        """What is wrong with our permissions; nothing when no token is given out."""
        if self._section.auth != "app":
            return
        try:
            self._client.loop.call(self._client.tokens.bearer())
        except BackupdError:
            return
        yield from (each for each in self._permissions() if each.level == "error")

    def _tenant(self) -> Iterator[Finding]:
        """Without a token: does the login host answer, does it know the tenant, what time is it."""
        try:
            status, date, body = self._client.loop.call(self._configuration())
        except (aiohttp.ClientError, TimeoutError) as error:
            hint = "Check the network, DNS, proxies and login_url."
            yield Finding(
                "error", "network", f"no answer from the login host ({type(error).__name__})", hint
            )
            return
        if status != HTTPStatus.OK:
            yield _problem("tenant", read_token_refusal(status, {}, body))
        else:
            yield Finding("ok", "tenant", "the login host knows the tenant")
        yield from _clock(date)

    async def _configuration(self) -> tuple[int, str, bytes]:
        base = f"{self._section.login_url}/{self._section.tenant_id}"
        async with self._client.session.get(
            f"{base}/v2.0/.well-known/openid-configuration", timeout=aiohttp.ClientTimeout(total=30)
        ) as answer:
            body = await bounded(answer.content.iter_any())
            return answer.status, answer.headers.get("Date", ""), body

    def _permissions(self) -> Iterator[Finding]:
        roles = self._client.tokens.roles()
        if not roles:
            return  # an opaque token tells nothing; the probes below will
        needed = [DIRECTORY, *(name for each in self._section.services for name in NEEDED[each])]
        missing = [name for name in needed if not _granted(name, roles)]
        if missing:
            yield Finding(
                "error",
                "permissions",
                f"not granted: {', '.join(missing)}",
                "Add them as application permissions in Entra and grant admin consent.",
            )
        else:
            yield Finding("ok", "permissions", f"granted: {', '.join(needed)}")
        writing = sorted(role for role in roles if "Write" in role or "FullControl" in role)
        if writing:
            yield Finding(
                "warning",
                "permissions",
                f"more than a backup needs: {', '.join(writing)}",
                "Remove them: whoever steals the credential could change data.",
            )

    def _services(self) -> Iterator[Finding]:
        """One account per service, asked for its collections."""
        wanted = set(self._section.services)
        try:
            for account in self._source.accounts():
                for service in sorted(wanted & account.services):
                    yield self._probe(account, service)
                    wanted.discard(service)
                if not wanted:
                    return
        except BackupdError as error:
            yield _problem("accounts", error)
            return
        for service in sorted(wanted):
            yield Finding(
                "warning",
                service.value,
                "no account that holds it is selected",
                "Check `accounts` and `services` of this source.",
            )

    def _probe(self, account: Account, service: Service) -> Finding:
        try:
            found: Sequence[Collection | Gap] = self._source.collections(account, service)
        except BackupdError as error:
            return _problem(service.value, error)
        count = sum(isinstance(each, Collection) for each in found)
        return Finding("ok", service.value, f"{account.address} answers ({count} collections)")


def _clock(date: str) -> Iterator[Finding]:
    try:
        skew = time.time() - parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return
    if abs(skew) <= UNEASY:
        yield Finding("ok", "clock", f"within {UNEASY:.0f} seconds of Microsoft's")
        return
    level = "error" if abs(skew) > SKEW else "warning"
    hint = "Set the clock, for example with timedatectl set-ntp true."
    yield Finding(
        level, "clock", f"{abs(skew):.0f} seconds {'ahead' if skew > 0 else 'behind'}", hint
    )


def _granted(name: str, roles: frozenset[str]) -> bool:
    wider = ALSO_GRANTS.get(name, (name.replace(".Read", ".ReadWrite"),))
    return name in roles or any(each in roles for each in wider)


def _problem(subject: str, error: BackupdError) -> Finding:
    return Finding("error", subject, str(error), error.hint)
