"""Who runs the storages and targets of a configuration, and whether somebody has accepted their law.

Refused is what sends data on: snapshots into a storage, a restore into a target. Reading is never refused: on
the worst day a vault must open wherever it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from backupd.config import Config, Part, Storage, TargetSection
from backupd.errors import ConfigError
from backupd.law.sovereignty import (
    CONFIDENCE,
    COUNTRIES,
    QUALIFIED,
    Operator,
    Place,
    Register,
    known_operators,
)
from backupd.model import Service
from backupd.ports import Finding

EXTEND = "If you know who runs it, name it in operators_file (config.example.toml has one)."


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a section of the configuration sends data, and what was accepted there.

    Attributes:
        section: `storage.NAME` or `targets.NAME`.
        places: every place it names; none for a target that has not said where it is.
        accepted: the laws that somebody has accepted in that section.
    """

    section: str
    places: tuple[Place, ...]
    accepted: frozenset[str]

    @property
    def refused(self) -> tuple[Place, ...]:
        """The places whose law nobody has accepted."""
        return tuple(each for each in self.places if each.laws - self.accepted)

    def findings(self) -> Iterator[Finding]:
        """One for each place, for doctor, init and reports."""
        for place in self.places:
            yield _finding(self, place)


@dataclass(frozen=True, slots=True)
class Told:
    """One place of a section, in plain words and values: for status, reports and the kit.

    Attributes:
        kind: as in `Place`.
        home, parent, exposures, secnumcloud, confidence, as_of: of its operator; empty without one.
        laws: the watched laws it is under; `refused` those of them that nobody has accepted.
    """

    section: str
    host: str
    kind: str
    words: str
    operator: str = ""
    home: str = ""
    parent: str = ""
    exposures: tuple[str, ...] = ()
    secnumcloud: str = ""
    confidence: str = ""
    as_of: str = ""
    laws: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def standings(config: Config) -> list[Standing]:
    """Every storage and every target, in the order of the file. Raises ConfigError for operators_file."""
    known = known_operators(config.operators_file)
    stored = [of_storage(each, known) for each in config.storage.values()]
    return stored + [of_target(each, known) for each in config.targets.values()]


def of_storage(section: Storage, known: Register) -> Standing:
    """Where the vaults of a storage lie."""
    place = known.of_location(section.repository)
    return Standing(f"storage.{section.name}", (place,), frozenset(section.accept_jurisdiction))


def of_target(section: TargetSection, known: Register) -> Standing:
    """Where a target sends data: the provider it names, and every address in its section."""
    found = {(each.kind, each.host): each for each in _places(section, known)}
    accepted = frozenset(section.accept_jurisdiction)
    return Standing(f"targets.{section.name}", tuple(found.values()), accepted)


def require_storages(config: Config) -> None:
    """Raise ConfigError, with everything that is refused, when a storage is."""
    found = standings(config)
    if any(each.refused for each in found if each.section.startswith("storage.")):
        raise _refusal([each for each in found if each.refused])


def require(standing: Standing, option: str) -> None:
    """Raise ConfigError when any of its places is refused; `option` accepts a law for this once."""
    if standing.refused:
        refusal = _refusal([standing])
        laws = {law for each in standing.refused for law in each.laws - standing.accepted}
        refusal.hint += f" Or for this once: {option}{','.join(sorted(laws))}"
        raise refusal


def told(place: Place) -> str:
    """Who runs a place, in one sentence for a person."""
    if place.operator is None:
        return _NEAR[place.kind].format(host=place.host)
    operator = place.operator
    words = [f"{operator.name} ({place.host}): {operator.entity}, under the law of {country(operator.home)}"]  # fmt: skip
    if operator.parent:
        words.append(f"owner: {operator.parent}")
    if place.region:
        words.append(f"this region lies in {country(place.region)}")
    words += [
        f"{country(each.law)}: {each.what} ({each.source}, {each.as_of})"
        for each in operator.exposures
    ]
    words += [_secnumcloud(operator), f"{CONFIDENCE[operator.confidence]}, as of {operator.as_of}"]
    return "; ".join(filter(None, words))


def as_told(standing: Standing) -> Iterator[Told]:
    """Every place of a section, as a document tells it."""
    for place in standing.places:
        laws = tuple(sorted(place.laws))
        plain = Told(standing.section, place.host, place.kind, _short(place), laws=laws)
        plain = replace(plain, refused=tuple(sorted(place.laws - standing.accepted)))
        yield _with_operator(plain, place.operator) if place.operator else plain


def _with_operator(plain: Told, operator: Operator) -> Told:
    return replace(
        plain,
        operator=operator.name,
        home=operator.home,
        parent=operator.parent,
        exposures=tuple(f"{each.law}: {each.what} ({each.source}, {each.as_of})" for each in operator.exposures),
        secnumcloud=_secnumcloud(operator),
        confidence=CONFIDENCE[operator.confidence],
        as_of=operator.as_of.isoformat(),
    )  # fmt: skip


def _short(place: Place) -> str:
    """Who runs a place, in one line of a status."""
    operator = place.operator
    if operator is None:
        return _NEAR[place.kind].format(host=place.host)
    words = [f"{operator.name}, law of {country(operator.home)}"]
    words += [f"owner: {operator.parent}"] if operator.parent else []
    words += [f"region in {country(place.region)}"] if place.region else []
    reach = [f"{country(each.law)} ({_KINDS[each.kind]})" for each in operator.exposures]
    words += [f"exposed to {', '.join(reach)}"] if reach else []
    return "; ".join([*words, f"{CONFIDENCE[operator.confidence]}, {operator.as_of}"])


_KINDS = {
    "owner": "its last owner",
    "microsoft": "Microsoft's technology",
    "technology": "supplier of its technology",
    "subsidiary": "business of the group",
    "order": "a known order",
}


def country(code: str) -> str:
    """A country by its name, or by its code when the name is not at hand."""
    return COUNTRIES.get(code, code)


_NEAR = {
    "here": "this machine ({host}); if a network or a cloud is mounted there, whoever runs that is not known",
    "private": "a machine of a private network, or a name of this machine's own ({host})",
    "unknown": "unknown operator ({host}): who runs it, and under which law, is not known",
    "untold": "{host}: the address does not tell who runs it",
}


def _secnumcloud(operator: Operator) -> str:
    held = operator.secnumcloud
    if held is None or not QUALIFIED[held.status]:
        return ""
    what = f" ({held.what})" if held.what else ""
    return f"{QUALIFIED[held.status]}{what}, as of {held.as_of}; cyber.gouv.fr has the list"


def _places(section: TargetSection, known: Register) -> Iterator[Place]:
    parts: list[Part | None] = [section, *(getattr(section, each) for each in Service)]
    for part in parts:
        if part and (part.type or "").startswith("microsoft365"):
            yield known.of_url(section.graph_url)
        yield from _of_part(part, known) if part else ()


def _of_part(part: Part, known: Register) -> Iterator[Place]:
    word = part.type or ""
    provider = known.of_provider(word) or known.of_provider(word.partition("-")[0])
    if provider:
        yield provider
    if part.url:
        yield known.of_url(part.url)
    if part.host:
        yield known.of_host(part.host)
    if part.remote:
        yield known.of_remote(part.remote)
    if part.path:
        yield known.of_location(str(part.path))


def _finding(standing: Standing, place: Place) -> Finding:
    open_laws = place.laws - standing.accepted
    subject = f"{standing.section}: operator"
    if open_laws:
        return Finding("error", subject, f"refused: {told(place)}", _remedy(open_laws))
    if place.laws:
        laws = " and ".join(country(each) for each in sorted(place.laws))
        return Finding("warning", subject, told(place), f"The law of {laws} was accepted in [{standing.section}].")  # fmt: skip
    if place.kind in {"unknown", "untold"}:
        return Finding("warning", subject, told(place), EXTEND)
    return Finding("ok", subject, told(place))


def _remedy(laws: Iterable[str]) -> str:
    named = ", ".join(f'"{each}"' for each in sorted(laws))
    return f"Choose another operator, or, if this is what you want, write accept_jurisdiction = [{named}] into that section."  # fmt: skip


def _refusal(refused: list[Standing]) -> ConfigError:
    lines = [
        f"[{each.section}] {_why(place, each.accepted)}"
        for each in refused
        for place in each.refused
    ]
    laws = {law for each in refused for place in each.refused for law in place.laws - each.accepted}
    if len(lines) == 1:
        return ConfigError(f"{lines[0]}.", hint=_remedy(laws), reason="jurisdiction")
    listed = "\n  ".join([f"{len(lines)} places are refused:", *lines])
    hint = "Choose other operators, or, where this is what you want, write accept_jurisdiction into that section."  # fmt: skip
    return ConfigError(listed, hint=f"{hint} `backupd doctor` names the laws.", reason="jurisdiction")  # fmt: skip


def _why(place: Place, accepted: frozenset[str]) -> str:
    laws = place.laws - accepted
    operator = place.operator
    name = f"{operator.name} ({place.host})" if operator else place.host
    supplier = operator and any(each.kind == "microsoft" for each in operator.exposures)
    if supplier and operator and operator.home not in laws:
        return f"lies at {name}, which runs Microsoft's technology: what shuts off Microsoft 365 may shut it off too"  # fmt: skip
    reach = " and ".join(country(each) for each in sorted(laws))
    return f"lies at {name}, within reach of the law of {reach}"
