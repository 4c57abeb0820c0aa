"""The HTTP client of the DAV targets: where credentials go, what is tried again, what is an error."""

from __future__ import annotations

import io

import pytest
import stamina
from servers.scripted import Answer, scripted

from backupd.errors import AuthError, ConfigError, ItemRefused, TransientError, UserError
from targets.dav import xml
from targets.dav.http import Http, child
from targets.endpoint import Endpoint


@pytest.mark.parametrize(
    ("status", "wanted", "reason"),
    [
        (401, AuthError, "credential"),
        (507, UserError, "quota"),
        (413, ItemRefused, "too-large"),
    ],
)
def test_a_refusal_is_an_error_of_its_own_kind(
    status: int, wanted: type[UserError], reason: str
) -> None:
    with scripted(lambda *_: (status, {}, b"")) as (_, http):
        with pytest.raises(wanted) as caught:
            http.request("GET", http.base.path)
        assert caught.value.reason == reason
        assert "pä:ss" not in str(caught.value)


def test_a_busy_server_is_asked_again_with_the_whole_body() -> None:
    answers = iter([503, 429, 201])
    with scripted(lambda *_: (next(answers), {"Retry-After": "0"}, b"")) as (server, http):
        with stamina.set_testing(True, attempts=5, cap=True):
            response = http.request("PUT", "/a", content=io.BytesIO(b"x" * 3_000_000))
        assert response.status_code == 201
        assert [len(body) for _, _, body, _ in server.seen] == [3_000_000] * 3


def test_a_server_that_stays_busy_is_for_later() -> None:
    with scripted(lambda *_: (503, {}, b"")) as (server, http):
        with stamina.set_testing(True, attempts=3), pytest.raises(TransientError):
            http.request("GET", "/a")
        assert len(server.seen) == 3


def test_a_redirect_within_the_server_keeps_method_and_body() -> None:
    def script(method: str, path: str, body: bytes) -> Answer:
        return (301, {"Location": "/b"}, b"") if path == "/a" else (201, {}, b"")

    with scripted(script) as (server, http):
        assert http.request("PUT", "/a", content=b"x").status_code == 201
        assert [entry[:3] for entry in server.seen] == [("PUT", "/a", b"x"), ("PUT", "/b", b"x")]


def test_credentials_never_go_to_another_place() -> None:
    with scripted(lambda *_: (200, {}, b"")) as (other, _):
        for target in (other.url, "http://localhost.evil.example/", "//evil.example/x"):
            with scripted(lambda *_, to=target: (302, {"Location": to}, b"")) as (_, http):
                with pytest.raises(UserError) as caught:
                    http.request("GET", "/a")
                assert caught.value.reason == "redirect"
        assert not other.seen


def test_circles_end() -> None:
    with (
        scripted(lambda *_: (302, {"Location": "/a"}, b"")) as (_, http),
        pytest.raises(UserError, match="circles"),
    ):
        http.request("GET", "/a")


@pytest.mark.parametrize(
    ("href", "inside"),
    [
        ("/u1/a%20b/", True),
        ("x.ics", True),
        ("//evil.example/x", False),
        ("https://127.0.0.1/x", False),
        ("http://127.0.0.1:1/x", False),
        ("http://user:pw@127.0.0.1/x", False),
        ("javascript:alert(1)", False),
        ("http://[", False),
        ("\x00", False),
    ],
)
def test_an_href_never_leads_to_another_host(href: str, inside: bool) -> None:
    http = Http(Endpoint("t", "caldav", url="http://127.0.0.1:8008/u1/"))
    found = http.resolve("http://127.0.0.1:8008/u1/", href)
    assert (found is not None and found.startswith("http://127.0.0.1:8008/")) is inside
    http.close()


@pytest.mark.parametrize("name", ["a/../../b", "ü ?#%2e", "\udcff", "x" * 300])
def test_a_name_is_one_step_of_an_address(name: str) -> None:
    assert child("/u1/", name).count("/") == 2


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_means_another_place_is_refused(name: str) -> None:
    with pytest.raises(ItemRefused):
        child("/u1/", name)


def test_a_password_is_not_sent_unencrypted_beyond_this_machine() -> None:
    for where in ({"url": "http://cal.example.org/"}, {"host": "10.0.0.1", "security": "plain"}):
        with pytest.raises(ConfigError, match="unencrypted"):
            Http(Endpoint("t", "caldav", **where))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no usable address"):
        Http(Endpoint("t", "caldav"))


HOSTILE = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<multistatus xmlns="DAV:"><response><href>&a;</href></response></multistatus>"""


@pytest.mark.parametrize(
    "data", [HOSTILE, b"", b"<html/>", b"<a>", b"\xff\xfe", b"<!DOCTYPE html>"]
)
def test_an_answer_that_is_no_dav_says_so(data: bytes) -> None:
    with pytest.raises(UserError) as caught:
        xml.multistatus(data)
    assert caught.value.reason == "no-dav"


def test_a_multistatus_is_read_by_meaning() -> None:
    data = b"""<d:multistatus xmlns:d="DAV:" xmlns:c="urn:ietf:params:xml:ns:caldav"><d:response>
    <d:href> /u1/ </d:href><d:propstat><d:prop><d:resourcetype><d:collection/><c:calendar/></d:resourcetype>
    <d:displayname>A &amp; B</d:displayname><d:current-user-principal><d:href>/p/</d:href>
    </d:current-user-principal></d:prop><d:status>HTTP/1.1 200 OK</d:status></d:propstat><d:propstat>
    <d:prop><d:getetag/></d:prop><d:status>HTTP/1.1 404 Not Found</d:status></d:propstat></d:response>
    <d:response><d:href>/none</d:href><d:status>HTTP/1.1 404 Not Found</d:status></d:response>
    </d:multistatus>"""
    first, second = xml.multistatus(data)
    assert (first.href, first.status, second.status) == ("/u1/", 200, 404)
    assert first.props["{DAV:}displayname"] == "A & B"
    assert first.props["{DAV:}current-user-principal"] == "/p/"
    assert first.names("{DAV:}resourcetype") == {f"{xml.DAV}collection", f"{xml.CALDAV}calendar"}
    assert "{DAV:}getetag" not in first.props


def test_an_error_names_its_condition() -> None:
    said = b'<D:error xmlns:D="DAV:"><C:no-uid-conflict xmlns:C="urn:ietf:params:xml:ns:caldav"/></D:error>'
    assert xml.condition(said) == "no-uid-conflict"
    assert xml.condition(b"nonsense") == ""
