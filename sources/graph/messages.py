"""Messages of a folder: by delta where it works, by a plain listing where it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from http import HTTPStatus
from typing import Any

from backupd.model import Change, Collection, Facts, Gap, Item, Page
from sources.graph.client import Call, Json
from sources.graph.exchange import Mailbox
from sources.graph.failures import Class, Refused, Scope
from sources.graph.listing import (
    RESTARTS,
    Cursor,
    in_pages,
    next_link,
    onward,
    outlook_changes,
    string,
    values,
)

FIELDS = (
    "id",
    "changeKey",
    "parentFolderId",
    "conversationId",
    "internetMessageId",
    "subject",
    "receivedDateTime",
    "sentDateTime",
    "isRead",
    "isDraft",
    "flag",
    "categories",
    "importance",
    "inferenceClassification",
    "hasAttachments",
    "lastModifiedDateTime",
)
"""What a listing tells of a message: enough to see a change, and what its MIME loses."""

CONTENT = ("subject", "internetMessageId", "sentDateTime", "receivedDateTime", "hasAttachments")
"""What changes when the bytes of a received message change; changeKey moves with every click."""

SIZES = (500, 100, 10)
"""Messages a page: 500 works on delta in practice, and each empty 503 or 504 asks for fewer."""

TOO_LARGE = frozenset({HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT})


def version(facts: Facts) -> str:
    """What identifies the bytes of a message: a read mark, flag or category must not change it."""
    if facts.get("isDraft"):
        return f"draft:{facts.get('changeKey', '')}"
    said = json.dumps([facts.get(name) for name in CONTENT])
    return hashlib.blake2b(said.encode(), digest_size=12).hexdigest()


def pages(
    mailbox: Mailbox, folder: Collection, cursor: str | None, first: Json | None = None
) -> Iterator[Page]:
    """The changes of one folder since `cursor`, ending with a page marked `last`.

    Raises Refused and Broken; GONE when the folder no longer exists.

    Args:
        first: what the link of `cursor` answered already.
    """
    walk = _Walk(mailbox, folder, first)
    known = Cursor.unpack(cursor)
    if known and known.mode == "list":
        yield from walk.resume_listing(known)
    else:
        yield from walk.delta(known)


class _Walk:
    """One run over one folder."""

    def __init__(self, mailbox: Mailbox, folder: Collection, first: Json | None) -> None:
        self._first = first
        self._mailbox = mailbox
        self._client = mailbox.client
        self._folder = folder

    @cached_property
    def _builder(self) -> Any:
        users = self._client.sdk.root.users
        folders = users.by_user_id(self._mailbox.account.id).mail_folders
        return folders.by_mail_folder_id(self._folder.id).messages

    def delta(self, known: Cursor | None) -> Iterator[Page]:
        """By delta; a refused cursor begins a full listing, and says so with `restart`."""
        here, restart = (known, False) if known else (self._beginning(), True)
        restarts = 0
        while True:
            try:
                page = self._page(here)
            except Refused as refused:
                smaller = _smaller(refused, here.size)
                if refused.kind is Class.RESTART and restarts < RESTARTS:
                    restarts += 1
                    here, restart = self._beginning(), True
                elif smaller:
                    here = replace(here, size=smaller)
                elif _only_delta_fails(refused):
                    yield from self.listing()
                    return
                else:
                    raise
                continue
            after = onward(here, page, self._call())
            last = not next_link(page)
            yield from in_pages(outlook_changes(page), here, after, restart=restart, last=last)
            if last:
                return
            here, restart = after, False

    def resume_listing(self, known: Cursor) -> Iterator[Page]:
        """Where a plain listing is due: go on with it, or once a day give delta another chance."""
        if known.link:
            yield from self.listing(known)
        elif known.day == _today():
            yield from self.listing()
        else:
            yield from self.delta(None)

    def listing(self, known: Cursor | None = None) -> Iterator[Page]:
        """Everything, oldest first, without delta: for full mailboxes and corrupt messages."""
        here = known or Cursor(self._list_link(0, SIZES[0]), mode="list", day=_today())
        restart = known is None
        while True:
            changes, after = self._slice(here)
            last = not after.link
            yield from in_pages(changes, here, after, restart=restart, last=last)
            if last:
                return
            here, restart = after, False

    def _slice(self, here: Cursor) -> tuple[list[Change], Cursor]:
        """One page of a plain listing; where one message breaks it, everything but that message."""
        try:
            page = self._client.follow(here.link, self._call(attempts=2))
        except Refused as refused:
            if refused.kind in {Class.RESTART, Class.CLIENT}:  # an aged link: count instead
                page = self._client.follow(self._list_link(here.seen, SIZES[0]), self._call())
            elif _breaks_page(refused):
                return self._around(here)
            else:
                raise
        changes = list(outlook_changes(page))
        return changes, replace(here, link=next_link(page), seen=here.seen + len(changes))

    def _around(self, here: Cursor) -> tuple[list[Change], Cursor]:
        """The next SIZES[1] messages by halving, then on behind them."""
        changes, ended = self._halves(here.seen, SIZES[1])
        seen = here.seen + SIZES[1]
        link = "" if ended else self._list_link(seen, SIZES[0])
        return changes, replace(here, link=link, seen=seen)

    def _halves(self, start: int, size: int) -> tuple[list[Change], bool]:
        """Messages [start, start+size), and whether the folder ends there."""
        try:
            page = self._client.follow(self._list_link(start, size), self._call(attempts=2))
            return list(outlook_changes(page)), not next_link(page) and len(values(page)) < size
        except Refused as refused:
            if not _breaks_page(refused):
                raise
            if size == 1:
                return [self._unlisted(start, refused)], False
        half = size // 2
        first, ended = self._halves(start, half)
        if ended:
            return first, True
        second, ended = self._halves(start + half, size - half)
        return [*first, *second], ended

    def _unlisted(self, position: int, refused: Refused) -> Change:
        """A message that breaks every page it is on: by its id alone, else as a gap."""
        word = refused.refusal.word
        try:
            page = self._client.follow(self._list_link(position, 1, fields=("id",)), self._call())
            ids = [string(each, "id") for each in values(page)]
        except Refused:
            ids = []
        if ids:
            return Item(ids[0], {"unlisted": word})
        return Gap(
            f"{self._folder.id}#{position}",
            "unreadable",
            f"message {position + 1} of {self._folder.name}",
            f"Exchange cannot list it ({word}).",
        )

    def _page(self, here: Cursor) -> Json:
        if self._first is not None:
            first, self._first = self._first, None
            return first
        size = here.size or SIZES[0]
        attempts = 2 if size > SIZES[-1] else 0
        return self._client.follow(here.link, self._call(size=size, attempts=attempts))

    def _call(self, *, size: int = 0, attempts: int = 0) -> Call:
        prefer = f"odata.maxpagesize={size}" if size else ""
        what = f"the messages in {self._folder.name}"
        return self._mailbox.call(Scope.COLLECTION, what, prefer=prefer, attempts=attempts)

    def _beginning(self) -> Cursor:
        return Cursor(self._client.sdk.url(self._builder.delta, select=list(FIELDS)))

    def _list_link(self, skip: int, top: int, fields: tuple[str, ...] = FIELDS) -> str:
        order = ["receivedDateTime asc"]  # new mail comes at the end and shifts nothing
        return self._client.sdk.url(
            self._builder, select=list(fields), top=top, skip=skip, orderby=order
        )


def _smaller(refused: Refused, size: int) -> int:
    """The next smaller page where the answer looks like "too much at once", else 0."""
    if refused.refusal.status not in TOO_LARGE or refused.refusal.pause is not None:
        return 0
    return next((each for each in SIZES if each < (size or SIZES[0])), 0)


def _only_delta_fails(refused: Refused) -> bool:
    """A full mailbox cannot keep delta's state, and one corrupt message breaks a delta page."""
    return refused.kind is Class.FULL or _breaks_page(refused)


def _breaks_page(refused: Refused) -> bool:
    """Whether a single message may be what the page stumbles over."""
    broken = refused.refusal.status == HTTPStatus.INTERNAL_SERVER_ERROR
    return refused.kind is Class.ITEM or (broken and refused.kind is Class.TRANSIENT)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
