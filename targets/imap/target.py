"""The target: letters in batches over several connections, and the proof that they arrived."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO

from backupd.errors import IntegrityError, ItemError, ItemRefused
from backupd.imap.connect import Login
from backupd.imap.reader import Digest
from backupd.imap.session import Selected, Session
from backupd.imap.writer import Outgoing
from backupd.model import Service
from backupd.ports import (
    REPAIRED,
    RESTORED,
    Claim,
    Finding,
    Pace,
    Parcel,
    Proof,
    Put,
    Reader,
    Shelf,
)
from targets.endpoint import Endpoint
from targets.imap.crew import Crew
from targets.imap.finder import Finder, Hashing
from targets.imap.lane import Address, Delivery, Lane, Ticket
from targets.imap.layout import Folders, Layout
from targets.imap.mailboxes import Mailboxes
from targets.imap.marks import Marks, marks
from targets.imap.proof import Prover
from targets.letters import Letter, Rules, keep, prepare
from targets.serial import spool

Letters = Callable[[Parcel, IO[bytes]], Letter]
"""Makes a letter of the original; raises ItemRefused. See `targets.letters.prepare`."""


class Imap:
    """Any IMAP server.

    Quirks of the endpoint: `max_bytes` (the largest message), `internaldate` (`ignored`: dates are
    neither sent nor compared), `ascii_headers` (bytes above 127 do not survive in a header),
    `timeout` (seconds), `slack` (bytes that the server adds to a message
    on its own, for recognising it by size).

    Args:
        layout: where folders go, when not by their names.
        letters: what is made of a message before it is put.
        digest: by what a message is recognised at the target, if not by its bytes; `Letter.sha256`
            must be the same of the letter.
    """

    services = frozenset({Service.MAIL})
    pace = Pace(items=15.0, bytes=1_000_000.0)

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        layout: Layout | None = None,
        letters: Letters | None = None,
        digest: Callable[[], Hashing] = Digest,
    ) -> None:
        self.name = endpoint.name
        self._endpoint = endpoint
        self._layout: Layout = layout or Folders()
        self._letters = letters or self._plainly
        self._rules = Rules(
            max_bytes=_number(endpoint, "max_bytes"),
            ascii_headers=endpoint.quirks.get("ascii_headers") is True,
        )
        self._boxes = Mailboxes(self._layout)
        self._lanes = [Lane(_login(endpoint)) for _ in range(max(1, endpoint.connections))]
        self._how = Address("", endpoint.username, _number(endpoint, "slack") or 0, digest)
        self._dated = endpoint.quirks.get("internaldate") != "ignored"
        self._limit: int | None = None

    def preflight(self) -> Iterator[Finding]:
        """Log in; quota, limits, keywords and what the server lacks."""
        session = self._lanes[0].session
        self._meet(session)
        place = f"{self._endpoint.host} as {self._endpoint.username}"
        yield Finding("ok", "login", f"{place}, {len(session.mailboxes())} folders")
        free = session.free()
        if free is not None:
            level = "ok" if free else "error"
            hint = "" if free else "Give the mailbox more room before the restore."
            yield Finding(level, "quota", f"{free >> 20} MiB are free", hint)
        if limit := session.append_limit:
            yield Finding("ok", "size", f"messages up to {limit >> 20} MiB are taken")
        opened = session.select("INBOX", write=True)
        session.unselect()
        if isinstance(opened, Selected) and opened.keywords is not None:
            yield Finding("warning", "categories", "the server keeps no keywords: categories are lost in the mailbox", "They stay in the backup.")  # fmt: skip
        if not session.can("UIDPLUS"):
            yield Finding("warning", "addresses", "the server does not say where it put a message: reading back is slower")  # fmt: skip

    def steps(self) -> Sequence[str]:
        """Nothing has to be done by hand."""
        return ()

    def examine(self, parcel: Parcel, content: Reader) -> Put:
        """What would be repaired or refused, as far as it is known without the server."""
        try:
            ticket = self._ticket(parcel, spool(content), None, aside=False)
        except (ItemError, IntegrityError) as error:
            return Put.failed(error)
        ticket.letter.content.close()
        why = "; ".join((*ticket.letter.repairs, *ticket.notes))
        return Put(REPAIRED if why else RESTORED, why=why, digest=ticket.letter.sha256)

    def make_collection(self, shelf: Shelf) -> None:
        """Find or create the folder, and subscribe to it."""
        self._mailbox(shelf)

    def put(
        self, shelf: Shelf, items: Iterable[tuple[Parcel, Reader]], *, look: bool
    ) -> Iterator[tuple[Parcel, Put]]:
        """Letters in batches; each connection has those of certain hashes.

        So two identical letters are never on their way over two connections, and what one
        connection lost cannot be taken for what another one put.
        """
        mailbox = self._mailbox(shelf)
        opened, finder = self._survey(mailbox, look=look)
        to = replace(self._how, mailbox=mailbox)
        crew = Crew([Delivery(lane, to, self._boxes, finder) for lane in self._lanes])
        with crew:
            for parcel, content in items:
                try:
                    ticket = self._ticket(parcel, spool(content), opened)
                except (ItemError, IntegrityError) as error:
                    yield parcel, Put.failed(error)
                    continue
                yield from crew.take(ticket)
            yield from crew.finish()

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:
        """By UID, each message hashed as it comes from the server."""

        def expected(claim: Claim) -> Marks:
            return marks(claim.parcel.about, None, dated=self._dated)

        prover = Prover(self._lanes[0], expected, lambda: self._mailbox(shelf), self._how)
        yield from prover.prove(claims)

    def close(self) -> None:
        """Log out everywhere."""
        for lane in self._lanes:
            lane.close()

    def _mailbox(self, shelf: Shelf) -> str:
        names: list[str] = []
        self._lanes[0].persistently(lambda session: names.append(self._boxes.of(session, shelf)))
        return names[-1]

    def _survey(self, mailbox: str, *, look: bool) -> tuple[Selected | None, Finder | None]:
        """Which keywords the folder keeps, and with `look` what lies in it."""
        seen: list[tuple[Selected | None, Finder | None]] = []

        def work(session: Session) -> None:
            self._meet(session)
            opened = session.select(mailbox, write=True)
            there = opened if isinstance(opened, Selected) else None
            how = self._how
            finder = (
                Finder(session, mailbox, slack=how.slack, digest=how.digest)
                if look and there
                else None
            )
            session.unselect()
            seen.append((there, finder))

        self._lanes[0].persistently(work)
        return seen[-1]

    def _ticket(
        self, parcel: Parcel, held: IO[bytes], opened: Selected | None, *, aside: bool = True
    ) -> Ticket:
        """A letter made ready; what does not fit into the server is laid aside on disk, if `aside`."""
        try:
            letter = self._letters(parcel, held)
            self._check_size(parcel, letter)
        except BaseException:
            held.close()
            raise
        if letter.leftover and aside:
            keep(held, self._endpoint.state / "leftover", letter.leftover)
        if letter.content is not held:
            held.close()
        found = marks(parcel.about, opened.keywords if opened else None, dated=self._dated)
        return Ticket(
            parcel,
            letter,
            Outgoing(letter.content, letter.size, found.flags, found.date),
            found.notes,
            self._layout.labels(parcel),
        )

    def _plainly(self, parcel: Parcel, held: IO[bytes]) -> Letter:
        return prepare(parcel, held, self._rules)

    def _meet(self, session: Session) -> None:
        """Learn what only the server itself can tell."""
        self._limit = session.append_limit
        if session.software.startswith("Cyrus"):  # it writes an X for every byte above 127
            self._rules = replace(self._rules, ascii_headers=True)

    def _check_size(self, parcel: Parcel, letter: Letter) -> None:
        if self._limit is not None and letter.size > self._limit:
            letter.content.close()
            raise ItemRefused(
                f"{parcel.path} has {letter.size} bytes; the server takes {self._limit}.",
                reason="toobig",
            )


def _login(endpoint: Endpoint) -> Login:
    return Login(
        name=endpoint.host, host=endpoint.host, port=endpoint.port, username=endpoint.username,
        secret=endpoint.secret, security=endpoint.security, auth=endpoint.auth,
        ca_file=endpoint.ca_file, fingerprint=endpoint.fingerprint,
        timeout=float(_number(endpoint, "timeout") or 120),
    )  # fmt: skip


def _number(endpoint: Endpoint, quirk: str) -> int | None:
    value = endpoint.quirks.get(quirk)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
