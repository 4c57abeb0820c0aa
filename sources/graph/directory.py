"""Who owns data in the tenant: people, shared mailboxes, rooms, equipment, and sites."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from backupd.config import AccountFilter
from backupd.model import Account, AccountKind, Service
from sources.graph.addresses import quoted
from sources.graph.batch import LARGEST_BATCH, Part, ask_all
from sources.graph.client import Call, Client, Json
from sources.graph.failures import OURS, Class, Refused, Scope
from sources.graph.fields import flag, mappings
from sources.graph.listing import every, every_at, string

if TYPE_CHECKING:
    from backupd.config import Microsoft365

USER = (
    "id",
    "displayName",
    "mail",
    "userPrincipalName",
    "userType",
    "accountEnabled",
    "assignedPlans",
)
USERS_PER_PAGE = 999
SITE = ("id", "displayName", "name", "webUrl", "isPersonalSite")

MAILBOX_SERVICES = frozenset({Service.MAIL, Service.CALENDAR, Service.CONTACTS})

KINDS = {
    "shared": AccountKind.SHARED,
    "room": AccountKind.ROOM,
    "equipment": AccountKind.EQUIPMENT,
}
"""`mailboxSettings.userPurpose`; `user`, `linked`, `others` and new words are users."""


class Directory:
    """Lists the accounts that the configuration selects."""

    def __init__(self, client: Client, section: Microsoft365) -> None:
        self._client = client
        self._section = section
        self._services = frozenset(section.services)
        self._selection = AccountFilter(section.accounts)

    def accounts(self) -> Iterator[Account]:
        """People first, then sites; for a signed-in person, that person alone.

        Raises Refused: where only the sites are refused, after the last person.
        """
        if self._section.auth != "app":
            me = f"{self._client.base}/me?$select={','.join(USER)}"
            yield self._person(self._client.follow(me, self._call("who we are")))
            return
        for some in _chunks(self._people()):
            yield from self._with_kinds(some)
        if Service.FILES in self._services and self._selection.may_take_sites:
            yield from self._sites()

    def _people(self) -> Iterator[Json]:
        users = self._client.sdk.root.users
        listing = every(
            self._client, users, self._call("the users"), select=list(USER), top=USERS_PER_PAGE
        )
        for each in listing:
            principal = string(each, "userPrincipalName").lower()
            guest = string(each, "userType").lower() == "guest" or "#ext#" in principal
            if not guest and self._selection.takes(_address(each), principal):
                yield each

    def _with_kinds(self, people: Sequence[Json]) -> Iterator[Account]:
        """Disabled or unlicensed users may be shared mailboxes and rooms: those are asked."""
        unclear = [each for each in people if not _plainly_a_person(each)]
        purposes = self._purposes(unclear)
        for each in people:
            purpose = purposes.get(string(each, "id"), "user")
            kind = KINDS.get(purpose, AccountKind.USER)
            services = _services(each, purpose) & self._services
            if services:
                yield self._account(each, kind, services)

    def _purposes(self, people: Sequence[Json]) -> Mapping[str, str]:
        """User id → purpose, "" for one that has no mailbox; a user we may not ask is left out."""
        ids = [string(each, "id") for each in people]
        parts = [Part(f"/users/{quoted(i)}/mailboxSettings?$select=userPurpose") for i in ids]
        call = self._call("what mailboxes are for", Scope.SERVICE)
        replies = self._client.loop.call(ask_all(self._client, parts, call))
        purposes = {}
        for id_, reply in zip(ids, replies, strict=True):
            if reply.refusal is None:
                purposes[id_] = string(reply.body, "userPurpose").lower() or "user"
            elif reply.refusal.meaning(Scope.SERVICE).kind is Class.LICENCE:
                purposes[id_] = ""
        return purposes

    def _person(self, me: Json) -> Account:
        return self._account(me, AccountKind.USER, self._services)

    def _account(self, user: Json, kind: AccountKind, services: Iterable[Service]) -> Account:
        return Account(
            id=string(user, "id"),
            address=_address(user),
            name=string(user, "displayName"),
            kind=kind,
            source=self._section.name,
            services=frozenset(services),
        )

    def _sites(self) -> Iterator[Account]:
        for each in self._all_sites():
            address = site_address(string(each, "webUrl"))
            personal = flag(each, "isPersonalSite") or "-my.sharepoint" in address.split("/")[0]
            if not personal and self._selection.takes(address):
                yield Account(
                    id=string(each, "id"),
                    address=address,
                    name=string(each, "displayName") or string(each, "name"),
                    kind=AccountKind.SITE,
                    source=self._section.name,
                    services=frozenset({Service.FILES}),
                )

    def _all_sites(self) -> Iterator[Json]:
        """`getAllSites`, and where a tenant refuses that, the search that older ones have."""
        sites = self._client.sdk.root.sites
        call = Call(self._client.lanes.drives, Scope.DIRECTORY, "the sites", units=2)
        try:
            yield from every(self._client, sites.get_all_sites, call, select=list(SITE))
        except Refused as refused:
            if refused.kind not in OURS:
                raise
            # The SDK knows only `$search`, which means something else.
            found = f"{self._client.base}/sites?search=*&$select={','.join(SITE)}"
            yield from every_at(self._client, found, call)

    def _call(self, what: str, scope: Scope = Scope.DIRECTORY) -> Call:
        return Call(self._client.lanes.directory, scope, what)


def site_address(web_url: str) -> str:
    """Host and path in lower case: `contoso.sharepoint.com/sites/team`."""
    try:
        where = urlsplit(web_url)
    except ValueError:
        return ""
    return f"{where.netloc}{where.path}".rstrip("/").lower()


def _address(user: Json) -> str:
    return (string(user, "mail") or string(user, "userPrincipalName")).lower()


def _plans(user: Json) -> frozenset[str] | None:
    """Services that the user has or had a plan for; None when the directory does not say."""
    if not isinstance(user.get("assignedPlans"), list):
        return None
    return frozenset(string(each, "service").lower() for each in mappings(user, "assignedPlans"))


def _plainly_a_person(user: Json) -> bool:
    plans = _plans(user)
    return user.get("accountEnabled") is not False and (plans is None or "exchange" in plans)


def _services(user: Json, purpose: str) -> frozenset[Service]:
    """What a user can hold.

    Who ever had a plan keeps the service in the list, so that a licence taken away shows as a
    refusal and not as an account that never had mail. OneDrives are not probed one by one:
    asking for many that do not exist gets the asking address throttled.
    """
    plans = _plans(user)
    mailbox = MAILBOX_SERVICES
    if purpose == "" and plans is not None and "exchange" not in plans:
        mailbox = frozenset()
    drive = plans is None or "sharepoint" in plans
    return mailbox | ({Service.FILES} if drive else frozenset())


def _chunks(people: Iterator[Json]) -> Iterator[Sequence[Json]]:
    while some := tuple(itertools.islice(people, 5 * LARGEST_BATCH)):
        yield some
