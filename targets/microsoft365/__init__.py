"""Microsoft 365, the same tenant or another one: mail by IMAP, everything else by Graph."""

from __future__ import annotations

from targets.microsoft365.calendar import Calendars as calendar  # noqa: N813
from targets.microsoft365.contacts import Contacts as contacts  # noqa: N813
from targets.microsoft365.files import Files as files  # noqa: N813 - what `targets.KINDS` names
from targets.microsoft365.mail import Mail as mail  # noqa: N813

__all__ = ["calendar", "contacts", "files", "mail"]
