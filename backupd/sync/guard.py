"""Refuses runs that would remove a large part of an account.

A cut-off account can look exactly like one whose owner deleted everything. Nothing is removed
from the mirror before this module agrees. Removals within a day count together: who deletes a
little at a time is stopped as well.
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
        window: seconds within which removals count together.
        approved: a person has looked and agreed, for this run.
        agreed: so many items by service may go: a person has looked at exactly these.
        frozen: the account may be cut off: nothing goes that no person agreed to.
    """

    share: float = 0.2
    items: int = 50
    window: float = 86_400.0
    approved: bool = False
    agreed: Mapping[str, int] = field(default_factory=dict)
    frozen: bool = False

    def looked_at(self, service: Service, vanished: int) -> bool:
        """Whether a person has agreed to so many."""
        return self.approved or vanished <= self.agreed.get(service, 0)

    def allow(
        self, account: Account, service: Service, vanished: int, total: int, before: int = 0
    ) -> bool:
        """Whether the `vanished` of `total` items may go now; False for "not while it is frozen".

        Raises GuardTripped when they are more than may go unasked.

        Args:
            before: how many more went within the window, unasked.
        """
        if self.looked_at(service, vanished):
            return True
        gone, once = vanished + before, total + before
        emptied = vanished == total and once > EMPTIED
        if (gone <= self.items or gone <= self.share * once) and not emptied:
            return not self.frozen
        lately = f", after {before} others within {self.window / 3600:.0f} hours" if before else ""
        raise GuardTripped(
            f"{vanished} of {total} {service} items of {account.address} have vanished at the source"
            f"{lately}. Nothing was removed from the mirror.",
            hint="Find out who deleted them. If it was meant, run "
            f"`backupd sync {account.address} --approve-removals`; if not, every item is still in "
            "the mirror and in the snapshots.",
            reason="guard",
            vanished=vanished,
        )
