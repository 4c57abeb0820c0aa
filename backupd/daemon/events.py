"""What the service tells to whoever subscribed: alerts, metrics.

Kinds and what their `facts` hold:

    started, stopping   accounts
    run-ended           verb, seconds, ok, code (an exit code), reason, new, error (the gravest, or None),
                        outcome (`backupd.app.Outcome`)
    state-changed       scope, before, after (`backupd.cutoff.verdict.Case`)
    account-found       -
    account-vanished    error
    source-failed       error
    found               findings (`backupd.ports.Finding`): what a verification found damaged
    disk-low, disk-ok   free, total (bytes), folder
    minute              accounts, working: once a minute, whatever happens
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened.

    Attributes:
        when: seconds since 1970.
    """

    kind: str
    source: str = ""
    address: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    when: float = field(default_factory=time.time)


class Listener(Protocol):
    """Is told every event, in the thread it happened in: be quick, or hand it to a thread of your own."""

    def __call__(self, event: Event, /) -> None:
        """One event. What is raised is logged and goes no further."""
        ...


class Bulletin:
    """Passes events on."""

    def __init__(self, listeners: list[Listener] | None = None) -> None:
        self.listeners: list[Listener] = listeners or []

    def tell(self, kind: str, source: str = "", address: str = "", **facts: Any) -> None:
        """Tell everybody; one who stumbles does not keep it from the others, nor from the job."""
        event = Event(kind, source, address, facts)
        for listener in self.listeners:
            try:
                listener(event)
            except Exception as error:  # an alert that fails must not end a backup
                log.error("A listener failed over %s: %s", kind, type(error).__name__)  # noqa: TRY400
                log.debug("", exc_info=True)
