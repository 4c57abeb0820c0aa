"""Who is in the tenant: users, sites, subscriptions and the registered application."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.addressbook import AddressBook
from backupd.demo.agenda import Agenda
from backupd.demo.calls import Json, Refused, not_found
from backupd.demo.changes import Change, ChangeLog, Stream
from backupd.demo.ids import IdSpace, guid_of
from backupd.demo.mailbox import Mailbox
from backupd.demo.moments import EPOCH, now, stamp
from backupd.demo.tasks import TaskBook

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.demo.drive import Drive

USERS: Stream = ("users", 0)
ALL_ROLES = frozenset(
    {
        "Mail.Read",
        "MailboxSettings.Read",
        "Calendars.Read",
        "Contacts.Read",
        "Files.Read.All",
        "Sites.Read.All",
        "Tasks.Read.All",
        "User.Read.All",
        "Organization.Read.All",
    }
)
"""The application permissions of a read-only backup."""


@dataclass(eq=False)
class User:
    """A user object and what it owns. `mailbox_state` and `drive_state` are "" when all is well.

    Attributes:
        purpose: `user`, `shared`, `room` or `equipment`, as mailboxSettings.userPurpose says it.
        mailbox_state: a cut-off scenario that befell the mailbox.
        drive_state: a cut-off scenario that befell the OneDrive.
    """

    uid: int
    id: str
    upn: str
    name: str
    language: str = "en-GB"
    zone: str = "GMT Standard Time"
    purpose: str = "user"
    enabled: bool = True
    licensed: bool = True
    deleted: datetime | None = None
    mailbox_state: str = ""
    drive_state: str = ""
    drives: list[Drive] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ids = IdSpace(self.id)
        self.log = ChangeLog()
        self.mailbox = Mailbox(self.ids, self.log)
        self.agenda = Agenda(self.ids, self.log)
        self.contacts = AddressBook(self.ids, self.log)
        self.tasks = TaskBook(self.ids, self.log)

    def json(self) -> Json:
        """The user object; app-only callers see every property."""
        given, _, family = self.name.partition(" ")
        status = "Enabled" if self.licensed else "Deleted"
        plans = ("exchange", "SharePoint") if self.purpose == "user" else ("exchange",)
        return {
            "id": self.id,
            "businessPhones": [],
            "displayName": self.name,
            "givenName": given,
            "jobTitle": None,
            "mail": self.upn,
            "mobilePhone": None,
            "officeLocation": None,
            "preferredLanguage": self.language,
            "surname": family,
            "userPrincipalName": self.upn,
            "accountEnabled": self.enabled,
            "userType": "Member",
            "createdDateTime": stamp(EPOCH),
            "deletedDateTime": stamp(self.deleted) if self.deleted else None,
            "proxyAddresses": [f"SMTP:{self.upn}"],
            "assignedPlans": [
                {
                    "assignedDateTime": stamp(EPOCH),
                    "capabilityStatus": status,
                    "service": service,
                    "servicePlanId": guid_of("plan", service),
                }
                for service in plans
            ],
        }


@dataclass(eq=False)
class Site:
    """A SharePoint site with its document libraries."""

    id: str
    name: str
    host: str
    path: str
    drives: list[Drive] = field(default_factory=list)

    def json(self) -> Json:
        """The site object."""
        return {
            "id": self.id,
            "name": self.path.rpartition("/")[2],
            "displayName": self.name,
            "webUrl": f"https://{self.host}/{self.path}",
            "createdDateTime": stamp(EPOCH),
            "lastModifiedDateTime": stamp(EPOCH),
            "isPersonalSite": False,
            "siteCollection": {"hostname": self.host},
            "root": {},
        }


@dataclass(eq=False)
class Application:
    """The registered application. `certificates` maps thumbprints to public keys in PEM."""

    id: str
    secret: str
    roles: set[str]
    scopes: frozenset[str] = frozenset()
    certificates: dict[str, bytes] = field(default_factory=dict)
    redirect_prefix: str = "http://localhost"


class Directory:
    """Users and sites by all the names they go by."""

    def __init__(self) -> None:
        self.users: list[User] = []
        self.sites: list[Site] = []
        self.log = ChangeLog()

    def add(self, user: User) -> User:
        """Add a user."""
        self.users.append(user)
        self.log.note(USERS, Change(user.uid))
        return user

    def living(self) -> list[User]:
        """Users that are not deleted."""
        return [user for user in self.users if user.deleted is None]

    def find(self, name: str) -> User:
        """A user, deleted or not, by id or address; raises KeyError."""
        wanted = name.casefold()
        for user in self.users:
            if wanted in {user.id, user.upn.casefold()}:
                return user
        raise KeyError(name)

    def user(self, name: str) -> User:
        """A user that is not deleted; refuses as Graph does."""
        try:
            user = self.find(name)
        except KeyError:
            user = None
        if user is None or user.deleted is not None:
            message = f"Resource '{name}' does not exist or one of its queried reference-property objects are not present."
            raise not_found("Request_ResourceNotFound", message)
        return user

    def update(self, user: User, **changes: object) -> None:
        """Change properties of a user object."""
        for key, value in changes.items():
            setattr(user, key, value)
        gone = user.deleted is not None
        self.log.note(USERS, Change(user.uid, gone=gone, reason="changed"))

    def delete(self, user: User) -> None:
        """Move a user to the directory's recycle bin."""
        self.update(user, deleted=now())

    def site(self, name: str) -> Site:
        """A site by its full id, its host or its collection's id; refuses as SharePoint does."""
        for site in self.sites:
            if name in {site.id, site.id.split(",")[1], f"{site.host}:/{site.path}"}:
                return site
        if name in {"root", self.sites[0].host}:
            return self.sites[0]
        raise Refused(HTTPStatus.NOT_FOUND, "itemNotFound", "Requested site could not be found")

    def drives(self) -> list[Drive]:
        """Every drive of every user and site."""
        owners: list[User | Site] = [*self.users, *self.sites]
        return [drive for owner in owners for drive in owner.drives]

    def drive(self, name: str) -> Drive:
        """A drive by id; refuses as OneDrive does."""
        for drive in self.drives():
            if drive.id == name:
                return drive
        raise not_found("itemNotFound", "The resource could not be found.")

    def drive_owner(self, drive: Drive) -> User | Site:
        """Who owns a drive."""
        owners: list[User | Site] = [*self.users, *self.sites]
        return next(owner for owner in owners if drive in owner.drives)
