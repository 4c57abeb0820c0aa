"""Which part of Microsoft 365 answers a route, what permission it asks for, and how it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from backupd.demo.calls import Refused


@dataclass(frozen=True)
class Workload:
    """One workload.

    Attributes:
        permissions: prefixes of permission names, any of which will do.
        code: the error code of a refusal for want of permission.
        outlook: requests count against the limits of a mailbox.
        files: requests count against the resource units of SharePoint.
    """

    name: str
    permissions: tuple[str, ...]
    code: str = "ErrorAccessDenied"
    outlook: bool = False
    files: bool = False

    def denied(self) -> Refused:
        """The refusal for want of permission."""
        message = {
            "ErrorAccessDenied": "Access is denied. Check credentials and try again.",
            "accessDenied": "Access denied",
        }.get(self.code, "Insufficient privileges to complete the operation.")
        return Refused(HTTPStatus.FORBIDDEN, self.code, message)


_DIRECTORY = Workload("directory", ("User.Read", "Directory.Read"), "Authorization_RequestDenied")
_ORGANIZATION = Workload(
    "organization", ("Organization.Read", "Directory.Read"), "Authorization_RequestDenied"
)
_MAIL = Workload("mail", ("Mail.Read",), outlook=True)
_SETTINGS = Workload("settings", ("MailboxSettings.Read",), outlook=True)
_CALENDAR = Workload("calendar", ("Calendars.Read",), outlook=True)
_CONTACTS = Workload("contacts", ("Contacts.Read",), outlook=True)
_TASKS = Workload("tasks", ("Tasks.Read",), outlook=True)
_FILES = Workload("files", ("Files.Read", "Sites.Read"), "accessDenied", files=True)
_SITES = Workload("sites", ("Sites.Read",), "accessDenied", files=True)
_NONE = Workload("none", ("",))

_BY_STEP = {
    "mailfolders": _MAIL,
    "messages": _MAIL,
    "translateexchangeids": _MAIL,
    "mailboxsettings": _SETTINGS,
    "calendar": _CALENDAR,
    "calendars": _CALENDAR,
    "calendargroups": _CALENDAR,
    "calendarview": _CALENDAR,
    "events": _CALENDAR,
    "contactfolders": _CONTACTS,
    "contacts": _CONTACTS,
    "todo": _TASKS,
    "drive": _FILES,
    "drives": _FILES,
}
_BY_ROOT = {
    "drives": _FILES,
    "sites": _SITES,
    "organization": _ORGANIZATION,
    "subscribedskus": _ORGANIZATION,
    "$batch": _NONE,
}


def workload(route: str) -> Workload:
    """The workload of a route template."""
    steps = [step.lower() for step in route.split("/")]
    if steps[0] == "users" and len(steps) > len(("users", "{user}")):
        return _BY_STEP.get(steps[2], _DIRECTORY)
    return _BY_ROOT.get(steps[0], _DIRECTORY)
