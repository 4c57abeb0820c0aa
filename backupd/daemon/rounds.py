"""The jobs that concern no single account: who is there, what is thought of it, is there room."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from backupd.app import Outcome
from backupd.cutoff.verdict import Case
from backupd.daemon.attention import Attended, Stopping
from backupd.daemon.evacuation import evacuate, held, wanted
from backupd.errors import BackupdError
from backupd.home import Home
from backupd.jobs import verifications
from backupd.jobs.keeping import FORGET, PRUNE, Rounds, due, forget_all, prune_all
from backupd.jobs.verifications import Wish
from backupd.marks import mark_of, word
from backupd.report.integrity import chain_of, issue
from backupd.verify.findings import Verification

if TYPE_CHECKING:
    from backupd.daemon.engine import Engine

__all__ = ["discover", "held", "minute"]

log = logging.getLogger(__name__)

MINUTE, SOON = 60.0, 5.0
RETAIN = 600.0
"""Seconds between two looks at whether it is time to forget or prune."""
LEAST_FREE, LEAST_SHARE = 1 << 30, 0.05
"""The disk of the mirrors is low below a GiB, or below a twentieth of it if that is less than 20 GiB."""
ENOUGH = 20 << 30


def discover(engine: Engine, name: str) -> None:
    """Take in the accounts that are new at a source, and notice those that are no longer there."""
    if engine.halted():
        return
    with suppress(Stopping), engine.attention("discover", name) as attention:
        source = Attended(engine.source(name), attention)
        found, broken_off = engine.app.listing(source)
        if engine.halted():
            return
        for account in found:
            if engine.take_in(account):
                log.info("account %s: new", mark_of(name, account.address))
                engine.bulletin.tell("account-found", name, account.address)
        if broken_off:
            _unlisted(engine, name, broken_off)
        else:
            engine.history.discovered(name)
            for outcome in engine.app.vanished(source, found):
                _notice_vanished(engine, outcome)


def forget(engine: Engine) -> None:
    """Forget what [retention] does not keep, when it is due."""
    _retain(engine, FORGET, forget_all)


def prune(engine: Engine) -> None:
    """Free the space of what was forgotten, when it is due."""
    _retain(engine, PRUNE, prune_all)


def _retain(engine: Engine, verb: str, work: Callable[..., Rounds]) -> None:
    """What became of it is noted per storage in the state directory, where `status` and the bell look."""
    if engine.halted() or not due(engine.app, verb):
        return
    with suppress(Stopping), engine.attention(verb, "-") as attention:
        rounds = work(engine.app, check=attention.check)
        failed = sum(bool(each.errors) for each in rounds.results)
        level = logging.WARNING if failed else logging.INFO
        log.log(level, "%s: %d accounts, %d failed", verb, len(rounds.results), failed)


def verify(engine: Engine) -> None:
    """Prove the accounts that are due, one after the other; then a signed report of all, once a day."""
    config = engine.app.config
    found: list[Verification] = []
    for home in verifications.due(engine.app, time.time()):
        if engine.halted() or config.schedule.quiet_now():
            break
        mark = mark_of(home.folder.parent.name, home.address)
        with suppress(Stopping), engine.attention("verify", mark) as attention:
            wish = verifications.in_turn(engine.app, home, time.time())
            found += _verified(engine, home, replace(wish, beat=attention.check))
    chain = chain_of(config.state_dir)
    damaged = any(each.damaged for each in found)
    if found and (damaged or time.time() - chain.made() >= config.schedule.verify):
        try:
            issue(engine.app, (), found)
        except BackupdError as error:
            log.warning("no report was made (%s); `backupd report` says why", word(error.reason))


def _verified(engine: Engine, home: Home, wish: Wish) -> list[Verification]:
    """What came of it is told to those who listen, and kept where `status` looks."""
    source, mark = home.folder.parent.name, mark_of(home.folder.parent.name, home.address)
    try:
        found = list(verifications.verify_account(engine.app, home, wish))
    except BackupdError as error:
        log.warning("account %s: verify failed (%s)", mark, word(error.reason))
        log.debug("account %s: %s", mark, error)
        return []
    except Stopping:
        raise
    except Exception as error:  # a bug costs one account its proof, not the others theirs
        log.error("account %s: verify broke: %s", mark, type(error).__name__)  # noqa: TRY400 - the message may name people
        log.debug("", exc_info=True)
        return []
    bad = [each for each in found if each.exit_code]
    level = logging.ERROR if any(each.damaged for each in bad) else logging.WARNING if bad else logging.INFO  # fmt: skip
    log.log(level, "account %s: verified: %d whole, %d not", mark, len(found) - len(bad), len(bad))
    for event in verifications.told(found):
        engine.bulletin.tell("found", source, home.address, findings=event.findings)
    return found


def _unlisted(engine: Engine, name: str, error: BackupdError) -> None:
    log.warning("source %s: its accounts cannot be listed (%s)", name, word(error.reason))
    log.debug("source %s: %s", name, error)
    engine.history.discovered(name, error.reason)
    engine.bulletin.tell("source-failed", name, error=error)


def _notice_vanished(engine: Engine, outcome: Outcome) -> None:
    """What we care for and are no longer offered: told once, and no longer asked for."""
    scope = f"{outcome.source}/{outcome.address}"
    ward = engine.wards.get(scope)
    if ward is not None:
        log.warning("account %s: no longer among the accounts of its source", ward.mark)
        engine.let_go(scope)
        engine.bulletin.tell(
            "account-vanished", outcome.source, outcome.address, error=outcome.error
        )


def listen(engine: Engine) -> None:
    """Where a source can tell of changes, listen: the next glance then comes at once."""
    if not engine.halted() and engine.app.config.schedule.fast:
        engine.ears.attend(engine)


def minute(engine: Engine) -> None:
    """Once a minute: the probes, what became of the cases, the disk."""
    if engine.halted():
        return
    with engine.attention("watch", "-"):
        engine.app.watch(time.time())
    engine.alarmed = True  # the next look at the cases is seconds away, in one thread at a time
    _look_at_disk(engine)
    engine.bulletin.tell("minute", accounts=len(engine.wards), working=engine.working)


def evacuations(engine: Engine) -> None:
    """Evacuate by itself what [cutoff] says; everything else waits meanwhile."""
    if engine.halted():
        return
    for name in wanted(engine.app, time.time()):
        with suppress(Stopping), engine.attention("evacuate", name, pauses=False) as attention:
            log.warning("source %s: evacuated by itself, as [cutoff] says", name)
            try:
                result = evacuate(engine.app, names=[name], attention=attention)
            except BackupdError as error:
                log.warning("source %s: not evacuated (%s)", name, word(error.reason))
                return
            total, lacking = len(result.run.outcomes), len(result.lacking)
            log.warning(
                "source %s: evacuated, %d of %d accounts whole", name, total - lacking, total
            )


def after_failures(engine: Engine) -> None:
    """Something happened since the last look that may have changed what is thought of an account."""
    if engine.alarmed:
        engine.alarmed = False
        _compare_cases(engine)


def _compare_cases(engine: Engine) -> None:
    """Whoever changed a case, this process or another: those who listen are told."""
    before_all, engine.cases = engine.cases, {}
    for case in engine.app.incidents.cases():
        engine.cases[case.scope] = case
        before = before_all.get(case.scope) or Case(case.scope)
        if (before.state, before.released) == (case.state, case.released):
            continue
        source, _, address = case.scope.partition("/")
        mark = mark_of(source, address) if address else source
        log.warning("%s: %s, was %s (%s)", mark, case.state, before.state, case.cause or "no cause")
        engine.bulletin.tell(
            "state-changed", source, address, scope=case.scope, before=before, after=case
        )


def _look_at_disk(engine: Engine) -> None:
    folder = engine.app.config.state_dir
    usage = shutil.disk_usage(folder)
    low = usage.free < LEAST_FREE or usage.free < min(ENOUGH, usage.total * LEAST_SHARE)
    if low != engine.disk_low:
        engine.disk_low = low
        log.log(
            logging.WARNING if low else logging.INFO,
            "disk of state_dir: %.1f GiB free",
            usage.free / (1 << 30),
        )
        kind = "disk-low" if low else "disk-ok"
        engine.bulletin.tell(kind, free=usage.free, total=usage.total, folder=folder)
