"""Connections to one mailbox that come back when they are lost, with a fresh token where one is needed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import stamina

from backupd.cutoff.verdict import cause_of
from backupd.errors import AuthError, TransientError
from backupd.imap.connect import Login
from backupd.imap.session import Selected, Session, open_session
from backupd.imap.wire import Answer, Dropped
from backupd.meters import CONNECTION, DONE, Meter

T = TypeVar("T")

TRIES = 4
STALE = 20.0
"""Seconds after which an idle connection is asked whether it still lives."""
IDLE = 8
"""Connections that are kept open for later, over all mailboxes of a source."""


class Refused(Exception):
    """A folder cannot be opened; `answer` says why."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.words)
        self.answer = answer


class Lane:
    """One connection, opened when it is needed. Not thread-safe.

    Args:
        renew: gets a new secret after a refusal; whether there is one.
        meter: counts what is asked.
    """

    def __init__(self, login: Login, renew: Callable[[], bool], meter: Meter | None = None) -> None:
        self.login, self._renew = login, renew
        self._meter = meter or Meter()
        self._session: Session | None = None
        self._raw = b""
        self._opened: Selected | None = None
        self._used = 0.0

    def close(self) -> None:
        """Say goodbye; a later call opens it again."""
        session, self._session, self._opened = self._session, None, None
        if session is not None:
            session.close()

    def session(self) -> Session:
        """The connection, logged in. Raises AuthError, UserError, TransientError."""
        if self._session is not None and time.monotonic() - self._used > STALE:
            try:
                self._session.noop()
            except Dropped:
                self.close()
        if self._session is None:
            self._session = self._connected()
            self._session.enable("QRESYNC")
        self._used = time.monotonic()
        return self._session

    def examine(self, raw: bytes, *, anew: bool = False) -> tuple[Session, Selected]:
        """The connection with a folder open, read-only. Raises Refused as well."""
        session = self.session()
        if anew or self._opened is None or self._raw != raw:
            self._opened = None
            opened = session.examine(raw)
            if isinstance(opened, Answer):
                raise Refused(opened)
            self._raw, self._opened = raw, opened
        return session, self._opened

    def leave(self) -> None:
        """Close what is open: of an open folder some servers tell the state in which this session saw it last."""
        if self._opened is not None and self._session is not None:
            self._opened = None
            if self._session.can("UNSELECT"):
                self._session.unselect()
            else:
                self._session.noop()

    def ask(self, work: Callable[[Session], T], raw: bytes = b"", validity: int = 0) -> T:
        """Do something that can be done again, with a folder open or none; again when the connection breaks.

        Raises TransientError when the folder was numbered anew meanwhile.
        """
        for attempt in stamina.retry_context(
            Dropped, attempts=TRIES, timeout=60.0, wait_initial=0.1, wait_max=5.0
        ):
            with attempt:
                if attempt.num > 1:
                    self._meter.retry()
                try:
                    done = work(self._ready(raw, validity))
                except Dropped:
                    self._meter.count(CONNECTION)
                    self.close()
                    raise
                self._meter.count(DONE)
                return done
        raise AssertionError  # the loop ends by itself

    def _ready(self, raw: bytes, validity: int) -> Session:
        if not raw:
            return self.session()
        session, opened = self.examine(raw)
        if validity and opened.validity != validity:
            self.close()
            raise TransientError("The server numbered a folder anew while it was read.")
        return session

    def _connected(self) -> Session:
        for attempt in stamina.retry_context(
            TransientError, attempts=TRIES, timeout=90.0, wait_initial=0.2, wait_max=10.0
        ):
            with attempt:
                if attempt.num > 1:
                    self._meter.retry()
                try:
                    return self._open()
                except AuthError:
                    if not self._renew():
                        raise
                    return self._open()
        raise AssertionError  # the loop ends by itself

    def _open(self) -> Session:
        outcome = CONNECTION
        try:
            session = open_session(self.login)
            outcome = DONE
        except AuthError as error:
            outcome = cause_of(error).value
            raise
        finally:
            self._meter.count(outcome)
        return session


class Lanes:
    """The connections of a source; those not in use are kept for the next one who asks. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[tuple[str, Lane]] = []

    @contextmanager
    def borrowed(self, key: str, make: Callable[[], Lane]) -> Iterator[Lane]:
        """A lane of one mailbox for this block; thrown away when something goes wrong in it."""
        lane = self._found(key) or make()
        try:
            yield lane
        except BaseException:
            lane.close()
            raise
        self._keep(key, lane)

    def close(self) -> None:
        """End all that are not in use."""
        with self._lock:
            ended, self._free = self._free, []
        for _, lane in ended:
            lane.close()

    def _found(self, key: str) -> Lane | None:
        with self._lock:
            for place in range(len(self._free) - 1, -1, -1):
                if self._free[place][0] == key:
                    return self._free.pop(place)[1]
        return None

    def _keep(self, key: str, lane: Lane) -> None:
        with self._lock:
            self._free.append((key, lane))
            surplus = self._free[:-IDLE]
            del self._free[:-IDLE]
        for _, old in surplus:
            old.close()
