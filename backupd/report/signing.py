"""Signatures on reports: Ed25519 over the very bytes of a file, kept beside it as 64 raw bytes.

That is what openssl checks as it is:

    openssl pkeyutl -verify -pubin -inkey report-key.pub.pem -rawin -in REPORT -sigfile REPORT.sig
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from backupd import private
from backupd.errors import UserError

KEY_FILE = "report-key.pem"
LENGTH = 64
"""Bytes of a signature."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What a third party needs to check reports."""

    key: Ed25519PublicKey

    @property
    def pem(self) -> str:
        """As openssl and everybody else reads it."""
        return self.key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    @property
    def hex(self) -> str:
        """The 32 bytes as lower-case hex: how reports name it."""
        return self.key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the 32 bytes in groups of four, for reading out over a telephone."""
        digest = hashlib.sha256(bytes.fromhex(self.hex)).hexdigest()
        return " ".join(digest[start : start + 4] for start in range(0, 32, 4))

    def signed(self, data: bytes, signature: bytes) -> bool:
        """Whether a signature over data is this key's."""
        try:
            self.key.verify(signature, data)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The key of this installation."""

    key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """Its public half."""
        return PublicKey(self.key.public_key())

    def sign(self, data: bytes) -> bytes:
        """The signature over data."""
        return self.key.sign(data)


def signing_key(state_dir: Path) -> SigningKey:
    """The key, made on first use with mode 600. Raises UserError when its file cannot be used."""
    path = state_dir / KEY_FILE
    if not path.exists():
        _make(path)
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _unusable(path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path)
    return SigningKey(key)


def read_public(path: Path) -> PublicKey:
    """A public key out of a PEM file. Raises UserError."""
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise UserError(f"{path} holds no public key.", hint="`backupd report key` prints it.") from error  # fmt: skip
    if not isinstance(key, Ed25519PublicKey):
        raise UserError(f"The key in {path} is not of the kind Ed25519.", hint="`backupd report key` prints the right one.")  # fmt: skip
    return PublicKey(key)


def public_from_hex(text: object) -> PublicKey | None:
    """The key that a report names; None when it is none."""
    try:
        return PublicKey(Ed25519PublicKey.from_public_bytes(bytes.fromhex(str(text))))
    except ValueError:
        return None


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with suppress(FileExistsError):  # somebody else was first
        private.create(path, pem)


def _unusable(path: Path) -> UserError:
    return UserError(
        f"The key that signs reports cannot be used: {path}.",
        hint="Put it back from a copy. If it is lost, move the file away: a new key is made, and whoever "
        "checks reports needs its public half.",
        reason="report-key",
    )
