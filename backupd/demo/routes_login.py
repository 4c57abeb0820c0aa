"""The token endpoint: application and person, secret and certificate, device code and browser."""

from __future__ import annotations

import base64
import hashlib
import threading
import time
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import jwt

from backupd.demo.calls import Answer, Json
from backupd.demo.chance import Chance
from backupd.demo.cutoffs import Cutoffs, Denial, LoginRefused

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupd.demo.directory import User
    from backupd.demo.state import TenantState
    from backupd.demo.switches import Switches
    from backupd.demo.tokens import TokenMint

_GRANT = "urn:ietf:params:oauth:grant-type:"
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_DEVICE_LIFETIME = 900
_CODE_LENGTH = 9
_LETTERS = "BCDFGHJKLMNPQRSTVWXZ"

Form = dict[str, str]


@dataclass
class Pending:
    """A login under way: a device code or an authorization code."""

    scope: str
    user: str = ""
    declined: bool = False
    challenge: str = ""
    redirect: str = ""
    made: float = field(default_factory=time.time)
    polled: float = 0.0


@dataclass
class Login:
    """The state of the token endpoint. Safe from any thread."""

    state: TenantState
    switches: Switches
    mint: TokenMint
    cutoffs: Cutoffs
    devices: dict[str, Pending] = field(default_factory=dict)
    user_codes: dict[str, str] = field(default_factory=dict)
    codes: dict[str, Pending] = field(default_factory=dict)
    refresh: dict[str, Pending] = field(default_factory=dict)
    person: str = ""

    def __post_init__(self) -> None:
        self._lock = threading.RLock()
        self._chance = Chance("login", self.state.seed)

    def handle(self, method: str, steps: list[str], form: Form, base: str) -> Answer:
        """Answer a request to `{tenant}/…`; `form` holds the fields of body and query."""
        if self.cutoffs.outage():
            return Answer(b"", HTTPStatus.SERVICE_UNAVAILABLE)
        tenant, *rest = steps
        doors: dict[str, Callable[[Form, str], Answer]] = {
            "GET v2.0/.well-known/openid-configuration": self._configuration,
            "POST oauth2/v2.0/token": self._token,
            "POST oauth2/v2.0/devicecode": self._device_code,
            "GET oauth2/v2.0/authorize": self._authorize,
        }
        door = doors.get(f"{method} {'/'.join(rest)}")
        if door is None:
            return Answer({"error": "not_found"}, HTTPStatus.NOT_FOUND)
        try:
            with self._lock:
                self._check_tenant(tenant)
                return door(form, f"{base}/{tenant}")
        except LoginRefused as refused:
            return refused.denial.answer()

    def approve_device(self, user_code: str, who: str = "") -> None:
        """Do what the person with the code does in the browser; raises KeyError."""
        with self._lock:
            self.devices[self.user_codes[user_code]].user = self._person(who).id

    def decline_device(self, user_code: str) -> None:
        """Say no in the browser; raises KeyError."""
        with self._lock:
            self.devices[self.user_codes[user_code]].declined = True

    def revoke_refresh_tokens(self) -> None:
        """What a password reset does."""
        with self._lock:
            self.refresh.clear()

    # Doors

    def _check_tenant(self, tenant: str) -> None:
        self.cutoffs.check_tenant()
        known = {self.state.tenant_id, self.state.domain, "organizations", "common"}
        if tenant.lower() not in known:
            raise _refused(90002, "invalid_request", f"Tenant '{tenant}' not found.")

    def _configuration(self, form: Form, base: str) -> Answer:
        del form
        oauth = f"{base}/oauth2/v2.0"
        body: Json = {
            "issuer": f"{base}/v2.0",
            "token_endpoint": f"{oauth}/token",
            "authorization_endpoint": f"{oauth}/authorize",
            "device_authorization_endpoint": f"{oauth}/devicecode",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["pairwise"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }
        return Answer(body)

    def _token(self, form: Form, base: str) -> Answer:
        grants: dict[str, Callable[[Form], Answer]] = {
            "client_credentials": self._client_credentials,
            f"{_GRANT}device_code": self._redeem_device,
            "authorization_code": self._redeem_code,
            "refresh_token": self._redeem_refresh,
        }
        grant = grants.get(form.get("grant_type", ""))
        if grant is None:
            raise _refused(70003, "unsupported_grant_type", "The grant type is not supported.")
        if form.get("client_id", "").lower() != self.state.app.id:
            raise _refused(
                700016, "unauthorized_client", "Application was not found in the directory."
            )
        if "client_assertion" in form:
            self._check_assertion(form, f"{base}/oauth2/v2.0/token")
        return grant(form)

    def _client_credentials(self, form: Form) -> Answer:
        if not form.get("scope", "").endswith("/.default"):
            raise _refused(
                70011, "invalid_scope", "The provided request must include a '.default' scope."
            )
        if "client_assertion" not in form:
            self._check_secret(form)
        kind = "certificate" if "client_assertion" in form else "secret"
        self.cutoffs.check_grant(kind)
        roles = self.cutoffs.roles(frozenset(self.state.app.roles))
        return Answer(self._issued(roles))

    def _check_secret(self, form: Form) -> None:
        if "client_secret" not in form:
            text = "The request body must contain 'client_assertion' or 'client_secret'."
            raise _refused(7000218, "invalid_client", text, HTTPStatus.UNAUTHORIZED)
        if form["client_secret"] != self.state.app.secret:
            text = "Invalid client secret provided."
            raise _refused(7000215, "invalid_client", text, HTTPStatus.UNAUTHORIZED)

    def _check_assertion(self, form: Form, audience: str) -> None:
        self.cutoffs.check_grant("certificate")
        if form.get("client_assertion_type") != _ASSERTION:
            raise _refused(90014, "invalid_request", "The client_assertion_type is missing.")
        assertion = form["client_assertion"]
        try:
            head = jwt.get_unverified_header(assertion)
            key = self.state.app.certificates[head.get("x5t#S256") or head.get("x5t", "")]
            claims = jwt.decode(assertion, key.decode(), ["PS256", "RS256"], audience=audience)
        except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError):
            text = "Client assertion is not within its valid time range."
            raise _refused(700024, "invalid_client", text, HTTPStatus.UNAUTHORIZED) from None
        except (jwt.InvalidTokenError, KeyError):
            text = "Client assertion failed signature validation."
            raise _refused(700027, "invalid_client", text, HTTPStatus.UNAUTHORIZED) from None
        if {claims.get("iss"), claims.get("sub")} != {self.state.app.id}:
            text = "The assertion is not issued by the application."
            raise _refused(700027, "invalid_client", text, HTTPStatus.UNAUTHORIZED)

    def _device_code(self, form: Form, base: str) -> Answer:
        self.cutoffs.check_grant("none")
        code = self._chance.octets(32).hex()
        user_code = "".join(self._chance.pick(_LETTERS) for _ in range(_CODE_LENGTH))
        pending = Pending(form.get("scope", ""))
        if self.switches.device_code_auto:
            pending.user = self._person("").id
        self.devices[code], self.user_codes[user_code] = pending, code
        where = f"{base}/devicelogin"
        return Answer(
            {
                "user_code": user_code,
                "device_code": code,
                "verification_uri": where,
                "expires_in": _DEVICE_LIFETIME,
                "interval": self.switches.device_code_interval,
                "message": f"To sign in, open {where} and enter the code {user_code}.",
            }
        )

    def _redeem_device(self, form: Form) -> Answer:
        pending = self.devices.get(form.get("device_code", ""))
        if pending is None:
            raise _refused(70018, "bad_verification_code", "The device code is not known.")
        at, last, pending.polled = time.time(), pending.polled, time.time()
        if at - pending.made > _DEVICE_LIFETIME:
            raise _refused(70019, "expired_token", "The device code has expired.")
        if pending.declined:
            raise _refused(65004, "authorization_declined", "The user declined.")
        if at - last < self.switches.device_code_interval / 2:
            raise _refused(70016, "slow_down", "Poll less often.")
        if not pending.user:
            raise _refused(70016, "authorization_pending", "The user has not yet logged in.")
        del self.devices[form["device_code"]]
        return self._for_person(pending)

    def _authorize(self, form: Form, base: str) -> Answer:
        """The browser's side, with a person who says yes at once."""
        del base
        redirect = form.get("redirect_uri", "")
        if not redirect.startswith(self.state.app.redirect_prefix):
            raise _refused(50011, "invalid_request", "The redirect URI is not registered.")
        if form.get("code_challenge_method") != "S256" or not form.get("code_challenge"):
            raise _refused(9002325, "invalid_request", "Proof Key for Code Exchange is required.")
        code = self._chance.octets(24).hex()
        self.codes[code] = Pending(
            form.get("scope", ""), self._person("").id, False, form["code_challenge"], redirect
        )
        back = urlencode({"code": code, "state": form.get("state", "")})
        return Answer(b"", HTTPStatus.FOUND, {"Location": f"{redirect}?{back}"})

    def _redeem_code(self, form: Form) -> Answer:
        pending = self.codes.pop(form.get("code", ""), None)
        if pending is None:
            raise _refused(54005, "invalid_grant", "The code is not known or was redeemed already.")
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if challenge != pending.challenge or form.get("redirect_uri") != pending.redirect:
            raise _refused(501481, "invalid_grant", "The code verifier does not match.")
        return self._for_person(pending)

    def _redeem_refresh(self, form: Form) -> Answer:
        """Each refresh token works once; the answer carries the next one. A refusal costs none."""
        used = form.get("refresh_token", "")
        if used not in self.refresh:
            raise _refused(50173, "invalid_grant", "The provided grant has expired or was revoked.")
        answer = self._for_person(self.refresh[used])
        del self.refresh[used]
        return answer

    # Tokens

    def _for_person(self, pending: Pending) -> Answer:
        self.cutoffs.check_grant("none")
        user = self.state.directory.find(pending.user)
        self.cutoffs.check_person(user)
        token = self._chance.octets(48).hex()
        self.refresh[token] = replace(pending)
        scopes = frozenset(word.rpartition("/")[2] for word in pending.scope.split())
        body = self._issued(self.cutoffs.roles(scopes - {"offline_access"}), user.id)
        return Answer(body | {"refresh_token": token, "scope": pending.scope})

    def _issued(self, roles: frozenset[str], user: str = "") -> Json:
        lifetime = self.switches.token_lifetime
        identity = self.mint.new(self.state.app.id, self.state.tenant_id, roles, user)
        return {
            "token_type": "Bearer",
            "expires_in": lifetime,
            "ext_expires_in": lifetime,
            "access_token": self.mint.access_token(identity, lifetime),
        }

    def _person(self, who: str) -> User:
        return self.state.user(who or self.person or self.state.directory.users[0])


def _refused(
    number: int, error: str, text: str, status: int = HTTPStatus.BAD_REQUEST
) -> LoginRefused:
    return LoginRefused(Denial(number, error, text, status))
