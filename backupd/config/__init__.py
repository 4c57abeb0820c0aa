"""The TOML file as frozen values.

Unknown keys are refused, every problem is listed at once with its line, and secrets are only
ever named by reference: a `*_file`, or a systemd credential of the name `SECTION.KEY`
(`sources.contoso.client_secret`, say) below `$CREDENTIALS_DIRECTORY`.
"""

from __future__ import annotations

from backupd.config.file import Config, find, load, personal_state, search_path
from backupd.config.service import Alerts, Cutoff, Dns, Guard, Limits, Metrics, Schedule
from backupd.config.sources import Imap, ImapMailbox, Microsoft365, SourceSection
from backupd.config.storage import Storage
from backupd.config.targets import Part, TargetSection
from backupd.config.values import (
    LOOPBACK,
    AbsolutePath,
    AccountFilter,
    Duration,
    Section,
    credential,
    read_secret,
    seconds_of,
)

__all__ = [
    "LOOPBACK",
    "AbsolutePath",
    "AccountFilter",
    "Alerts",
    "Config",
    "Cutoff",
    "Dns",
    "Duration",
    "Guard",
    "Imap",
    "ImapMailbox",
    "Limits",
    "Metrics",
    "Microsoft365",
    "Part",
    "Schedule",
    "Section",
    "SourceSection",
    "Storage",
    "TargetSection",
    "credential",
    "find",
    "load",
    "personal_state",
    "read_secret",
    "search_path",
    "seconds_of",
]
