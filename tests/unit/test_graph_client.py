"""The door to Graph against servers that cut, lie and never end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from graph_desk import MemoryDraft
from small_server import small_server

from backupd.config import Microsoft365
from backupd.errors import AuthError, TransientError
from backupd.limits import LOOPBACK, UNHURRIED
from sources.graph.answers import LARGEST_JSON
from sources.graph.client import Call, Client, pace_for, parse
from sources.graph.failures import Broken, Refused, Scope
from sources.graph.listing import every

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
TOKEN = {"access_token": "opaque", "expires_in": 3600}


@contextlib.contextmanager
def talking_to(answer: Answer) -> Iterator[tuple[Client, Call, str]]:
    """A client whose Graph is `answer`."""

    async def handler(request: web.Request) -> web.StreamResponse:
        if request.path.endswith("/oauth2/v2.0/token"):
            return web.json_response(TOKEN)
        return await answer(request)

    with small_server(handler) as url, graph_at(url) as client:
        yield client, Call(client.lanes.directory, Scope.DIRECTORY, "a thing"), f"{url}/v1.0/x"


@contextlib.contextmanager
def graph_at(url: str) -> Iterator[Client]:
    """A client of the server at `url`, closed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        secret = Path(folder) / "secret"
        secret.write_text("s3cret")
        client = Client(
            Microsoft365(
                name="small",
                type="microsoft365",
                tenant_id="t",
                client_id="c",
                client_secret_file=secret,
                graph_url=f"{url}/v1.0",
                login_url=url,
            )
        )
        try:
            yield client
        finally:
            client.close()


def page(*values: Any, **more: Any) -> web.Response:
    return web.json_response({"value": list(values), **more})


class TestJson:
    def test_control_characters_and_half_characters_are_survived(self) -> None:
        body = b'{"a": "tab\tbell\x07", "b": ["\\ud83d", {"\\udc00": 1}], "c": "\\ud83d\\ude00"}'

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=body)

        with talking_to(answer) as (client, call, url):
            found = client.follow(url, call)

        assert found["a"] == "tab\tbell\x07"
        assert found["b"] == ["\ufffd", {"\ufffd": 1}]
        assert found["c"] == "\N{GRINNING FACE}"
        json.dumps(dict(found), ensure_ascii=False).encode()

    @pytest.mark.parametrize(
        "body",
        [b"", b"[]", b"nope", b'"text"', b"[" * 200_000, b"\xff\xfe", b'{"a": 1e', b"1" * 9999],
    )
    def test_what_is_no_object_is_no_answer(self, body: bytes) -> None:
        with pytest.raises(Broken):
            parse(body, "x")

    def test_a_bad_answer_is_asked_for_again(self) -> None:
        bodies = iter([b"<html>", b'{"half": ', b'{"a": 1}'])

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=next(bodies))

        with talking_to(answer) as (client, call, url):
            assert client.follow(url, call) == {"a": 1}

    def test_an_endless_answer_is_cut(self) -> None:
        sent = 0

        async def answer(request: web.Request) -> web.StreamResponse:
            nonlocal sent
            response = web.StreamResponse()
            await response.prepare(request)
            with contextlib.suppress(ConnectionError):
                while sent < 3 * LARGEST_JSON:
                    await response.write(b" " * (4 << 20))
                    sent += 4 << 20
            return response

        with talking_to(answer) as (client, call, url), pytest.raises(Broken):
            client.follow(url, Call(call.lane, call.scope, call.what, attempts=1))
        assert sent < 2 * LARGEST_JSON

    def test_a_compressed_answer_is_read(self) -> None:
        async def answer(_: web.Request) -> web.Response:
            response = page("x" * 1000)
            response.enable_compression(web.ContentCoding.gzip)
            return response

        with talking_to(answer) as (client, call, url):
            assert client.follow(url, call)["value"] == ["x" * 1000]
            users = client.sdk.root.users
            assert client.ask(users, call)["value"] == ["x" * 1000]


class TestLinks:
    def test_links_are_followed_verbatim(self) -> None:
        odd = "/v1.0/users('a%2Fb')/messages/delta?$skiptoken=a+b%20c%2B'd'&x=~%7E!*"
        paths = []

        async def answer(request: web.Request) -> web.Response:
            paths.append(request.raw_path)
            return page(1)

        with talking_to(answer) as (client, call, url):
            client.follow(url.removesuffix("/v1.0/x") + odd, call)

        assert paths == [odd]

    @pytest.mark.parametrize(
        "link",
        [
            "http://attacker.example/v1.0/x",
            "http://127.0.0.1:1/v1.0/x",
            "https://127.0.0.1/v1.0/x",
            "//attacker.example/x",
            "file:///etc/passwd",
            "http://[",
            "",
        ],
    )
    def test_a_link_to_another_host_is_not_followed(self, link: str) -> None:
        async def answer(_: web.Request) -> web.Response:
            return page()

        with talking_to(answer) as (client, call, _), pytest.raises(TransientError) as caught:
            client.follow(link, call)
        assert caught.value.reason == "foreign-link"

    def test_an_empty_page_with_a_next_link_is_not_the_end(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            step = int(request.query.get("step", "0"))
            link = f"{request.url.origin()}/v1.0/x?step={step + 1}"
            more = {"@odata.nextLink": link} if step < 3 else {}
            return page(*([{"id": str(step)}] if step % 2 else []), **more)

        with talking_to(answer) as (client, call, _):
            found = [each["id"] for each in every(client, client.sdk.root.users, call)]

        assert found == ["1", "3"]

    def test_a_page_that_names_itself_ends_with_an_error(self) -> None:
        async def answer(request: web.Request) -> web.Response:
            return page({"id": "1"}, **{"@odata.nextLink": f"{request.url.origin()}/v1.0/loop"})

        with talking_to(answer) as (client, call, _), pytest.raises(Broken):
            list(every(client, client.sdk.root.users, call))

    def test_a_redirect_never_takes_the_token_along(self) -> None:
        seen: Counter[str] = Counter()

        async def elsewhere(request: web.Request) -> web.Response:
            seen["elsewhere"] += 1
            return page()

        with small_server(elsewhere) as other:

            async def answer(_: web.Request) -> web.Response:
                return web.Response(status=302, headers={"Location": f"{other}/v1.0/x"})

            with talking_to(answer) as (client, call, url), pytest.raises(Refused):
                client.follow(url, call)
        assert not seen


class TestBodies:
    def fetch(self, answer: Answer, **options: Any) -> bytes:
        draft = MemoryDraft()
        with talking_to(answer) as (client, call, url):
            client.loop.call(client.pour(url, call, draft, **options))
        return bytes(draft.data)

    def test_a_cut_body_is_read_again_from_the_start(self) -> None:
        attempts = 0

        async def answer(request: web.Request) -> web.StreamResponse:
            nonlocal attempts
            attempts += 1
            response = web.StreamResponse(headers={"Content-Length": "10"})
            await response.prepare(request)
            await response.write(b"01234" if attempts < 3 else b"0123456789")
            if attempts < 3 and request.transport:
                request.transport.close()
            return response

        assert self.fetch(answer) == b"0123456789"
        assert attempts == 3

    def test_a_body_without_an_end_is_never_believed(self) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            assert request.transport
            request.transport.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")
            request.transport.close()
            return web.Response()

        with pytest.raises(Broken):
            self.fetch(answer)

    def test_an_empty_message_is_asked_for_again(self) -> None:
        bodies = iter([b"", b"", b"here"])

        async def answer(_: web.Request) -> web.Response:
            return web.Response(body=next(bodies))

        assert self.fetch(answer, least=1) == b"here"

    def test_bytes_are_not_decoded_on_the_way(self) -> None:
        odd = bytes(range(256)) * 3

        async def answer(request: web.Request) -> web.Response:
            assert request.headers["Accept-Encoding"] == "identity"
            return web.Response(body=odd, content_type="text/plain", charset="utf-16")

        assert self.fetch(answer) == odd


class TestRetries:
    def test_each_request_is_sent_so_often_and_no_more(self) -> None:
        count = 0

        async def answer(_: web.Request) -> web.Response:
            nonlocal count
            count += 1
            return web.Response(status=503)

        with talking_to(answer) as (client, call, url):
            with pytest.raises(Refused):
                client.follow(url, call)
            assert count == LOOPBACK.attempts
            with pytest.raises(Refused):
                client.follow(url, Call(call.lane, call.scope, call.what, attempts=2))
        assert count == LOOPBACK.attempts + 2

    @pytest.mark.parametrize("status", [400, 403, 404, 405, 409])
    def test_a_plain_no_is_not_asked_twice(self, status: int) -> None:
        count = 0

        async def answer(_: web.Request) -> web.Response:
            nonlocal count
            count += 1
            return web.Response(status=status)

        with talking_to(answer) as (client, call, url), pytest.raises(Refused):
            client.follow(url, Call(call.lane, Scope.ITEM, "x", attempts=3))
        assert count == 1

    def test_a_refused_token_is_renewed_once(self) -> None:
        count = 0

        async def answer(_: web.Request) -> web.Response:
            nonlocal count
            count += 1
            return web.Response(status=401)

        with talking_to(answer) as (client, call, url), pytest.raises(Refused) as caught:
            client.follow(url, call)
        assert count == 2
        assert isinstance(caught.value.error, AuthError)

    def test_many_callers_share_the_loop(self) -> None:
        async def answer(_: web.Request) -> web.Response:
            await asyncio.sleep(0.001)
            return page(1)

        with talking_to(answer) as (client, call, url):

            async def one(number: int) -> int:
                await client.linked(f"{url}?n={number}", call)
                return number

            found = list(client.loop.flow(range(500), one, 4, lambda _: None))

        assert sorted(found) == list(range(500))

    def test_an_exception_in_the_flow_reaches_the_caller_and_stops_the_crew(self) -> None:
        started = []

        async def answer(_: web.Request) -> web.Response:
            return page()

        async def one(number: int) -> int:
            started.append(number)
            await asyncio.sleep(0)
            if number == 5:
                raise ValueError(number)
            return number

        with talking_to(answer) as (client, _, _), pytest.raises(ValueError, match="5"):
            list(client.loop.flow(range(10_000), one, 4, lambda _: None))
        assert len(started) < 50

    def test_what_the_caller_raises_while_giving_items_stops_the_crew(self) -> None:
        dropped: list[int] = []

        def items() -> Iterator[int]:
            yield from range(16)
            raise KeyError("no more")

        async def answer(_: web.Request) -> web.Response:
            return page()

        async def one(number: int) -> int:
            return number

        with talking_to(answer) as (client, _, _), pytest.raises(KeyError):
            list(client.loop.flow(items(), one, 4, dropped.append))

    def test_a_closed_client_says_so(self) -> None:
        async def answer(_: web.Request) -> web.Response:
            return page()

        with talking_to(answer) as (client, call, url):
            client.close()
            with pytest.raises(TransientError) as caught:
                client.follow(url, call)
        assert caught.value.reason == "closed"


def test_microsoft_is_never_hurried() -> None:
    assert pace_for("https://graph.microsoft.com/v1.0") is UNHURRIED
    assert pace_for("https://127.0.0.1.example.org/v1.0") is UNHURRIED
    assert pace_for("http://127.0.0.1:8080/v1.0") is LOOPBACK


def test_an_encrypted_connection_is_closed_without_a_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    pem = tmp_path / "both.pem"
    pem.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, form, plain)
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)

    async def handler(request: web.Request) -> web.Response:
        return web.json_response(TOKEN if request.path.endswith("/token") else {"value": [1]})

    with small_server(handler, context) as url:
        monkeypatch.setenv("SSL_CERT_FILE", str(pem))
        with graph_at(url) as client:
            call = Call(client.lanes.directory, Scope.DIRECTORY, "a thing")
            assert client.follow(f"{url}/v1.0/x", call)["value"] == [1]
            assert client.ask(client.sdk.root.users, call)["value"] == [1]
        monkeypatch.delenv("SSL_CERT_FILE")
        with graph_at(url) as client, pytest.raises(TransientError):
            client.follow(f"{url}/v1.0/x", Call(client.lanes.directory, Scope.DIRECTORY, "x"))
