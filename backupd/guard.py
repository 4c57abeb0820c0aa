"""Refuses runs that would remove a large part of an account.

A cut-off account can look exactly like one whose owner deleted everything. Nothing is removed
from the mirror before this module agrees.
"""

from __future__ import annotations

from dataclasses import dataclass

from backupd.errors import GuardTripped
from backupd.model import Account, Service


@dataclass(frozen=True, slots=True)
class Guard:
    """The threshold.

    Attributes:
        share: of an account's items of one service, 0 to 1.
        items: up to this many may vanish whatever their share.
        approved: a person has looked and agreed, for this run.
    """

    share: float = 0.2
    items: int = 50
    approved: bool = False

    def allow(self, account: Account, service: Service, vanished: int, total: int) -> None:
        """Raises GuardTripped when `vanished` of `total` items are more than may go unasked."""
        if self.approved or vanished <= self.items or vanished <= self.share * total:
            return
        raise GuardTripped(
            f"{vanished} of {total} {service} items of {account.address} have vanished at the source. "
            "Nothing was removed from the mirror.",
            hint="Find out who deleted them. If it was meant, run "
            f"`backupd sync {account.address} --approve-removals`; if not, every item is still in "
            "the mirror and in the snapshots.",
            reason="guard",
        )
