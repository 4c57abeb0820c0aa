"""How ready we are to be cut off: gathered once, told on the screen, as JSON, and as one page.

Every form begins with the same answers: up to when everything is safe, what is missing, where the
copies are, what is frozen, and what to type next.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any

from jinja2 import Environment, PackageLoader

from backupd import __version__
from backupd.alerts.notices import HAPPENED
from backupd.app import App
from backupd.cutoff.incidents import Incidents, Removal
from backupd.cutoff.verdict import Case, State
from backupd.errors import BackupdError
from backupd.jobs.keeping import findings
from backupd.keys import keybook
from backupd.keys.vault_keys import name_for
from backupd.law.acceptance import Told, as_told, standings
from backupd.model import Service
from backupd.ports import Finding
from backupd.report.proofs import proven
from backupd.report.status import (
    AccountStatus,
    CutOffNow,
    StorageState,
    cut_off_now,
    in_words,
    status_of,
)

FORMAT = 1
NAMED = 5
"""Names that a line holds; the page and the table name everybody."""


@dataclass(frozen=True)
class ServiceState:
    """Whether `backupd run` is at work: `age` of its last word, None when it never ran here."""

    running: bool
    age: int | None


@dataclass(frozen=True)
class Readiness:
    """Everything that is known without asking a source or a vault.

    Attributes:
        when: seconds since 1970.
        cases: those that are not healthy.
        warnings: what is wrong with what should warn us.
        unreadable: accounts whose catalog cannot be read, and why.
        places: who runs every storage and target, as far as their addresses tell.
        keys: whether others than this machine can open the vaults.
    """

    when: float
    now: CutOffNow
    accounts: list[AccountStatus]
    cases: list[Case]
    removals: list[Removal]
    warnings: list[Finding]
    service: ServiceState
    mirror: str
    unreadable: dict[str, str]
    stale: float
    places: list[Told]
    keys: list[Finding]

    @property
    def damaged(self) -> bool:
        """Whether a verification found something that is not as it was recorded."""
        return any(each.verdict == "damaged" for one in self.accounts for each in one.proofs)

    @property
    def level(self) -> str:
        """`good`, `warn` or `bad`: the colour of the page."""
        old = any(each.worst is None or each.worst > self.stale for each in self.accounts)
        if (
            self.damaged
            or self.now.frozen
            or self.now.unprotected
            or self.unreadable
            or old
            or not self.accounts
        ):
            return "bad"
        refused = any(each.refused for each in self.places)
        troubled = self.cases or self.removals or self.warnings or self.now.missing or refused
        return "warn" if troubled or any(each.lacking for each in self.now.storages) else "good"


def readiness(app: App, patterns: Sequence[str] = ()) -> Readiness:
    """Look at everything held here. Raises IntegrityError for a case that cannot be read."""
    incidents = Incidents(app.config.state_dir)
    cases = incidents.cases()
    storages = list(app.config.storage)
    by_scope = {case.scope: case for case in cases}
    found: list[AccountStatus] = []
    unreadable: dict[str, str] = {}
    for home in app.homes(patterns):
        try:
            found.append(status_of(home, storages, by_scope))
        except BackupdError as error:
            unreadable[home.address] = str(error)
    return Readiness(
        when=time.time(),
        now=cut_off_now(found, storages, cases, waiting=bool(incidents.removals())),
        accounts=found,
        cases=[case for case in cases if case.state is not State.HEALTHY],
        removals=incidents.removals(),
        warnings=_warnings(app),
        service=_service(app),
        mirror=str(app.config.state_dir),
        unreadable=unreadable,
        stale=app.config.alerts.stale,
        places=_places(app),
        keys=_keys(app, found),
    )


def _warnings(app: App) -> list[Finding]:
    return [each for each in (*channel_findings(app), *findings(app)) if each.level != "ok"]


def channel_findings(app: App, *, ask: bool = False) -> list[Finding]:
    """Whether anybody is told, over channels that outlive Microsoft. Nothing is sent.

    Args:
        ask: name servers are asked where mail goes; else only what was learnt before counts.
    """
    try:
        return app.opinions.of_channels(app.config.alerts.channels(), ask=ask)
    except BackupdError as error:
        return [Finding("error", "alerts", str(error), error.hint)]


def _places(app: App) -> list[Told]:
    """Nothing when operators_file cannot be read, which must not keep anybody from the rest: `doctor` says so."""
    with suppress(BackupdError):
        return [each for held in standings(app.config) for each in as_told(held)]
    return []


def _keys(app: App, found: Sequence[AccountStatus]) -> list[Finding]:
    """What is noted of the recovery keys of the vaults that these accounts have."""
    held = {
        f"{copy.storage}/{name_for(app.config.storage[copy.storage], each.source, each.address)}"
        for each in found
        for copy in each.copies
    }
    try:
        return list(keybook.findings(keybook.load(app.config.state_dir), held, time.time()))
    except BackupdError as error:
        return [Finding("error", "recovery keys", str(error), error.hint)]


def _service(app: App) -> ServiceState:
    try:
        path = app.config.state_dir / "service.json"
        noted = json.loads(path.read_text(encoding="utf-8"))
        age = max(0, int(time.time() - noted["updated"]))
        return ServiceState(not noted["stopped"] and _alive(noted["pid"]), age)
    except (OSError, ValueError, TypeError, KeyError):
        return ServiceState(False, None)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True  # it runs as somebody else
    except OSError:
        return False
    return True


# -- words ------------------------------------------------------------------------------------


def verdict(found: Readiness) -> str:
    """The answer in one sentence."""
    now = found.now
    if not found.accounts:
        return "Nothing is held yet."
    if found.damaged:
        return "A verification found damage: something that is held is not as it was recorded."
    if now.unprotected:
        are, them = ("account is", "it") if len(now.unprotected) == 1 else ("accounts are", "them")
        return f"{len(now.unprotected)} {are} in NO vault: only the mirror on this machine holds {them}."
    if now.bare:
        bare = " and ".join(now.bare)
        return f"Not everything was saved to its end once: {bare} of {_count(max(now.bare.values()), 'account')}."
    age = in_words(max((each for each in now.protected.values() if each is not None), default=0))
    return f"Everything that the sources held up to {age} ago is in a vault."


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def answers(found: Readiness) -> Iterator[tuple[str, list[str]]]:
    """The answers to "if we were cut off now", each with its lines."""
    now = found.now
    yield "safe", [verdict(found), *_spans(now)] if found.accounts else [verdict(found)]
    if found.accounts:
        yield "missing", list(_missing(now))
        yield "copies", [*map(_storage, now.storages), f"mirror: {found.mirror} on this machine"]
        yield "proven", list(proven(found.accounts))
    if found.places:
        yield "run by", [_place(each) for each in found.places]
    if found.keys:
        yield "keys", [_key_words(each) for each in found.keys]
    yield "frozen", list(_frozen(found))
    yield "service", [_service_words(found.service)]
    yield "next", now.next


def _spans(now: CutOffNow) -> Iterator[str]:
    groups: dict[int, list[str]] = {}
    for service, age in now.protected.items():
        if age is not None:
            groups.setdefault(age // 60, []).append(service)
    for services in groups.values():
        age = max(now.protected[Service(each)] or 0 for each in services)
        yield f"{', '.join(services)}: up to {in_words(age)} ago"
    if now.accounts > 1 and now.worst:
        yield f"worst off is {now.worst}"
    if now.unprotected:
        more = f" and {len(now.unprotected) - NAMED} more" * (len(now.unprotected) > NAMED)
        yield f"in NO vault: {', '.join(now.unprotected[:NAMED])}{more}"
    for service, number in now.bare.items():
        yield f"{service}: NO complete copy of {_count(number, 'account')}"


def _missing(now: CutOffNow) -> Iterator[str]:
    if now.missing:
        yield f"{_count(now.missing, 'item')} known of and not had yet: tried again"
    if now.gaps:
        yield f"{_count(now.gaps, 'thing')} of a kind that cannot be saved: not covered, see below"
    if now.vanished:
        yield f"{_count(now.vanished, 'item')} gone at the source and kept here"
    if not (now.missing or now.gaps or now.vanished):
        yield "nothing that is known of"


def _storage(state: StorageState) -> str:
    if not state.accounts:
        return f"{state.storage}: NOTHING yet"
    lacking = f"; LACKS {_count(state.lacking, 'account')}" if state.lacking else ""
    ages = f"the newest {in_words(state.newest)} old"
    if state.accounts > 1:
        ages += f", the oldest {in_words(state.oldest)}"
    return f"{state.storage}: {_count(state.accounts, 'account')}, {ages}{lacking}"


def _place(place: Told) -> str:
    refused = "REFUSED until its law is accepted: " if place.refused else ""
    return f"{place.section}: {refused}{place.words}"


def _key_words(finding: Finding) -> str:
    words = f"{finding.subject}: {finding.message}"
    return words if finding.level == "ok" else f"{words}. {finding.hint}"


def _frozen(found: Readiness) -> Iterator[str]:
    shut = [case for case in found.cases if case.frozen]
    for case in shut[:NAMED]:
        yield f"{case.scope}: {case.state}: {HAPPENED[case.cause]}; nothing of it is removed"
    if len(shut) > NAMED:
        yield f"… and {len(shut) - NAMED} more: `backupd incidents`"
    for each in found.removals[:NAMED]:
        count = sum(each.counts.values())
        yield f"{each.source}/{each.address}: the removal of {count} items waits for your word"
    if not shut and not found.removals:
        yield "nothing"


def _service_words(service: ServiceState) -> str:
    if service.running:
        return f"`backupd run` is at work; its last word is {in_words(service.age)} old"
    if service.age is None:
        return "`backupd run` has not run here: copies are as new as the last `backupd backup`"
    return f"`backupd run` is NOT running; its last word is {in_words(service.age)} old"


# -- forms ------------------------------------------------------------------------------------


def as_document(found: Readiness) -> dict[str, Any]:
    """The whole of it as JSON; its shape is `FORMAT`."""
    plain: dict[str, Any] = _plain(found)
    stamp = datetime.fromtimestamp(found.when, UTC).isoformat(timespec="seconds")
    return plain | {
        "format": FORMAT, "version": __version__, "made": stamp, "level": found.level, "verdict": verdict(found),
    }  # fmt: skip


def as_text(found: Readiness) -> str:
    """The answers, then a line for each account, for a terminal or a mail."""
    lines = ["If you were cut off now"]
    for title, said in answers(found):
        lines += [f"  {title if not number else '':<8} {line}" for number, line in enumerate(said)]
    lines.append("")
    for each in found.accounts:
        lines.append(f"{each.address}: {sum(each.items.values())} items; {'; '.join(each.problems) or 'ok'}")  # fmt: skip
    lines += [f"{address}: CANNOT BE READ: {why}" for address, why in found.unreadable.items()]
    lines += [f"{each.level}: {each.subject}: {each.message}. {each.hint}" for each in found.warnings]  # fmt: skip
    return "\n".join(lines) + "\n"


def as_page(found: Readiness, template: str = "readiness.html", **more: Any) -> str:
    """One self-contained page, on screen and on paper; `more` is for a template that goes on from this one."""
    environment = Environment(
        loader=PackageLoader("backupd"), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["age"] = in_words
    services = [each for each in Service if any(each in one.items for one in found.accounts)]
    return environment.get_template(template).render(
        **more,
        found=found,
        verdict=verdict(found),
        answers=list(answers(found)),
        services=services,
        bars=_bars(found),
        happened=HAPPENED,
        made=f"{datetime.fromtimestamp(found.when, UTC):%Y-%m-%d %H:%M} UTC",
        moment=lambda when: f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC",
        version=__version__,
    )


@dataclass(frozen=True)
class Bar:
    """One account in the plot: how old its newest complete copy is, in thousandths of the plot's width.

    Attributes:
        limit: where a copy begins to count as old.
    """

    address: str
    width: int
    limit: int
    level: str
    words: str


def _bars(found: Readiness) -> list[Bar]:
    """The accounts that are worst off; full width is a third more than the age that is stale, or the oldest."""

    def key(each: AccountStatus) -> float:
        return float("inf") if each.worst is None else each.worst

    shown = sorted(found.accounts, key=key, reverse=True)[:40]
    scale = max([found.stale * 4 / 3, *(each.worst or 0 for each in shown)])
    limit = round(1000 * found.stale / scale)
    bars = []
    for each in shown:
        late = each.worst is None or each.worst > found.stale
        width = 1000 if each.worst is None else max(4, round(1000 * each.worst / scale))
        words = "no complete copy" if each.worst is None else in_words(each.worst)
        bars.append(Bar(each.address, width, limit, "bad" if late else "good", words))
    return bars


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
