"""Hearing of changes as they happen: where a source can tell, the next glance comes at once.

A hint and no more: glances go on by the clock, and whoever hears nothing misses nothing. Each account that is listened
to costs a thread and a connection, so there is a limit.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from backupd.errors import BackupdError
from backupd.ports import Listening, Source

if TYPE_CHECKING:
    from backupd.daemon.engine import Engine, Ward

log = logging.getLogger(__name__)

MOST = 50
"""Accounts that are listened to at once."""
SLICE = 20.0
"""Seconds after which a listener looks whether it is still wanted; a server hears of it only that the wait begins anew."""
CALM = 2.0
"""Seconds between a change and the next wait: mail comes in bursts, and the glance takes all of it."""
REST = 60.0
"""Seconds before listening is tried again after it failed; what is wrong shows in the glances."""


class Ears:
    """Who is listened to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._scopes: set[str] = set()

    def attend(self, engine: Engine) -> None:
        """Listen to every account of a source that can tell, as far as the limit allows."""
        for scope, ward in tuple(engine.wards.items()):
            source = engine.source(ward.account.source)
            if isinstance(source, Listening) and self._begin(scope):
                work = threading.Thread(
                    target=self._listen, args=(engine, ward, source), name="listen", daemon=True
                )
                work.start()

    def _begin(self, scope: str) -> bool:
        with self._lock:
            if scope in self._scopes or len(self._scopes) >= MOST:
                return False
            self._scopes.add(scope)
            return True

    def _listen(self, engine: Engine, ward: Ward, source: Source) -> None:
        """Until the service stands aside or the account is let go; the next minute begins again."""
        try:
            _heard(
                source, ward, 0.0
            )  # from now on nothing is missed, and what came before is looked for
            engine.hasten(ward)
            while _wanted(engine, ward):
                if _heard(source, ward, SLICE):
                    engine.hasten(ward)
                    time.sleep(CALM)
        except BackupdError as error:
            log.debug("account %s: nothing is heard of it (%s)", ward.mark, error.reason)
            end = time.monotonic() + REST
            while _wanted(engine, ward) and time.monotonic() < end:
                time.sleep(1.0)
        finally:
            with self._lock:
                self._scopes.discard(ward.scope)


def _heard(source: Source, ward: Ward, seconds: float) -> bool:
    return isinstance(source, Listening) and source.wait(ward.account, seconds)


def _wanted(engine: Engine, ward: Ward) -> bool:
    return not engine.halted() and ward.scope in engine.wards
