"""Calendars and contacts for Proton: as files, within the limits of its web app, and the clicks there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from backupd.model import Service
from targets.bundles import Bundles, Limits
from targets.endpoint import Endpoint

CALENDAR = Limits(
    max_bytes=10_000_000,
    max_items=15_000,
    uid=191,
    title=255,
    description=3_000,
    location=255,
    years=(1970, 2037),
    kinds=frozenset({"VEVENT"}),
)
CONTACTS = Limits(max_bytes=10_000_000, max_items=10_000, name=190)


def calendar(endpoint: Endpoint) -> Bundles:
    """The part of a Proton account that takes events."""
    return Bundles(endpoint, Service.CALENDAR, CALENDAR, calendar_steps)


def contacts(endpoint: Endpoint) -> Bundles:
    """The part of a Proton account that takes contacts."""
    return Bundles(endpoint, Service.CONTACTS, CONTACTS, contacts_steps)


def calendar_steps(files: Sequence[Path]) -> Sequence[str]:
    """Proton's calendar takes one file at a time, into one calendar."""
    return list(_calendar_steps(files))


def _calendar_steps(files: Sequence[Path]) -> Iterator[str]:
    if not files:
        return
    yield "Log in at calendar.proton.me. The import of a file writes to nobody."
    for name in dict.fromkeys(_calendar_of(each) for each in files):
        yield (
            f"Settings (the gear) → All settings → Calendars → Create calendar: create one named “{name}”, unless "
            "it is there already."
        )
    for each in files:
        yield (
            f"Settings → Import and export → Import from file → choose {each} → select the calendar "
            f"“{_calendar_of(each)}” → Import; wait until it says how many events were imported."
        )


def contacts_steps(files: Sequence[Path]) -> Sequence[str]:
    """Proton's address book takes one file at a time."""
    if not files:
        return []
    return [
        "Log in at mail.proton.me and open Contacts (the icon on the right).",
        *(
            f"Contacts → Settings (the gear) → Import contacts → Import from .csv or vCard → choose {each} → "
            "Import; wait until it says how many contacts were imported."
            for each in files
        ),
    ]


def _calendar_of(file: Path) -> str:
    return file.stem.removeprefix("calendar-").rpartition("-")[0].partition("~")[0]
