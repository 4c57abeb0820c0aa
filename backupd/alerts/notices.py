"""What is told on the bad day: what happened and to whom, what is safe, what to type next.

Pure words: nothing is read or sent here.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

from backupd.alerts.sending import Message
from backupd.cutoff.incidents import for_deletions
from backupd.cutoff.verdict import FROZEN, Case, Cause, State
from backupd.report.status import Freshness, in_words, oldest

PERSONAL = frozenset({Cause.ACCOUNT, Cause.LICENCE, Cause.CONSENT})
"""Causes that administrators make every day, of one person."""
FEW = 2
"""Accounts of a source that are refused at the same time without being a matter of the whole."""
NAMED = 10
"""Accounts that a message names one by one."""

HAPPENED = {
    Cause.NONE: "the source answers",
    Cause.TRANSIENT: "the source does not answer",
    Cause.THROTTLED: "the source asks us to slow down",
    Cause.CREDENTIAL: "our credentials are no longer accepted",
    Cause.CLIENT: "a request, a clock or the configuration on our side is at fault",
    Cause.CONSENT: "our permission was withdrawn or is blocked",
    Cause.APP: "our application was disabled, deleted or blocked",
    Cause.LICENCE: "the licence is gone, or the mailbox or drive is locked",
    Cause.ACCOUNT: "the account was disabled or deleted",
    Cause.TENANT: "the whole organisation is refused",
    Cause.DELETIONS: "a great part of what was there has been deleted",
    Cause.DOMAIN: "the mail domain is gone, or its mail goes elsewhere",
}
"""Causes as people would say them."""

REMEDY = {
    Cause.TRANSIENT: "Nothing: it is tried again by itself. If it lasts, look at the provider's status page.",
    Cause.THROTTLED: "Nothing: it goes on by itself, more slowly.",
    Cause.CREDENTIAL: "Renew the secret or certificate (or sign in again), then run `backupd doctor`.",
    Cause.CLIENT: "Run `backupd doctor`: it says what is wrong here.",
    Cause.CONSENT: "Ask whoever runs the organisation whether this was meant; `backupd doctor` names the permission.",
    Cause.APP: "Ask whoever runs the organisation whether the application was removed on purpose.",
    Cause.DOMAIN: "Look at the domain at your registrar and at its name servers.",
    Cause.DELETIONS: "Find out who deleted it. `backupd incidents` shows what is held back and how to let it go.",
}
"""What can be done about a cause; the graver ones have their own section."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Runs of one account (or source) that failed in a row; `verb` is `sync` or `snapshot`."""

    verb: str
    scope: str
    count: int
    why: str
    hint: str = ""


def digest(scopes: Sequence[str]) -> str:
    """A short name for a set of scopes."""
    return sha256("\n".join(sorted(scopes)).encode()).hexdigest()[:12]


def of_case(
    cases: Sequence[Case], fresh: Sequence[Freshness], said: str = "", *, calm: bool = False
) -> Message:
    """Cases of one source that came into the same state for the same cause.

    Args:
        fresh: of the accounts concerned.
        said: what the source said, in its own words.
        calm: it looks like the affair of one person: an administrator who deleted an account, say.
    """
    first = cases[0]
    who = _who([case.scope for case in cases])
    subject, level = _quiet_words(first, who) if calm else _words(first, who)
    matter = f"case:{first.state}:{digest([case.scope for case in cases])}"
    steps = _case_steps(first, fresh)
    return Message(matter, subject, _body(_story(first, said), fresh, steps), level)


def is_calm(case: Case, frozen: int) -> bool:
    """Whether a case need not alarm anybody, though nothing of it is removed.

    Args:
        frozen: accounts of the same source that are frozen.
    """
    if for_deletions(case):
        return True
    others = case.facts.get("others") == "answer"
    return others and "/" in case.scope and frozen <= FEW and case.cause in PERSONAL


def _words(case: Case, who: str) -> tuple[str, str]:
    """Subject and level."""
    why = HAPPENED[case.cause]
    return {
        State.SUSPECTED: (f"{who} may have been cut off: {why}", "failure"),
        State.CONFIRMED: (f"CUT OFF: {who}: {why}", "failure"),
        State.DEGRADED: (f"{who}: trouble with backups: {why}", "warning"),
        State.RECOVERED: (f"{who}: accepted again by the source", "success"),
        State.HEALTHY: (f"{who}: backups work again", "success"),
    }[case.state]


def _quiet_words(case: Case, who: str) -> tuple[str, str]:
    """The same where nobody needs to be alarmed."""
    if case.state not in FROZEN:
        return _words(case, who)
    if for_deletions(case):
        return (
            f"{who}: a great deletion waits for your word; until then nothing is removed here",
            "warning",
        )
    source = case.scope.partition("/")[0]
    return f"{who}: {HAPPENED[case.cause]}; the other accounts of {source} answer", "warning"


def still(
    cases: Sequence[Case], fresh: Sequence[Freshness], now: float, *, calm: bool = False
) -> Message:
    """A reminder of what has been frozen for a while."""
    who, first = _who([case.scope for case in cases]), min(case.since for case in cases)
    what = "Still frozen, and waiting for a word of yours" if calm else "Still cut off"
    subject = f"{what}: {who}, since {_moment(first)} ({in_words(max(0, int(now - first)))})"
    story = "This is a reminder. What is frozen stays frozen until the source accepts us again."
    if calm:
        story = "This is a reminder. Nothing of it is removed until you say that it was meant."
    body = _body(story, fresh, _case_steps(cases[0], fresh))
    level = "warning" if calm else "failure"
    return Message(f"still:{digest([case.scope for case in cases])}", subject, body, level)


def of_failures(failures: Sequence[Failure], fresh: Sequence[Freshness]) -> Message:
    """Accounts whose runs fail again and again."""
    scopes = list(dict.fromkeys(each.scope for each in failures))
    verbs = " and ".join(sorted({each.verb for each in failures}))
    least = min(each.count for each in failures)
    subject = f"{_who(scopes)}: {verbs} failed {least} times: {failures[0].why}"
    lines = [
        f"{each.scope}: {each.verb} failed {each.count} times in a row: {each.why}"
        + (f"\n    {each.hint}" if each.hint else "")
        for each in failures[:NAMED]
    ]
    steps = [_status_of(fresh), "backupd doctor", "backupd backup -- once the cause is repaired"]
    return Message(
        f"failing:{digest([*scopes, verbs])}", subject, _body("\n".join(lines), fresh, steps)
    )


def of_repairs(scopes: Sequence[str], fresh: Sequence[Freshness]) -> Message:
    """Accounts whose runs failed, were told of, and work again."""
    subject = f"{_who(scopes)}: backups work again"
    body = _body("The last run ended well.", fresh, ["Nothing needs to be done."])
    return Message(f"repaired:{digest(scopes)}", subject, body, "success")


def of_stale(fresh: Sequence[Freshness], limit: float) -> Message:
    """Accounts whose newest copy is older than it may be."""
    age = oldest(each.worst for each in fresh)
    old = (
        "there is no complete copy yet"
        if age is None
        else f"the newest copy is {in_words(age)} old"
    )
    subject = f"{_who([each.scope for each in fresh])}: {old}"
    story = f"No copy newer than {in_words(int(limit))} is in any vault. Backups have stopped, or do not come to their end."
    steps = [_status_of(fresh), "systemctl status backupd", "backupd backup"]
    return Message(
        f"stale:{digest([each.scope for each in fresh])}", subject, _body(story, fresh, steps)
    )


def of_disk(where: str, free: int, total: int) -> Message:
    """The disk of the mirrors is nearly full."""
    gigabyte = 1e9
    subject = f"The disk of {where} is nearly full: {free / gigabyte:.1f} of {total / gigabyte:.0f} GB free"
    story = (
        "When it is full, nothing new can be saved. What was saved stays where it is, and no run "
        "deletes anything to make room."
    )
    return Message(
        "disk", subject, _body(story, (), [f"du -xh -d 3 {shlex.quote(where)} | sort -h | tail"])
    )


def of_findings(findings: Sequence[tuple[str, str, str]]) -> Message:
    """What a check found: subject, message, hint of each."""
    subject = "".join(f"{name}: {text}" for name, text, _ in findings[:1])
    if len(findings) > 1:
        subject += f" (and {len(findings) - 1} more)"
    story = "\n".join(
        f"{name}: {text}" + (f"\n    {hint}" if hint else "") for name, text, hint in findings
    )
    matter = f"finding:{digest([name + text for name, text, _ in findings])}"
    return Message(matter, subject, _body(story, (), ["backupd doctor"]))


def of_evacuation_begun(scopes: Sequence[str], storages: Sequence[str], began: float) -> Message:
    """Somebody, or the service by itself, began to evacuate accounts."""
    story = (
        "Everything that can still be got out is being got out, what hurts most first, and a snapshot "
        f"of every account then goes to {_listed(storages)}. Other work waits; nothing is removed. "
        "You will be told when it has ended."
    )
    subject = f"The evacuation of {_who(scopes)} has begun"
    steps = ["backupd status", "backupd incidents"]
    return Message(f"evacuation:begun:{began:.0f}", subject, _body(story, (), steps))


def of_evacuation(
    scopes: Sequence[str],
    lacking: Mapping[str, str],
    storages: Sequence[str],
    began: float,
    seconds: float,
) -> Message:
    """An evacuation has ended.

    Args:
        lacking: accounts of which not every storage holds all that was brought out, and why.
    """
    matter, took = f"evacuation:ended:{began:.0f}", in_words(int(seconds))
    if not lacking:
        subject = f"The evacuation of {_who(scopes)} is done: a snapshot of everything is in {_listed(storages)}"
        story = f"It took {took}. All that the source handed out, and all that was held before, is there."
        return Message(matter, subject, _body(story, (), ["backupd status"]), "success")
    subject = (
        f"The evacuation of {_who(scopes)} has ended: {len(lacking)} of {len(scopes)} are NOT complete "
        f"in {_listed(storages)}"
    )
    lines = [f"{scope}: {why}" for scope, why in sorted(lacking.items())[:NAMED]]
    if len(lacking) > NAMED:
        lines.append(f"… and {len(lacking) - NAMED} more")
    story = "\n".join(
        [f"It took {took}. What could be had is saved; these are not complete:", *lines]
    )
    return Message(
        matter, subject, _body(story, (), ["backupd status", "backupd evacuate"]), "failure"
    )


# -- parts ------------------------------------------------------------------------------------


def _listed(storages: Sequence[str]) -> str:
    return " and ".join(storages) or "NO storage, since none is configured"


def _who(scopes: Sequence[str]) -> str:
    """`alice@example.org`, `all of contoso`, `12 accounts of contoso`."""
    source, slash, address = scopes[0].partition("/")
    if len(scopes) == 1:
        return address if slash else f"all of {source}"
    sources = sorted({scope.partition("/")[0] for scope in scopes})
    return f"{len(scopes)} accounts of {', '.join(sources)}"


def _story(case: Case, said: str) -> str:
    lines = [f"Since {_moment(case.since)}: {HAPPENED[case.cause]}."]
    if case.state is State.HEALTHY or case.state is State.RECOVERED:
        lines = [f"Since {_moment(case.since)} the source answers as it should."]
    if said and case.state not in {State.HEALTHY, State.RECOVERED}:
        lines.append(f"It said: {said}")
    if case.state is State.SUSPECTED:
        lines.append(
            "This is a suspicion: backupd goes on asking, and tells when it is sure or when it was wrong."
        )
    if case.frozen and case.facts.get("second") == "good":
        lines.append(
            "Another source still opens this mailbox: what is new goes on being saved there."
        )
    if case.frozen:
        lines.append(
            "FROZEN: nothing of it is removed, replaced, forgotten or pruned, here or in any vault."
        )
    return "\n".join(lines)


def _case_steps(case: Case, fresh: Sequence[Freshness]) -> list[str]:
    if case.state in {State.HEALTHY, State.RECOVERED}:
        return [_status_of(fresh)]
    steps = [_status_of(fresh), "backupd incidents"]
    if case.frozen:
        address = shlex.quote(fresh[0].address) if fresh else "ADDRESS"
        steps.append(f"backupd restore --account {address} --to TARGET --dry-run")
    remedy = REMEDY.get(case.cause)
    source, slash, address = case.scope.partition("/")
    if slash and case.cause in PERSONAL:
        steps.append(
            f'If it was meant: add "!{address}" to `accounts` of [sources.{source}]. What is held of it stays.'
        )
    return [*steps, *([remedy] if remedy else [])]


def _status_of(fresh: Sequence[Freshness]) -> str:
    named = [shlex.quote(each.address) for each in fresh] if len(fresh) <= NAMED else []
    return " ".join(["backupd status", *named])


def _body(story: str, fresh: Sequence[Freshness], steps: Sequence[str]) -> str:
    parts = [("What happened", story.splitlines())]
    if fresh:
        parts.append(("What is safe", _safe(fresh)))
    parts.append(("What to type next", list(steps)))
    return "\n\n".join(
        "\n".join([title, *(f"  {line}" for line in lines)]) for title, lines in parts
    )


def _safe(fresh: Sequence[Freshness]) -> list[str]:
    lines = []
    if len(fresh) > 1:
        bare = sum(not each.copies for each in fresh)
        worst = oldest(each.worst for each in fresh if each.copies and each.worst is not None)
        if worst is not None:
            lines.append(f"All together: everything up to {in_words(worst)} ago is in a vault.")
        if bare:
            lines.append(
                f"{bare} of {len(fresh)} accounts have NO copy in any vault, only the mirror on this machine."
            )
    lines += [_line(each) for each in fresh[:NAMED]]
    if len(fresh) > NAMED:
        lines.append(f"… and {len(fresh) - NAMED} more: `backupd status` names them all.")
    return lines


def _line(fresh: Freshness) -> str:
    """`alice@example.org: mail up to 3 min ago, …; newest copies: primary 2 min old, …`."""
    spans: dict[str, list[str]] = {}
    for service, age in fresh.protected.items():
        spans.setdefault(
            "NOT in a vault" if age is None else f"up to {in_words(age)} ago", []
        ).append(service)
    parts = [f"{', '.join(services)} {span}" for span, services in spans.items()]
    copies = ", ".join(f"{copy.storage} {in_words(copy.age)} old" for copy in fresh.copies)
    return (
        f"{fresh.address}: {'; '.join(parts) or 'nothing yet'}. Newest copies: {copies or 'NONE'}."
    )


def _moment(when: float) -> str:
    return f"{datetime.fromtimestamp(when, UTC):%Y-%m-%d %H:%M} UTC"


def by_scope(fresh: Mapping[str, Freshness], scopes: Sequence[str]) -> list[Freshness]:
    """The accounts that scopes mean: one each, or all of a source."""
    return [
        each for scope, each in sorted(fresh.items()) if scope in scopes or each.source in scopes
    ]
