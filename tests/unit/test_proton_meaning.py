"""A message is recognised by what it says, however Bridge writes it anew."""

from __future__ import annotations

import base64
import io
import quopri
from pathlib import Path

import pytest

from targets.proton.meaning import Meaning, meaning_of

HEAD = (
    "From: =?utf-8?q?Z=C3=B6e?= <zoe@example.org>\r\nDate: Tue, 5 Mar 2024 06:00:00 +0000\r\n"
    "Message-ID: <1@example.org>\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
)
TEXT = "Grüße an alle.\r\nBis bald!\r\n"
PLAIN = f"{HEAD}Content-Type: text/plain; charset=utf-8\r\n\r\n{TEXT}".encode()


def meaning(data: bytes) -> str:
    return meaning_of(io.BytesIO(data))


def coded(encoding: str, data: bytes, charset: str = "utf-8") -> bytes:
    head = f"Content-Type: text/plain; charset={charset}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return f"{HEAD}{head}".encode() + data


SAME = {
    "with Bridge's mark": b"X-Pm-Gluon-Id: 7\r\n" + PLAIN,
    "quoted-printable": coded("quoted-printable", quopri.encodestring(TEXT.encode())),
    "base64": coded("base64", base64.encodebytes(TEXT.encode())),
    "another charset": coded("8bit", TEXT.encode("latin-1"), "iso-8859-1"),
    "the date in another zone": PLAIN.replace(b"06:00:00 +0000", b"08:00:00 +0200"),
    "a raw name": PLAIN.replace(b"=?utf-8?q?Z=C3=B6e?=", b'"Z"'),
    "more fields": b"Received: x\r\nX-Other: y\r\n" + PLAIN,
    "wrapped, with an empty part": (
        f'{HEAD}Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n\r\n--b\r\n'
        f"Content-Type: text/plain; charset=utf-8\r\n\r\n{TEXT}\r\n--b--\r\n"
    ).encode(),
}
OTHER = {
    "other text": PLAIN.replace(b"alle", b"Alle"),
    "other subject": PLAIN.replace(b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", b"x"),
    "other sender": PLAIN.replace(b"zoe@", b"joe@"),
    "other date": PLAIN.replace(b"06:00", b"06:01"),
    "other id": PLAIN.replace(b"<1@", b"<2@"),
    "cut off": PLAIN[:-8],
}


@pytest.mark.parametrize("name", SAME)
def test_what_bridge_may_change_makes_no_other_message(name: str) -> None:
    assert meaning(SAME[name]) == meaning(PLAIN)


@pytest.mark.parametrize("name", OTHER)
def test_what_a_person_would_see_makes_another_message(name: str) -> None:
    assert meaning(OTHER[name]) != meaning(PLAIN)


def test_an_attachment_counts_whatever_its_encoding(tmp_path: Path) -> None:
    def attached(data: bytes, encoding: str) -> bytes:
        body = base64.encodebytes(data) if encoding == "base64" else quopri.encodestring(data)
        return (
            (
                f'{HEAD}Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: application/x\r\n'
                f"Content-Transfer-Encoding: {encoding}\r\n\r\n"
            ).encode()
            + body.replace(b"\n", b"\r\n")
            + b"\r\n--b--\r\n"
        )

    one, other = bytes(range(256)) * 3, bytes(range(256)) * 3 + b"x"
    assert meaning(attached(one, "base64")) == meaning(attached(one, "quoted-printable"))
    assert meaning(attached(one, "base64")) != meaning(attached(other, "base64"))


def test_every_real_mail_has_a_meaning_however_it_comes_in(corpus: Path) -> None:
    seen: set[str] = set()
    for path in sorted((corpus / "mail").iterdir()):
        data = path.read_bytes()
        sink = Meaning()
        sink.write(data[:100])
        sink.write(data[100:])
        seen.add(sink.hexdigest())
        assert sink.hexdigest() == meaning(data)
        assert sink.size == len(data)
    assert len(seen) > 200
