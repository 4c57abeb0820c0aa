"""Fills a tenant: who is in it and how much of everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.demo import content_mail
from backupd.demo.chance import Chance
from backupd.demo.content_bulk import write_bulk
from backupd.demo.content_contacts import write_contacts
from backupd.demo.content_events import write_calendars
from backupd.demo.content_files import write_drive
from backupd.demo.content_mail import Desk
from backupd.demo.content_odd_mail import write_odd
from backupd.demo.content_people import SHARED, STAFF, Person
from backupd.demo.content_tasks import write_tasks
from backupd.demo.drive import BytesContent

if TYPE_CHECKING:
    from backupd.demo.directory import User
    from backupd.demo.state import TenantState


@dataclass(frozen=True)
class Amount:
    """How much there is.

    Attributes:
        people: users with a name; at most six are written.
        messages: everyday messages of each of them.
        bulk: made messages in the archive of the first.
        extras: the shared mailbox, the room and the site are there too.
        oddities: the first user has one of everything that gives trouble.
    """

    people: int = len(STAFF)
    messages: int = 30
    bulk: int = 0
    extras: bool = True
    oddities: bool = True


def populate(state: TenantState, amount: Amount) -> None:
    """Write the content that the seed and the amount determine."""
    people = [*STAFF[: amount.people], *(SHARED if amount.extras else ())]
    for number, person in enumerate(people):
        user = _add(state, person)
        _fill(
            user, Chance(state.seed, person.alias), amount, thorough=amount.oddities and not number
        )
    if amount.bulk:
        first = state.directory.users[0]
        archive = first.mailbox.folder("archive")
        write_bulk(first.mailbox, archive, first.upn, amount.bulk)
    if amount.extras:
        _write_site(state)


def _add(state: TenantState, person: Person) -> User:
    return state.add_user(
        person.alias,
        person.name,
        language=person.language,
        zone=person.zone,
        purpose=person.purpose,
        enabled=person.enabled,
    )


def _fill(user: User, chance: Chance, amount: Amount, *, thorough: bool) -> None:
    desk = Desk(user, chance)
    content_mail.make_folders(desk)
    content_mail.write_everyday(desk, amount.messages)
    write_calendars(user, thorough=thorough)
    write_contacts(user, thorough=thorough)
    write_tasks(user)
    for drive in user.drives:
        write_drive(drive, thorough=thorough)
    if thorough:
        content_mail.make_hostile_folders(desk)
        content_mail.make_search_folder(desk)
        write_odd(desk)


def _write_site(state: TenantState) -> None:
    site = state.add_site("Casework", "sites/casework", ("Documents", "Court filings"))
    write_drive(site.drives[0], thorough=False)
    site.drives[1].put_file("2026/filing 1.txt", BytesContent(b"Filed.\n"))
