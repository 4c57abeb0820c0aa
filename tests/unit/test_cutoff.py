"""The state machine of a cut-off: every transition, and what no sequence of answers may do."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backupd.cutoff.verdict import (
    ALONE,
    CONFIRM_SECONDS,
    FROZEN,
    GRAVE,
    LASTING_AFTER,
    Case,
    Cause,
    Evidence,
    Patience,
    State,
    cause_of,
    judge,
)
from backupd.errors import (
    AuthError,
    CutOff,
    GuardTripped,
    IntegrityError,
    ItemGone,
    Throttled,
    TransientError,
    UserError,
    VaultError,
)

INNOCENT = [
    Cause.TRANSIENT, Cause.THROTTLED, Cause.CREDENTIAL, Cause.CLIENT, Cause.DOMAIN
]  # fmt: skip
T, H, C, A, N = Cause.TRANSIENT, Cause.THROTTLED, Cause.CREDENTIAL, Cause.ACCOUNT, Cause.NONE
HOUR = 3600.0


def after(*causes, every=60.0, case=None):
    case = case or Case("contoso")
    for number, cause in enumerate(causes):
        case = judge(case, Evidence(1.0 + number * every, "sync", cause))
    return case


@pytest.mark.parametrize(
    ("answers", "state"),
    [
        ([], State.HEALTHY),
        ([N], State.HEALTHY),
        ([T], State.HEALTHY),
        ([T, T], State.HEALTHY),
        ([T, T, T], State.DEGRADED),
        ([T, T, N, T], State.HEALTHY),
        ([H] * 99, State.HEALTHY),
        ([C], State.DEGRADED),
        ([Cause.CONSENT], State.DEGRADED),
        ([Cause.CLIENT], State.DEGRADED),
        ([C, N], State.HEALTHY),
        ([A], State.DEGRADED),
        ([A, N], State.HEALTHY),
        ([A, N, A], State.DEGRADED),
        ([A, A], State.SUSPECTED),
        ([A, T, A], State.SUSPECTED),
        ([Cause.APP, Cause.TENANT], State.SUSPECTED),
        ([C, A, A], State.SUSPECTED),
        ([A, A, N], State.SUSPECTED),
        ([A, A, N, N], State.RECOVERED),
        ([A, A, N, T, N], State.SUSPECTED),
        ([A, A, N, A, N], State.SUSPECTED),
        ([A, A, T, T, T, T], State.SUSPECTED),
        ([A, A, N, N, N], State.HEALTHY),
        ([A, A, N, N, A], State.DEGRADED),
        ([A, A, N, N, A, A], State.SUSPECTED),
        ([A, A, N, N, T, T, T], State.DEGRADED),
    ],
)
def test_a_row_of_answers_leads_to(answers, state):
    assert after(*answers).state is state


def test_confirmed_needs_five_answers_and_thirty_minutes():
    assert after(*[A] * 40, every=10.0).state is State.SUSPECTED
    assert after(*[A] * 4, every=HOUR).state is State.SUSPECTED
    assert after(*[A] * 5, every=CONFIRM_SECONDS / 4).state is State.CONFIRMED
    confirmed = after(*[A] * 5, every=HOUR)
    assert after(A, case=confirmed).since == confirmed.since
    assert after(T, case=confirmed).state is State.CONFIRMED
    assert after(N, case=confirmed).state is State.CONFIRMED
    assert after(N, N, case=confirmed).state is State.RECOVERED


def test_a_release_holds_until_the_scope_has_recovered():
    case = replace(after(A, A), released="root: on purpose")
    assert not case.frozen
    assert not after(*[A] * 9, every=HOUR, case=case).frozen
    assert after(N, N, A, A, case=case).frozen


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (GuardTripped("x"), Cause.DELETIONS),
        (CutOff("x", reason="tenant"), Cause.TENANT),
        (CutOff("x", reason="licence"), Cause.LICENCE),
        (AuthError("x", reason="app"), Cause.APP),
        (AuthError("x", reason="credential"), Cause.CREDENTIAL),
        (AuthError("x", reason="never heard of"), Cause.CREDENTIAL),
        (AuthError("x"), Cause.CREDENTIAL),
        (Throttled("x", retry_after=1), Cause.THROTTLED),
        (TransientError("x"), Cause.TRANSIENT),
        (TransientError("x", reason="account"), Cause.TRANSIENT),
        (UserError("x", reason="tenant"), Cause.CLIENT),
        (VaultError("x"), Cause.CLIENT),
        (IntegrityError("x"), Cause.CLIENT),
        (ItemGone("x"), Cause.CLIENT),
    ],
)
def test_what_an_error_says(error, cause):
    assert cause_of(error) is cause


P, D = Cause.CONSENT, Cause.DELETIONS


@pytest.mark.parametrize(
    ("answers", "every", "state"),
    [
        ([P] * 5, HOUR / 2, State.SUSPECTED),
        ([P] * 5, HOUR / 3, State.DEGRADED),
        ([P] * 4, HOUR * 9, State.DEGRADED),
        ([P, P, T, H, P, C, P, P], HOUR / 2, State.SUSPECTED),
        ([P, P, N, P, P, P], HOUR / 2, State.DEGRADED),
        ([P] * 9 + [N, N], HOUR, State.RECOVERED),
        ([P] * 99, HOUR, State.SUSPECTED),
        ([P] * 9 + [A] * 4, HOUR, State.SUSPECTED),
        ([P] * 9 + [A] * 5, HOUR, State.CONFIRMED),
    ],
)
def test_a_permission_that_stays_withdrawn_is_suspected_after_two_hours(answers, every, state):
    assert after(*answers, every=every).state is state


def alone(count, every, rung=ALONE, case=None):
    case = case or Case("contoso/alice")
    for number in range(count):
        when = 1.0 + number * every
        case = judge(case, Evidence(when, "sync", Cause.TRANSIENT))
        case = judge(case, Evidence(when + 1, rung, Cause.TRANSIENT))
    return case


def test_a_service_that_fails_alone_is_suspected_after_a_day():
    assert alone(24, HOUR).state is State.DEGRADED
    case = alone(25, HOUR)
    assert (case.state, case.cause) == (State.SUSPECTED, Cause.APP)
    assert case.frozen


def test_an_outage_however_long_is_no_suspicion():
    assert alone(99, HOUR, rung="sync").state is State.DEGRADED
    assert alone(99, HOUR, rung="network").state is State.DEGRADED
    assert alone(9, 4 * HOUR).state is State.DEGRADED, "nobody knows what was in between"


def test_how_long_is_long_is_a_person_s_choice():
    patience = Patience(consent=24 * HOUR)
    case = Case("contoso")
    for number in range(24):
        case = judge(case, Evidence(1.0 + number * HOUR, "sync", P), patience)
    assert case.state is State.DEGRADED
    assert judge(case, Evidence(1.0 + 24 * HOUR, "sync", P), patience).frozen


def test_a_great_deletion_is_asked_about_and_never_confirmed():
    case = after(*[D] * 50, every=HOUR)
    assert (case.state, case.cause) == (State.SUSPECTED, D)
    refused = after(*[A] * 4, every=HOUR, case=case)
    assert (refused.state, refused.cause) == (State.SUSPECTED, A)
    assert judge(refused, Evidence(5 * HOUR, "sync", A)).state is State.CONFIRMED
    assert after(D, case=refused).cause is A, "who is refused is not excused by what vanished"


def test_a_mailbox_that_another_way_still_opens_is_not_called_cut_off():
    case = replace(after(A, A), facts={"second": "good"})
    case = after(*[A] * 40, every=HOUR, case=case)
    assert case.state is State.SUSPECTED
    shut = replace(case, facts={"second": "refused"})
    assert judge(shut, Evidence(41 * HOUR, "mailbox", A)).state is State.CONFIRMED


causes = st.sampled_from(list(Cause))


@given(st.lists(st.sampled_from([*INNOCENT, Cause.NONE])))
def test_no_sequence_of_innocent_answers_ever_freezes(answers):
    case = Case("contoso")
    for when, cause in enumerate(answers):
        case = judge(case, Evidence(when * HOUR, "sync", cause))
        assert not case.frozen


@given(st.lists(causes, max_size=40))
def test_only_two_good_answers_in_a_row_thaw(answers):
    case, history = Case("contoso"), []
    for when, cause in enumerate(answers):
        before, case = case, judge(case, Evidence(when * HOUR, "sync", cause))
        history.append(cause)
        if before.state in FROZEN and case.state not in FROZEN:
            assert history[-2:] == [Cause.NONE, Cause.NONE]


@given(st.lists(causes, max_size=40))
def test_one_grave_answer_alone_never_freezes(answers):
    case = Case("contoso")
    for when, cause in enumerate(answers):
        before, case = case, judge(case, Evidence(when * HOUR, "sync", cause))
        if case.frozen and not before.frozen:
            assert cause in GRAVE or (cause is P and case.lasting.count >= LASTING_AFTER)
            assert before.grave >= 1
