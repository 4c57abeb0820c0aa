"""The limits of mailboxes and of SharePoint, as the service counts them."""

from __future__ import annotations

import time
from collections import defaultdict
from datetime import timedelta
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.calls import Refused
from backupd.demo.moments import now

if TYPE_CHECKING:
    from backupd.demo.switches import Switches

_WARN_FROM = 0.8
_MINUTE = 60.0


class Window:
    """Counts what is used in windows of fixed length; the clock may run faster than ours."""

    def __init__(self) -> None:
        self._started = 0.0
        self.used = 0

    def use(self, units: int, length: float, scale: float) -> int:
        """Count `units`; what is used in the current window then."""
        at = time.monotonic() * scale
        if at - self._started >= length:
            self._started, self.used = at, 0
        self.used += units
        return self.used

    def left(self, length: float, scale: float) -> float:
        """Our seconds until the window ends."""
        return max(0.0, length - (time.monotonic() * scale - self._started)) / scale


class Throttle:
    """Requests under way and used up. Not thread-safe: the server's loop alone uses it."""

    def __init__(self, switches: Switches) -> None:
        self._switches = switches
        self._in_flight: dict[str, int] = defaultdict(int)
        self._mailboxes: dict[str, Window] = defaultdict(Window)
        self._units = Window()

    def enter(self, mailbox: str) -> int:
        """Begin a request of a mailbox; how many are under way with it. Throttled ones count too."""
        self._in_flight[mailbox] += 1
        return self._in_flight[mailbox]

    def leave(self, mailbox: str) -> None:
        """End a request of a mailbox."""
        self._in_flight[mailbox] -= 1

    def check_mailbox(self, mailbox: str) -> None:
        """Count a request that has entered; refuses with 429 above either limit."""
        s = self._switches
        used = self._mailboxes[mailbox].use(1, s.window_seconds, s.clock_scale)
        if self._in_flight[mailbox] > s.concurrency:
            raise self._refusal("MailboxConcurrency", s.retry_after_seconds)
        if used > s.window_requests:
            wait = self._mailboxes[mailbox].left(s.window_seconds, s.clock_scale)
            raise self._refusal("RequestQuota", wait)

    def check_units(self, units: int) -> dict[str, str]:
        """Count resource units; RateLimit headers once the budget runs low, 429 when it is spent."""
        s = self._switches
        used = self._units.use(units, _MINUTE, s.clock_scale)
        left = self._units.left(_MINUTE, s.clock_scale)
        headers = {
            "RateLimit-Limit": str(s.resource_units),
            "RateLimit-Remaining": str(max(0, s.resource_units - used)),
            "RateLimit-Reset": str(int(left) + 1),
        }
        if used > s.resource_units:
            message = "The request has been throttled"
            wait = headers | self._retry_after(left)
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS, "activityLimitReached", message, headers=wait
            )
        warn = s.rate_limit_headers and used >= s.resource_units * _WARN_FROM
        return headers if warn else {}

    def _refusal(self, limit: str, wait: float) -> Refused:
        message = f"Application is over its {limit} limit."
        headers = self._retry_after(wait)
        return Refused(
            HTTPStatus.TOO_MANY_REQUESTS, "ApplicationThrottled", message, headers=headers
        )

    def _retry_after(self, seconds: float) -> dict[str, str]:
        return retry_after(self._switches.retry_after, seconds)


def retry_after(style: str, seconds: float) -> dict[str, str]:
    """The header in its three forms: `seconds`, `date`, `none`."""
    whole = int(seconds) + (seconds > int(seconds))
    if style == "none":
        return {}
    if style == "date":
        return {"Retry-After": format_datetime(now() + timedelta(seconds=whole), usegmt=True)}
    return {"Retry-After": str(whole)}
