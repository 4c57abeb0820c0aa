"""What announces a cut-off: expiring credentials, lapsing subscriptions, blocked people.

Asked a few times a day. What we are not permitted to ask is passed over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.errors import BackupdError
from backupd.mirror.names import parse_time
from backupd.model import Account, AccountKind
from backupd.ports import Finding
from sources.graph.client import Call, Client
from sources.graph.failures import Broken, Refused, Scope
from sources.graph.fields import mappings
from sources.graph.listing import every, string

if TYPE_CHECKING:
    from backupd.config import Microsoft365

DAY = 86_400.0
EXPIRES_SOON, EXPIRES_NOW = 30 * DAY, 7 * DAY
"""Seconds before the end of a credential at which it is worth a warning, and an error."""

IDLE, IDLE_END = 60, 90
"""Days without use after which a refresh token is worth a warning, and after which it is dead."""

LAPSING: Mapping[str, tuple[str, str]] = {
    "warning": ("warning", "expired; for 30 days everything can still be read"),
    "suspended": ("error", "disabled; people have no access, administrators for 90 days"),
    "lockedout": ("error", "locked out"),
    "deleted": ("warning", "deleted"),
}
"""`capabilityStatus` of a subscription, what it is worth, and what it means."""


def warnings(
    client: Client, section: Microsoft365, accounts: Sequence[Account]
) -> Iterator[Finding]:
    """Every warning there is; an empty answer is a good one."""
    yield from _certificate(section)
    yield from _refresh_token(section)
    if section.auth != "app":
        return
    for part in (_secrets, _subscriptions, _people):
        try:
            yield from part(client, section, accounts)
        except (Refused, Broken, BackupdError):
            continue  # not permitted, or out of reach: the syncs say so


def _certificate(section: Microsoft365) -> Iterator[Finding]:
    from cryptography import x509  # noqa: PLC0415 - 16 MB that a client secret does not need

    if not section.certificate_file:
        return
    try:
        shown = x509.load_pem_x509_certificate(Path(section.certificate_file).read_bytes())
    except (OSError, ValueError):
        return  # the sign-in says so
    hint = "Make a new certificate, upload it in Entra, and set certificate_file and key_file."
    end = shown.not_valid_after_utc.timestamp()
    yield from _expiring(section, "certificate", end, hint)


def _secrets(
    client: Client, section: Microsoft365, accounts: Sequence[Account]
) -> Iterator[Finding]:
    """The ends of our secrets, where Application.Read.All lets us see them."""
    del accounts
    fields = "$select=passwordCredentials,keyCredentials"
    where = f"{client.base}/applications(appId='{section.client_id}')?{fields}"
    application = client.follow(where, _call(client, "our application"))
    kind = "keyCredentials" if section.certificate_file else "passwordCredentials"
    ends = [_seconds(string(each, "endDateTime")) for each in mappings(application, kind)]
    if ends and not section.certificate_file:
        hint = "Make a new client secret in Entra and write its value into client_secret_file."
        yield from _expiring(section, "client secret", max(ends), hint)


def _refresh_token(section: Microsoft365) -> Iterator[Finding]:
    if section.auth == "app" or not section.token_file:
        return
    try:
        idle = (time.time() - Path(section.token_file).stat().st_mtime) / DAY
    except OSError:
        return
    if idle >= IDLE:
        yield Finding(
            "warning",
            f"[sources.{section.name}] sign-in",
            f"not used for {idle:.0f} days; it ends after {IDLE_END}",
            "Run a sync, or sign in again with `backupd doctor`.",
        )


def _subscriptions(
    client: Client, section: Microsoft365, accounts: Sequence[Account]
) -> Iterator[Finding]:
    del accounts
    where = f"{client.base}/subscribedSkus?$select=skuPartNumber,capabilityStatus,consumedUnits"
    for each in mappings(client.follow(where, _call(client, "the subscriptions")), "value"):
        known = LAPSING.get(string(each, "capabilityStatus").lower())
        if known and each.get("consumedUnits"):
            level, meaning = known
            yield Finding(
                level,
                f"[sources.{section.name}] subscription {string(each, 'skuPartNumber')}",
                meaning,
                "Renew it in the Microsoft 365 admin centre, or prepare a restore elsewhere.",
            )


def _people(
    client: Client, section: Microsoft365, accounts: Sequence[Account]
) -> Iterator[Finding]:
    """People whose sign-in is blocked while an application can still read what they have."""
    held = {each.id: each for each in accounts if each.kind is AccountKind.USER}
    users = client.sdk.root.users
    fields = ["id", "userPrincipalName", "accountEnabled"]
    for each in every(client, users, _call(client, "the users"), select=fields, top=999):
        account = held.get(string(each, "id"))
        if account and each.get("accountEnabled") is False:
            yield Finding(
                "warning",
                f"[sources.{section.name}] {account.address}",
                "the sign-in of this person is blocked",
                "Its data can still be read. Without a licence the mailbox goes after 30 days.",
            )


def _expiring(section: Microsoft365, what: str, end: float, hint: str) -> Iterator[Finding]:
    left = end - time.time()
    if left > EXPIRES_SOON:
        return
    day = datetime.fromtimestamp(end, UTC).date().isoformat()
    told = f"expired on {day}" if left <= 0 else f"expires on {day}, in {left / DAY:.0f} days"
    level = "error" if left <= EXPIRES_NOW else "warning"
    yield Finding(level, f"[sources.{section.name}] {what}", told, hint)


def _seconds(text: str) -> float:
    moment = parse_time(text)
    return moment.timestamp() if moment else float("inf")


def _call(client: Client, what: str) -> Call:
    return Call(client.lanes.directory, Scope.DIRECTORY, what, attempts=2)
