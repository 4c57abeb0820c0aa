"""Who runs the place that data goes to, and under which law: knowledge with its source and date.

`operators.toml` is what backupd knows; an operator's own file adds to it and wins. An endpoint is matched by
the suffix of its host. What is not known is called unknown, never fine; what a location cannot tell (a remote
of rclone, a mounted folder) is said so.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from backupd.errors import ConfigError
from backupd.vaults import locations

WATCHED = frozenset({"US", "CN"})
"""The law of these countries reaches an operator's data wherever its machines stand (CLOUD Act and FISA 702;
National Intelligence Law), and theirs are the switches that can be thrown."""

BINDING = frozenset({"owner", "microsoft"})
"""Exposures that bind a whole operator; the others are told and left to the reader."""

COUNTRIES = {
    "AT": "Austria", "AU": "Australia", "BE": "Belgium", "CA": "Canada", "CH": "Switzerland", "CN": "China",
    "DE": "Germany", "EU": "the European Union", "FI": "Finland", "FR": "France", "GB": "the United Kingdom",
    "IE": "Ireland", "IN": "India", "IT": "Italy", "JP": "Japan", "LU": "Luxembourg", "MT": "Malta",
    "MX": "Mexico", "NL": "the Netherlands", "NO": "Norway", "SE": "Sweden", "SG": "Singapore",
    "US": "the United States",
}  # fmt: skip

CONFIDENCE = {
    "source": "read at the operator",
    "press": "by press reports",
    "general": "general knowledge, not checked",
}

QUALIFIED = {
    "qualified": "SecNumCloud: qualified",
    "in-process": "SecNumCloud: applied for, not qualified as far as known",
    "other-service": "SecNumCloud: for other services, not for this one",
    "none-known": "SecNumCloud: none known",
    "not-applicable": "",
}
"""A qualification is given for one service and for three years: never told without its date."""


def _country(code: str) -> str:
    if not re.fullmatch(r"[A-Z]{2}", code):
        raise ValueError(f'{code!r} is no country: write two capital letters, such as "FR"')
    return code


Country = Annotated[str, AfterValidator(_country)]
"""ISO 3166-1, two capital letters; EU for an institution of the Union."""


def _accepted(value: Any) -> Any:
    return tuple(word.strip() for word in value.split(",")) if isinstance(value, str) else value


Accepted = Annotated[tuple[Country, ...], BeforeValidator(_accepted)]
"""The law that somebody accepts in a section: `["US"]`, or `US` on the command line."""


def _pattern(host: str) -> str:
    if not re.fullmatch(r"[a-z0-9*-]+(\.[a-z0-9*-]+)+", host):
        raise ValueError(f"{host!r} is no host suffix: write it like storage.example.org")
    return host


Suffix = Annotated[str, AfterValidator(_pattern)]


class _Fact(BaseModel):
    """Something that is known: frozen, and every key known."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: Annotated[str, Field(min_length=1)]
    as_of: date


class Exposure(_Fact):
    """What other law may reach of an operator, or a supplier that it depends on."""

    law: Country
    kind: Literal["owner", "microsoft", "technology", "subsidiary", "order"]
    what: Annotated[str, Field(min_length=1)]


class Qualification(_Fact):
    """Where an operator stands with SecNumCloud."""

    status: Literal["qualified", "in-process", "other-service", "none-known", "not-applicable"]
    what: str = ""


class Operator(_Fact):
    """Who runs an endpoint. The head of `operators.toml` explains every key."""

    id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
    name: Annotated[str, Field(min_length=1)]
    entity: Annotated[str, Field(min_length=1)]
    home: Country
    parent: str = ""
    hosts: tuple[Suffix, ...] = ()
    schemes: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    remotes: tuple[str, ...] = ()
    regions: Mapping[str, Country] = Field(default_factory=dict)
    exposures: tuple[Exposure, ...] = ()
    secnumcloud: Qualification | None = None
    confidence: Literal["source", "press", "general"]

    @property
    def laws(self) -> frozenset[str]:
        """The watched laws that bind it as a whole."""
        bound = (each.law for each in self.exposures if each.kind in BINDING)
        return WATCHED & {self.home, *bound}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something lies, as far as its address tells.

    Attributes:
        kind: `operator`, `here` (this machine), `private` (an address in a private network),
            `unknown` (nobody here knows that host) or `untold` (the address does not tell).
        host: the host, or whatever else was looked at; without credentials.
        region: the country of the region, where it is neither the operator's own nor in the EU.
    """

    kind: str
    host: str
    operator: Operator | None = None
    region: str = ""

    @property
    def laws(self) -> frozenset[str]:
        """The watched laws that data here is under: those that somebody has to accept."""
        bound = self.operator.laws if self.operator else frozenset()
        return bound | ({self.region} & WATCHED)


class Register:
    """Every operator that is known; of several suffixes that fit, the longest wins."""

    def __init__(self, operators: tuple[Operator, ...]) -> None:
        self._hosts = _index(operators, lambda each: each.hosts)
        self._schemes = _index(operators, lambda each: each.schemes)
        self._providers = _index(operators, lambda each: each.providers)
        self._remotes = _index(operators, lambda each: each.remotes)

    def of_host(self, host: str) -> Place:
        """Who runs a host."""
        host = host.lower().rstrip(".").strip("[]")
        if "{" in host:
            return Place("untold", host)  # filled in for each account
        near = _near(host)
        if near:
            return Place(near, host)
        for suffix in _suffixes(host):
            for pattern, operator in self._hosts.items():
                if _fits(pattern, suffix):
                    found = [operator.regions[each] for each in host.split(".") if each in operator.regions]  # fmt: skip
                    return Place("operator", host, operator, found[0] if found else "")
        return Place("unknown", host)

    def of_url(self, url: str) -> Place:
        """Who runs the host of an address; one without a scheme is read as a host."""
        try:
            host = urlsplit(url if "://" in url else f"//{url}").hostname
        except ValueError:
            host = None
        return self.of_host(host) if host else Place("untold", "an address without a host")

    def of_location(self, repository: str) -> Place:
        """Who runs the storage behind a location as restic writes it."""
        try:
            where = locations.parse(repository)
        except ValueError:
            return Place("untold", "an address without a host")
        if where.kind == "local":
            return Place("here", "a folder")
        if where.kind in self._schemes:
            return Place("operator", f"{where.kind}:", self._schemes[where.kind])
        if where.kind == "rclone":
            return self.of_remote(where.path)
        return self.of_host(where.host) if where.host else Place("untold", f"{where.kind}:")

    def of_remote(self, remote: str) -> Place:
        """Who is behind a remote of rclone: its own configuration knows, not its name."""
        name = remote.partition(":")[0]
        operator = self._remotes.get(name)
        return Place("operator" if operator else "untold", f"rclone remote {name}", operator)

    def of_provider(self, word: str) -> Place | None:
        """Who runs a provider that `targets/presets.toml` names; None for a protocol or a program."""
        operator = self._providers.get(word)
        return Place("operator", word, operator) if operator else None


def known_operators(own: Path | None = None) -> Register:
    """What backupd knows, and what an operator's own file adds. Raises ConfigError for that file."""
    known = _known()
    added = _own(own) if own else ()
    renewed = {each.id for each in added}
    return Register((*added, *(each for each in known if each.id not in renewed)))


@cache
def _known() -> tuple[Operator, ...]:
    text = files("backupd.law").joinpath("operators.toml").read_text(encoding="utf-8")
    return _parsed(tomllib.loads(text))


def _parsed(raw: Mapping[str, Any]) -> tuple[Operator, ...]:
    return tuple(Operator.model_validate(each) for each in raw["operator"])


def _own(path: Path) -> tuple[Operator, ...]:
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        return _parsed(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        what = f"{place}: {first['msg'].removeprefix('Value error, ')}"
    except KeyError:
        what = "it has no [[operator]]"
    except OSError as error:
        what = error.strerror or str(error)
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, TypeError) as error:
        what = f"it is no TOML that holds operators ({error})"
    raise ConfigError(
        f"operators_file {path}: {what}.",
        hint="It is written like backupd's own list: [[operator]] with id, name, entity, home, hosts, "
        "confidence, source and as_of. config.example.toml has one.",
        reason="operators-file",
    )


def _index(
    operators: tuple[Operator, ...], words: Callable[[Operator], tuple[str, ...]]
) -> dict[str, Operator]:
    """Word → operator; whoever is named first (the own file) keeps a word."""
    found: dict[str, Operator] = {}
    for operator in operators:
        for word in words(operator):
            found.setdefault(word, operator)
    return found


def _suffixes(host: str) -> Iterator[str]:
    labels = host.split(".")
    for start in range(len(labels) - 1):
        yield ".".join(labels[start:])


def _fits(pattern: str, suffix: str) -> bool:
    if "*" not in pattern:
        return pattern == suffix
    return re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]*"), suffix) is not None


def _near(host: str) -> str:
    """`here` or `private` for addresses that never leave the house, else ""."""
    if host == "localhost" or host.endswith(".localhost"):
        return "here"
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        inside = "." not in host or host.endswith((".local", ".lan", ".internal", ".home.arpa"))
        return "private" if inside else ""
    if address.is_loopback:
        return "here"
    return "private" if address.is_private else ""
