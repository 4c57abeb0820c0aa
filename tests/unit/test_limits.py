"""Lanes, fences and the retry budget."""

from __future__ import annotations

import asyncio
import time

import pytest

from backupd.errors import Throttled
from backupd.limits import Lane, Lanes, Pace, Rate, RetryBudget
from backupd.meters import Meter


def test_a_lane_has_so_many_seats_and_no_more() -> None:
    async def story() -> int:
        lane, inside, most = Lane(seats=3), 0, 0

        async def one() -> None:
            nonlocal inside, most
            await lane.enter()
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0.001)
            inside -= 1
            lane.leave()

        await asyncio.gather(*(one() for _ in range(20)))
        return most

    assert asyncio.run(story()) == 3


def test_two_batches_and_single_requests_never_wait_for_each_other_forever() -> None:
    async def story() -> None:
        lane = Lane(seats=4)

        async def batch() -> None:
            await lane.enter_whole(20)
            await asyncio.sleep(0)
            lane.leave_whole()

        async def single() -> None:
            await lane.enter()
            await asyncio.sleep(0)
            lane.leave()

        work = [batch(), single(), batch(), single(), single(), batch(), single(), single()]
        await asyncio.wait_for(asyncio.gather(*work), 5)

    asyncio.run(story())


def test_a_batch_has_the_lane_to_itself() -> None:
    async def story() -> bool:
        lane = Lane(seats=4)
        await lane.enter_whole(20)
        waiting = asyncio.create_task(lane.enter())
        await asyncio.sleep(0.01)
        alone = not waiting.done()
        lane.leave_whole()
        await asyncio.wait_for(waiting, 1)
        return alone

    assert asyncio.run(story())


def test_a_fence_stops_everyone_in_its_lane_and_nobody_else() -> None:
    async def story() -> tuple[float, float]:
        fenced, free = Lane(seats=4), Lane(seats=4)
        fenced.close_for(0.1)
        began = time.monotonic()
        await free.enter()
        other = time.monotonic() - began
        await asyncio.gather(*(fenced.enter() for _ in range(4)))
        return other, time.monotonic() - began

    other, waited = asyncio.run(story())
    assert other < 0.05
    assert waited >= 0.1


def test_a_later_shorter_pause_does_not_open_the_fence() -> None:
    async def story() -> float:
        lane = Lane(seats=1)
        lane.close_for(0.1)
        lane.close_for(0.0)
        began = time.monotonic()
        await lane.enter()
        return time.monotonic() - began

    assert asyncio.run(story()) >= 0.09


def test_a_pause_beyond_patience_is_an_error_and_gives_the_seat_back() -> None:
    async def story() -> None:
        lane = Lane(seats=1)
        lane.close_for(10_000)
        for _ in range(2):
            with pytest.raises(Throttled) as caught:
                await asyncio.wait_for(lane.enter(), 1)
            assert caught.value.retry_after > 9_000

    asyncio.run(story())


def test_the_rate_holds_after_the_burst() -> None:
    async def story() -> float:
        lane = Lane(seats=100, rate=Rate(per_second=100, burst=10))
        began = time.monotonic()
        for _ in range(30):
            await lane.enter()
        return time.monotonic() - began

    assert asyncio.run(story()) >= (30 - 10) / 100 * 0.9


def test_what_is_left_of_a_quota_is_spread_until_it_is_full_again() -> None:
    async def story() -> tuple[float, float]:
        lane = Lane(seats=100, rate=Rate(per_second=1000, burst=100))
        lane.observe(remaining=8, reset=0.2)
        began = time.monotonic()
        for _ in range(10):
            await lane.enter()
        slow = time.monotonic() - began
        await asyncio.sleep(max(0, 0.25 - slow))
        began = time.monotonic()
        for _ in range(50):
            await lane.enter()
        return slow, time.monotonic() - began

    slow, fast = asyncio.run(story())
    assert slow >= 0.1
    assert fast < 0.1


def test_an_empty_quota_closes_the_lane() -> None:
    async def story() -> float:
        lane = Lane(seats=1, rate=Rate(per_second=1000, burst=100))
        lane.observe(remaining=0, reset=0.1)
        began = time.monotonic()
        await lane.enter()
        return time.monotonic() - began

    assert asyncio.run(story()) >= 0.1


def test_a_dear_request_passes_even_when_it_exceeds_the_burst() -> None:
    async def story() -> None:
        lane = Lane(seats=1, rate=Rate(per_second=1000, burst=5))
        await asyncio.wait_for(lane.enter(units=20), 1)

    asyncio.run(story())


def test_a_storm_spends_the_budget_and_requests_earn_it_back() -> None:
    budget = RetryBudget()

    spent = sum(budget.spend() for _ in range(1000))
    for _ in range(100):
        budget.earn()

    assert 100 <= spent <= 105
    assert 8 <= sum(budget.spend() for _ in range(100)) <= 13


def test_a_mailbox_has_one_lane() -> None:
    lanes = Lanes(Pace())

    assert lanes.mailbox("a") is lanes.mailbox("a")
    assert lanes.mailbox("a") is not lanes.mailbox("b")


def test_pauses_at_the_same_time_count_once() -> None:
    async def closed() -> float:
        meter = Meter()
        lane = Lane(seats=1, meter=meter)
        lane.close_for(10)
        lane.close_for(4)
        lane.close_for(12)
        return meter.read().throttled

    assert asyncio.run(closed()) == pytest.approx(12, abs=0.1)
