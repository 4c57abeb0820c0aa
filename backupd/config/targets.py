"""The tables that say where data may be restored into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from backupd.config.values import (
    LOOPBACK,
    AbsolutePath,
    BaseUrl,
    Section,
    one_credential,
)
from backupd.law.sovereignty import Accepted


class Part(Section):
    """How one service of a target is reached; what is left out comes from the preset or the section."""

    type: str | None = None
    host: str | None = None
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    security: Literal["tls", "starttls", "plain"] | None = None
    url: str | None = None
    username: str | None = None
    password_file: AbsolutePath | None = None
    auth: Literal["password", "xoauth2"] | None = None
    ca_file: AbsolutePath | None = None
    fingerprint: Annotated[str, Field(pattern=r"^(sha256:)?[0-9A-Fa-f:]{64,95}$")] | None = None
    connections: Annotated[int, Field(ge=1, le=16)] | None = None
    scheduling: Literal["none", "sabre", "nextcloud", "agent", "cyrus", "strip", "file"] | None = (
        None
    )
    remote: str | None = None
    path: AbsolutePath | None = None

    @field_validator("url")
    @classmethod
    def _encrypted(cls, url: str | None) -> str | None:
        if url is not None and not (url.startswith("https://") or LOOPBACK.match(url)):
            raise ValueError("an address must begin with https:// (http:// only for this machine)")
        return url


class TargetSection(Part):
    """A place to restore into: a protocol, a provider that backupd knows, or one part for each service.

    `values` fill the words in braces of a preset's addresses; `{account}`, `{localpart}` and
    `{domain}` are those of the account that is restored.
    """

    name: str = ""
    type: str
    values: Mapping[str, str] = Field(default_factory=dict)
    keep_attendees: bool = False
    accept_jurisdiction: Accepted = ()
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")] | None = None
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    client_secret_file: AbsolutePath | None = None
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    graph_url: BaseUrl = "https://graph.microsoft.com/v1.0"
    login_url: BaseUrl = "https://login.microsoftonline.com"
    mail: Part | None = None
    calendar: Part | None = None
    contacts: Part | None = None
    files: Part | None = None

    @model_validator(mode="after")
    def _one_credential(self) -> TargetSection:
        one_credential(self.certificate_file, self.key_file, self.client_secret_file)
        return self
