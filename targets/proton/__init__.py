"""Proton: mail through Bridge, calendars and contacts as files for its web app, files into its Drive."""

from __future__ import annotations

from targets.proton.imports import calendar, contacts
from targets.proton.mail import ProtonMail as mail  # noqa: N813 - what `targets.KINDS` names

__all__ = ["calendar", "contacts", "mail"]
