"""What may vanish unasked, what is asked about, and what stays whatever anybody says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from backupd.errors import GuardTripped
from backupd.model import Account, AccountKind, Service
from backupd.sync.guard import EMPTIED, Guard

ALICE = Account("1", "alice@example.org", "Alice", AccountKind.USER, "demo", frozenset(Service))
GUARD = Guard(share=0.2, items=50)


def allowed(guard: Guard, vanished: int, total: int) -> bool:
    return guard.allow(ALICE, Service.MAIL, vanished, total)


@pytest.mark.parametrize(
    ("vanished", "total"), [(1, 1), (50, 60), (200, 1000), (EMPTIED, EMPTIED), (49, 50)]
)
def test_a_little_goes_unasked(vanished: int, total: int) -> None:
    assert allowed(GUARD, vanished, total)


@pytest.mark.parametrize(
    ("vanished", "total"), [(51, 60), (201, 1000), (EMPTIED + 1, EMPTIED + 1), (50, 50)]
)
def test_a_lot_or_everything_is_asked_about(vanished: int, total: int) -> None:
    with pytest.raises(GuardTripped) as caught:
        allowed(GUARD, vanished, total)
    assert caught.value.vanished == vanished


@pytest.mark.parametrize(
    ("vanished", "total", "before"), [(1, 200, 50), (1, 801, 200), (5, 5, 6), (10, 90, 45)]
)
def test_what_went_within_the_day_counts_as_well(vanished: int, total: int, before: int) -> None:
    assert allowed(GUARD, vanished, total) or vanished == total
    with pytest.raises(GuardTripped, match="within 24 hours") as caught:
        GUARD.allow(ALICE, Service.MAIL, vanished, total, before)
    assert caught.value.vanished == vanished, "what is approved is what would go now"


def test_a_little_every_hour_of_the_day_goes_unasked() -> None:
    assert GUARD.allow(ALICE, Service.MAIL, 8, 1000, 23 * 8)
    assert GUARD.allow(ALICE, Service.MAIL, 1, 20, 30)
    assert not replace(GUARD, frozen=True).allow(ALICE, Service.MAIL, 1, 1000, 8)


def test_a_person_may_agree_to_the_run_or_to_exactly_so_many_of_a_service() -> None:
    assert allowed(replace(GUARD, approved=True), 900, 1000)
    agreed = replace(GUARD, agreed={"mail": 900})
    assert allowed(agreed, 900, 1000)
    with pytest.raises(GuardTripped):
        allowed(agreed, 901, 1000)
    with pytest.raises(GuardTripped):
        agreed.allow(ALICE, Service.FILES, 900, 1000)


def test_of_a_frozen_account_nothing_goes_and_a_storm_is_still_an_alarm() -> None:
    frozen = replace(GUARD, frozen=True)
    assert not allowed(frozen, 1, 1000)
    assert not allowed(frozen, 50, 1000)
    with pytest.raises(GuardTripped):
        allowed(frozen, 900, 1000)
    assert allowed(replace(frozen, agreed={"mail": 900}), 900, 1000)
