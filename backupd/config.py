"""The TOML file as frozen values.

Unknown keys are refused, every problem is listed at once with its line, and secrets are only
ever named by reference: a `*_file`, or a systemd credential of the name `SECTION.KEY`
(`sources.contoso.client_secret`, say) below `$CREDENTIALS_DIRECTORY`.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from backupd.errors import ConfigError
from backupd.model import Service

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")


LOOPBACK = re.compile(r"http://(127\.0\.0\.1|localhost|\[::1\])(:\d+)?(/|$)")
"""Addresses that never leave this machine, for which http:// is good enough."""

Share = Annotated[float, Field(gt=0, le=1)]
AbsolutePath = Annotated[Path, AfterValidator(lambda path: path.expanduser())]

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def seconds_of(value: Any) -> Any:
    """The seconds of "90s", "5m", "1h30m" or "1d"; numbers stay as they are. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"(\d+(\.\d+)?[smhdw])+", value.strip()):
        raise ValueError('a duration is a number and s, m, h, d or w, such as "5m" or "1h30m"')
    parts: list[tuple[str, str]] = re.findall(r"([\d.]+)([smhdw])", value)
    return sum(float(number) * UNITS[unit] for number, unit in parts)


Duration = Annotated[float, BeforeValidator(seconds_of), Field(gt=0, allow_inf_nan=False)]
"""A length of time, written like "5m" and read as seconds."""


@dataclass(frozen=True, slots=True)
class AccountFilter:
    """The `accounts` patterns: globs, `!` excludes; any exclude wins over any include."""

    patterns: tuple[str, ...]

    def takes(self, *names: str) -> bool:
        """Whether an account that goes by `names` is wanted."""
        wanted = [each.lower() for each in self.patterns if not each.startswith("!")] or ["*"]
        refused = [each[1:].lower() for each in self.patterns if each.startswith("!")]
        return _any(wanted, names) and not _any(refused, names)

    @property
    def may_take_sites(self) -> bool:
        """Whether a site, which has no @ in its address, can be wanted at all."""
        wanted = [each for each in self.patterns if not each.startswith("!")] or ["*"]
        return any("@" not in each for each in wanted) and "!*/*" not in self.patterns


def _any(patterns: Iterable[str], names: Iterable[str]) -> bool:
    lowered = [name.lower() for name in names]
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns for name in lowered)


class Section(BaseModel):
    """A table of the file: frozen, and every key known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Section):
    """How much of the machine and of the provider backupd may use."""

    workers: Annotated[int, Field(ge=1, le=64)] = 4
    """Accounts synced at the same time."""


class Schedule(Section):
    """How often `backupd run` does what."""

    sync: Duration = 300.0
    """Everything of every account."""
    fast: Duration = 60.0
    """Only what cannot be had again: inbox, sent items, the main calendar."""
    snapshot: Duration = 3600.0
    """A snapshot of every account that changed."""
    jitter: Share = 0.1
    """Share of an interval by which a run may come early or late, so that accounts spread out."""
    quiet_hours: str = ""
    """ "22:00-06:00", by this machine's clock: only the fast lane runs in it."""

    @field_validator("quiet_hours")
    @classmethod
    def _two_times(cls, text: str) -> str:
        if text and not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d", text):
            raise ValueError('quiet hours are two times of day, such as "22:00-06:00"')
        return text

    def is_quiet(self, minute: int) -> bool:
        """Whether a minute of the day lies in the quiet hours."""
        if not self.quiet_hours:
            return False
        start, end = (int(t[:2]) * 60 + int(t[3:]) for t in self.quiet_hours.split("-"))
        return start <= minute < end if start <= end else minute >= start or minute < end


class Guard(Section):
    """When a sync stops and asks instead of removing."""

    share: Share = 0.2
    """Share of an account's items of one service that may vanish in one sync."""
    items: Annotated[int, Field(ge=0)] = 50
    """Fewer vanished items than this never trip the guard."""


class Alerts(Section):
    """Whom to tell what went wrong, and when. Addresses of channels hold secrets and are never shown."""

    urls: Annotated[tuple[str, ...], Field(repr=False)] = ()
    """Apprise URLs: each is one channel."""
    urls_file: AbsolutePath | None = None
    ping_url: Annotated[str, Field(repr=False)] = ""
    """Asked for after every good cycle; its `/fail` after a bad one."""
    stale: Duration = 86400.0
    """The age from which on the newest copy of an account is a reason to tell somebody."""
    repeat: Duration = 21600.0
    """The same matter is told again only after this."""
    failures: Annotated[int, Field(ge=1)] = 3
    """Runs in a row that must fail before somebody is told."""

    @field_validator("ping_url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        if url and not (url.startswith("https://") or LOOPBACK.match(url)):
            raise ValueError("an address must begin with https:// (http:// only for this machine)")
        return url.rstrip("/")

    def channels(self) -> tuple[str, ...]:
        """The URLs of all channels, secrets included, read now. Raises ConfigError."""
        where = self.urls_file or credential("alerts.urls")
        text = read_secret(where, "the channels of [alerts]") if where else ""
        lines = (line.strip() for line in text.splitlines())
        found = (*self.urls, *(line for line in lines if line and not line.startswith("#")))
        return tuple(dict.fromkeys(found))


class Metrics(Section):
    """Figures for Prometheus; none anywhere unless asked for."""

    textfile: AbsolutePath | None = None
    """For the node exporter's textfile collector; replaced as a whole."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """On loopback; 0 is none."""


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
    graph_url: str = "https://graph.microsoft.com/v1.0"
    login_url: str = "https://login.microsoftonline.com"
    services: tuple[Service, ...] = tuple(Service)
    accounts: tuple[str, ...] = ("*",)
    company: Annotated[str, Field(pattern=r"^[A-Za-z0-9 ._-]{1,60}$")] = "self-hosted"
    token_file: AbsolutePath | None = None

    @field_validator("graph_url", "login_url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        if not (url.startswith("https://") or LOOPBACK.match(url)):
            raise ValueError("an address must begin with https:// (http:// only for this machine)")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _credentials(self) -> Microsoft365:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.certificate_file and self.client_secret_file:
            raise ValueError("give either client_secret_file or certificate_file, not both")
        return self

    @property
    def client_secret(self) -> str | None:
        """The secret itself, read now; None for certificates and people. Raises ConfigError."""
        if self.auth != "app" or self.certificate_file:
            return None
        where = self.client_secret_file or credential(f"sources.{self.name}.client_secret")
        if where is None:
            raise ConfigError(
                f"[sources.{self.name}] has no client secret and no certificate.",
                hint="Set client_secret_file (or certificate_file and key_file), or pass the systemd "
                f"credential sources.{self.name}.client_secret. For a single person set "
                'auth = "device-code".',
            )
        return read_secret(where, f"the client secret of [sources.{self.name}]")


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
    accounts: tuple[str, ...] = ("*",)
    ca_file: AbsolutePath | None = None
    fingerprint: Annotated[str, Field(pattern=r"^(sha256:)?[0-9A-Fa-f:]{64,95}$")] | None = None
    connections: Annotated[int, Field(ge=1, le=16)] = 2
    auth: Literal["password", "xoauth2"] = "password"
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")] | None = None
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    client_secret_file: AbsolutePath | None = None
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    login_url: str = "https://login.microsoftonline.com"
    sign_in: Literal["app", "device-code", "browser"] = "app"
    token_file: AbsolutePath | None = None

    @field_validator("login_url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        if not (url.startswith("https://") or LOOPBACK.match(url)):
            raise ValueError("an address must begin with https:// (http:// only for this machine)")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _who(self) -> Imap:
        if bool(self.username) == bool(self.mailboxes):
            raise ValueError("give either username (one mailbox) or mailboxes (several)")
        names = [each.username.casefold() for each in self.everyone]
        if len(set(names)) != len(names):
            raise ValueError("a user name stands twice in mailboxes")
        return self

    @model_validator(mode="after")
    def _credentials(self) -> Imap:
        if self.auth == "xoauth2" and not (self.tenant_id and self.client_id):
            raise ValueError('auth = "xoauth2" needs tenant_id and client_id')
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.certificate_file and self.client_secret_file:
            raise ValueError("give either client_secret_file or certificate_file, not both")
        return self

    @property
    def services(self) -> tuple[Service, ...]:
        """What it can hold."""
        return (Service.MAIL,)

    @property
    def everyone(self) -> tuple[ImapMailbox, ...]:
        """The mailboxes, however they were written down."""
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
        where = self.client_secret_file or credential(f"sources.{self.name}.client_secret")
        if where is None:
            raise ConfigError(
                f"[sources.{self.name}] has no client secret and no certificate.",
                hint="Set client_secret_file (or certificate_file and key_file), or pass the systemd "
                f"credential sources.{self.name}.client_secret.",
            )
        return read_secret(where, f"the client secret of [sources.{self.name}]")


SourceSection = Annotated[Microsoft365 | Imap, Field(discriminator="type")]
SOURCE_TYPES = ("microsoft365", "imap")


class Storage(Section):
    """A place where vaults live: any restic location."""

    name: str = ""
    repository: Annotated[str, Field(min_length=1)]
    password_file: AbsolutePath | None = None
    password_command: str | None = None
    environment_file: AbsolutePath | None = None
    shared: bool = False
    compression: Literal["auto", "off", "fastest", "better", "max"] = "auto"

    @model_validator(mode="after")
    def _one_password(self) -> Storage:
        if self.password_file and self.password_command:
            raise ValueError("give either password_file or password_command, not both")
        return self

    def password_source(self) -> Path | str:
        """The file (Path) or command (str) that yields the password. Raises ConfigError."""
        if self.password_command:
            return self.password_command
        where = self.password_file or credential(f"storage.{self.name}.password")
        if where is None:
            raise ConfigError(
                f"[storage.{self.name}] has no password.",
                hint="Set password_file or password_command, or pass the systemd credential "
                f"storage.{self.name}.password. Without that password nobody can read the vault.",
            )
        read_secret(where, f"the password of [storage.{self.name}]")
        return where

    def environment(self) -> dict[str, str]:
        """The KEY=VALUE lines of `environment_file`. Raises ConfigError with the line at fault."""
        if self.environment_file is None:
            return {}
        text = read_secret(self.environment_file, f"the environment of [storage.{self.name}]")
        pairs = {}
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            key, equals, value = line.strip().removeprefix("export ").partition("=")
            if not equals or not key.isidentifier():
                raise ConfigError(
                    f"{self.environment_file}, line {number}: not KEY=VALUE.",
                    hint="One variable a line, for example AWS_ACCESS_KEY_ID=…",
                )
            pairs[key] = value.strip().strip("\"'")
        return pairs


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
    tenant_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]+$")] | None = None
    client_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")] | None = None
    client_secret_file: AbsolutePath | None = None
    certificate_file: AbsolutePath | None = None
    key_file: AbsolutePath | None = None
    graph_url: str = "https://graph.microsoft.com/v1.0"
    login_url: str = "https://login.microsoftonline.com"
    mail: Part | None = None
    calendar: Part | None = None
    contacts: Part | None = None
    files: Part | None = None

    @field_validator("graph_url", "login_url")
    @classmethod
    def _encrypted_too(cls, url: str) -> str:
        if not (url.startswith("https://") or LOOPBACK.match(url)):
            raise ValueError("an address must begin with https:// (http:// only for this machine)")
        return url.rstrip("/")

    @model_validator(mode="after")
    def _one_credential(self) -> TargetSection:
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together")
        if self.certificate_file and self.client_secret_file:
            raise ValueError("give either client_secret_file or certificate_file, not both")
        return self


class Config(Section):
    """The whole file."""

    state_dir: AbsolutePath = Path("/var/lib/backupd")
    restic: str = "restic"
    limits: Limits = Limits()
    schedule: Schedule = Schedule()
    guard: Guard = Guard()
    alerts: Alerts = Alerts()
    metrics: Metrics = Metrics()
    sources: Mapping[str, SourceSection] = Field(default_factory=dict)
    storage: Mapping[str, Storage] = Field(default_factory=dict)
    targets: Mapping[str, TargetSection] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _named(cls, raw: Any) -> Any:
        """Sections carry their own name, so that messages can say which one is meant."""
        if isinstance(raw, dict):
            for kind in ("sources", "storage", "targets"):
                for name, section in (raw.get(kind) or {}).items():
                    if isinstance(section, dict):
                        section["name"] = name
        return raw

    @field_validator("sources", "storage", "targets")
    @classmethod
    def _safe_names(cls, sections: Mapping[str, Any]) -> Mapping[str, Any]:
        bad = [name for name in sections if not NAME.fullmatch(name)]
        if bad:
            raise ValueError(
                f"{', '.join(map(repr, bad))}: a section name has up to 40 small letters, digits, - and _"
            )
        return sections

    @model_validator(mode="after")
    def _token_files(self) -> Config:
        """Tokens of people lie in the state directory unless told otherwise."""
        for name, section in self.sources.items():
            if section.token_file is None:
                token_file = self.state_dir / "tokens" / f"{name}.json"
                object.__setattr__(section, "token_file", token_file)
        return self


def credential(name: str) -> Path | None:
    """A systemd credential of this unit, if it was passed one by that name."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    path = Path(folder) / name if folder else None
    return path if path and path.exists() else None


def read_secret(path: Path, what: str) -> str:
    """The text of a secret file without its trailing line break. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(
            f"Cannot read {what} from {path}: {why}.",
            hint="Check the path in the configuration and that the user running backupd may read it.",
        ) from error
    if not text:
        raise ConfigError(
            f"{path} is empty: it should hold {what}.", hint="Write the secret into it."
        )
    return text


def search_path() -> tuple[Path, ...]:
    """Where a configuration is looked for when none is named, in this order."""
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    named = os.environ.get("BACKUPD_CONFIG")
    if named:
        return (Path(named),)
    return (Path("/etc/backupd/config.toml"), home / "backupd" / "config.toml")


def personal_state() -> Path:
    """Where state lies when there is no configuration to say so."""
    home = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return home / "backupd"


def find(path: Path | None) -> Path:
    """The configuration file to use. Raises ConfigError when there is none."""
    candidates = (path,) if path else search_path()
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise ConfigError(
        f"No configuration found (looked for {', '.join(map(str, candidates))}).",
        hint="Run `backupd init` to write one, or name it with --config PATH.",
    )


def load(path: Path) -> Config:
    """Read and check a configuration. Raises ConfigError listing every problem with its line."""
    try:
        text = path.read_text(encoding="utf-8")
        raw = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"Cannot read {path}: {why}.", hint="Check the path and its owner."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}.", hint="See config.example.toml."
        ) from error
    try:
        return Config.model_validate(raw)
    except ValidationError as error:
        problems = [_problem(text, path, each) for each in error.errors()]
        plural = "problem" if len(problems) == 1 else "problems"
        raise ConfigError(
            "\n  ".join([f"{len(problems)} {plural} in {path}:", *problems]),
            hint="config.example.toml explains every option; nothing was changed or started.",
        ) from error


def _problem(text: str, path: Path, error: Any) -> str:
    """One validation error as `file:line: [section] key: what is wrong`."""
    place = [str(part) for part in error["loc"]]
    if place[:1] == ["sources"] and place[2:3] and place[2] in SOURCE_TYPES:
        del place[2]  # pydantic names the kind of section it checked against
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "unknown key"
    elif error["type"] == "missing":
        message = "is required"
    elif error["type"].startswith("union_tag"):
        message = f"type must be one of {', '.join(SOURCE_TYPES)}"
    line = _line_of(text, place)
    return f"{path.name}:{line}: {'.'.join(place) or 'file'}: {message}"


def _line_of(text: str, place: list[str]) -> int:
    """The line a dotted place stands on, or that of its table, or 1."""
    table: list[str] = []
    best, depth = 1, 0
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]+?)\s*\]+", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            here = table
        elif key := re.match(r"\s*([A-Za-z0-9_\"'.-]+?)\s*=", line):
            here = [*table, *(part.strip("\"'") for part in key[1].split("."))]
        else:
            continue
        common = len(here) if here == place[: len(here)] else 0
        if common > depth:
            best, depth = number, common
    return best
