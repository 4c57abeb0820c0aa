"""Refuses runs that would remove a large part of an account.

A cut-off account can look exactly like one whose owner deleted everything. Nothing is removed
from the mirror before this module agrees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from backupd.errors import GuardTripped
from backupd.model import Account, Service

EMPTIED = 10
"""A service of more items than this that is empty all of a sudden is asked about, whatever `items` says."""


@dataclass(frozen=True, slots=True)
class Guard:
    """The threshold, and what stands above it.

    Attributes:
        share: of an account's items of one service, 0 to 1.
        items: up to this many may vanish whatever their share, unless nothing is left.
        approved: a person has looked and agreed, for this run.
        agreed: so many items by service may go: a person has looked at exactly these.
        frozen: the account may be cut off: nothing goes that no person agreed to.
    """

    share: float = 0.2
    items: int = 50
    approved: bool = False
    agreed: Mapping[str, int] = field(default_factory=dict)
    frozen: bool = False

    def allow(self, account: Account, service: Service, vanished: int, total: int) -> bool:
        """Whether the `vanished` of `total` items may go now; False for "not while it is frozen".

        Raises GuardTripped when they are more than may go unasked.
        """
        if self.approved or vanished <= self.agreed.get(service, 0):
            return True
        emptied = vanished == total > EMPTIED
        if (vanished <= self.items or vanished <= self.share * total) and not emptied:
            return not self.frozen
        raise GuardTripped(
            f"{vanished} of {total} {service} items of {account.address} have vanished at the source. "
            "Nothing was removed from the mirror.",
            hint="Find out who deleted them. If it was meant, run "
            f"`backupd sync {account.address} --approve-removals`; if not, every item is still in "
            "the mirror and in the snapshots.",
            reason="guard",
            vanished=vanished,
        )
