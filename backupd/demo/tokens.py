"""Access tokens and delta cursors: both opaque to the client, both readable by us alone."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from dataclasses import asdict, dataclass
from typing import Any

import jwt

_SEAL = 12


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls: an application (`user` is empty) or a person through one.

    Attributes:
        issued: when the token was made, seconds since 1970; before a revocation it is worthless.
    """

    app: str
    tenant: str
    roles: frozenset[str]
    user: str
    issued: float


class TokenMint:
    """Makes and reads access tokens: JWTs, since clients look into their `roles` for diagnosis."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"access" + secret).digest()

    def access_token(self, identity: Identity, lifetime: float) -> str:
        """A token for `identity` that lives `lifetime` seconds."""
        claims: dict[str, Any] = {
            "aud": "https://graph.microsoft.com",
            "tid": identity.tenant,
            "appid": identity.app,
            "iat": identity.issued,
            "exp": identity.issued + lifetime,
        }
        if identity.user:
            claims |= {"oid": identity.user, "scp": " ".join(sorted(identity.roles))}
        else:
            claims["roles"] = sorted(identity.roles)
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def identity(self, token: str) -> Identity:
        """Who a token stands for; raises jwt.InvalidTokenError when it is forged or expired."""
        claims = jwt.decode(
            token,
            self._secret,
            algorithms=["HS256"],
            audience="https://graph.microsoft.com",
            options={"verify_iat": False},
        )
        roles = claims.get("roles") or str(claims.get("scp", "")).split()
        user = claims.get("oid", "")
        return Identity(claims["appid"], claims["tid"], frozenset(roles), user, claims["iat"])

    def new(self, app: str, tenant: str, roles: frozenset[str], user: str = "") -> Identity:
        """An identity issued now."""
        return Identity(app, tenant, roles, user, time.time())


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a delta query stands.

    Attributes:
        scope: what is followed; a cursor of another scope is refused.
        listing: still in the full enumeration; else among the changes.
        position: the last number given out: of an object, or of a change.
        start: the change number from which the next round counts.
        select, expand: what the first request asked for; empty for all, and for nothing.
        page: pages given out in this round.
        span: the window of time that a calendar view was asked for.
    """

    scope: str
    generation: int
    listing: bool = True
    position: int = 0
    start: int = 0
    select: tuple[str, ...] = ()
    immutable: bool = False
    page: int = 0
    span: str = ""
    expand: str = ""


class CursorCodec:
    """Turns cursors into sealed opaque text and back."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.sha256(b"cursor" + secret).digest()

    def text(self, cursor: Cursor) -> str:
        """The opaque form."""
        raw = json.dumps(asdict(cursor), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(self._seal(raw) + self._masked(raw)).decode().rstrip("=")

    def cursor(self, text: str) -> Cursor:
        """Read the opaque form; raises ValueError when it is not ours or was edited."""
        sealed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        raw = self._masked(sealed[_SEAL:])
        if not hmac.compare_digest(self._seal(raw), sealed[:_SEAL]):
            raise ValueError("not one of our cursors")
        fields = json.loads(raw)
        return Cursor(**(fields | {"select": tuple(fields["select"])}))

    def _seal(self, raw: bytes) -> bytes:
        return hmac.digest(self._secret, raw, "sha256")[:_SEAL]

    def _masked(self, raw: bytes) -> bytes:
        stream = hashlib.shake_128(self._secret).digest(len(raw))
        return bytes(a ^ b for a, b in zip(raw, stream, strict=True))
