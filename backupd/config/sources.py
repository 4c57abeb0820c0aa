"""The tables that say where data comes from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    model_validator,
)

from backupd.config.values import (
    AbsolutePath,
    BaseUrl,
    Section,
    credential,
    one_credential,
    read_secret,
)
from backupd.errors import ConfigError
from backupd.model import Service


class Microsoft365(Section):
    """A Microsoft 365 tenant, or one person of it, through Graph."""

    name: str = ""
    type: Literal["microsoft365"]
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")]
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
    auth: Literal["app", "device-code", "browser"] = "app"
    client_secret_file: AbsolutePath | None = None
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    graph_url: BaseUrl = "https://graph.microsoft.com/v1.0"
    login_url: BaseUrl = "https://login.microsoftonline.com"
    services: tuple[Service, ...] = tuple(Service)
    accounts: tuple[str, ...] = ("*",)
    company: Annotated[str, Field(pattern=r"^[A-Za-z0-9 ._-]{1,60}$")] = "self-hosted"
    token_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _credentials(self) -> Microsoft365:
        one_credential(self.certificate_file, self.key_file, self.client_secret_file)
        return self

    @property
    def client_secret(self) -> str | None:
        """The secret itself, read now; None for certificates and people. Raises ConfigError."""
        if self.auth != "app" or self.certificate_file:
            return None
        return _client_secret(self, ' For a single person set auth = "device-code".')


class ImapMailbox(Section):
    """One mailbox of an IMAP server: who logs in, and the secret that only this one has."""

    username: Annotated[str, Field(min_length=1)]
    password_file: AbsolutePath | None = None
    address: str | None = None


def _bare_name(value: Any) -> Any:
    return {"username": value} if isinstance(value, str) else value


class Imap(Section):
    """Mailboxes of an IMAP server; Exchange Online among them, by `auth = "xoauth2"`."""

    name: str = ""
    type: Literal["imap"]
    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9._:-]+$")]
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    security: Literal["tls", "starttls", "plain"] = "tls"
    username: str | None = None
    password_file: AbsolutePath | None = None
    mailboxes: tuple[Annotated[ImapMailbox, BeforeValidator(_bare_name)], ...] = ()
    like: str | None = None
    """The name of another source: the mailboxes are those that are held of it, by their addresses."""
    accounts: tuple[str, ...] = ("*",)
    ca_file: AbsolutePath | None = None
    fingerprint: Annotated[str, Field(pattern=r"^(sha256:)?[0-9A-Fa-f:]{64,95}$")] | None = None
    connections: Annotated[int, Field(ge=1, le=16)] = 1
    auth: Literal["password", "xoauth2"] = "password"
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")] | None = None
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    client_secret_file: AbsolutePath | None = None
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    login_url: BaseUrl = "https://login.microsoftonline.com"
    sign_in: Literal["app", "device-code", "browser"] = "app"
    token_file: AbsolutePath | None = None

    @model_validator(mode="after")
    def _who(self) -> Imap:
        if [bool(self.username), bool(self.mailboxes), bool(self.like)].count(True) != 1:
            raise ValueError(
                "give either username (one mailbox), mailboxes (several) or like (those of another source)"
            )
        names = [each.username.casefold() for each in self.everyone]
        if len(set(names)) != len(names):
            raise ValueError("a user name stands twice in mailboxes")
        return self

    @model_validator(mode="after")
    def _credentials(self) -> Imap:
        if self.auth == "xoauth2" and not (self.tenant_id and self.client_id):
            raise ValueError('auth = "xoauth2" needs tenant_id and client_id')
        if self.like and not (self.auth == "xoauth2" and self.sign_in == "app"):
            raise ValueError('like needs one credential for all: auth = "xoauth2", sign_in = "app"')
        one_credential(self.certificate_file, self.key_file, self.client_secret_file)
        return self

    @property
    def services(self) -> tuple[Service, ...]:
        """What it can hold."""
        return (Service.MAIL,)

    @property
    def everyone(self) -> tuple[ImapMailbox, ...]:
        """The mailboxes, however they were written down; none for `like`."""
        if self.username:
            return (ImapMailbox(username=self.username, password_file=self.password_file),)
        return self.mailboxes

    def password(self, mailbox: ImapMailbox) -> str:
        """The password of a mailbox, read now. Raises ConfigError."""
        named = (
            f"sources.{self.name}.{mailbox.username}.password",
            f"sources.{self.name}.password",
        )
        found = [each for each in map(credential, named) if each]
        where = mailbox.password_file or (found[0] if found else self.password_file)
        if where is None:
            raise ConfigError(
                f"[sources.{self.name}] has no password for {mailbox.username}.",
                hint=f"Set password_file, or pass the systemd credential {named[1]}.",
            )
        return read_secret(where, f"the password of {mailbox.username} in [sources.{self.name}]")

    @property
    def client_secret(self) -> str | None:
        """The secret of the application, read now; None for certificates and people. Raises ConfigError."""
        if self.sign_in != "app" or self.certificate_file:
            return None
        return _client_secret(self)


SourceSection = Annotated[Microsoft365 | Imap, Field(discriminator="type")]
SOURCE_TYPES = ("microsoft365", "imap")


def _client_secret(section: Microsoft365 | Imap, more: str = "") -> str:
    """The secret of an application, from its file or a systemd credential. Raises ConfigError."""
    where = section.client_secret_file or credential(f"sources.{section.name}.client_secret")
    if where is None:
        raise ConfigError(
            f"[sources.{section.name}] has no client secret and no certificate.",
            hint="Set client_secret_file (or certificate_file and key_file), or pass the systemd "
            f"credential sources.{section.name}.client_secret.{more}",
        )
    return read_secret(where, f"the client secret of [sources.{section.name}]")
