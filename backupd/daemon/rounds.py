"""The jobs that concern no single account: who is there, what is thought of it, is there room."""

from __future__ import annotations

import logging
import shutil
import time

from backupd.daemon.attention import Attended
from backupd.daemon.engine import Engine
from backupd.daemon.evacuation import held
from backupd.daemon.logs import mark_of
from backupd.errors import BackupdError
from backupd.incidents import Incidents
from backupd.model import Account

__all__ = ["discover", "held", "minute"]

log = logging.getLogger(__name__)

MINUTE = 60.0
LEAST_FREE, LEAST_SHARE = 1 << 30, 0.05
"""The disk of the mirrors is low below a GiB, or below a twentieth of it if that is less than 20 GiB."""
ENOUGH = 20 << 30


def discover(engine: Engine, name: str) -> None:
    """Take in the accounts that are new at a source, and notice those that are no longer there."""
    if engine.halted:
        return
    found: list[Account] = []
    with engine.attention("discover", name) as attention:
        try:
            found.extend(Attended(engine.source(name), attention).accounts())
        except BackupdError as error:
            if not engine.halted:
                _unlisted(engine, name, error)
            complete = False
        else:
            engine.history.discovered(name)
            complete = True
    for account in found:
        if engine.take_in(account):
            log.info("account %s: new", mark_of(name, account.address))
            engine.bulletin.tell("account-found", name, account.address)
    if complete:
        _notice_vanished(engine, name, {each.address for each in found})


def _unlisted(engine: Engine, name: str, error: BackupdError) -> None:
    log.warning("source %s: its accounts cannot be listed (%s)", name, error.reason)
    log.debug("source %s: %s", name, error)
    engine.history.discovered(name, error.reason)
    engine.bulletin.tell("source-failed", name, error=error)


def _notice_vanished(engine: Engine, name: str, present: set[str]) -> None:
    """What we care for and are no longer offered is an incident, not an absence."""
    for scope, ward in tuple(engine.wards.items()):
        account = ward.account
        if account.source == name and account.address not in present:
            log.warning("account %s: no longer among the accounts of its source", ward.mark)
            engine.let_go(scope)
            engine.bulletin.tell("account-vanished", name, account.address)


def minute(engine: Engine) -> None:
    """Once a minute: the probes, what became of the cases, the disk."""
    if engine.halted:
        return
    with engine.attention("watch", "-"):
        engine.app.watch(time.time())
    _compare_cases(engine)
    _look_at_disk(engine)
    engine.bulletin.tell("minute", accounts=len(engine.wards), working=engine.working)


def _compare_cases(engine: Engine) -> None:
    """Whoever changed a case, this process or another: those who listen are told."""
    for case in Incidents(engine.app.config.state_dir).cases():
        before = engine.cases.get(case.scope)
        engine.cases[case.scope] = case
        if before is None or (before.state, before.released) == (case.state, case.released):
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
