"""The tables that say how backupd works: limits, schedule, guard, alerts, metrics."""

from __future__ import annotations

import re
import time
from typing import Annotated, Literal

from pydantic import (
    Field,
    field_validator,
)

from backupd.config.values import (
    LOOPBACK,
    AbsolutePath,
    Duration,
    Section,
    Share,
    Span,
    credential,
    read_secret,
)
from backupd.cutoff.mx import place


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
    forget: Duration = 86400.0
    """Snapshots that [retention] does not keep are forgotten."""
    prune: Duration = 7 * 86400.0
    """What no snapshot needs any more is removed from the vaults."""
    verify: Duration = 86400.0
    """Levels 1 to 3 of every account, and a signed report of all."""
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

    def quiet_now(self) -> bool:
        """Whether it is quiet by this machine's clock."""
        clock = time.localtime()
        return self.is_quiet(clock.tm_hour * 60 + clock.tm_min)

    def is_quiet(self, minute: int) -> bool:
        """Whether a minute of the day lies in the quiet hours."""
        if not self.quiet_hours:
            return False
        start, end = (int(t[:2]) * 60 + int(t[3:]) for t in self.quiet_hours.split("-"))
        return start <= minute < end if start <= end else minute >= start or minute < end


class Verify(Section):
    """How much a verification looks at."""

    read_all: Duration = 30 * 86400.0
    """Within this time every byte of every mirror and vault is read once; each run reads its share."""
    source: Span = 7 * 86400.0
    """How often the service compares an account with its live source (level 4); 0 is never."""
    drill: Span = 30 * 86400.0
    """How often the service restores an account into a scratch folder (level 5); 0 is never."""


class Guard(Section):
    """When a sync stops and asks instead of removing."""

    share: Share = 0.2
    """Share of an account's items of one service that may vanish in one sync."""
    items: Annotated[int, Field(ge=0)] = 50
    """Fewer vanished items than this never trip the guard."""
    window: Duration = 86400.0
    """Removals within this time count together."""


class Cutoff(Section):
    """When what may be innocent is suspected to be a cut-off, and what follows by itself."""

    evacuate: Literal["never", "suspected", "degraded"] = "never"
    """From which state of an account or source on `backupd run` evacuates that source."""
    consent: Duration = 7200.0
    """How long a withdrawn permission may last before it is suspected."""
    blocked: Duration = 86400.0
    """How long one service may fail while everything else answers before it is suspected."""


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


class Dns(Section):
    """Whom to ask where the mail of a domain goes."""

    servers: tuple[str, ...] = ()
    """`ADDRESS` or `ADDRESS:PORT`; those of this machine when there is none."""

    @field_validator("servers")
    @classmethod
    def _addresses(cls, servers: tuple[str, ...]) -> tuple[str, ...]:
        for each in servers:
            try:
                place(each)
            except ValueError:
                raise ValueError(f"{each!r} is no IP address (with or without a port)") from None
        return servers


class Metrics(Section):
    """Figures for Prometheus; none anywhere unless asked for."""

    textfile: AbsolutePath | None = None
    """For the node exporter's textfile collector; replaced as a whole."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """On loopback; 0 is none."""
