"""What servers refuse, change or answer, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass, replace

RECEIPTS = ("Disposition-Notification-To", "Return-Receipt-To", "X-Confirm-Reading-To")
"""Fields that make a mail program send an answer when a restored mail is opened."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a letter must be like for one kind of server.

    Attributes:
        max_bytes: the largest message it takes, or None when nobody knows a limit.
        stub: put a short letter in place of one that is too large, and keep the whole aside;
            otherwise such a letter is refused.
        max_line: the longest line in bytes, without its end, or None.
        gate: Date and From must be there, and From and Sender be read by a strict parser.
        recipients: To, Cc, Bcc and the names of all fields must be read by one, in drafts too.
        received_required: a received mail without `Received` would be shown as sent.
        message_id: a letter without Message-ID gets one, by which it can be found again.
        strict_parts: the headers of parts must be read by a strict parser, and text be decoded.
        own: addresses, in lower case, whose mail counts as sent.
        ascii_headers: no byte above 127 in the header block.
        nul_allowed: the server keeps NUL bytes as they are.
        strip_headers: fields that the server would take for its own.
        disarm: fields that would make somebody answer; they are renamed.
    """

    max_bytes: int | None = None
    stub: bool = False
    max_line: int | None = None
    gate: bool = False
    recipients: bool = False
    received_required: bool = False
    message_id: bool = False
    strict_parts: bool = False
    own: tuple[str, ...] = ()
    ascii_headers: bool = False
    nul_allowed: bool = False
    strip_headers: tuple[str, ...] = ()
    disarm: tuple[str, ...] = RECEIPTS

    def at(self, special: str | None) -> Rules:
        """These rules in one folder, named by `Shelf.special`.

        A draft needs no sender and no date yet, and neither drafts nor sent mail were received;
        in the inbox everything counts as received anyway.
        """
        match special:
            case "drafts":
                return replace(self, gate=False, received_required=False)
            case "inbox" | "sentitems":
                return replace(self, received_required=False)
        return self


PLAIN = Rules()
"""Any IMAP server: right line ends, no NUL bytes, a header, no receipts."""

BRIDGE = Rules(
    max_bytes=50_000_000,
    stub=True,
    max_line=9_900,
    gate=True,
    recipients=True,
    received_required=True,
    message_id=True,
    strict_parts=True,
    ascii_headers=True,
    strip_headers=("X-Pm-Gluon-Id",),
)
"""Proton Mail Bridge since 3.22; before, it took 30 MB only."""
