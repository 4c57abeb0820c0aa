"""The records of a domain as they stand now: what has to change on the day, and what to put back.

Only what is asked for by name can be seen; the whole zone is exported at its own provider. Everything is bounded:
names, time, records and their length, for whoever answers is nobody we know.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.cutoff.mx import RESERVED, resolver_of

if TYPE_CHECKING:
    from dns.resolver import Resolver

ONE, ALL = 3.0, 30.0
"""Seconds for one question, and for all questions together."""
RECORDS, LENGTH, DOMAINS = 20, 600, 50
"""Records kept of a name, characters kept of a record, and domains looked at."""
ASKERS = 8

NAMES = (
    ("", "NS"),
    ("", "SOA"),
    ("", "MX"),
    ("", "TXT"),
    ("", "CAA"),
    ("_dmarc", "TXT"),
    ("selector1._domainkey", "CNAME"),
    ("selector2._domainkey", "CNAME"),
    ("selector1._domainkey", "TXT"),
    ("selector2._domainkey", "TXT"),
    ("_mta-sts", "TXT"),
    ("_smtp._tls", "TXT"),
    ("autodiscover", "CNAME"),
    ("autodiscover", "A"),
    ("_autodiscover._tcp", "SRV"),
    ("_imaps._tcp", "SRV"),
    ("_submissions._tcp", "SRV"),
    ("_caldavs._tcp", "SRV"),
    ("_carddavs._tcp", "SRV"),
    ("_sip._tls", "SRV"),
    ("_sipfederationtls._tcp", "SRV"),
    ("lyncdiscover", "CNAME"),
    ("sip", "CNAME"),
    ("enterpriseregistration", "CNAME"),
    ("enterpriseenrollment", "CNAME"),
)
"""What Microsoft 365 asks to be set, and what a new provider will ask for."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record; `ttl` in seconds."""

    name: str
    type: str
    ttl: int
    value: str


@dataclass(frozen=True, slots=True)
class Zone:
    """What was found of a domain, and which names nobody answered for."""

    domain: str
    records: tuple[Record, ...] = ()
    silent: tuple[str, ...] = ()

    def of(self, kind: str) -> list[Record]:
        """The records of a type."""
        return [each for each in self.records if each.type == kind]


def zones(domains: Sequence[str], servers: Sequence[str] = ()) -> list[Zone]:
    """The records of domains, within `ALL` seconds. Never raises: what got no answer is named."""
    until = time.monotonic() + ALL
    chosen = sorted(set(domains))[:DOMAINS]
    asked = [each for each in chosen if servers or each.rpartition(".")[2] not in RESERVED]
    with ThreadPoolExecutor(ASKERS) as askers:
        answers = {
            (domain, name, kind): askers.submit(_ask, servers, domain, name, kind, until)
            for domain in asked
            for name, kind in NAMES
        }
        return [
            _zone(domain, {key[1:]: each.result() for key, each in answers.items() if key[0] == domain})
            for domain in chosen
        ]  # fmt: skip


def _zone(domain: str, answers: dict[tuple[str, str], list[Record] | None]) -> Zone:
    if not answers:
        return Zone(domain, silent=("nobody knows such names",))
    records = [record for each in answers.values() for record in each or ()]
    silent = [f"{name or '@'} {kind}" for (name, kind), each in answers.items() if each is None]
    return Zone(domain, tuple(dict.fromkeys(records)), tuple(silent))


def _ask(
    servers: Sequence[str], domain: str, name: str, kind: str, until: float
) -> list[Record] | None:
    """The records of a name; none when there are none, None when nobody answered."""
    from dns.exception import DNSException  # noqa: PLC0415 - 0.1 s, for those who ask
    from dns.resolver import NXDOMAIN, NoAnswer  # noqa: PLC0415

    seconds = min(ONE, until - time.monotonic())
    if seconds <= 0:
        return None
    try:
        return list(_found(resolver_of(servers), f"{name}.{domain}".lstrip("."), kind, seconds))
    except (NXDOMAIN, NoAnswer):
        return []
    except (DNSException, OSError, ValueError):  # UnicodeError is a ValueError
        return None


def _found(resolver: Resolver, name: str, kind: str, seconds: float) -> Iterator[Record]:
    answer = resolver.resolve(f"{name}.", kind, lifetime=seconds)
    for each in sorted(rdata.to_text() for rdata in answer)[:RECORDS]:
        yield Record(name, kind, int(answer.rrset.ttl if answer.rrset else 0), each[:LENGTH])
