"""One of each kind of message that gives backups trouble."""

# ruff: noqa: RUF001 - the people here write in six languages

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from backupd.demo.chance import Chance
from backupd.demo.content_mail import LOGO
from backupd.demo.content_people import OUTSIDERS
from backupd.demo.letters import Enclosure, Letter
from backupd.demo.mailbox import StoredContent
from backupd.demo.mime_facts import Part
from backupd.demo.moments import ago

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.demo.content_mail import Desk

_BIG = 3_500_000
_PLACE = "Clients/Novak"
_REQUEST = """BEGIN:VCALENDAR\r
PRODID:-//Harbour Light//Demo//EN\r
VERSION:2.0\r
METHOD:REQUEST\r
BEGIN:VEVENT\r
UID:040000008200E00074C5B7101A82E00800000000DEADBEEF\r
DTSTAMP:20261030T090000Z\r
DTSTART:20261112T093000Z\r
DTEND:20261112T103000Z\r
SUMMARY:Mediation\r
ORGANIZER;CN=Registry:mailto:registry@labour-court.example\r
ATTENDEE;PARTSTAT=NEEDS-ACTION;RSVP=TRUE:mailto:{address}\r
END:VEVENT\r
END:VCALENDAR\r
"""


def write_odd(desk: Desk) -> None:
    """Lay them all into the mailbox."""
    for write in (
        _attachments,
        _attached_message,
        _meeting_request,
        _cloud_link,
        _encrypted,
        _signed,
        _corrupt,
        _drafts,
        _raw_headers,
        _bare,
        _recoverable,
    ):
        write(desk)


def _letter(desk: Desk, subject: str, sent: datetime, **more: object) -> Letter:
    sender = OUTSIDERS[0]
    return Letter(sender, [desk.owner], subject, "See below.\n", sent, **more)  # type: ignore[arg-type]


def _attachments(desk: Desk) -> None:
    scan = Enclosure("Scan 2026-10.tif", Chance("scan").octets(_BIG), "image/tiff")
    notes = Enclosure("Notizen – übersetzt.txt", "Grüße aus Gdańsk\r\n".encode(), "text/plain")
    big = _letter(desk, "The scans, all of them", ago(days=3), enclosures=(scan, notes))
    desk.add("inbox", big.mime, ago(days=3), isRead=True)
    logo = Enclosure("logo.png", LOGO, "image/png", "logo@harbourlight.example")
    html = (
        '<html><body><img src="cid:logo@harbourlight.example"><p>With our logo.</p></body></html>'
    )
    inline = _letter(desk, "Newsletter with a picture", ago(days=4), html=html, enclosures=(logo,))
    desk.add("inbox", inline.mime, ago(days=4))


def _attached_message(desk: Desk) -> None:
    inner = _letter(desk, "The original complaint", ago(days=40))
    outer = _letter(desk, "FW: complaint attached", ago(days=5), attached=inner.mime())
    desk.add(_PLACE, outer.mime, ago(days=5))


def _meeting_request(desk: Desk) -> None:
    calendar = _REQUEST.format(address=desk.user.upn)
    letter = _letter(desk, "Invitation: Mediation", ago(days=3, hours=2), calendar=calendar)
    props = {"@odata.type": "#microsoft.graph.eventMessageRequest"}
    desk.add("inbox", letter.mime, ago(days=3, hours=2), **props)


def _cloud_link(desk: Desk) -> None:
    mime = _letter(desk, "Shared: Brief (draft).docx", ago(days=6)).mime()
    where = f"https://harbourlight-my.sharepoint.com/personal/{desk.user.id}/Brief.docx"
    link = Part("Brief (draft).docx", "", b"", kind="reference", url=where)
    content = StoredContent(mime, (link,))
    desk.mailbox.add(desk.mailbox.folder(_PLACE), content, ago(days=6))


def _head(desk: Desk, subject: str, sent: str) -> str:
    sender = OUTSIDERS[2][1]
    return (
        f"From: <{sender}>\r\nTo: <{desk.user.upn}>\r\nSubject: {subject}\r\nDate: {sent}\r\n"
        f"Message-ID: <{subject.lower().replace(' ', '.')}@stocznia.example>\r\nMIME-Version: 1.0\r\n"
    )


def _encrypted(desk: Desk) -> None:
    """Exchange never converts these to MIME; the JSON and `smime.p7m` can be had."""
    head = _head(desk, "Encrypted statement", "Wed, 28 Oct 2026 10:00:00 +0100")
    kind = (
        "Content-Type: application/pkcs7-mime; smime-type=enveloped-data; name=smime.p7m\r\n"
        "Content-Transfer-Encoding: base64\r\n"
        "Content-Disposition: attachment; filename=smime.p7m\r\n\r\n"
    )
    blob = Part("smime.p7m", "application/pkcs7-mime", b"0\x82" + Chance("p7m").octets(900))
    mime = (head + kind).encode() + _base64(blob.content)
    desk.mailbox.add(desk.mailbox.folder("inbox"), StoredContent(mime), ago(days=5, hours=1))


def _signed(desk: Desk) -> None:
    head = _head(desk, "Signed statement", "Thu, 29 Oct 2026 10:00:00 +0100")
    mime = (
        head.encode()
        + b'Content-Type: multipart/signed; protocol="application/pkcs7-signature";'
        + b' micalg=sha-256; boundary="signed"\r\n\r\n--signed\r\n'
        + b"Content-Type: text/plain; charset=utf-8\r\n\r\nI saw the crane fall.\r\n"
        + b"--signed\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\n"
        + b"Content-Transfer-Encoding: base64\r\n"
        + b"Content-Disposition: attachment; filename=smime.p7s\r\n\r\n"
        + _base64(b"0\x82" + Chance("p7s").octets(600))
        + b"--signed--\r\n"
    )
    desk.mailbox.add(desk.mailbox.folder("inbox"), StoredContent(mime), ago(days=4, hours=3))


def _base64(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _corrupt(desk: Desk) -> None:
    """Listed like any other; its bytes can never be had."""
    letter = _letter(desk, "Appointment of 2011 (damaged)", ago(days=5_600))
    desk.add("archive", letter.mime, ago(days=5_600))
    damaged = max(desk.mailbox.folder("archive").messages.values(), key=lambda m: m.uid)
    damaged.fault = "corrupt"


def _drafts(desk: Desk) -> None:
    letter = Letter(
        desk.owner, [OUTSIDERS[4]], "Entwurf: Antrag", "Sehr geehrte Damen und", ago(days=1)
    )
    desk.add("drafts", letter.mime, ago(days=1), isDraft=True, isRead=True)
    empty = b"From: <" + desk.user.upn.encode() + b">\r\nMIME-Version: 1.0\r\n\r\n"
    props = {"isDraft": True, "isRead": True}
    desk.mailbox.add(desk.mailbox.folder("drafts"), StoredContent(empty), ago(hours=30), **props)


def _raw_headers(desk: Desk) -> None:
    """Eight-bit headers in two charsets, a comment in an address, an unknown charset."""
    mime = (
        b"Received: from old (unknown)\r\n by relay; Mon, 26 Oct 2026 09:00:00 +0100\r\n"
        b'From: "M\xc3\xbcller, J\xc3\xb6rg" (office) <mueller@alt.example>\r\n'
        b"To: undisclosed-recipients:;\r\n"
        b"Subject: Gr\xfc\xdfe aus K\xf6ln =?x-unknown-8bit?Q?=E9t=E9?=\r\n"
        b"Date: Mon, 26 Oct 2026 09:00:00 +0100 (CET)\r\n"
        b"Message-ID: <raw.1@alt.example>\r\n"
        b"Importance: High\r\n"
        b"Content-Type: text/plain; charset=iso-8859-1\r\n"
        b"Content-Transfer-Encoding: 8bit\r\n\r\n"
        b"Viele Gr\xfc\xdfe\r\n.\r\n..\r\nFrom here on\r\n"
    )
    desk.mailbox.add(desk.mailbox.folder("inbox"), StoredContent(mime), ago(days=7))


def _bare(desk: Desk) -> None:
    """Neither a subject nor a Message-ID nor a date."""
    mime = b"From: scanner@harbourlight.example\r\nTo: all\r\n\r\nPage 1 of 1\r\n"
    desk.mailbox.add(desk.mailbox.folder("inbox"), StoredContent(mime), ago(days=8))


def _recoverable(desk: Desk) -> None:
    for number in range(2):
        letter = _letter(desk, f"Deleted for good ({number})", ago(days=20 + number))
        desk.add("recoverableitemsdeletions", letter.mime, ago(days=20 + number), isRead=True)
