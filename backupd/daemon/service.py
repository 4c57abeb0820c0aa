"""The process: from a configuration to READY, signals, reloading, the watchdog, and a clean end."""

from __future__ import annotations

import logging
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from backupd import __version__, config
from backupd.alerts.bell import Bell
from backupd.app import App
from backupd.daemon import logs
from backupd.daemon.engine import Engine
from backupd.daemon.events import Bulletin, Listener
from backupd.daemon.history import History
from backupd.daemon.notify import notify, reloading, watchdog_seconds
from backupd.errors import BackupdError, ConfigError, UserError
from backupd.law.acceptance import require_storages
from backupd.locks import exclusive
from backupd.report.metrics import Exporter

log = logging.getLogger(__name__)

TICK = 1.0
"""Seconds between two looks at everything."""
STOP_WITHIN, LEAVE_WITHIN = 15.0, 19.0
"""Seconds that jobs get to reach a safe point, and that everything gets to end."""
RELOAD_WITHIN = 5.0
"""Seconds that those who listen to the old configuration get to tell what they still know."""
STATUS_EVERY = 5.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

Subscribe = Callable[[App, ExitStack], list[Listener]]
"""Makes the listeners of a configuration; what they need closed at the end goes onto the stack."""


def listeners(app: App, closing: ExitStack) -> list[Listener]:
    """Whoever listens in a real service: the bell, and the figures (their port is freed first)."""
    bell, figures = Bell(app), Exporter(app)
    closing.callback(bell.close)
    closing.callback(figures.close)
    return [bell.listen, figures.listen]


def serve(path: Path, *, debug: bool = False, subscribe: Subscribe = listeners) -> int:
    """Run until SIGTERM or SIGINT; the exit code.

    Raises ConfigError or UserError when it cannot begin: nothing was started then.
    """
    logs.begin(debug=debug)
    app = prepared(path)
    with _signals() as heard, exclusive(app.config.state_dir / "service.lock", "the service"):
        service = Service(path, app, subscribe)
        if not service.run(heard):
            sys.stderr.flush()
            os._exit(0)  # a thread that waits for somebody else's answer must not hold us up
    return 0


def prepared(path: Path) -> App:
    """A configuration with which work can begin, tried out as far as this machine is concerned.

    Raises ConfigError or UserError.
    """
    app = App(config.load(path))
    if not app.config.sources or not app.config.storage:
        raise ConfigError(
            "The service needs a [sources.NAME] and a [storage.NAME].",
            hint="`backupd init` writes both.",
        )
    require_storages(app.config)
    for section in app.config.sources.values():
        _read_secrets(section)
    for storage in app.config.storage.values():
        storage.password_source()
        storage.environment()
    app.restic.require()
    _make(app.config.state_dir)
    return app


def _read_secrets(section: config.SourceSection) -> None:
    """Every secret of a source is there and can be read. Raises ConfigError."""
    if isinstance(section, config.Imap) and section.auth == "password":
        for mailbox in section.everyone:
            section.password(mailbox)
    else:
        _ = section.client_secret


class Service:
    """One process: an engine, and what is around it."""

    def __init__(self, path: Path, app: App, subscribe: Subscribe) -> None:
        self._path = path
        self._subscribe = subscribe
        self._history = History(app.config.state_dir / "service.json")
        self._listening = ExitStack()
        self._engine = self._begun(app)
        self._told = ""
        self._told_at = 0.0

    def run(self, heard: Callable[[float], set[int]]) -> bool:
        """Look after the engine until told to stop; whether every job ended in time."""
        dog = watchdog_seconds()
        notify(READY=1, STATUS=self._engine.words, MAINPID=os.getpid())
        while True:
            signals = heard(TICK)
            if signals & {signal.SIGTERM, signal.SIGINT}:
                return self._end()
            if signal.SIGHUP in signals:
                self._reload()
            self._engine.look()
            self._save()
            if dog and self._engine.healthy:
                notify(WATCHDOG=1)
            self._tell_status()

    def _begun(self, app: App) -> Engine:
        bulletin = Bulletin(self._subscribe(app, self._listening))
        engine = Engine(app, self._history, bulletin)
        engine.start()
        log.info(
            "backupd %s: %d accounts known of %d sources; sync every %.0f s, at the urgent every %.0f s, "
            "snapshot every %.0f s",
            __version__,
            len(engine.wards),
            len(app.config.sources),
            app.config.schedule.sync,
            app.config.schedule.fast,
            app.config.schedule.snapshot,
        )
        bulletin.tell("started", accounts=len(engine.wards))
        return engine

    def _reload(self) -> None:
        """Take on the configuration as it is now, or keep the old one when it is not valid."""
        reloading()
        try:
            app = prepared(self._path)
            if app.config.state_dir != self._engine.app.config.state_dir:
                raise ConfigError("state_dir cannot change while the service runs: restart it.")
        except BackupdError as error:
            log.error("not reloaded, the old configuration stays in force: %s", error)  # noqa: TRY400
        else:
            if not self._engine.stop(STOP_WITHIN):
                log.warning("some jobs of the old configuration are still ending")
            self._stop_listening(RELOAD_WITHIN)
            self._engine = self._begun(app)
            self._history.forget(set(self._engine.wards))
            log.info("reloaded")
        notify(READY=1, STATUS=self._engine.words)

    def _end(self) -> bool:
        notify(STOPPING=1, STATUS="stopping at the next safe point")
        log.info("stopping")
        self._engine.bulletin.tell("stopping", accounts=len(self._engine.wards))
        until = time.monotonic() + LEAVE_WITHIN
        clean = self._engine.stop(STOP_WITHIN)
        self._stop_listening(max(1.0, until - time.monotonic()))
        self._history.stopped()
        if clean:
            log.info("stopped")
        else:
            log.warning("leaving %d jobs unfinished; the next start goes on", self._engine.working)
        return clean

    def _stop_listening(self, seconds: float) -> None:
        """Let those who listen tell what is still to be told, for a while."""
        closer = threading.Thread(target=self._listening.pop_all().close, name="quiet", daemon=True)
        closer.start()
        closer.join(seconds)

    def _save(self) -> None:
        try:
            self._history.save()
        except OSError as error:
            log.warning("service.json cannot be written: %s", error.strerror)

    def _tell_status(self) -> None:
        words = self._engine.words
        if words != self._told and time.monotonic() - self._told_at >= STATUS_EVERY:
            self._told, self._told_at = words, time.monotonic()
            notify(STATUS=words)


@contextmanager
def _signals() -> Iterator[Callable[[float], set[int]]]:
    """Signals as numbers out of a pipe: handlers that did anything else could meet their own locks."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    before = {number: signal.signal(number, lambda *_: None) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)

    def heard(seconds: float) -> set[int]:
        ready, _, _ = select.select([reader], [], [], seconds)
        return set(os.read(reader, 4096)) if ready else set()

    try:
        yield heard
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(reader)
        os.close(writer)


def _make(folder: Path) -> None:
    """The state directory, ours to write to. Raises UserError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        trial = folder / ".service.trial"
        trial.write_bytes(b"")
        trial.unlink()
    except OSError as error:
        raise UserError(
            f"Cannot write {folder}: {error.strerror}.",
            hint="state_dir must be a folder that the user running backupd may write to.",
            reason="not-writable",
        ) from error
