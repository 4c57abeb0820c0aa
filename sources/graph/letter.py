"""What can be seen of a message while its bytes stream by, without parsing it."""

from __future__ import annotations

import re

HEAD = 1 << 16
"""Bytes of headers that are looked at; Exchange itself refuses longer ones."""

TAIL = 1 << 12
"""Bytes at the end in which the last boundary of a multipart message must stand."""

BLANK_LINE = re.compile(rb"\r?\n\r?\n")
BOUNDARY = re.compile(
    rb"boundary[ \t]*=[ \t]*(?:\"([^\"\r\n]{1,200})\"|([^\s;\"]{1,200}))", re.IGNORECASE
)

ATTACHED = (b"disposition: attachment", b"content-type: message/rfc822")
LINKS = (b"sharepoint.com/", b"1drv.ms/", b"onedrive.live.com/")
LONGEST_SIGN = 32


class Letter:
    """Watches one message: is it whole, and may it lack attachments that are only links?

    MIME cannot hold a cloud attachment, and asking for the list of attachments doubles the
    requests. So a message is suspicious only when `hasAttachments` is true and its bytes either
    hold no attachment at all, or an address of a cloud drive. A link inside a base64 body beside
    a real attachment escapes this rule.
    """

    __slots__ = ("_attached", "_head", "_link", "_looks", "_tail")

    def __init__(self, *, has_attachments: bool) -> None:
        self._looks = has_attachments
        self.begin()

    def begin(self) -> None:
        """Another attempt begins."""
        self._head = self._tail = b""
        self._attached = self._link = False

    def see(self, chunk: bytes) -> None:
        """The next bytes; signs that straddle two chunks are found."""
        if self._looks:
            text = self._tail[-LONGEST_SIGN:].lower() + chunk.lower()
            self._attached = self._attached or any(each in text for each in ATTACHED)
            self._link = self._link or any(each in text for each in LINKS)
        if len(self._head) < HEAD:
            self._head += chunk[: HEAD - len(self._head)]
        self._tail = chunk[-TAIL:] if len(chunk) >= TAIL else (self._tail + chunk)[-TAIL:]

    @property
    def whole(self) -> bool:
        """Whether a multipart message ends with its last boundary; any other one counts as whole.

        Not a proof: some mail was broken when it was sent. It is asked for twice.
        """
        if b"multipart/" not in self._head.lower():
            return True
        head = BLANK_LINE.split(self._head, maxsplit=1)[0]
        if b"multipart/" not in head.lower() or not (found := BOUNDARY.search(head)):
            return True
        return b"--" + (found[1] or found[2]) + b"--" in self._tail

    @property
    def suspicious(self) -> bool:
        """Whether the list of attachments is worth a request."""
        return self._looks and (self._link or not self._attached)
