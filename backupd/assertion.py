"""Client assertions: how an application proves to Entra ID that it holds the key of its certificate."""

from __future__ import annotations

import base64
import hashlib
import time
import uuid
from pathlib import Path

from backupd.errors import ConfigError

LIFE = 600
"""Seconds a signed assertion is valid; Entra accepts up to ten minutes."""


def signed(certificate: Path, key: Path, client_id: str, audience: str) -> str:
    """A fresh assertion of the application `client_id` for the token endpoint `audience`.

    Raises ConfigError when certificate or key cannot be read.
    """
    import jwt  # noqa: PLC0415 - cryptography costs 16 MB that a client secret does not need
    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
        Encoding,
        load_pem_private_key,
    )

    try:
        shown = x509.load_pem_x509_certificate(certificate.read_bytes())
        private = load_pem_private_key(key.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"Cannot read {certificate} and {key} as certificate and key.",
            hint="Both must be unencrypted PEM files that the user running backupd may read.",
        ) from error
    thumbprint = hashlib.sha256(shown.public_bytes(Encoding.DER)).digest()
    now = int(time.time())
    return jwt.encode(
        {
            "aud": audience,
            "iss": client_id,
            "sub": client_id,
            "jti": str(uuid.uuid4()),
            "nbf": now,
            "exp": now + LIFE,
        },
        private,  # type: ignore[arg-type]  # any private key; PS256 refuses all but RSA
        algorithm="PS256",
        headers={"x5t#S256": base64.urlsafe_b64encode(thumbprint).rstrip(b"=").decode()},
    )
