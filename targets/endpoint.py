"""Where and how one service of a target is reached: preset, section and account put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True, repr=False)
class Application:
    """What acts in a Microsoft tenant on behalf of nobody: its credentials, and where it uses them.

    Attributes:
        secret: reads the client secret when a token is asked for; raises ConfigError.
        certificate: with `key` in place of the secret.
    """

    tenant_id: str
    client_id: str
    secret: Callable[[], str]
    certificate: Path | None
    key: Path | None
    graph_url: str
    login_url: str


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One protocol at one place for one account; complete, nothing left to fill in.

    Attributes:
        name: the section's name, for messages.
        account: the address at the target.
        secret: reads the password or the token when a connection is made; raises ConfigError.
        scheduling: how invitations are kept from leaving; see `targets/presets.toml`.
        state: a directory of this restore for what must outlive a run (quarantine, bundles).
        app: who asks, at a target that knows applications instead of passwords.
        quirks: what a preset knows beyond this (`max_bytes`, `internaldate`, `chunked_url`, …).
    """

    name: str
    type: str
    account: str = ""
    host: str = ""
    port: int = 0
    security: str = "tls"
    url: str = ""
    username: str = ""
    secret: Callable[[], str] = lambda: ""
    auth: str = "password"
    ca_file: Path | None = None
    fingerprint: str | None = None
    connections: int = 2
    scheduling: str = "strip"
    keep_attendees: bool = False
    remote: str = ""
    path: Path | None = None
    state: Path = Path()
    app: Application | None = None
    quirks: Mapping[str, object] = field(default_factory=dict)
