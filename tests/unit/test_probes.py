"""The probe ladder: whose case it is, and what is never asked; and the rungs that look at ourselves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from aiohttp import web
from small_server import small_server

import sources
from backupd.config import Microsoft365
from backupd.cutoff.answers import answers_of
from backupd.cutoff.probes import climb
from backupd.cutoff.verdict import Cause, Evidence
from backupd.errors import AuthError, CutOff, GuardTripped, Throttled, TransientError, UserError
from backupd.model import Account, AccountKind, Service
from backupd.ports import Finding

GOOD, GONE, DEAD = Cause.NONE, Cause.ACCOUNT, Cause.TENANT


def account(name: str) -> Account:
    return Account(name, f"{name}@example.org", name, AccountKind.USER, "demo", frozenset(Service))


ALICE, BOB = account("alice"), account("bob")


def answers(**rungs: Cause) -> list[Evidence]:
    return [Evidence(1.0, rung, cause) for rung, cause in rungs.items()]


class Scripted:
    """Answers as it is told to, and remembers who was asked about."""

    name = "demo"

    def __init__(self, said: Mapping[Account, Sequence[Evidence]]) -> None:
        self.said = said
        self.asked: list[Account | None] = []

    def probe(self, account: Account | None) -> Iterator[Evidence]:
        self.asked.append(account)
        if account:
            yield from self.said.get(account, ())

    def warnings(self, accounts: Sequence[Account]) -> Iterator[Finding]:
        yield from ()


FINE = answers(openid=GOOD, token=GOOD, organization=GOOD)


@pytest.mark.parametrize(
    ("lowest", "alice", "bob", "about", "cause"),
    [
        (FINE, answers(user=GONE), answers(user=GOOD), ALICE, GONE),
        (FINE, answers(user=GONE), answers(user=GONE), ALICE, GONE),
        (FINE, answers(user=GOOD, mailbox=GOOD), answers(user=GOOD), ALICE, GOOD),
        (FINE, answers(user=GOOD, drive=Cause.LICENCE), [], ALICE, Cause.LICENCE),
        (FINE, answers(mailbox=Cause.CONSENT, drive=Cause.LICENCE), [], ALICE, Cause.LICENCE),
        (FINE, answers(mailbox=Cause.TRANSIENT), answers(mailbox=GOOD), ALICE, Cause.TRANSIENT),
        (answers(openid=DEAD), answers(user=DEAD), answers(user=DEAD), None, DEAD),
        (answers(openid=DEAD), [], [], None, DEAD),
        (
            answers(token=GOOD, skus=Cause.LICENCE),
            answers(user=GOOD, mailbox=Cause.LICENCE),
            answers(user=GOOD, mailbox=Cause.LICENCE),
            None,
            Cause.LICENCE,
        ),
        (
            answers(token=GOOD, skus=Cause.LICENCE),
            answers(user=GONE),
            answers(user=GOOD, mailbox=GOOD),
            ALICE,
            GONE,
        ),
        (FINE, [], answers(user=GOOD), None, GOOD),
    ],
)
def test_whose_case_it_is(
    lowest: list[Evidence],
    alice: list[Evidence],
    bob: list[Evidence],
    about: Account | None,
    cause: Cause,
) -> None:
    verdict = climb(Scripted({ALICE: alice, BOB: bob}), ALICE, BOB, lowest)
    assert verdict
    assert (verdict.about, verdict.deciding.cause) == (about, cause)
    assert verdict.deciding in verdict.answers


@pytest.mark.parametrize(
    "lowest",
    [
        answers(network=Cause.TRANSIENT),
        answers(clock=Cause.CLIENT, openid=GOOD, token=GOOD),
        answers(openid=GOOD, token=Cause.CREDENTIAL),
    ],
)
def test_when_it_is_us_or_the_network_nobody_is_asked_about(lowest: list[Evidence]) -> None:
    source = Scripted({ALICE: answers(user=GONE)})
    verdict = climb(source, ALICE, BOB, lowest)
    assert verdict
    assert verdict.about is None
    assert verdict.deciding.cause is not Cause.NONE
    assert source.asked == []


def test_no_answer_at_all_is_no_verdict() -> None:
    assert climb(Scripted({}), ALICE, None, []) is None


@pytest.mark.parametrize(
    ("errors", "causes"),
    [
        ([], [Cause.NONE]),
        ([TransientError("locked", reason="busy")], []),
        ([TransientError("ended", reason="closed")], []),
        ([UserError("No space left.", reason="disk-full")], []),
        ([Throttled("x", retry_after=1)], [Cause.THROTTLED]),
        (
            [TransientError("x"), AuthError("x", reason="consent"), CutOff("x", reason="licence")],
            [Cause.LICENCE, Cause.TRANSIENT, Cause.CONSENT],
        ),
        ([GuardTripped("x", vanished=9)], [Cause.DELETIONS]),
    ],
)
def test_what_a_sync_says_the_gravest_first(errors: list, causes: list[Cause]) -> None:
    assert [each.cause for each in answers_of(errors, 1.0)] == causes


def section(base: str, folder: Path) -> Microsoft365:
    (folder / "secret").write_text("worthless")
    return Microsoft365(
        name="demo",
        type="microsoft365",
        tenant_id="contoso",
        client_id="app",
        client_secret_file=folder / "secret",
        graph_url=f"{base}/v1.0",
        login_url=f"{base}/login",
    )


def lowest_rungs(base: str, folder: Path) -> list[Evidence]:
    source = sources.connect(section(base, folder))
    try:
        return list(source.probe(None))
    finally:
        source.close()


def test_a_wrong_clock_is_told_before_anybody_is_blamed(tmp_path: Path) -> None:
    async def hour_ahead(request: web.Request) -> web.StreamResponse:
        date = format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)
        code = {"error": "invalid_client", "error_codes": [700024]}
        if "openid" in request.path:
            return web.json_response({}, headers={"Date": date})
        return web.json_response(code, status=401, headers={"Date": date})

    with small_server(hour_ahead) as base:
        told = lowest_rungs(base, tmp_path)
    assert [(each.rung, each.cause) for each in told] == [
        ("clock", Cause.CLIENT),
        ("openid", Cause.NONE),
        ("token", Cause.CLIENT),
    ]
    assert "3600 seconds behind" in told[0].said or "3599 seconds behind" in told[0].said


def test_a_rung_without_permission_says_nothing(tmp_path: Path) -> None:
    async def tenant(request: web.Request) -> web.StreamResponse:
        if "login" in request.path:
            return web.json_response({"access_token": "opaque", "expires_in": 3600})
        denied = {"error": {"code": "Authorization_RequestDenied", "message": "No."}}
        return web.json_response(denied, status=403)

    with small_server(tenant) as base:
        told = lowest_rungs(base, tmp_path)
    assert [(each.rung, each.cause) for each in told] == [
        ("openid", Cause.NONE),
        ("token", Cause.NONE),
    ]


def test_a_network_that_is_down_is_no_verdict_on_the_tenant(tmp_path: Path) -> None:
    told = lowest_rungs("http://127.0.0.1:9", tmp_path)
    assert [(each.rung, each.cause) for each in told] == [("network", Cause.TRANSIENT)]
