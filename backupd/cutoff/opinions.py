"""Who else can be asked when a source refuses us: the name servers, and another way into the same mailbox.

Neither makes a verdict. What they say is kept as evidence, and a mailbox that another way still
opens is not called cut off before that way is shut as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from backupd.alerts.channels import depends_on_microsoft, mail_domains
from backupd.cutoff.mx import Route, Routes, domain_of
from backupd.cutoff.verdict import Cause, Evidence
from backupd.errors import BackupdError
from backupd.home import Home, homes
from backupd.model import Account
from backupd.ports import Finding, Probing, Source

SECOND = "second"
"""The rung of another source that holds the same address."""
NEW = 86_400.0
"""Seconds for which mail that goes elsewhere is worth a warning; after that it is how things are."""
RECENT = 30 * NEW
"""Seconds for which it is worth a word beside a refusal."""
DOMAINS = 20
"""Domains of one source that are told of beside a refusal of all of it."""


@dataclass(frozen=True)
class Opinions:
    """Asks them. Nothing here raises a BackupdError.

    Attributes:
        connect: opens a source by the name of its section.
        sources: the names of the sections there are.
        routes: where the mail of domains goes.
    """

    state_dir: Path
    connect: Callable[[str], AbstractContextManager[Source]]
    sources: tuple[str, ...]
    routes: Routes

    def of_names(self, domains: Iterable[str], now: float) -> list[Evidence]:
        """What the name servers say of domains; nothing of names that exist nowhere."""
        found = self.routes.look(sorted(set(domains))[:DOMAINS])
        return [said_of(route, now) for route in found if route.asked or not route.reserved]

    def of_others(self, account: Account) -> list[Evidence]:
        """What every other source says that holds a mailbox of this address."""
        answers: list[Evidence] = []
        for home in self._also(account):
            twin = home.account()
            if twin:
                answers += self._of_other(twin)
        return answers

    def of_channels(self, urls: Sequence[str], *, ask: bool = False) -> list[Finding]:
        """Whether people are told over channels that outlive Microsoft.

        Args:
            ask: name servers are asked where mail goes; else only what was learnt before counts.
        """
        if ask:
            self.routes.look(mail_domains(urls))
        return depends_on_microsoft(
            urls, self.domains(), lambda name: self.routes.known(name).hosts
        )

    def domains(self, source: str = "") -> frozenset[str]:
        """The mail domains of the accounts that are held of a source, or of any."""
        held = homes(self.state_dir)
        chosen = (home for home in held if source in {"", home.folder.parent.name})
        return frozenset(domain_of(home.address) for home in chosen) - {""}

    def warnings(self, domains: Iterable[str], now: float) -> Iterator[Finding]:
        """Domains that are gone, and whose mail has gone elsewhere since a day."""
        for route in self.routes.look(domains):
            if route.lost:
                yield Finding(
                    "error",
                    f"domain {route.domain}",
                    f"no name server knows it any more, since {_moment(route.since)}; no mail reaches it",
                    "Look at it at your registrar: it may have expired, or been taken away.",
                )
            elif route.moved and now - route.since < NEW:
                yield Finding(
                    "warning",
                    f"domain {route.domain}",
                    f"its mail goes to {_hosts(route.hosts)} since {_moment(route.since)}, "
                    f"before that to {_hosts(route.before or ())}",
                    "If nobody here changed the MX records, somebody else did: look at your name servers.",
                )

    def _also(self, account: Account) -> Iterator[Home]:
        for home in homes(self.state_dir):
            name = home.folder.parent.name
            if home.address == account.address and name != account.source and name in self.sources:
                yield home

    def _of_other(self, twin: Account) -> Iterable[Evidence]:
        try:
            with self.connect(twin.source) as source:
                if not isinstance(source, Probing):
                    return []
                return [
                    replace(each, rung=SECOND, said=f"[{twin.source}] {each.said}")
                    for each in source.probe(twin)
                ]
        except BackupdError:
            return []  # its own sync says so to a person


def opens(answers: Iterable[Evidence]) -> str:
    """`good` when another way in was asked and all of it opens, `refused` when not; "" when there is none."""
    causes = {each.cause for each in answers}
    if not causes:
        return ""
    return "good" if causes == {Cause.NONE} else "refused"


def said_of(route: Route, now: float) -> Evidence:
    """What name servers say, as an answer on the ladder; never a grave one."""
    domain = route.domain
    if route.exists is None or route.silent:
        said = f"No name server answered where the mail of {domain} goes ({route.silent})."
        return Evidence(now, "mx", Cause.TRANSIENT, "silent", said)
    if not route.exists:
        return Evidence(
            now,
            "mx",
            Cause.DOMAIN,
            "nxdomain",
            f"No name server knows {domain}: it does not exist.",
        )
    said = f"The mail of {domain} goes to {_hosts(route.hosts)}"
    if route.moved and now - route.since < RECENT:
        said += f" since {_moment(route.since)}, before that to {_hosts(route.before or ())}."
        return Evidence(now, "mx", Cause.DOMAIN, "moved", said)
    return Evidence(now, "mx", Cause.NONE, "", f"{said}.")


def _hosts(hosts: Iterable[str]) -> str:
    return ", ".join(hosts) or "nobody"


def _moment(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"
