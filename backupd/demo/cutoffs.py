"""Every way in which Microsoft 365 can be cut off, by name.

A scenario changes what the token endpoint and Graph answer, for the whole tenant or for one
account, until service is restored. Codes and shapes follow the tables of Microsoft's
documentation; what is not documented is marked so in `SCENARIOS`.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.calls import Answer, Json, Refused
from backupd.demo.moments import now, stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupd.demo.directory import User
    from backupd.demo.state import TenantState, Who
    from backupd.demo.tokens import Identity
    from backupd.demo.workloads import Workload


@dataclass(frozen=True)
class Scenario:
    """One way to be cut off: `account` scenarios befall one user, the others the whole tenant."""

    name: str
    meaning: str
    account: bool = False


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("tenant_deleted", "The tenant is gone: 90002, also without logging in."),
        Scenario("tenant_fraud_block", "Microsoft blocked the tenant: 5000224."),
        Scenario("subscription_lapsed", "500014, and the SKUs are suspended."),
        Scenario("app_deleted", "The application is gone from the directory: 700016."),
        Scenario(
            "app_disabled_two_stage", "Graph 401 Authorization_IdentityDisabled, later 7000112."
        ),
        Scenario("secret_expired", "The client secret has expired: 7000222."),
        Scenario("cert_removed", "The certificate is no longer registered: 700027."),
        Scenario("consent_revoked", "Tokens carry no roles and Graph answers 403."),
        Scenario("access_policy", "An access policy excludes one mailbox: 403 RAOP.", account=True),
        Scenario("user_disabled", "Delegated 50057; app-only goes on.", account=True),
        Scenario("user_deleted", "404, and the user is among the deleted items.", account=True),
        Scenario("licence_removed", "The mailbox and OneDrive are gone: 404.", account=True),
        Scenario("onedrive_locked", "The OneDrive is locked: 423.", account=True),
        Scenario("cae_revoked", "401 with a claims challenge until a new token is taken."),
        Scenario(
            "msa_suspended", "A personal account is suspended: ErrorAccountSuspend.", account=True
        ),
        Scenario("mailbox_full", "Delta answers 403 ErrorQuotaExceeded, lists work.", account=True),
        Scenario("regional_outage", "503 everywhere, logging in included."),
        Scenario("clock_skew", "Certificate assertions are out of their time range: 700024."),
        Scenario("imap_auth_failed", "IMAP alone refuses; Graph is fine.", account=True),
        Scenario("spo_app_block", "SharePoint answers 503 to this application for a day."),
    )
}


@dataclass(frozen=True)
class Denial:
    """What the token endpoint says when it refuses; `number` is the AADSTS code."""

    number: int
    error: str
    text: str
    status: int = HTTPStatus.BAD_REQUEST
    suberror: str = ""

    def answer(self) -> Answer:
        """The refusal as it travels."""
        body: Json = {
            "error": self.error,
            "error_description": f"AADSTS{self.number}: {self.text} Timestamp: {stamp(now())}",
            "error_codes": [self.number],
            "timestamp": stamp(now()),
            "trace_id": "00000000-0000-4000-8000-000000000001",
            "correlation_id": "00000000-0000-4000-8000-000000000002",
            "error_uri": f"https://login.microsoftonline.com/error?code={self.number}",
        }
        return Answer(body | ({"suberror": self.suberror} if self.suberror else {}), self.status)


class LoginRefused(Exception):
    """The token endpoint refuses."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.error)
        self.denial = denial


_LOGIN: dict[str, Denial] = {
    "tenant_deleted": Denial(
        90002,
        "invalid_request",
        "Tenant not found. Check to make sure you have the correct tenant ID.",
    ),
    "tenant_fraud_block": Denial(
        5000224, "invalid_request", "We are sorry, this resource is not available."
    ),
    "subscription_lapsed": Denial(
        500014,
        "invalid_resource",
        "The service principal for resource 'https://graph.microsoft.com' is disabled. The "
        "subscription within the tenant has lapsed, or the administrator disabled the application.",
    ),
    "app_deleted": Denial(
        700016, "unauthorized_client", "The application was not found in the directory."
    ),
    "app_disabled": Denial(7000112, "unauthorized_client", "The application is disabled."),
    "secret_expired": Denial(
        7000222, "invalid_client", "The provided client secret keys are expired.", 401
    ),
    "cert_removed": Denial(
        700027,
        "invalid_client",
        "The certificate with identifier used to sign is not registered.",
        401,
    ),
    "clock_skew": Denial(
        700024, "invalid_client", "Client assertion is not within its valid time range.", 401
    ),
    "user_disabled": Denial(50057, "invalid_grant", "The user account is disabled."),
    "user_deleted": Denial(50034, "invalid_grant", "The user account does not exist."),
}
_ANY_GRANT = ("tenant_deleted", "tenant_fraud_block", "subscription_lapsed", "app_deleted")


@dataclass
class Cutoffs:
    """The scenarios in force. `stage_seconds` is how long the first stage of two lasts."""

    state: TenantState
    stage_seconds: float = 2.0
    active: dict[str, float] = field(default_factory=dict)
    victims: dict[str, str] = field(default_factory=dict)
    revoked_before: float = 0.0
    _undo: list[Callable[[], object]] = field(default_factory=list)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def begin(self, name: str, who: Who | None = None) -> None:
        """Put a scenario in force; an account scenario befalls `who`, or the first user."""
        scenario = SCENARIOS[name]
        with self._lock, self.state.lock:
            self.active[name] = time.time()
            if scenario.account:
                user = self.state.user(who) if who else self.state.directory.users[0]
                self.victims[name] = user.id
                self._befall(name, user)
            elif name == "subscription_lapsed":
                self.state.sku_status = "Suspended"
            elif name == "cae_revoked":
                self.revoked_before = time.time()

    def end(self) -> None:
        """Restore service."""
        with self._lock, self.state.lock:
            self.active.clear()
            self.victims.clear()
            self.state.sku_status = "Enabled"
            while self._undo:
                self._undo.pop()()

    def _befall(self, name: str, user: User) -> None:
        directory = self.state.directory
        if name == "user_disabled":
            directory.update(user, enabled=False)
            self._undo.append(lambda: directory.update(user, enabled=True))
        elif name == "user_deleted":
            directory.delete(user)
            self._undo.append(lambda: directory.update(user, deleted=None))
        elif name == "licence_removed":
            directory.update(user, licensed=False)
            self._undo.append(lambda: directory.update(user, licensed=True))
        elif name == "mailbox_full":
            user.mailbox.over_quota = True
            self._undo.append(lambda: setattr(user.mailbox, "over_quota", False))

    def outage(self) -> bool:
        """Whether every door answers 503."""
        return "regional_outage" in self.active

    def check_tenant(self) -> None:
        """What the public metadata of the tenant answers; raises LoginRefused."""
        if "tenant_deleted" in self.active:
            raise LoginRefused(_LOGIN["tenant_deleted"])

    def check_grant(self, credential: str) -> None:
        """What any grant meets; `credential` is `secret`, `certificate` or `none`."""
        refused = [name for name in _ANY_GRANT if name in self.active]
        if self._stage_two():
            refused.append("app_disabled")
        if credential == "secret" and "secret_expired" in self.active:
            refused.append("secret_expired")
        if credential == "certificate":
            refused += [name for name in ("cert_removed", "clock_skew") if name in self.active]
        if refused:
            raise LoginRefused(_LOGIN[refused[0]])

    def check_person(self, user: User) -> None:
        """What a grant for a person meets."""
        if user.deleted is not None:
            raise LoginRefused(_LOGIN["user_deleted"])
        if not user.enabled:
            raise LoginRefused(_LOGIN["user_disabled"])

    def roles(self, roles: frozenset[str]) -> frozenset[str]:
        """The roles that a new token carries."""
        return frozenset() if "consent_revoked" in self.active else roles

    def check_identity(self, identity: Identity) -> None:
        """What a valid token meets at Graph before anything else."""
        if "app_disabled_two_stage" in self.active:
            raise _unauthorised("Authorization_IdentityDisabled", "The identity is disabled.")
        if "app_deleted" in self.active:
            raise _unauthorised("Authorization_IdentityNotFound", "The identity was not found.")
        if identity.issued < self.revoked_before:
            raise claims_challenge()

    def check_workload(self, workload: Workload) -> None:
        """What a workload answers for the whole tenant."""
        if "consent_revoked" in self.active and workload.name != "none":
            raise workload.denied()
        if "spo_app_block" in self.active and workload.files:
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "serviceNotAvailable", "Try again later.")

    def check_account(self, user: User, workload: Workload) -> None:
        """What a workload answers for one account."""
        if workload.outlook:
            self._check_mailbox(user)
        if workload.files:
            self._check_drive(user)

    def _check_mailbox(self, user: User) -> None:
        if not user.licensed:
            message = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
            raise Refused(HTTPStatus.NOT_FOUND, "MailboxNotEnabledForRESTAPI", message)
        if self._befell("access_policy", user):
            message = (
                "Access to OData is disabled: [RAOP] : "
                "Blocked by tenant configured AppOnly AccessPolicy settings."
            )
            raise Refused(HTTPStatus.FORBIDDEN, "ErrorAccessDenied", message)
        if self._befell("msa_suspended", user):
            message = "The account has been suspended. Sign in to verify it."
            raise Refused(HTTPStatus.FORBIDDEN, "ErrorAccountSuspend", message)

    def _check_drive(self, user: User) -> None:
        if not user.licensed or user.deleted is not None:
            message = "User's mysite not found."
            raise Refused(HTTPStatus.NOT_FOUND, "ResourceNotFound", message)
        if self._befell("onedrive_locked", user):
            message = "Access to this site has been blocked. Please contact the administrator."
            raise Refused(HTTPStatus.LOCKED, "notAllowed", message, inner="resourceLocked")

    def _befell(self, name: str, user: User) -> bool:
        return self.victims.get(name) == user.id

    def _stage_two(self) -> bool:
        since = self.active.get("app_disabled_two_stage")
        return since is not None and time.time() - since >= self.stage_seconds


def claims_challenge() -> Refused:
    """401 of continuous access evaluation: take a new token with these claims."""
    claims = {"access_token": {"nbf": {"essential": True, "value": str(int(time.time()))}}}
    encoded = base64.b64encode(json.dumps(claims).encode()).decode()
    challenge = (
        'Bearer realm="", authorization_uri="https://login.microsoftonline.com/common/oauth2/authorize", '
        f'error="insufficient_claims", claims="{encoded}"'
    )
    message = "Continuous access evaluation resulted in challenge with result: InteractionRequired"
    return Refused(
        HTTPStatus.UNAUTHORIZED,
        "InvalidAuthenticationToken",
        message,
        inner="TokenIssuedBeforeRevocationTimestamp",
        headers={"WWW-Authenticate": challenge},
    )


def _unauthorised(code: str, message: str) -> Refused:
    return Refused(HTTPStatus.UNAUTHORIZED, code, message)
