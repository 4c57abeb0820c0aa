"""Composition of verify: which levels, of which accounts, in which storages."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import combinations

from backupd.alerts.tidings import Found
from backupd.app import App
from backupd.errors import BackupdError, ItemError, UserError
from backupd.home import Home
from backupd.jobs.drill import AMPLE, SPARE, drill
from backupd.ports import Finding
from backupd.vaults.vault import Vault
from backupd.verify import CONTENT, DRILL, LISTING, NAMES, PACKS, SOURCE, USUAL
from backupd.verify.content import verify_content
from backupd.verify.crosscheck import CrossCheck, crosscheck
from backupd.verify.findings import Flaw, Verification
from backupd.verify.listing import verify_listing
from backupd.verify.mirror import verify_mirror
from backupd.verify.packs import verify_packs
from backupd.verify.record import Record, changing, read_record
from backupd.verify.rolling import Pace
from backupd.verify.source import SourceCheck, verify_source

MIRROR = "mirror"
"""What `--storage` calls the copy on this machine."""

FIRST = 3600.0
"""Seconds that a new account has for its first sync and snapshot before it is verified."""

LATER = "Run `backupd sync`, then verify again: what arrived meanwhile is a difference too."


@dataclass(frozen=True, slots=True)
class Wish:
    """What shall be verified.

    Attributes:
        storage: only this one; `MIRROR` for none but the mirror.
        everything: not only the share that is due.
        to: where a drill goes; see `drill.drill`.
        spare: how many times an account's size must be free for a drill into a scratch folder.
        beat: called all the while; what it raises ends the verification.
    """

    levels: Sequence[int] = USUAL
    storage: str | None = None
    everything: bool = False
    to: str = ""
    spare: float = SPARE
    beat: Callable[[], None] = lambda: None


def due(app: App, now: float) -> list[Home]:
    """The accounts whose last verification is longer ago than it may be, the longest ago first."""
    homes = [home for home in app.homes() if home.account() is not None]
    when = {home.folder: verified_at(home, app.config.schedule.verify) for home in homes}
    late = [home for home in homes if not 0 <= now - when[home.folder] < app.config.schedule.verify]
    return sorted(late, key=lambda home: when[home.folder])


def in_turn(app: App, home: Home, now: float) -> Wish:
    """What the service verifies of an account that is due: the usual levels, and from time to time the others."""
    last = read_record(home).last.values()

    def late(level: int, every: float) -> bool:
        return bool(every) and now - max((each.began for each in last if each.level == level), default=0.0) >= every  # fmt: skip

    rare = ((SOURCE, app.config.verify.source), (DRILL, app.config.verify.drill))
    levels = (*USUAL, *(level for level, every in rare if late(level, every)))
    return Wish(levels, spare=AMPLE)


def verified_at(home: Home, interval: float) -> float:
    """When an account was last verified at the usual levels; one that is new is given its first hour."""
    last = read_record(home).last
    began = max((each.began for each in last.values() if each.level in USUAL), default=0.0)
    return began or (home.folder / "account.json").stat().st_mtime + FIRST - interval


def verify(
    app: App,
    patterns: Sequence[str],
    wish: Wish,
    hear: Callable[[Verification], None] = lambda _: None,
) -> list[Verification]:
    """Verify every account that matches, `limits.workers` at a time; `hear` is told of each at once.

    Raises UserError when no account matches, or there is no such storage.
    """
    homes = app.homes(patterns)
    if not homes:
        raise UserError(
            f"No account matches {' '.join(patterns)}." if patterns else "No account is held yet.",
            hint="`backupd accounts` lists them, `backupd backup` saves them.",
            reason="which-account",
        )
    if wish.storage and wish.storage != MIRROR:
        app.vault(homes[0], wish.storage)

    def one(home: Home) -> list[Verification]:
        return list(verify_account(app, home, wish, hear))

    with ThreadPoolExecutor(app.config.limits.workers) as workers:
        results = [each for found in workers.map(one, homes) for each in found]
    if SOURCE in wish.levels:
        results += [_crossed(*pair) for pair in _pairs(homes)]
    return results


def told(found: Sequence[Verification]) -> Iterator[Found]:
    """What the bell shall hear: damage, account by account, with what to type next."""
    findings = [
        Finding("error", each.address, _alarm(each), each.flaws[0].hint)
        for each in found
        if each.damaged and each.flaws
    ]
    if findings:
        yield Found(tuple(findings))


def _alarm(found: Verification) -> str:
    first = next((each for each in found.flaws if each.damage), found.flaws[0])
    more = f" (and {found.flawed - 1} more)" if found.flawed > 1 else ""
    return f"verify found DAMAGE at level {found.level}, {NAMES[found.level]}: {first.what}{more}"


def verify_account(
    app: App, home: Home, wish: Wish, hear: Callable[[Verification], None] = lambda _: None
) -> Iterator[Verification]:
    """Verify one account and record it. Raises TransientError(reason="busy")."""
    with changing(home) as record:
        for level in wish.levels:
            for found in _level(app, home, wish, record, level):
                record.take(found)
                hear(found)
                yield found


def _level(app: App, home: Home, wish: Wish, record: Record, level: int) -> Iterator[Verification]:
    schedule, period = app.config.schedule.verify, app.config.verify.read_all
    pace = Pace(time.time(), period, schedule, wish.everything, wish.beat)
    scratch = app.config.state_dir / "tmp"
    if level == SOURCE:
        wish.beat()
        yield _at_source(app, home)
        return
    if level == LISTING and wish.storage in {None, MIRROR}:
        yield verify_mirror(home, record, pace)
    for vault in _vaults(app, home, wish):
        if level == LISTING:
            yield verify_listing(home, vault, record, pace, scratch)
        elif level == PACKS:
            yield verify_packs(home, vault, record, pace)
        elif level == CONTENT:
            yield verify_content(home, vault, record, pace, scratch)
        elif level == DRILL:
            yield drill(app, home, vault.storage, wish.to, spare=wish.spare, beat=wish.beat)


def _vaults(app: App, home: Home, wish: Wish) -> list[Vault]:
    """Those that are meant; a drill without a storage named is about the first."""
    return [each for each in app.vaults(home) if wish.storage in {None, each.storage}]


def _at_source(app: App, home: Home) -> Verification:
    name = home.folder.parent.name
    found = Verification(home.address, name, SOURCE)
    began = time.monotonic()
    account = home.account()
    try:
        if account is None or name not in app.config.sources:
            raise UserError(
                f"{home.address} has no source any more: [sources.{name}] is not in the configuration.",
                hint="Levels 1 to 3 and 5 need no source.",
                reason="no-source",
            )
        with app.source(name) as source:
            _judge_source(verify_source(source, account, home), found)
    except BackupdError as error:
        found.broken_off(error)
    found.seconds = time.monotonic() - began
    return found


def _judge_source(check: SourceCheck, found: Verification) -> None:
    found.items = check.same + check.alike + check.differing
    found.facts.update(folders=check.folders, same=check.same, alike=check.alike, gone=check.gone, unreadable=check.unreadable)  # fmt: skip
    for count in check.counts:
        what = f"{count.path} holds {count.held} items; the source counts {count.counted}."
        found.note(Flaw("count", count.path, what, LATER, damage=False))
        found.facts["error"] = ItemError.exit_code
    for path in check.named:
        found.note(Flaw("differs", path, f"{path} differs from what the source hands out now.", LATER))  # fmt: skip


def _pairs(homes: Sequence[Home]) -> list[tuple[Home, Home]]:
    """Two homes of one address are two ways to one mailbox."""
    return [pair for pair in combinations(homes, 2) if pair[0].address == pair[1].address]


def _crossed(first: Home, second: Home) -> Verification:
    other = second.folder.parent.name
    found = Verification(first.address, first.folder.parent.name, SOURCE, f"against {other}")
    began = time.monotonic()
    try:
        _judge_crossed(crosscheck(first, second), found)
        with changing(first) as record:
            record.take(found)
    except BackupdError as error:
        found.broken_off(error)
    found.seconds = time.monotonic() - began
    return found


def _judge_crossed(check: CrossCheck, found: Verification) -> None:
    found.items = check.compared
    found.facts.update(asdict(check))
    found.facts["error"] = ItemError.exit_code
    for line in check.named:
        found.note(Flaw("crossed", check.address, line, LATER, damage=line.startswith("differs")))
