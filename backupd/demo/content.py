"""Fills a tenant: who is in it and how much of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.demo.state import TenantState


@dataclass(frozen=True)
class Amount:
    """How much there is: users, messages of each, and bulk messages of the first."""

    people: int
    messages: int
    bulk: int


_PEOPLE = (("amelia", "Amelia Hart"), ("jb", "Jean-Baptiste Lefèvre"), ("sabine", "Sabine Köhler"))


def populate(state: TenantState, amount: Amount) -> None:
    """Write the content that the seed and the amount determine."""
    for alias, name in _PEOPLE[: amount.people]:
        state.add_user(alias, name)
        for number in range(amount.messages):
            state.deliver(alias, "inbox", _letter(alias, number))
        state.put_file(alias, "Cases/2026/notes.txt", b"hello")
        state.put_contact(alias, {"displayName": "Zofia Wi\u015bniewska"})
    state.add_site("Cases", "sites/cases")


def _letter(alias: str, number: int) -> bytes:
    lines = (
        "From: intake@harbourlight.example",
        f"To: {alias}@harbourlight.example",
        f"Subject: Case {number}",
        f"Message-ID: <{alias}.{number}@harbourlight.example>",
        f"Date: Mon, 2 Nov 2026 08:{number % 60:02}:00 +0000",
        "",
        "The file is on the shared drive.",
        "",
    )
    return "\r\n".join(lines).encode()
