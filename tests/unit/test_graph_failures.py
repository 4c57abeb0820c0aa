"""What the codes of Graph and of the token endpoint mean."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict

from backupd.errors import AuthError, CutOff, ItemGone, ItemUnreadable, Throttled, TransientError
from sources.graph.failures import Class, Refused, Scope, codes, pause, read, read_token_refusal


def body(code: str, *inner: str, spelled: str = "innerError") -> bytes:
    error: dict[str, Any] = {"code": code, "message": "m"}
    level = error
    for each in inner:
        level[spelled] = {"code": each}
        level = level[spelled]
    return json.dumps({"error": error}).encode()


def kind(status: int, content: bytes, scope: Scope = Scope.ITEM, **headers: str) -> Class:
    named = CIMultiDict({key.replace("_", "-"): value for key, value in headers.items()})
    return read(status, named, content).meaning(scope).kind


@pytest.mark.parametrize(
    ("status", "content", "scope", "expected"),
    [
        (404, body("ErrorItemNotFound"), Scope.ITEM, Class.GONE),
        (404, body("itemNotFound"), Scope.ITEM, Class.GONE),
        (404, body("itemNotFound"), Scope.SERVICE, Class.LICENCE),
        (404, b"", Scope.ITEM, Class.ITEM),
        (404, b"<html>not here</html>", Scope.ITEM, Class.ITEM),
        (404, b"", Scope.COLLECTION, Class.GONE),
        (404, b"", Scope.SERVICE, Class.LICENCE),
        (404, body("MAILBOXNOTENABLEDFORRESTAPI"), Scope.ITEM, Class.LICENCE),
        (404, body("Request_ResourceNotFound"), Scope.SERVICE, Class.ACCOUNT),
        (400, body("BadRequest"), Scope.DRIVES, Class.LICENCE),
        (400, body("BadRequest"), Scope.SERVICE, Class.CLIENT),
        (404, body("itemNotFound"), Scope.DRIVES, Class.LICENCE),
        (400, body("SyncStateInvalid"), Scope.COLLECTION, Class.RESTART),
        (410, body("syncStateNotFound"), Scope.COLLECTION, Class.RESTART),
        (410, b"", Scope.COLLECTION, Class.RESTART),
        (423, body("notAllowed", "resourceLocked"), Scope.COLLECTION, Class.LICENCE),
        (401, body("InvalidAuthenticationToken"), Scope.ITEM, Class.CREDENTIAL),
        (401, body("Authorization_IdentityDisabled"), Scope.ITEM, Class.APP),
        (401, b"", Scope.ITEM, Class.CREDENTIAL),
        (403, body("ErrorAccessDenied"), Scope.SERVICE, Class.CONSENT),
        (403, body("ErrorQuotaExceeded"), Scope.COLLECTION, Class.FULL),
        (403, body("malwareDetected"), Scope.ITEM, Class.ITEM),
        (429, body("anything"), Scope.ITEM, Class.THROTTLED),
        (429, b"", Scope.ITEM, Class.THROTTLED),
        (500, body("ErrorMimeContentConversionFailed"), Scope.ITEM, Class.ITEM),
        (500, body("UnknownError"), Scope.ITEM, Class.TRANSIENT),
        (502, b"<html>", Scope.ITEM, Class.TRANSIENT),
        (503, b"", Scope.ITEM, Class.TRANSIENT),
        (503, body("NeverSeenBefore"), Scope.SERVICE, Class.TRANSIENT),
        (503, b'"a bare string"', Scope.ITEM, Class.TRANSIENT),
        (418, body("Teapot"), Scope.DIRECTORY, Class.CLIENT),
    ],
)
def test_a_refusal_is_classed_by_code_then_status_then_scope(
    status: int, content: bytes, scope: Scope, expected: Class
) -> None:
    assert kind(status, content, scope) is expected


def test_innererror_is_read_however_it_is_spelled() -> None:
    assert read(400, {}, body("x", "y", "z", spelled="innererror")).codes == ("x", "y", "z")


def test_an_infected_file_is_told_by_its_header() -> None:
    assert kind(403, b"", X_Virus_Infected="Trojan") is Class.ITEM


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (Class.TENANT, CutOff),
        (Class.ACCOUNT, CutOff),
        (Class.LICENCE, CutOff),
        (Class.CREDENTIAL, AuthError),
        (Class.CONSENT, AuthError),
        (Class.APP, AuthError),
        (Class.CLIENT, AuthError),
    ],
)
def test_every_known_code_for_people_has_a_hint(table: Class, expected: type) -> None:
    for code, meaning in codes("graph").items():
        if meaning.kind is table:
            status = 401 if table is Class.CREDENTIAL else 403
            error = Refused(read(status, {}, body(code)), Scope.ITEM, "x").error
            assert isinstance(error, expected)
            assert error.hint


def test_corpus_errors_are_all_read(corpus: Path) -> None:
    """Real answers of Graph, as other people met them."""
    files = sorted((corpus / "graph-json").glob("error__*.json"))
    assert len(files) > 5
    for file in files:
        if ".meta." in file.name:
            continue
        refusal = read(500, {}, file.read_bytes())
        assert isinstance(Refused(refusal, Scope.ITEM, "x").error, TransientError | ItemUnreadable)


@given(st.integers(min_value=300, max_value=599), st.binary(max_size=300), st.sampled_from(Scope))
def test_no_body_breaks_the_reader(status: int, content: bytes, scope: Scope) -> None:
    error = Refused(read(status, {}, content), scope, "x").error

    assert error.reason


def test_a_hostile_message_stays_on_one_short_line() -> None:
    content = json.dumps({"error": {"code": "x", "message": "a\nb\x1b[31m" + "c" * 9999}})

    message = str(Refused(read(400, {}, content.encode()), Scope.ITEM, "x").error)

    assert "\n" not in message
    assert "\x1b" not in message
    assert len(message) < 300


class TestPauses:
    def test_seconds(self) -> None:
        assert pause(CIMultiDict({"Retry-After": "7"})) == 7

    def test_a_date(self) -> None:
        then = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)

        assert pause(CIMultiDict({"Retry-After": then})) == pytest.approx(60, abs=3)

    def test_the_longer_of_both_counts(self) -> None:
        headers = {"Retry-After": "7", "RateLimit-Remaining": "0", "RateLimit-Reset": "30"}

        assert pause(CIMultiDict(headers)) == 30

    @pytest.mark.parametrize("value", ["", "soon", "-5", "nan", "1e999", "٣", "9" * 30])
    def test_nonsense_is_no_pause(self, value: str) -> None:
        assert pause(CIMultiDict({"Retry-After": value})) is None

    def test_nobody_waits_longer_than_a_day(self) -> None:
        assert pause(CIMultiDict({"Retry-After": "99999999"})) == 24 * 3600


def token_error(error: str, number: int | None = None, status: int = 400) -> Any:
    answer = {"error": error, "error_description": f"AADSTS{number}: text"}
    content = answer | ({"error_codes": [number]} if number else {})
    return read_token_refusal(status, {}, json.dumps(content).encode())


@pytest.mark.parametrize(
    ("error", "number", "kind_of", "reason"),
    [
        ("invalid_client", 7000222, AuthError, "credential"),
        ("invalid_client", 7000215, AuthError, "credential"),
        ("invalid_client", 700027, AuthError, "credential"),
        ("unauthorized_client", 700016, AuthError, "app"),
        ("unauthorized_client", 7000112, AuthError, "app"),
        ("invalid_request", 90002, CutOff, "tenant"),
        ("invalid_grant", 5000224, CutOff, "tenant"),
        ("invalid_grant", 50057, CutOff, "account"),
        ("invalid_grant", 50034, CutOff, "account"),
        ("invalid_grant", 53003, AuthError, "consent"),
        ("invalid_grant", 999999999, AuthError, "credential"),
        ("interaction_required", 999999999, AuthError, "credential"),
        ("invalid_client", 999999999, AuthError, "app"),
        ("unauthorized_client", None, AuthError, "app"),
        ("temporarily_unavailable", 7000222, TransientError, ""),
        ("never_heard_of", None, AuthError, "client"),
    ],
)
def test_the_token_endpoint_by_its_error_then_its_code(
    error: str, number: int | None, kind_of: type, reason: str
) -> None:
    found = token_error(error, number)

    assert isinstance(found, kind_of)
    assert not reason or found.reason == reason
    assert found.hint or kind_of is TransientError


def test_a_failing_endpoint_is_never_a_verdict() -> None:
    assert isinstance(token_error("invalid_grant", 50057, status=503), TransientError)
    assert isinstance(token_error("invalid_grant", 50057, status=429), Throttled)
    assert isinstance(read_token_refusal(502, {}, b"<html>"), TransientError)


def test_the_hints_that_people_need_most() -> None:
    assert "expired" in token_error("invalid_client", 7000222).hint
    assert "not its id" in token_error("invalid_client", 7000215).hint
    assert "tenant_id" in token_error("invalid_request", 90002).hint
    assert "clock" in token_error("invalid_client", 700024).hint


def test_gone_is_only_what_was_there_before() -> None:
    assert isinstance(Refused(read(404, {}, body("itemNotFound")), Scope.ITEM, "x").error, ItemGone)
