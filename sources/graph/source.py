"""The Source that the verbs see: dispatches to the workloads and maps what they raise."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from backupd.cutoff.verdict import Evidence
from backupd.model import Account, Collection, Facts, Gap, Item, Page, Service
from backupd.ports import Failed, Fetched, Finding, Landing
from sources.graph import calendars, contacts, filefacts, messages
from sources.graph.calendars import Calendars
from sources.graph.checks import Checks
from sources.graph.client import Client
from sources.graph.contacts import Contacts
from sources.graph.describe import describe
from sources.graph.directory import Directory
from sources.graph.exchange import Mailbox
from sources.graph.failures import Broken, Refused
from sources.graph.files import Files
from sources.graph.foresight import warnings
from sources.graph.mail import Mail
from sources.graph.probing import Probes

if TYPE_CHECKING:
    from backupd.config import Microsoft365
    from backupd.limits import Pace
    from sources.graph.signin import Prompt


VERSIONS: Mapping[Service, Callable[[Facts], str]] = {
    Service.MAIL: messages.version,
    Service.CALENDAR: calendars.version,
    Service.CONTACTS: contacts.version,
    Service.FILES: filefacts.version,
}


class Workload(Protocol):
    """One service of the tenant; the methods are those of `backupd.ports.Source`."""

    def collections(self, account: Account) -> Sequence[Collection | Gap]:
        """Every collection of the account."""
        ...

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes since `cursor`."""
        ...

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """The bytes of each item."""
        ...

    def locate(self, account: Account, keys: Sequence[str]) -> Mapping[str, str | None]:
        """Where items are now."""
        ...


class GraphSource:
    """A Microsoft 365 tenant, or one person of it. See `backupd.ports.Source`."""

    def __init__(
        self, section: Microsoft365, *, pace: Pace | None = None, prompt: Prompt | None = None
    ) -> None:
        self.name = section.name
        self.recognises: frozenset[Service] = frozenset()
        self._section = section
        self._client = Client(section, pace=pace, prompt=prompt)
        self._mail = Mail(self._client)
        self._workloads: Mapping[Service, Workload] = {
            Service.MAIL: self._mail,
            Service.CALENDAR: Calendars(self._client),
            Service.CONTACTS: Contacts(self._client),
            Service.FILES: Files(self._client),
        }

    def accounts(self) -> Iterator[Account]:
        """People, shared mailboxes, rooms, then sites, as far as the configuration selects them.

        Raises AuthError after the last person when only the sites are refused.
        """
        with door():
            yield from Directory(self._client, self._section).accounts()

    def collections(self, account: Account, service: Service) -> Sequence[Collection | Gap]:
        """Folders, calendars, address books or drives."""
        with door():
            return self._workloads[service].collections(account)

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes since `cursor`."""
        with door():
            yield from self._workloads[collection.service].pages(account, collection, cursor)

    def expect(self, account: Account, wanted: Sequence[tuple[Collection, str]]) -> None:
        """Ask for the changes of mail folders at once. See `backupd.ports.Expecting`."""
        mail = [each for each in wanted if each[0].service is Service.MAIL]
        if mail:
            self._mail.expect(account, mail)

    def keys(self, account: Account, service: Service, ids: Sequence[str]) -> Mapping[str, str]:
        """Immutable ids for what lies in a mailbox; ids of files are stable by themselves."""
        if service is Service.FILES:
            return {each: each for each in ids}
        with door():
            return Mailbox(self._client, account).keys(ids)

    def version(self, service: Service, facts: Facts) -> str:
        """What identifies the content behind `facts`."""
        return VERSIONS[service](facts)

    def describe(self, service: Service, facts: Facts) -> Facts:
        """The facts in the words that all providers share."""
        return describe(service, facts)

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """The bytes of each item."""
        with door():
            workload = self._workloads[collection.service]
            yield from workload.fetch(account, collection, items, landing)

    def locate(
        self, account: Account, service: Service, held: Mapping[str, Item]
    ) -> Mapping[str, str | None]:
        """Where items are now."""
        with door():
            return self._workloads[service].locate(account, list(held))

    def check(self) -> Iterator[Finding]:
        """Network, tenant, clock, sign-in, permissions, and one account per service."""
        with door():
            yield from Checks(self._client, self._section, self).run()

    def probe(self, account: Account | None) -> Iterator[Evidence]:
        """The rungs of the tenant, or of one account. See `backupd.ports.Probing`."""
        probes = Probes(self._client, self._section)
        yield from probes.account(account) if account else probes.tenant()

    def warnings(self, accounts: Sequence[Account]) -> Iterator[Finding]:
        """What announces a cut-off. See `backupd.ports.Probing`."""
        yield from Checks(self._client, self._section, self).missing()
        yield from warnings(self._client, self._section, accounts)

    def close(self) -> None:
        """Release connections and the thread."""
        self._client.close()


@contextlib.contextmanager
def door() -> Iterator[None]:
    """What is raised inside leaves as one of backupd's errors."""
    try:
        yield
    except (Refused, Broken) as failure:
        raise failure.error from failure
