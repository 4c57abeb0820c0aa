"""Messages put together from JSON, whatever the JSON says."""

from __future__ import annotations

import base64
import email
import email.policy
from collections.abc import Mapping
from email.message import EmailMessage, Message
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from graph_desk import Landing, bytes_of
from small_server import small_server

from backupd.config import Microsoft365
from backupd.model import Account, AccountKind, Collection, Item, Service
from backupd.ports import Failed, Fetched
from sources.graph.source import GraphSource

ALICE = Account("u", "alice@example.org", "Alice", AccountKind.USER, "x", frozenset(Service))
INBOX = Collection(Service.MAIL, "box", None, "Inbox")
FILE = "#microsoft.graph.fileAttachment"


def attachment(name: str, data: bytes, kind: str = FILE, **more: Any) -> dict[str, Any]:
    return {
        "@odata.type": kind,
        "id": f"id/{name.encode().hex()}=",
        "name": name,
        "size": len(data),
        "contentType": "application/pdf",
        "isInline": False,
        "data": data,
    } | more


class Graph:
    """A Graph that holds one message and cannot convert it."""

    def __init__(self, message: dict[str, Any], *held: dict[str, Any], cuts: int = 0) -> None:
        self.message = message
        self.held = {each["id"]: each for each in held}
        self.cuts = cuts
        self.asked: list[str] = []

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        if request.path.endswith("/token"):
            return web.json_response({"access_token": "opaque", "expires_in": 3600})
        _, _, rest = request.path.partition("/messages/m1")
        if rest == "/$value":
            error = {"code": "ErrorMimeContentConversionFailed"}
            return web.json_response({"error": error}, status=500)
        if rest == "/attachments":
            return web.json_response({"value": [self._row(each) for each in self.held.values()]})
        if rest.endswith("/$value"):
            data = self.held[rest.removeprefix("/attachments/").removesuffix("/$value")]["data"]
            return await self._bytes(request, data)
        if rest:
            found = self.held[rest.removeprefix("/attachments/")]
            return web.json_response(self._row(found) | {"contentId": found.get("contentId")})
        return web.json_response(self.message)

    def _row(self, held: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in held.items() if key not in {"data", "contentId"}}

    async def _bytes(self, request: web.Request, data: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        if self.cuts and request.transport:
            self.cuts -= 1
            await response.write(data[: len(data) // 2])
            request.transport.close()
        else:
            await response.write(data)
        return response


@pytest.fixture
def fetched(tmp_path: Path) -> Any:
    def fetch(graph: Graph) -> Fetched | Failed:
        (tmp_path / "secret").write_text("s")
        with small_server(graph.serve) as url:
            source = GraphSource(
                Microsoft365(
                    name="small",
                    type="microsoft365",
                    tenant_id="t",
                    client_id="c",
                    client_secret_file=tmp_path / "secret",
                    graph_url=f"{url}/v1.0",
                    login_url=url,
                )
            )
            try:
                (result,) = source.fetch(ALICE, INBOX, [Item("m1", {})], Landing())
            finally:
                source.close()
        return result

    return fetch


def parsed(result: Fetched | Failed) -> EmailMessage:
    message = email.message_from_bytes(bytes_of(result), policy=email.policy.default)
    return cast("EmailMessage", message)


def header(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


PLAIN = {
    "subject": "Grüße",
    "from": {"emailAddress": {"name": "Jörg", "address": "j@example.org"}},
    "toRecipients": [{"emailAddress": {"name": "", "address": "k@example.org"}}],
    "bccRecipients": [{"emailAddress": {"name": "Secret", "address": "s@example.org"}}],
    "sentDateTime": "2026-11-20T10:00:00Z",
    "internetMessageId": "<1@example.org>",
    "body": {"contentType": "html", "content": "<p>Grüße</p>"},
}


def test_a_message_without_headers_gets_those_that_matter(fetched: Any) -> None:
    result = fetched(Graph(PLAIN))

    made = parsed(result)
    assert result.note == "rebuilt-from-json"
    assert made["Subject"] == "Grüße"
    assert made["From"].addresses[0].display_name == "Jörg"
    assert made["Bcc"].addresses[0].addr_spec == "s@example.org"
    assert made["Date"].datetime.isoformat() == "2026-11-20T10:00:00+00:00"
    body = made.get_body()
    assert body is not None
    assert body.get_content().strip() == "<p>Grüße</p>"


def test_received_headers_are_kept_and_cannot_smuggle_others_in(fetched: Any) -> None:
    headers = [
        header("Received", "from a by b"),
        header("Received", "from b by c"),
        header("Subject", "one\r\nBcc: victim@example.org\r\n\r\nbody"),
        header("X-Bad name", "x"),
        header("Evil:\r\nX-Evil", "x"),
        header("Content-Type", "text/html"),
        header("MIME-Version", "1.0"),
        header("X-Long", "word " * 2000),
        header("X-Nul", "a\x00b"),
    ]

    made = parsed(fetched(Graph(PLAIN | {"internetMessageHeaders": headers})))

    assert made.get_all("Received") == ["from a by b", "from b by c"]
    assert made.get_all("MIME-Version") == ["1.0"]
    assert made["Bcc"] is None
    assert made["X-Evil"] is None
    assert made.get_content_type() == "multipart/mixed"
    assert [defect for part in made.walk() for defect in part.defects] == []


def test_attachments_of_every_kind_come_along_or_are_named(fetched: Any) -> None:
    inner = b"Subject: inner\r\n\r\nhello\r\n"
    graph = Graph(
        PLAIN,
        attachment('näme"\r\n.pdf', bytes(range(256)) * 300),
        attachment(
            "logo.png", b"png", isInline=True, contentId="logo<>@x", contentType="image/png"
        ),
        attachment("letter", inner, "#microsoft.graph.itemAttachment", contentType=None),
        attachment("date", b"BEGIN:VCALENDAR\r\n", "#microsoft.graph.itemAttachment"),
        attachment("cloud.docx", b"", "#microsoft.graph.referenceAttachment"),
        attachment("odd type", b"x", contentType="text/html\r\nX-Evil: 1"),
    )

    result = fetched(graph)

    made = parsed(result)
    names = [part.get_filename() for part in made.iter_attachments()]
    inside = [part.get_content_type() for part in made.iter_parts()]
    assert inside == [
        "text/html",
        "application/pdf",
        "image/png",
        "message/rfc822",
        "text/calendar",
        "application/octet-stream",
    ]
    assert 'näme"\r\n.pdf' in names or any(n and n.startswith("näme") for n in names)
    pdf = next(p for p in made.walk() if p.get_content_type() == "application/pdf")
    assert pdf.get_payload(decode=True) == bytes(range(256)) * 300
    png = next(p for p in made.walk() if p.get_content_type() == "image/png")
    assert png["Content-ID"] == "<logo@x>"
    assert made["X-Evil"] is None
    assert [(gap.kind, gap.name) for gap in result.gaps] == [("cloud-attachment", "cloud.docx")]


def smime(data: bytes, kind: str = "application/pkcs7-mime") -> dict[str, Any]:
    return attachment("smime.p7m", data, contentType=kind)


def test_an_opaque_payload_is_the_message(fetched: Any) -> None:
    empty = PLAIN | {"body": {"contentType": "html", "content": "<html>\r\n<body></body></html>"}}

    made = parsed(fetched(Graph(empty, smime(b"\x30\x82" * 500))))

    assert made.get_content_type() == "application/pkcs7-mime"
    assert made.get_payload(decode=True) == b"\x30\x82" * 500


def test_a_signed_entity_is_kept_as_it_is(fetched: Any) -> None:
    entity = (
        b'Content-Type: multipart/signed; boundary="b"; micalg=sha-256;\r\n'
        b' protocol="application/pkcs7-signature"\r\n\r\n--b\r\n\r\nsigned text\r\n--b\r\n'
        b"Content-Type: application/pkcs7-signature\r\n\r\nsig\r\n--b--\r\n"
    )
    empty = PLAIN | {"body": {"contentType": "text", "content": ""}}

    result = fetched(Graph(empty, smime(entity, "multipart/signed")))

    assert bytes_of(result).endswith(entity)
    assert parsed(result).get_content_type() == "multipart/signed"


@pytest.mark.parametrize("data", [b"", b"payload"])
def test_a_payload_beside_a_body_leaves_nothing_out(fetched: Any, data: bytes) -> None:
    made = parsed(fetched(Graph(PLAIN, smime(data))))

    assert made.get_content_type() == "multipart/mixed"
    assert [p.get_content_type() for p in made.iter_parts()] == [
        "text/html",
        "application/pkcs7-mime",
    ]


def test_an_attachment_that_is_cut_begins_the_message_again(fetched: Any) -> None:
    data = b"0123456789" * 50_000

    made = parsed(fetched(Graph(PLAIN, attachment("a.pdf", data), cuts=2)))

    assert cast("Message", next(made.iter_attachments())).get_payload(decode=True) == data


def test_what_cannot_be_rebuilt_is_told_by_why_it_had_to_be(fetched: Any) -> None:
    result = fetched(Graph(PLAIN, attachment("a.pdf", b"x" * 1000), cuts=10_000))

    assert isinstance(result, Failed)
    assert result.error.reason == "errormimecontentconversionfailed"


def test_base64_lines_are_those_of_the_standard(fetched: Any) -> None:
    data = bytes(range(256)) * 40

    raw = bytes_of(fetched(Graph(PLAIN, attachment("a.bin", data))))

    assert max(len(line) for line in raw.split(b"\r\n")) <= 998
    assert base64.encodebytes(data).replace(b"\n", b"\r\n") in raw
