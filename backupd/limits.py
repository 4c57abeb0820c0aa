"""How fast a source may be asked: lanes with seats, a rate and a fence, and one retry budget.

A lane is the scope that a provider counts in: one mailbox, one tenant's drives, the directory.
Everything here lives on one event loop and is not thread-safe.

Sources of the figures: Microsoft's throttling pages for Outlook ("10,000 requests in 10 minutes
and 4 concurrent requests per app and mailbox") and for SharePoint ("1,250 resource units a minute
for up to 1,000 licences"; `RateLimit-*` headers from 80 % of that).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from aiolimiter import AsyncLimiter

from backupd.errors import Throttled
from backupd.meters import Meter

MAILBOX_SEATS = 4
"""Requests in flight per app and mailbox; a fifth is answered 429 MailboxConcurrency."""

MAILBOX_RATE = 16.0
"""Requests a second per mailbox: 10,000 in 10 minutes is 16.67, less 4 % for other clients."""

MAILBOX_BURST = 50
"""Requests at once after a pause; two batches of 20 and some, far below the 10-minute window."""

DRIVE_UNITS_PER_MINUTE = 1000.0
"""Resource units a minute for all drives of a tenant: the smallest tenants get 1,250, less 20 %
so that `RateLimit-*` headers (sent from 80 %) stay the exception."""

DRIVE_SEATS = 8
"""Requests in flight per tenant: 1,000 units a minute at half a second each keep 8 busy."""

DIRECTORY_SEATS = 4
"""The directory counts 3,500 units per 10 s in the smallest tenants; four in flight stay below."""

PATIENCE = 600.0
"""Seconds that one call waits behind a fence before it gives up with Throttled."""

RETRY_SHARE = 0.1
"""Retries per request in the long run: an outage costs a tenth more requests, not five times."""

RETRY_RESERVE = 100.0
"""Retries that may be spent at once before the share counts."""

RETRY_TRICKLE = 0.5
"""Retries a second that come back by themselves, so that a quiet client can recover."""


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `burst` units at once and `per_second` in the long run."""

    per_second: float
    burst: float


@dataclass(frozen=True, slots=True)
class Pace:
    """How hard a provider may be pushed; None lifts a rate (a simulated provider on loopback).

    Attributes:
        mailbox: requests per mailbox.
        drives: resource units per tenant.
        first_wait: seconds before the first retry; doubled each time.
        longest_wait: seconds between two retries at most.
        attempts: how often a request is sent at most.
    """

    mailbox: Rate | None = Rate(MAILBOX_RATE, MAILBOX_BURST)
    drives: Rate | None = Rate(DRIVE_UNITS_PER_MINUTE / 60, 100)
    first_wait: float = 0.5
    longest_wait: float = 60.0
    attempts: int = 5


UNHURRIED = Pace()
LOOPBACK = Pace(mailbox=None, drives=None, first_wait=0.02, longest_wait=0.5)


class Lane:
    """One scope: `seats` requests in flight, a rate in units, and a fence that stops all of them."""

    __slots__ = (
        "_bucket",
        "_meter",
        "_open_at",
        "_rate",
        "_seats",
        "_slow_until",
        "_whole",
        "seats",
    )

    def __init__(self, seats: int, rate: Rate | None = None, meter: Meter | None = None) -> None:
        self.seats = seats
        self._meter = meter or Meter()
        self._seats = asyncio.Semaphore(seats)
        self._whole = asyncio.Lock()
        self._rate = rate
        self._bucket = _bucket(rate)
        self._slow_until = 0.0
        self._open_at = 0.0

    async def enter(self, units: float = 1) -> None:
        """Take a seat, wait for the rate and the fence. Raises Throttled after PATIENCE."""
        await self._seats.acquire()
        try:
            await self._pay(units)
        except BaseException:
            self._seats.release()
            raise

    def leave(self) -> None:
        """Give the seat back."""
        self._seats.release()

    async def enter_whole(self, units: float) -> None:
        """Take every seat: for a batch, whose parts the server runs four at a time by itself."""
        async with self._whole:
            taken = 0
            try:
                while taken < self.seats:
                    await self._seats.acquire()
                    taken += 1
                await self._pay(units)
            except BaseException:
                self._release(taken)
                raise

    def leave_whole(self) -> None:
        """Give every seat back."""
        self._release(self.seats)

    def close_for(self, seconds: float) -> None:
        """Nobody in this scope may ask for `seconds`: what a Retry-After means."""
        now = time.monotonic()
        longer = now + seconds - max(self._open_at, now)
        if longer > 0:
            self._open_at = now + seconds
            self._meter.pause(longer)

    def observe(self, remaining: float, reset: float) -> None:
        """Spread what is left of a quota over its `reset` seconds; then the usual rate again."""
        if remaining < 1:
            self.close_for(reset)
            return
        if self._rate and remaining / max(reset, 1) < self._rate.per_second:
            slow = Rate(remaining / max(reset, 1), burst=5)
            self._bucket = _bucket(slow)
            self._slow_until = time.monotonic() + reset

    async def _pay(self, units: float) -> None:
        if self._slow_until and time.monotonic() >= self._slow_until:
            self._slow_until, self._bucket = 0.0, _bucket(self._rate)
        if self._bucket:
            await self._bucket.acquire(min(units, self._bucket.max_rate))
        while (wait := self._open_at - time.monotonic()) > 0:
            if wait > PATIENCE:
                raise Throttled(
                    f"The provider asks for a pause of {wait:.0f} seconds.", retry_after=wait
                )
            await asyncio.sleep(wait)

    def _release(self, seats: int) -> None:
        for _ in range(seats):
            self._seats.release()


def _bucket(rate: Rate | None) -> AsyncLimiter | None:
    return AsyncLimiter(rate.burst, rate.burst / rate.per_second) if rate else None


class RetryBudget:
    """Requests earn retries, retries spend them; when it is empty a failure is final at once.

    Pauses that the server asks for are not charged: the fence already keeps them from multiplying.
    """

    __slots__ = ("_left", "_seen")

    def __init__(self) -> None:
        self._left = RETRY_RESERVE
        self._seen = time.monotonic()

    def earn(self) -> None:
        """One request was sent for the first time."""
        if self._left < RETRY_RESERVE:
            self._left += RETRY_SHARE

    def spend(self) -> bool:
        """Whether one more retry is allowed now."""
        now = time.monotonic()
        self._left = min(RETRY_RESERVE, self._left + (now - self._seen) * RETRY_TRICKLE)
        self._seen = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Lanes:
    """Every lane of one tenant, and its retry budget."""

    def __init__(self, pace: Pace = UNHURRIED, meter: Meter | None = None) -> None:
        self.pace = pace
        self.meter = meter or Meter()
        self.budget = RetryBudget()
        self.directory = Lane(DIRECTORY_SEATS, meter=self.meter)
        self.drives = Lane(DRIVE_SEATS, pace.drives, self.meter)
        self._mailboxes: dict[str, Lane] = {}

    def mailbox(self, account: str) -> Lane:
        """The lane of one mailbox: mail, calendar and contacts share it."""
        lane = self._mailboxes.get(account)
        if lane is None:
            lane = self._mailboxes[account] = Lane(MAILBOX_SEATS, self.pace.mailbox, self.meter)
        return lane
