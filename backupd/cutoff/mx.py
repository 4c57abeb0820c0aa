"""Where the mail of a domain goes: a question that is not Microsoft's to answer.

The name servers of the domain are asked for its mail hosts (MX), and what they said is kept in
`<state_dir>/domains.json`, so that a domain that is gone, or whose mail goes elsewhere all of a
sudden, is told from one that was always so. Names are evidence and early warning; they never make a
verdict, and a question that nobody answers says nothing at all.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dns.resolver import Resolver

ONE, ALL = 3.0, 8.0
"""Seconds that one question may take, and all questions of one look together."""
FRESH = 900.0
"""Seconds for which an answer, or that there was none, is not asked for again."""
KEPT = 60 * 86_400.0
"""Seconds for which it is remembered what a domain was last seen as."""
HOSTS = 20
"""Mail hosts kept of a domain; nobody has more, and an answer may be hostile."""
PORT = 53

RESERVED = frozenset({"example", "invalid", "local", "localhost", "onion", "test"})
"""Top-level names that no public name server knows (RFC 2606, 6761, 6762, 7686): not worth a question."""
NOWHERE = "nobody knows such names"


@dataclass(frozen=True, slots=True)
class Route:
    """What is known of a domain.

    Attributes:
        exists: whether its name servers know it; None when nobody ever answered.
        hosts: who takes its mail, the preferred one first; nobody when it takes none.
        asked: when the last answer came, in seconds since 1970, or 0.
        since: when it was first seen as it is now.
        before: who took its mail before that; None when it was never seen otherwise.
        silent: why the latest question got no answer, or "".
    """

    domain: str
    exists: bool | None = None
    hosts: tuple[str, ...] = ()
    asked: float = 0.0
    since: float = 0.0
    before: tuple[str, ...] | None = None
    silent: str = ""

    @property
    def reserved(self) -> bool:
        """Whether nobody was asked, since such names exist nowhere."""
        return self.silent == NOWHERE

    @property
    def lost(self) -> bool:
        """Whether a domain that existed is gone."""
        return self.exists is False and self.before is not None

    @property
    def moved(self) -> bool:
        """Whether its mail once went elsewhere."""
        return self.exists is True and self.before is not None


def domain_of(address: str) -> str:
    """The mail domain of an address, in lower case; "" for what is no mail address."""
    return address.rpartition("@")[2].rstrip(".").casefold() if "@" in address else ""


class Routes:
    """Asks, and remembers; safe for any number of threads.

    Args:
        servers: `ADDRESS` or `ADDRESS:PORT` of the name servers to ask; none are this machine's own.
        clock: seconds since 1970.
    """

    def __init__(
        self, state_dir: Path, servers: Sequence[str] = (), clock: Callable[[], float] = time.time
    ) -> None:
        self._path = state_dir / "domains.json"
        self._servers = servers
        self._clock = clock
        self._lock = threading.Lock()
        self._tried: dict[str, float] = {}
        self._silences: dict[str, str] = {}

    def known(self, domain: str) -> Route:
        """What was remembered last; nobody is asked."""
        return self._stored().get(domain, Route(domain))

    def look(self, domains: Iterable[str]) -> list[Route]:
        """Ask about domains, within `ALL` seconds; what is known of each. Never raises.

        An answer is asked for anew after `FRESH` seconds.
        """
        with self._lock:
            stored, until = self._stored(), time.monotonic() + ALL
            found = [self._current(each, stored, until) for each in sorted(set(domains)) if each]
            fresh = {each.domain: each for each in found if stored.get(each.domain) != each}
            if fresh:
                self._keep(stored | fresh)
        return found

    def _current(self, domain: str, stored: dict[str, Route], until: float) -> Route:
        known, now = stored.get(domain, Route(domain)), self._clock()
        if 0 <= now - self._tried.get(domain, float("-inf")) < FRESH:
            return known if known.asked else replace(known, silent=self._silences.get(domain, ""))
        seconds = min(ONE, until - time.monotonic())
        answer = self._asked(domain, seconds) if seconds > 0 else "no time left"
        self._tried[domain] = now
        if isinstance(answer, str):
            self._silences[domain] = answer
            return replace(known, silent=answer)
        exists, hosts = answer
        if (known.exists, set(known.hosts)) == (exists, set(hosts)):
            return replace(known, hosts=hosts, asked=now, silent="")
        before = None if known.exists is None else known.hosts
        return Route(domain, exists, hosts, now, now, before)

    def _asked(self, domain: str, seconds: float) -> tuple[bool, tuple[str, ...]] | str:
        """Whether it exists and who takes its mail; or why there was no answer."""
        from dns.exception import DNSException  # noqa: PLC0415 - 0.1 s, for those who ask
        from dns.resolver import NXDOMAIN  # noqa: PLC0415

        if domain.rpartition(".")[2] in RESERVED and not self._servers:
            return NOWHERE
        try:
            return True, _hosts(resolver_of(self._servers), domain, seconds)
        except NXDOMAIN:
            return False, ()
        except (DNSException, OSError, ValueError) as error:  # UnicodeError is a ValueError
            return type(error).__name__

    def _stored(self) -> dict[str, Route]:
        try:
            raw = json.loads(self._path.read_text(encoding="utf-8"))
            return {domain: _route(domain, each) for domain, each in raw.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}  # nothing was known: the next answers begin anew

    def _keep(self, routes: dict[str, Route]) -> None:
        """As a whole, for its owner alone: it names domains."""
        recent = {
            domain: asdict(each)
            for domain, each in routes.items()
            if each.asked and self._clock() - each.asked < KEPT
        }
        with suppress(OSError):  # what cannot be kept is asked again
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = self._path.with_name(f".{self._path.name}.new")
            fresh.touch(mode=0o600)
            fresh.write_text(json.dumps(recent, indent=1) + "\n", encoding="utf-8")
            fresh.replace(self._path)


def _hosts(resolver: Resolver, domain: str, seconds: float) -> tuple[str, ...]:
    """The mail hosts of a domain that exists: by RFC 5321 itself when it names none and has an address.

    Raises DNSException.
    """
    from dns.resolver import NoAnswer  # noqa: PLC0415

    until = time.monotonic() + seconds
    try:
        found = sorted(
            (each.preference, each.exchange.to_text(omit_final_dot=True).lower())
            for each in resolver.resolve(f"{domain}.", "MX", lifetime=seconds)
        )
    except NoAnswer:
        for kind in ("A", "AAAA"):
            with suppress(NoAnswer):
                resolver.resolve(f"{domain}.", kind, lifetime=max(0.1, until - time.monotonic()))
                return (domain,)
        return ()
    return tuple(host for _, host in found if host != ".")[:HOSTS]  # "." is "none" (RFC 7505)


def resolver_of(servers: Sequence[str]) -> Resolver:
    """One that asks whom it shall ask. Raises DNSException when this machine names nobody, and ValueError."""
    from dns.nameserver import Do53Nameserver  # noqa: PLC0415
    from dns.resolver import Resolver  # noqa: PLC0415

    resolver = Resolver(configure=not servers)
    if servers:
        resolver.nameservers = [Do53Nameserver(*place(each)) for each in servers]
    return resolver


def place(server: str) -> tuple[str, int]:
    """`192.0.2.1`, `192.0.2.1:5353`, `2001:db8::1` or `[2001:db8::1]:5353` as address and port.

    Raises ValueError.
    """
    address, _, port = server.partition(":")
    if server.startswith("["):
        address, _, port = server[1:].partition("]")
        port = port.removeprefix(":")
    elif ":" in port:
        address, port = server, ""
    return str(ip_address(address)), int(port or PORT)


def _route(domain: str, stored: dict[str, Any]) -> Route:
    known: dict[str, Any] = {
        key: tuple(each) if isinstance(each, list) else each for key, each in stored.items()
    }
    return Route(**known | {"domain": domain})
