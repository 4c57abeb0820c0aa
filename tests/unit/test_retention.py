"""Which snapshots stay: rules, what is never dropped, and clocks that are wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.config.retention import DAY, YEAR, Retention, Spans, spans
from backupd.model import Service, Snapshot
from backupd.vaults.retention import choose

NOW = datetime(2026, 11, 25, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)


def snap(time: datetime, *tags: str) -> Snapshot:
    return Snapshot(f"{time.isoformat()}{tags}", time.isoformat(), frozenset(tags), "")


def hourly(count: int, end: datetime = NOW) -> list[Snapshot]:
    return [snap(end - number * HOUR) for number in range(count)]


def kept(found: list[Snapshot], now: datetime = NOW, rules: Spans | None = None) -> list[Snapshot]:
    choice = choose(found, rules or Spans(), now)
    return [each for each in found if each.id in choice.keep]


def test_a_year_of_hourly_snapshots_becomes_some_dozens() -> None:
    stay = kept(hourly(24 * 365))
    assert 49 + 28 + 40 <= len(stay) <= 49 + 31 + 53 + 13
    assert max(each.time for each in stay) == NOW.isoformat()


def test_everything_of_the_last_days_stays() -> None:
    found = hourly(48)
    assert kept(found) == found


def test_an_account_of_which_nothing_new_is_saved_loses_nothing() -> None:
    found = hourly(40)
    assert kept(found, NOW + timedelta(days=900)) == found


def test_what_is_pinned_is_never_forgotten() -> None:
    old = snap(NOW - timedelta(days=9999), "pinned")
    assert old in kept([old, *hourly(3)])


def test_the_newest_complete_one_is_never_forgotten() -> None:
    old = snap(NOW - timedelta(days=9999), "state:complete")
    older = snap(NOW - timedelta(days=99999 // 10), "state:complete")
    stay = kept([older, old, *hourly(3)])
    assert old in stay or older in stay
    assert max([old, older], key=lambda each: each.time) in stay


def test_of_a_day_the_complete_one_is_kept_rather_than_the_last() -> None:
    day = NOW - timedelta(days=10)
    good, partial = snap(day, "state:complete"), snap(day + HOUR, "state:partial")
    newest = snap(NOW, "state:complete")
    stay = kept([good, partial, newest], rules=Spans(weekly=0, monthly=0))
    assert stay == [good, newest]


def test_a_clock_that_fell_back_forgets_nothing() -> None:
    found = hourly(2000)
    choice = choose(found, Spans(), datetime(1970, 1, 2, tzinfo=UTC))
    assert choice.drop == ()
    assert choice.ahead == len(found)


def test_a_snapshot_of_the_future_makes_nothing_older() -> None:
    found = hourly(48)
    strange = snap(datetime(2036, 2, 6, tzinfo=UTC))
    choice = choose([*found, strange], Spans(), NOW)
    assert choice.drop == ()
    assert choice.ahead == 1


def test_a_clock_that_ran_ahead_removes_nothing_before_a_person_has_looked() -> None:
    there = datetime(2037, 1, 1, tzinfo=UTC)
    choice = choose([*hourly(48), snap(there)], Spans(), there)
    assert choice.drop, "the rules alone would take it for old"
    assert choice.excessive


def test_what_falls_due_in_an_ordinary_day_is_not_excessive() -> None:
    found = hourly(24 * 60)
    stay = kept(found[24:])
    choice = choose([*found[:24], *stay], Spans(), NOW)
    assert choice.drop
    assert not choice.excessive


def test_a_time_that_cannot_be_read_is_kept() -> None:
    odd = Snapshot("odd", "yesterday", frozenset(), "")
    assert odd in kept([odd, *hourly(3)])


@given(
    st.lists(st.tuples(st.integers(-(10**6), 10**6), st.sampled_from(["pinned", "state:complete", "x"])), max_size=60),
    st.integers(-(10**6), 10**6),
)  # fmt: skip
def test_whatever_the_clocks_say_the_newest_and_what_is_pinned_stay(
    hours: list[tuple[int, str]], shift: int
) -> None:
    found = [snap(NOW + number * HOUR, tag) for number, tag in hours]
    now = NOW + shift * HOUR
    choice = choose(found, Spans(), now)
    dropped = {each.id for each in choice.drop}
    assert dropped.isdisjoint(choice.keep)
    assert dropped | set(choice.keep) == {each.id for each in found}
    assert not any("pinned" in each.tags for each in choice.drop)
    if found:
        assert max(found, key=lambda each: each.time).id in choice.keep


def test_the_service_that_keeps_longest_decides() -> None:
    table = Retention.model_validate({
        "keep_within_daily": "10d", "services": {"files": {"keep_within_daily": "5d"}, "mail": {"keep_within_daily": "20d"}},
    })  # fmt: skip
    assert spans([Service.FILES], table).daily == 5 * DAY
    assert spans([Service.FILES, Service.CALENDAR], table).daily == 10 * DAY
    assert spans([Service.FILES, Service.MAIL], table).daily == 20 * DAY
    assert spans([], table).daily == 10 * DAY
    assert spans([Service.MAIL]).monthly == 10 * YEAR


def test_what_a_storage_says_comes_before_what_holds_for_all() -> None:
    storage = Retention.model_validate({"keep_within_daily": "3d"})
    table = Retention.model_validate({"services": {"mail": {"keep_within_daily": "20d", "keep_within": "9d"}}})  # fmt: skip
    found = spans([Service.MAIL], storage, table)
    assert (found.daily, found.all) == (3 * DAY, 9 * DAY)


@pytest.mark.parametrize("span", ["a while", "-1d", "5x"])
def test_a_span_that_is_none_is_refused(span: str) -> None:
    with pytest.raises(ValueError, match="keep_within"):
        Retention.model_validate({"keep_within": span})
