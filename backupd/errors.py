"""Every deliberate error, sorted by who must act.

BackupdError
├── UserError        a person must change something; carries a hint
│   ├── ConfigError
│   ├── AuthError
│   ├── GuardTripped
│   └── CutOff
├── TransientError   time is the remedy
│   └── Throttled
├── ItemError        recorded in the retry ledger; the run goes on
│   ├── ItemGone
│   ├── ItemUnreadable
│   └── ItemRefused
├── VaultError       the repository needs attention
│   ├── VaultLocked
│   ├── VaultUnreachable
│   └── VaultIncomplete
└── IntegrityError   bytes differ from what was recorded; never retried away, never skipped

Messages and hints are for people and may change; decisions are made on the class, on
`reason` and on exit codes, never on message text.
"""

from __future__ import annotations


class BackupdError(Exception):
    """Something backupd can name.

    Args:
        message: one sentence: what happened, with the name of the thing it happened to.
        hint: what the reader can do about it.
        reason: a short stable word for reports and the retry ledger.

    Attributes:
        code: the provider's own word for what happened, where there is one.
    """

    exit_code = 1
    code = ""

    def __init__(self, message: str, *, hint: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.reason = reason or type(self).__name__


class UserError(BackupdError):
    """A person must change something."""

    exit_code = 2


class ConfigError(UserError):
    """The configuration, or a file that it names, cannot be used."""


class AuthError(UserError):
    """The source or target does not accept our credentials or permissions.

    `reason` holds the cut-off class of the failure: `credential`, `consent`, `app`, `client`.
    """

    exit_code = 1


class GuardTripped(UserError):
    """Going on would remove `vanished` items, more than the guard allows; nothing was removed."""

    exit_code = 4

    def __init__(
        self, message: str, *, vanished: int = 0, hint: str = "", reason: str = ""
    ) -> None:
        super().__init__(message, hint=hint, reason=reason)
        self.vanished = vanished


class CutOff(UserError):
    """The source refuses the whole account or tenant; `reason` is `account`, `tenant` or `licence`."""

    exit_code = 4


class TransientError(BackupdError):
    """Time is the remedy."""

    exit_code = 75


class Throttled(TransientError):
    """The server asks for a pause of `retry_after` seconds."""

    def __init__(self, message: str, *, retry_after: float, hint: str = "") -> None:
        super().__init__(message, hint=hint, reason="throttled")
        self.retry_after = retry_after


class ItemError(BackupdError):
    """One item cannot be had; recorded, and the run goes on."""

    exit_code = 3


class ItemGone(ItemError):
    """The item vanished between listing and fetching: normal."""


class ItemUnreadable(ItemError):
    """The source cannot hand the item out, or hands out broken bytes."""


class ItemRefused(ItemError):
    """The target does not take the item."""


class VaultError(BackupdError):
    """The repository needs attention.

    Attributes:
        said: what restic complained about, line by line, the last ones; for people, never for decisions.
    """

    said: tuple[str, ...] = ()


class VaultLocked(VaultError):
    """Another restic holds the repository."""

    exit_code = 75


class VaultUnreachable(VaultError):
    """The storage does not answer, or not in time; other storages are not concerned."""

    exit_code = 75


class VaultIncomplete(VaultError):
    """A snapshot was written, but something that should be in it is missing."""


class IntegrityError(BackupdError):
    """Bytes differ from what was recorded."""

    exit_code = 5
