"""The incidents: what is thought of every source and account, and on what evidence.

One folder, `<state_dir>/incidents`, that outlives every process and can be read with a pager:

    SOURCE.json, SOURCE.jsonl                     the case of a whole source, and its evidence
    SOURCE/ADDRESS.json, SOURCE/ADDRESS.jsonl     the same of one account
    SOURCE/ADDRESS.stopped                        the removal that the guard stopped last

A scope without a file is healthy: most accounts never get one. Every file is replaced as a whole,
so whoever reads sees the state before or after, and needs no lock.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from backupd.cutoff.verdict import Case, Cause, Evidence, Lasting, Patience, State, judge
from backupd.errors import IntegrityError, UserError
from backupd.locks import exclusive
from backupd.mirror import names

EVIDENCE_KEPT = 2_000
"""Lines of evidence kept of a scope; the oldest go first."""
EVIDENCE_BYTES = 1 << 20
"""An evidence file is looked at for lines to drop once it is larger than this."""
PATIENCE = 30.0
"""Seconds that a writer waits for the other writers: they hold the lock for milliseconds."""
STOPPED = ".stopped"
"""How the file of a stopped removal ends."""
SAID_BYTES = 500
"""Of a sentence, at most: servers are free to say a lot."""


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal that the guard stopped.

    Attributes:
        run: the id by which it is approved; the same as long as the same is to be removed.
        counts: items by service that would be removed.
        who: approved it, or "".
        used: a sync has done it, or it no longer waits.
    """

    run: str
    source: str
    address: str
    counts: Mapping[str, int] = field(default_factory=dict)
    when: float = 0.0
    who: str = ""
    used: bool = False

    @property
    def approved(self) -> bool:
        """Whether the next sync may do it."""
        return bool(self.who) and not self.used


class Incidents:
    """The store; safe for any number of threads and processes.

    Every method that writes raises TransientError(reason="busy") when others do not let go.
    """

    def __init__(self, state_dir: Path, patience: Patience | None = None) -> None:
        self.folder = state_dir / "incidents"
        self._patience = patience or Patience()

    # -- cases --------------------------------------------------------------------------------

    def case(self, scope: str) -> Case:
        """What is thought of a scope, `SOURCE` or `SOURCE/ADDRESS`; healthy when unknown.

        Raises IntegrityError when its file cannot be read: a lost freeze must not look like health.
        """
        stored = _load(self._path(scope, ".json"))
        return _case(stored) if stored else Case(scope)

    def cases(self) -> list[Case]:
        """Every scope that something was heard of, sources before their accounts."""
        found = [*self.folder.glob("*.json"), *self.folder.glob("*/*.json")]
        stored = [_load(path) for path in found]
        return sorted((_case(each) for each in stored if each), key=lambda case: case.scope)

    def hear(self, scope: str, evidence: Evidence) -> tuple[Case, Case]:
        """Judge one more answer and keep it; the case before and after.

        Good answers of a healthy scope change nothing and are not kept.
        """
        if evidence.cause is Cause.NONE and self.case(scope) == Case(scope):
            return Case(scope), Case(scope)  # most answers by far: nothing is locked for them
        with self._writing():
            before = self.case(scope)
            after = judge(before, evidence, self._patience)
            if evidence.cause is Cause.NONE and before.state is after.state is State.HEALTHY:
                if before.weak or before.grave:
                    self._save(scope, replace(after, good=0))
                return before, after
            self._append(scope, evidence)
            self._save(scope, after)
        return before, after

    def note(self, scope: str, evidence: Iterable[Evidence]) -> None:
        """Keep answers that were given, without judging by them."""
        with self._writing():
            for each in evidence:
                self._append(scope, each)

    def mark(self, scope: str, **facts: str) -> Case:
        """Write facts beside a case, such as when it was probed last."""
        with self._writing():
            case = self.case(scope)
            case = replace(case, facts={**case.facts, **facts})
            self._save(scope, case)
        return case

    def evidence(self, scope: str, newest: int = 50) -> list[Evidence]:
        """The newest answers about a scope, oldest of them first."""
        lines = _lines(self._path(scope, ".jsonl"))
        return [_evidence(each) for each in map(_parsed, lines[-newest:]) if each]

    def frozen(self, source: str, address: str) -> Case | None:
        """The account's case if it is frozen, or that of its whole source, else None."""
        for scope in (f"{source}/{address}", source):
            case = self.case(scope)
            if case.frozen:
                return case
        return None

    def release(self, scope: str, who: str, reason: str, now: float) -> Case:
        """Lift a freeze by hand; it stays lifted until the scope has recovered.

        Raises UserError when it is not frozen.
        """
        with self._writing():
            case = self.case(scope)
            if not case.frozen:
                raise UserError(
                    f"{scope} is not frozen: it is {case.state}.",
                    hint="`backupd incidents` lists what is frozen. An account may be frozen by the "
                    "case of its whole source; release that one, then.",
                    reason="not-frozen",
                )
            said = f"Released by {who}: {reason}"[:SAID_BYTES]
            self._append(scope, Evidence(now, "release", Cause.NONE, said=said))
            case = replace(case, released=f"{who}: {reason}"[:SAID_BYTES])
            self._save(scope, case)
        return case

    # -- removals that the guard stopped ------------------------------------------------------

    def stop(self, removal: Removal) -> Removal:
        """Keep a removal that was stopped; the same one, stopped again, keeps its approval."""
        with self._writing():
            known = self.removal(removal.source, removal.address)
            if known and known.run == removal.run and not known.used:
                return known
            self._keep(removal)
        return removal

    def removal(self, source: str, address: str) -> Removal | None:
        """The removal of an account that was stopped last, used or not."""
        stored = _load(self._path(scope_of(source, address), STOPPED))
        return Removal(**stored) if stored else None

    def removals(self) -> list[Removal]:
        """Every removal that waits for a person or for the next sync, oldest first."""
        stored = [_load(path) for path in self.folder.glob(f"*/*{STOPPED}")]
        found = [Removal(**each) for each in stored if each]
        return sorted((each for each in found if not each.used), key=lambda each: each.when)

    def approve(self, source: str, address: str, run: str, who: str) -> None:
        """Let the next sync of an account do exactly what the guard stopped.

        Raises UserError when no such removal of this account waits.
        """
        with self._writing():
            found = self.removal(source, address)
            if not found or found.used or found.run != run:
                raise UserError(
                    f"No removal {run} of {scope_of(source, address)} waits for approval.",
                    hint="`backupd incidents` lists those that do. A removal that has grown has "
                    "another id: look again before you approve it.",
                    reason="no-removal",
                )
            self._keep(replace(found, who=who))

    def approved(self, source: str, address: str) -> str | None:
        """The id of the removal that the next sync of an account may do."""
        found = self.removal(source, address)
        return found.run if found and found.approved else None

    def settled(self, source: str, address: str) -> None:
        """The removal that waited is no more: it was done, or the items are back."""
        with self._writing():
            found = self.removal(source, address)
            if found and not found.used:
                self._keep(replace(found, used=True))

    # -- files --------------------------------------------------------------------------------

    @contextmanager
    def _writing(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with exclusive(self.folder / "lock", "the incidents", patience=PATIENCE):
            yield

    def _path(self, scope: str, suffix: str) -> Path:
        source, slash, address = scope.partition("/")
        words = [names.component(word) for word in ((source, address) if slash else (source,))]
        return self.folder.joinpath(*words[:-1], words[-1] + suffix)

    def _keep(self, removal: Removal) -> None:
        _store(self._path(scope_of(removal.source, removal.address), STOPPED), asdict(removal))

    def _save(self, scope: str, case: Case) -> None:
        _store(self._path(scope, ".json"), asdict(case))

    def _append(self, scope: str, evidence: Evidence) -> None:
        path = self._path(scope, ".jsonl")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        brief = replace(evidence, said=evidence.said[:SAID_BYTES], code=evidence.code[:SAID_BYTES])
        with path.open("a", encoding="utf-8") as file:
            cut = file.tell() and path.read_bytes()[-1:] != b"\n"
            file.write("\n" * bool(cut) + json.dumps(asdict(brief), ensure_ascii=False) + "\n")
        if path.stat().st_size > EVIDENCE_BYTES or len(_lines(path)) > EVIDENCE_KEPT:
            _replace(path, "".join(f"{line}\n" for line in _lines(path)[-EVIDENCE_KEPT:]))


def scope_of(source: str, address: str = "") -> str:
    """The scope of an account, or of a whole source."""
    return f"{source}/{address}" if address else source


def for_deletions(case: Case) -> bool:
    """Whether nothing but deletions made it suspected: then an approval of these is enough."""
    return case.cause is Cause.DELETIONS and not case.facts.get("refused")


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    return [line for line in text.split("\n") if line]


def _parsed(line: str) -> dict[str, Any]:
    """A line of evidence; one cut short by a power failure was never heard."""
    try:
        return dict(json.loads(line))
    except ValueError:
        return {}


def _load(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError) as error:
        raise IntegrityError(
            f"{path} is damaged.",
            hint="Its evidence lies beside it, in the file that ends in .jsonl. Move the damaged file "
            "away to begin anew; until then the scope counts as unknown and nothing goes on.",
        ) from error


def _store(path: Path, stored: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    _replace(path, json.dumps(stored, indent=1, ensure_ascii=False) + "\n")


def _replace(path: Path, text: str) -> None:
    """Durable: a freeze must survive the power failure that follows it."""
    fresh = path.with_name(f".{path.name}.new")
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _case(stored: dict[str, Any]) -> Case:
    lasting = dict(stored.get("lasting", {}))
    if lasting:
        lasting["cause"] = Cause(lasting["cause"])
    known = {"state": State(stored["state"]), "cause": Cause(stored["cause"])}
    return Case(**stored | known | {"lasting": Lasting(**lasting)})


def _evidence(stored: dict[str, Any]) -> Evidence:
    return Evidence(**stored | {"cause": Cause(stored["cause"])})
