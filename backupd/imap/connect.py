"""Connecting: the certificate is checked before a password leaves the house."""

from __future__ import annotations

import imaplib
import ipaddress
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import imapclient
from imapclient.exceptions import CapabilityError, IMAPClientError

from backupd import tls
from backupd.errors import AuthError, BackupdError, ConfigError, TransientError, UserError
from backupd.imap.wire import words

_BUSY = frozenset({"UNAVAILABLE", "INUSE", "LIMIT"})
"""Codes of a refused login that time heals."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_CODE = re.compile(r"^(?:\S+ )?\[([A-Z-]+)")


@dataclass(frozen=True, slots=True)
class Login:
    """Where to connect and as whom.

    Attributes:
        name: what messages call the place.
        security: `tls`, `starttls`, or `plain`, which is for loopback only.
        secret: reads the password, or for `xoauth2` the access token, when it is needed.
        fingerprint: SHA-256 of the only certificate to accept; no authority is asked then.
        timeout: seconds of silence after which a connection is given up.
    """

    name: str
    host: str
    port: int
    username: str
    secret: Callable[[], str]
    security: str = "tls"
    auth: str = "password"
    ca_file: Path | None = None
    fingerprint: str | None = None
    timeout: float = 120.0


def only_loopback_in_plain(login: Login) -> None:
    """Raise ConfigError for a password that others could read on its way."""
    with suppress(ValueError):
        if ipaddress.ip_address(login.host).is_loopback:
            return
    if login.security == "plain" and login.host != "localhost":
        raise ConfigError(
            f"{login.name}: the password would travel to {login.host} for everybody to read.",
            hint='Set security = "tls" or "starttls"; "plain" is for this machine only.',
        )


@contextmanager
def connecting(login: Login) -> Iterator[None]:
    """Whatever goes wrong inside becomes an error that says what to do."""
    place = f"{login.host}:{login.port}"
    try:
        yield
    except BackupdError:
        raise
    except ssl.SSLCertVerificationError as error:
        raise UserError(
            f"{place} shows a certificate that cannot be trusted: {error.verify_message}.",
            hint="If it is the right server, name its authority with ca_file, or pin the certificate with fingerprint.",
            reason="certificate",
        ) from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
        raise TransientError(f"{place} ended the connection while it was made.") from error
    except ssl.SSLError as error:
        raise ConfigError(
            f"{place} does not speak TLS as configured: {error.reason or error}.",
            hint='Usual are port 993 with security = "tls" and port 143 with "starttls".',
        ) from error
    except CapabilityError as error:
        raise ConfigError(
            f"{place} does not offer STARTTLS.",
            hint='Try security = "tls" with port 993.',
        ) from error
    except (OSError, imaplib.IMAP4.error) as error:
        raise TransientError(
            f"{place} cannot be reached: {words(str(error).encode())}.",
            hint="Check host and port of the section, and the way there (firewall, proxy, VPN).",
        ) from error


def connect(login: Login) -> imapclient.IMAPClient:
    """A connection whose certificate is the right one; nobody is logged in yet."""
    implicit = login.security == "tls"
    context = None if login.security == "plain" else tls.context(login.ca_file, login.fingerprint)
    client = imapclient.IMAPClient(
        login.host, login.port, ssl=implicit, ssl_context=context,
        timeout=imapclient.SocketTimeout(min(login.timeout, 30), login.timeout),
    )  # fmt: skip
    client._imap.debug = 0  # noqa: SLF001 - it would format every line, secrets among them
    try:
        if login.security == "starttls":
            client.starttls(context)
        if isinstance(connection := client.socket(), ssl.SSLSocket):
            tls.check_pin(connection, login.fingerprint, f"{login.host}:{login.port}")
        client.socket().setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        client.shutdown()
        raise
    return client


class _Bearer:
    """The XOAUTH2 exchange: the token, and an empty line after a refusal, which explains itself."""

    def __init__(self, user: str, token: str) -> None:
        self._answer = f"user={user}\x01auth=Bearer {token}\x01\x01".encode()
        self.said = ""

    def __call__(self, challenge: bytes) -> bytes:
        self.said = words(challenge)
        return b"" if challenge else self._answer


def log_in(client: imapclient.IMAPClient, login: Login) -> None:
    """By password or token. Raises AuthError, TransientError."""
    secret = login.secret()
    if _CONTROL.search(login.username + secret):
        raise ConfigError(
            f"{login.name}: user name or password hold a line break or another control character.",
            hint="Write them into their files without anything behind them.",
        )
    bearer = _Bearer(login.username, secret)
    try:
        if login.auth == "xoauth2":
            client.sasl_login("XOAUTH2", bearer)
        elif b"AUTH=PLAIN" in client.capabilities():
            client.plain_login(login.username, secret)
        else:
            user = login.username.replace("\\", "\\\\").replace('"', '\\"')
            client.login(f'"{user}"', secret)  # imaplib quotes only the password
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{login.name}: this server takes only ASCII in user names and passwords."
        ) from error
    except IMAPClientError as error:
        _unless_it_ended(error)
        raise _refused(login, _text(error), bearer.said) from error


def _unless_it_ended(error: Exception) -> None:
    """For imapclient it is a refusal too when the connection ends in the middle of it."""
    for cause in (error, error.__context__):
        if isinstance(cause, imaplib.IMAP4.abort):
            raise cause from error


def _text(error: Exception) -> str:
    """What the server said; imaplib hands on bytes, imapclient their representation."""
    said = getattr(error.__context__, "args", ()) or error.args
    text = said[0] if said else ""
    return words(text) if isinstance(text, bytes) else words(str(text).encode())


def _refused(login: Login, text: str, said: str) -> BackupdError:
    code = _CODE.match(text)
    if code and code[1] in _BUSY:
        return TransientError(f"{login.host} does not log us in now: {text}")
    what = "token" if login.auth == "xoauth2" else "password"
    hint = (
        "Renew the token; it must be for this user and allow IMAP."
        if what == "token"
        else "Check both; many providers want an application password of its own for IMAP, or IMAP to be switched on."
    )
    detail = said or text
    return AuthError(
        f"{login.host} refuses the user name or {what} of {login.username}: {detail}",
        hint=hint,
        reason="credential",
    )
