"""The vigil: what syncs and probes say goes to the incidents, and what follows from it is done.

After every sync the answer is heard. A grave one starts the probe ladder at once, so that the
second answer is seconds away and not a cycle. When a scope becomes suspected its last good
snapshots are pinned; from then on the ladder is climbed again and again, at growing distances.

Good answers of a ladder never outweigh a sync that failed: they count only in a row that a good
sync began. So what is frozen thaws when syncs work again, and by nothing less but a person.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

from backupd.cutoff.answers import answers_of, gravity
from backupd.cutoff.incidents import Incidents, Removal, for_deletions, scope_of
from backupd.cutoff.mx import domain_of
from backupd.cutoff.opinions import Opinions, opens, said_of
from backupd.cutoff.probes import PEER, Verdict, climb
from backupd.cutoff.verdict import (
    ALONE,
    FROZEN,
    GRAVE,
    PATIENCE,
    Case,
    Cause,
    Evidence,
    Patience,
    State,
)
from backupd.errors import BackupdError, GuardTripped
from backupd.home import Home, homes
from backupd.model import Account
from backupd.ports import Probing, Source
from backupd.sync.account import SyncResult
from backupd.sync.guard import Guard
from backupd.vaults.snapshot import pin_account
from backupd.vaults.vault import Vault

BACKOFF = (60.0, 120.0, 300.0, 900.0, 1800.0, 3600.0)
"""Seconds between two ladders of a suspected scope; the last one is repeated."""

PATROL = 120.0
"""Seconds between two looks at the lowest rungs of a source that seems well.

A token lives for an hour or more, and a tenant that is gone may answer to it as long: only whoever
asks for a new one, or for the public document, learns of it within minutes.
"""

AT_ONCE = 20
"""Ladders that one watch climbs at most; those that have waited longest come first."""

SHARED = 30.0
"""Seconds for which ladders of one source share what its own rungs answered."""

ALONE_EVERY = 3600.0
"""Seconds between two questions whether a service is out of order while everything else answers."""

PINNING = 4
"""Vaults that are tagged at the same time."""


@dataclass(frozen=True)
class Vigil:
    """Hears, climbs, pins. Safe for any number of threads.

    Attributes:
        connect: opens a source by the name of its section.
        vaults: of an account, one a storage.
        clock: seconds since 1970.
        patience: with what may be innocent.
        opinions: who else can be asked; nobody without them.
    """

    state_dir: Path
    connect: Callable[[str], AbstractContextManager[Source]]
    vaults: Callable[[Home], Sequence[Vault]]
    clock: Callable[[], float] = time.time
    patience: Patience = PATIENCE
    opinions: Opinions | None = None
    _changes: dict[str, float] = field(default_factory=dict, repr=False, compare=False)
    _asking: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)
    _answers: dict[str, tuple[float, Sequence[Evidence]]] = field(
        default_factory=dict, repr=False, compare=False
    )

    @property
    def incidents(self) -> Incidents:
        """The store."""
        return Incidents(self.state_dir, self.patience)

    # -- what a sync may do ---------------------------------------------------------------------

    def guard(self, guard: Guard, source: str, address: str) -> Guard:
        """The guard of one account: frozen, and with what a person has agreed to.

        A freeze for another cause than deletions is not lifted by an approval: whoever approves
        has looked at what vanished, not at why the account is refused.
        """
        case = self.incidents.frozen(source, address)
        if case and not for_deletions(case):
            return replace(guard, approved=False, frozen=True)
        waiting = self.incidents.removal(source, address)
        agreed = waiting.counts if waiting and waiting.approved else {}
        return replace(guard, agreed=agreed, frozen=case is not None)

    # -- what a sync said -----------------------------------------------------------------------

    def synced(self, source: Source, account: Account, result: SyncResult) -> None:
        """Hear what the sync of one account came to."""
        errors = list(result.errors.values())
        self._removal(account, result)
        answers = answers_of(errors, self.clock())
        if not answers:
            return
        self._account_said(source, account, answers)

    def refused(self, source: Source, account: Account, error: BackupdError) -> None:
        """Hear why the sync of one account did not even begin, or that the account has vanished."""
        answers = answers_of([error], self.clock())
        if answers:
            self._account_said(source, account, answers)

    def listed(self, source: Source, error: BackupdError | None) -> None:
        """Hear whether the accounts of a source could be listed."""
        answers = answers_of([error] if error else [], self.clock())
        if not answers or (error is None and self._still_refused(source)):
            return
        case = self._hear(source.name, answers)
        if answers[0].cause in GRAVE and case.state not in FROZEN:
            self._climb(source, None)

    def _account_said(self, source: Source, account: Account, answers: Sequence[Evidence]) -> None:
        scope = scope_of(account.source, account.address)
        case = self._hear(scope, answers)
        if case.state in FROZEN or self.incidents.case(account.source).state in FROZEN:
            if answers[0].cause is Cause.CONSENT and case.since == answers[0].when:
                self._climb(source, account)  # it has lasted: do the others answer?
            return
        if answers[0].cause in GRAVE:
            self._climb(source, account)
        elif answers[0].cause is case.cause is Cause.TRANSIENT and case.state is State.DEGRADED:
            self._ask_alone(source, account, case)

    def _hear(self, scope: str, answers: Sequence[Evidence]) -> Case:
        """The first answer is judged, the others are kept before it: the newest is the one that counts."""
        first = answers[0]
        if self._heard_before(scope, first):
            return self.incidents.case(scope)
        if len(answers) > 1:
            self.incidents.note(scope, answers[1:])
        before, after = self.incidents.hear(scope, first)
        if first.cause is Cause.DELETIONS:
            after = self.incidents.mark(scope, removal=first.code)
        if after.state is State.SUSPECTED and before.state is not State.SUSPECTED:
            fresh = {"probes": "0", "probed": str(first.when), "pinned": "", "refused": ""}
            after = self.incidents.mark(scope, **fresh)
            self._pin(after)
        if after.state in FROZEN and first.cause in GRAVE - {Cause.DELETIONS}:
            after = self.incidents.mark(scope, refused="yes")
        return after

    def _heard_before(self, scope: str, evidence: Evidence) -> bool:
        """The same deletion seen again is not one more answer: it must not confirm itself."""
        if evidence.cause is not Cause.DELETIONS:
            return False
        case = self.incidents.case(scope)
        return case.state in FROZEN and case.facts.get("removal") == evidence.code

    # -- removals that the guard stopped --------------------------------------------------------

    def _removal(self, account: Account, result: SyncResult) -> None:
        """Keep what the guard stopped, and put the id by which it is approved into the errors."""
        stopped = {
            service.value: error
            for service, error in result.errors.items()
            if isinstance(error, GuardTripped)
        }
        if not stopped:
            waiting = self.incidents.removal(account.source, account.address)
            if waiting and not waiting.used and not result.errors:
                self.incidents.settled(account.source, account.address)
            return
        counts = {service: error.vanished for service, error in sorted(stopped.items())}
        run = run_id(account, counts)
        self.incidents.stop(Removal(run, account.source, account.address, counts, self.clock()))
        case = self.incidents.frozen(account.source, account.address)
        refused = case and not for_deletions(case)
        first = (
            f"release it first (`backupd release {case.scope}`), then " if case and refused else ""
        )
        for error in stopped.values():
            error.code = run
            error.hint = (
                f"Find out who deleted them. If it was meant, {first}`backupd approve {run}` lets the "
                "next sync remove exactly these; if not, every item is still in the mirror and in "
                "the snapshots."
            )

    # -- the ladder -----------------------------------------------------------------------------

    def watch(self, now: float) -> list[Case]:
        """Climb the ladders that are due and pin what could not be pinned yet; what was looked at."""
        suspected = [case for case in self.incidents.cases() if case.state in FROZEN]
        due = sorted((case for case in suspected if due_at(case) <= now), key=due_at)[:AT_ONCE]
        for case in due:
            if case.facts.get("pinned") != "yes":
                self._pin(case)
        for name in dict.fromkeys(_source_of(case) for case in due):
            self._watch_source(name, [case for case in due if _source_of(case) == name], now)
        return due

    def patrol(self, names: Iterable[str], now: float) -> None:
        """Ask the lowest rungs of every source now and then, however well its syncs go."""
        for name in names:
            when, _ = self._answers.get(name, (0.0, ()))
            if now - when < PATROL or self.incidents.case(name).state in FROZEN:
                continue  # of what is frozen the ladder is climbed at its own distances
            try:
                with self.connect(name) as source:
                    self._look(source)
            except BackupdError:
                continue  # a sync says so to a person
            self._look_at_names(name)

    def _look(self, source: Source) -> bool:
        """Ask the lowest rungs and hear what is grave of it; whether anything is."""
        if not isinstance(source, Probing):
            return False
        answers, fresh = self._lowest(source)
        now = self.clock()
        told = sorted((replace(each, when=now) for each in answers), key=gravity)
        refused = bool(told) and told[0].cause in GRAVE
        if fresh and refused:
            self._hear(source.name, told)
        return refused

    def _look_at_names(self, name: str) -> None:
        """Keep it when a domain of the source is gone or its mail goes elsewhere all of a sudden."""
        if self.opinions is None:
            return
        for route in self.opinions.routes.look(self.opinions.domains(name)):
            news = route.before is not None and route.since == route.asked and not route.silent
            if news and self._changes.get(route.domain) != route.since:
                self._changes[route.domain] = route.since
                self.incidents.note(name, [said_of(route, self.clock())])

    def _ask_alone(self, source: Source, account: Account, case: Case) -> None:
        """It has failed for a while: is it out of order alone, while everything else answers?"""
        now = self.clock()
        if (
            not isinstance(source, Probing)
            or now - float(case.facts.get("alone", "0")) < ALONE_EVERY
        ):
            return
        self.incidents.mark(case.scope, alone=str(now))
        lowest, _ = self._lowest(source)
        verdict = climb(source, account, None, lowest)
        if verdict and verdict.about and verdict.deciding.cause is Cause.TRANSIENT:
            said = f"{verdict.deciding.said} Everything below it answers."
            self._hear(case.scope, [replace(verdict.deciding, when=now, rung=ALONE, said=said)])

    def _still_refused(self, source: Source) -> bool:
        """Whether the lowest rungs are grave: an old token that still opens doors is no recovery."""
        _, answers = self._answers.get(source.name, (0.0, ()))
        return any(each.cause in GRAVE for each in answers) and self._look(source)

    def _watch_source(self, name: str, due: Sequence[Case], now: float) -> None:
        try:
            with self.connect(name) as source:
                for case in due:
                    self._again(source, case, now)
        except (BackupdError, KeyError):
            return  # the section is gone or broken; a sync says so to a person

    def _again(self, source: Source, case: Case, now: float) -> None:
        address = case.scope.partition("/")[2]
        account = self._held(source.name, address) if address else None
        if account or not address:
            self._climb(source, account)
        probes = int(case.facts.get("probes", "0")) + 1
        self.incidents.mark(case.scope, probes=str(probes), probed=str(now))

    def _climb(self, source: Source, account: Account | None) -> None:
        if not isinstance(source, Probing):
            return
        lowest, fresh = self._lowest(source)
        verdict = climb(source, account, self._peer(account) if account else None, lowest)
        if verdict is None or (verdict.about is None and not fresh):
            return  # nothing was said, or it was heard already
        scope = scope_of(source.name, verdict.about.address if verdict.about else "")
        now = self.clock()
        others = [replace(each, when=now) for each in verdict.answers if each != verdict.deciding]
        others += self._opinions(scope, account, verdict, now)
        self._note_peers(scope, verdict)
        deciding = replace(verdict.deciding, when=now)
        if deciding.cause is Cause.NONE and self.incidents.case(scope).good == 0:
            self.incidents.note(scope, [*others, deciding])
            return
        self._hear(scope, [deciding, *others])

    def _opinions(
        self, scope: str, account: Account | None, verdict: Verdict, now: float
    ) -> list[Evidence]:
        """What others say of it; a mailbox that another way opens is noted beside its case."""
        if self.opinions is None or verdict.deciding.cause is Cause.NONE:
            return []
        domains = (
            {domain_of(account.address)}
            if account
            else self.opinions.domains(scope.partition("/")[0])
        )
        seconds = self.opinions.of_others(account) if account else []
        if verdict.about and (seconds or self.incidents.case(scope).facts.get("second")):
            mailbox = verdict.deciding.rung in {"user", "mailbox", "imap"}
            self.incidents.mark(scope, second=opens(seconds) if mailbox else "")
        names = self.opinions.of_names(domains, now)
        return [*names, *(replace(each, when=now) for each in seconds)]

    def _note_peers(self, scope: str, verdict: Verdict) -> None:
        """Whether the other accounts of the source answer: then it is one person's affair, most likely."""
        peers = {each.cause for each in verdict.answers if each.rung == PEER}
        if verdict.about and peers and verdict.deciding.cause is not Cause.NONE:
            said = "answer" if peers == {Cause.NONE} else "refused"
            self.incidents.mark(scope, others=said)

    def _lowest(self, source: Probing) -> tuple[Sequence[Evidence], bool]:
        """The rungs of the whole source, and whether they were asked for just now.

        A thousand accounts that fail at once ask the same: they share the answers.
        """
        with self._asking:
            now = self.clock()
            when, answers = self._answers.get(source.name, (0.0, ()))
            if 0 <= now - when < SHARED:
                return answers, False
            answers = tuple(source.probe(None))
            self._answers[source.name] = (now, answers)
            return answers, True

    def _peer(self, account: Account) -> Account | None:
        """Another account of the same source, rather one that nothing is the matter with."""
        others = [home for home in self._homes(account.source) if home.address != account.address]
        others.sort(key=lambda home: self._state(home) is not State.HEALTHY)
        return next((found for home in others if (found := home.account())), None)

    def _state(self, home: Home) -> State:
        return self.incidents.case(scope_of(home.folder.parent.name, home.address)).state

    def _held(self, source: str, address: str) -> Account | None:
        found = (home for home in self._homes(source) if home.address == address)
        return next((home.account() for home in found), None)

    def _homes(self, source: str, address: str = "") -> Iterator[Home]:
        for home in homes(self.state_dir):
            if home.folder.parent.name == source and address in {"", home.address}:
                yield home

    # -- pins -----------------------------------------------------------------------------------

    def _pin(self, case: Case) -> None:
        """Tag the last good snapshots; what fails is tried again with the next watch."""
        source, _, address = case.scope.partition("/")
        with ThreadPoolExecutor(PINNING) as workers:
            done = list(workers.map(self._pin_one, self._homes(source, address)))
        if all(done):
            self.incidents.mark(case.scope, pinned="yes")

    def _pin_one(self, home: Home) -> bool:
        try:
            return not pin_account(home, self.vaults(home))
        except BackupdError:
            return False


def run_id(account: Account, counts: dict[str, int]) -> str:
    """The id of a removal: another one as soon as anything else would be removed."""
    told = f"{account.source}\n{account.address}\n{sorted(counts.items())}"
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def due_at(case: Case) -> float:
    """When the ladder of a suspected scope is to be climbed next."""
    step = min(int(case.facts.get("probes", "0")), len(BACKOFF) - 1)
    return float(case.facts.get("probed", case.since)) + BACKOFF[step]


def _source_of(case: Case) -> str:
    return case.scope.partition("/")[0]
