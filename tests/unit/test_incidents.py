import json
import threading

import pytest

from backupd.cutoff.incidents import EVIDENCE_KEPT, Incidents, Removal
from backupd.cutoff.verdict import Case, Cause, Evidence, State
from backupd.errors import IntegrityError, UserError

SCOPE = "contoso/alice@example.org"


def told(when, cause=Cause.ACCOUNT, code="404"):
    return Evidence(float(when), "sync", cause, code, "The user is gone.")


@pytest.fixture
def store(tmp_path):
    return Incidents(tmp_path)


def frozen(store, scope=SCOPE):
    store.hear(scope, told(1))
    return store.hear(scope, told(2))[1]


def test_what_nobody_heard_of_is_healthy_and_has_no_file(store):
    assert store.case(SCOPE) == Case(SCOPE)
    assert store.cases() == []
    store.hear(SCOPE, told(1, Cause.NONE))
    assert not list(store.folder.rglob("*.json*"))


def test_a_freeze_and_its_evidence_outlive_the_process(store, tmp_path):
    before, after = store.hear(SCOPE, told(1))
    assert (before.state, after.state) == (State.HEALTHY, State.DEGRADED)
    after = store.hear(SCOPE, told(2))[1]
    again = Incidents(tmp_path)
    assert again.case(SCOPE) == after
    assert again.case(SCOPE).state is State.SUSPECTED
    assert again.evidence(SCOPE) == [told(1), told(2)]
    assert again.evidence(SCOPE, newest=1) == [told(2)]


def test_an_account_is_frozen_by_its_own_case_and_by_that_of_its_source(store):
    assert store.frozen("contoso", "alice@example.org") is None
    frozen(store)
    assert store.frozen("contoso", "alice@example.org").scope == SCOPE
    assert store.frozen("contoso", "bob@example.org") is None
    frozen(store, "contoso")
    assert store.frozen("contoso", "bob@example.org").scope == "contoso"
    assert store.frozen("fabrikam", "bob@example.org") is None


def test_release_is_recorded_with_who_and_why_and_refused_when_nothing_is_frozen(store):
    with pytest.raises(UserError, match="not frozen"):
        store.release(SCOPE, "root", "why not", 3.0)
    frozen(store)
    case = store.release(SCOPE, "root", "the owner left", 3.0)
    assert not case.frozen
    assert store.frozen("contoso", "alice@example.org") is None
    assert case.released == "root: the owner left"
    last = store.evidence(SCOPE)[-1]
    assert (last.rung, last.said) == ("release", "Released by root: the owner left")
    assert not store.hear(SCOPE, told(4))[1].frozen  # a release holds until it has recovered


def test_evidence_is_bounded(store):
    frozen(store)
    path = store.folder / "contoso" / "alice@example.org.jsonl"
    line = path.read_text().splitlines()[0]
    path.write_text(f"{line}\n" * (EVIDENCE_KEPT + 50))
    store.hear(SCOPE, told(99))
    assert len(path.read_text().splitlines()) == EVIDENCE_KEPT
    assert store.evidence(SCOPE, 1) == [told(99)]


def test_a_line_that_power_failure_cut_short_was_never_heard(store):
    frozen(store)
    path = store.folder / "contoso" / "alice@example.org.jsonl"
    path.write_text(path.read_text() + '{"when": 3.0, "ru')
    assert store.evidence(SCOPE) == [told(1), told(2)]
    store.hear(SCOPE, told(4))
    assert store.evidence(SCOPE, 1) == [told(4)]


def test_a_damaged_case_is_an_error_and_not_health(store):
    frozen(store)
    (store.folder / "contoso" / "alice@example.org.json").write_text("{")
    with pytest.raises(IntegrityError, match="damaged"):
        store.frozen("contoso", "alice@example.org")


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b", "..", "NUL", "x" * 500, "\x00"])
def test_no_address_leads_outside_the_folder(store, name, tmp_path):
    frozen(store, f"contoso/{name}")
    assert store.case(f"contoso/{name}").frozen
    assert [case.scope for case in store.cases()] == [f"contoso/{name}"]
    assert all(store.folder in path.parents for path in tmp_path.rglob("*.json"))


def test_threads_lose_no_answer(store):
    def many():
        for each in range(10):
            store.hear(SCOPE, told(each))

    threads = [threading.Thread(target=many) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.case(SCOPE).grave == 40
    assert len(store.evidence(SCOPE)) == 40


def removal(run="1f2e", **counts):
    return Removal(run, "contoso", "alice@example.org", counts or {"mail": 900}, 5.0)


def test_a_stopped_removal_waits_until_it_is_approved_and_is_done_once(store):
    store.stop(removal())
    assert store.approved("contoso", "alice@example.org") is None
    with pytest.raises(UserError, match="No removal beef"):
        store.approve("contoso", "alice@example.org", "beef", "root")
    with pytest.raises(UserError, match="No removal"):
        store.approve("contoso", "bob@example.org", "1f2e", "root")
    store.approve("contoso", "alice@example.org", "1f2e", "root")
    assert store.stop(removal()).who == "root"  # stopped again, still approved
    assert store.approved("contoso", "alice@example.org") == "1f2e"
    store.settled("contoso", "alice@example.org")
    assert store.approved("contoso", "alice@example.org") is None
    assert store.removals() == []


def test_a_removal_that_has_grown_needs_a_new_approval(store):
    store.stop(removal())
    store.approve("contoso", "alice@example.org", "1f2e", "root")
    store.stop(removal("aaaa", mail=901))
    assert store.approved("contoso", "alice@example.org") is None
    assert [each.run for each in store.removals()] == ["aaaa"]


def test_the_files_can_be_read_without_us(store):
    frozen(store)
    stored = json.loads((store.folder / "contoso" / "alice@example.org.json").read_text())
    assert stored["state"] == "suspected"
    assert stored["cause"] == "account"
