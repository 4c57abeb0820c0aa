"""Encrypted connections: the system's certificate authorities, a file of one's own, or one pinned certificate."""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

from backupd.errors import ConfigError, UserError


def context(ca_file: Path | None, fingerprint: str | None) -> ssl.SSLContext:
    """How to check a server. A pinned certificate needs no authority: its fingerprint is all.

    Whoever passes a fingerprint must call `check_pin` once connected. Raises ConfigError for a
    CA file that cannot be read.
    """
    if fingerprint:
        pinned = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        pinned.check_hostname = False
        pinned.verify_mode = ssl.CERT_NONE  # check_pin compares the whole certificate instead
        return pinned
    try:
        return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"Cannot use the certificates in {ca_file}: {error}.",
            hint="ca_file must be a PEM file with the authority's (or the server's own) certificate.",
        ) from error


def fingerprint_of(certificate: bytes) -> str:
    """SHA-256 of a certificate in DER, in hex."""
    return hashlib.sha256(certificate).hexdigest()


def check_pin(
    connection: ssl.SSLSocket | ssl.SSLObject, fingerprint: str | None, host: str
) -> None:
    """Raise UserError unless the server showed the pinned certificate; nothing to do without a pin."""
    if not fingerprint:
        return
    wanted = fingerprint.removeprefix("sha256:").replace(":", "").lower()
    shown = fingerprint_of(connection.getpeercert(binary_form=True) or b"")
    if shown != wanted:
        raise UserError(
            f"{host} shows another certificate than the pinned one: sha256:{shown}.",
            hint="If the server got a new certificate, check that fingerprint with whoever runs it and "
            "write it into the configuration. If not, somebody is in between: do not go on.",
            reason="certificate",
        )


def guarded(ca_file: Path | None, fingerprint: str | None, host: str) -> ssl.SSLContext:
    """A context that compares a pinned certificate by itself, at the end of every handshake.

    For clients that open their connections out of sight: nothing is sent to a server with another
    certificate, for the handshake itself raises UserError then.
    """
    made = context(ca_file, fingerprint)
    if not fingerprint:
        return made

    class Socket(ssl.SSLSocket):
        def do_handshake(self, block: bool = False) -> None:
            super().do_handshake(block)
            try:
                check_pin(self, fingerprint, host)
            except UserError:
                self.close()
                raise

    class Object(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            check_pin(self, fingerprint, host)

    made.sslsocket_class = Socket
    made.sslobject_class = Object
    return made
