"""Where a restic repository lies, as far as its location says: kind of storage, server, port.

Whether anything answers there is asked by a plain connection, before a restic is started that
would try again for a quarter of an hour.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

REMOTE = frozenset({"sftp", "rest", "s3", "rclone", "b2", "azure", "gs", "swift"})
"""The kinds of storage that restic tells by the word before the first colon."""

PORTS = {"https": 443, "http": 80}

SFTP_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]")
SFTP_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9@._+-]*")
"""What ssh is given as words of their own; neither can be taken for an option."""


@dataclass(frozen=True, slots=True)
class Location:
    """A location in its parts.

    Attributes:
        kind: `local`, or the word before the first colon.
        host, port: of the server; "" and 0 where there is none, or where only another program knows.
        user: of an SFTP server.
        path: what is left: a folder, a bucket and a prefix, a remote of rclone.
        scheme: `https` or `http`, where the kind goes over either.
    """

    kind: str
    host: str = ""
    port: int = 0
    user: str = ""
    path: str = ""
    scheme: str = ""

    @property
    def in_clear(self) -> bool:
        """Whether keys and passwords would cross a network unencrypted."""
        return self.scheme == "http" and self.host not in {"127.0.0.1", "localhost", "::1"}


def parse(location: str) -> Location:
    """A restic location in its parts. Raises ValueError for an SFTP address that ssh cannot be given."""
    kind, colon, rest = location.partition(":")
    if not colon or kind not in REMOTE:
        return Location("local", path=location)
    if kind == "sftp":
        return _sftp(rest)
    if kind in {"rest", "s3"}:
        return _web(kind, rest)
    return Location(kind, path=rest)


def why_silent(location: Location, seconds: float) -> str:
    """Why no connection can be made, in a few words; "" when one can, or when it cannot be told."""
    if not location.host or location.kind == "sftp":  # ssh has names and detours of its own
        return ""
    try:
        with socket.create_connection((location.host, location.port), timeout=seconds):
            return ""
    except TimeoutError:
        return f"no answer within {seconds:.0f} s"
    except socket.gaierror:
        return f"the name {location.host} is not known"
    except OSError as error:
        return (error.strerror or "no connection").lower()


def _sftp(rest: str) -> Location:
    """`user@host:path`, or `//user@host:port/path`."""
    if rest.startswith("//"):
        parts = urlsplit(f"sftp:{rest}")
        found = Location(
            "sftp", parts.hostname or "", parts.port or 0, parts.username or "", parts.path[1:]
        )
    else:
        who, _, path = rest.partition(":")
        user, at, host = who.rpartition("@")
        found = Location("sftp", host, 0, user if at else "", path)
    if not (SFTP_HOST.fullmatch(found.host) or ":" in found.host):
        raise ValueError(f"{found.host!r} is no host that ssh can be given")
    if found.user and not SFTP_USER.fullmatch(found.user):
        raise ValueError(f"{found.user!r} is no user name that ssh can be given")
    return found


def _web(kind: str, rest: str) -> Location:
    """`https://host:port/path`, or for S3 also `host/path`."""
    parts = urlsplit(rest if "://" in rest else f"https://{rest}")
    port = parts.port or PORTS.get(parts.scheme, 443)
    return Location(
        kind, parts.hostname or "", port, path=parts.path.lstrip("/"), scheme=parts.scheme
    )
