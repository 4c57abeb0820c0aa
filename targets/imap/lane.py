"""One connection to the target that comes back after it was lost, and what is put over it."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import stamina

from backupd.errors import BackupdError, ItemRefused, TransientError, UserError
from backupd.imap.connect import Login
from backupd.imap.reader import Digest, uid_set
from backupd.imap.session import Selected, Session, open_session
from backupd.imap.wire import Answer, Dropped
from backupd.imap.writer import Outcome, Outgoing, Stored, Writer
from backupd.ports import PRESENT, REPAIRED, RESTORED, Parcel, Put
from targets.imap.finder import Finder, Hashing, Want, id_in
from targets.imap.layout import Path
from targets.imap.mailboxes import Mailboxes
from targets.letters import Letter

log = logging.getLogger(__name__)

ATTEMPTS = 8
"""Connections that may fail in a row, with growing pauses between them (about a minute in all)."""
TOGETHER = 2
"""Lost connections after which the rest of a batch is put one by one."""
HANGS = 3
"""So often may a single message end the connection before it is given up."""
SETTLE = 1.0
"""Seconds that a server gets to finish what it had received when the connection was lost."""
BUSY = frozenset({"UNAVAILABLE", "INUSE", "EXPUNGEISSUED"})


class Lane:
    """A session that is opened when it is needed and again when it was lost. One thread at a time."""

    def __init__(self, login: Login) -> None:
        self._login = login
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The session; opened in one try."""
        if self._session is None:
            self._session = open_session(self._login)
        return self._session

    def close(self) -> None:
        """Log out."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def persistently(self, work: Callable[[Session], None]) -> None:
        """Do `work`, on a new session whenever the old one is lost. Raises TransientError after all."""
        for attempt in stamina.retry_context(
            on=TransientError, attempts=ATTEMPTS, timeout=None, wait_initial=0.2, wait_max=30.0
        ):
            with attempt:
                try:
                    work(self.session)
                except TransientError:
                    self.close()
                    raise


@dataclass(frozen=True, slots=True)
class Ticket:
    """A letter on its way: what is put, and what will be said of it."""

    parcel: Parcel
    letter: Letter
    outgoing: Outgoing
    notes: tuple[str, ...]
    labels: tuple[Path, ...]


@dataclass(slots=True)
class Delivered:
    """What became of a batch; `error` ended it, and tickets without a result are unknown."""

    results: list[tuple[Parcel, Put]] = field(default_factory=list)
    error: BackupdError | None = None


@dataclass(frozen=True, slots=True)
class Address:
    """Where letters go. `slack` and `digest` are how a letter is recognised there; see `Finder`."""

    mailbox: str
    user: str
    slack: int = 0
    digest: Callable[[], Hashing] = Digest


class Delivery:
    """Puts the batches of one collection over one lane, each letter exactly once.

    After a lost connection it looks for what the server took before it sends anything again.
    """

    def __init__(
        self, lane: Lane, address: Address, boxes: Mailboxes, finder: Finder | None
    ) -> None:
        self._lane, self._to, self._boxes, self._finder = lane, address, boxes, finder
        self._validity, self._next = -1, 1
        self._drops = 0
        self._again: Counter[str] = Counter()

    def deliver(self, tickets: Sequence[Ticket]) -> Delivered:
        """Put a batch. Never raises BackupdError: it is part of the answer."""
        done = Delivered()
        self._drops = 0
        try:
            waiting = list(self._not_present(tickets, done))
            while waiting:
                # A message that makes the server hang up must not take others along.
                batch = waiting if self._drops < TOGETHER else waiting[:1]
                settled = self._step(batch, done)
                waiting = [each for each in waiting if id(each) not in settled]
        except BackupdError as error:
            done.error = error
        finally:
            for each in tickets:
                each.letter.content.close()
        return done

    def _not_present(self, tickets: Sequence[Ticket], done: Delivered) -> Iterator[Ticket]:
        """What the mailbox does not hold already."""
        if not self._finder or not len(self._finder):
            yield from tickets
            return
        finder, wants, uids = self._finder, [_want(each) for each in tickets], list[int]()
        self._lane.persistently(lambda session: uids.extend(finder.match(session, wants)))
        for ticket, uid in zip(tickets, uids, strict=True):
            if uid:
                where = self._where(Stored(finder.validity, uid))
                done.results.append(
                    (ticket.parcel, Put(PRESENT, where, digest=ticket.letter.sha256))
                )
            else:
                yield ticket

    def _step(self, batch: Sequence[Ticket], done: Delivered) -> set[int]:
        """Append once; the tickets (by id) that are settled by it."""
        outcomes: list[Outcome | None] = [None] * len(batch)
        try:
            self._lane.persistently(self._begin)
            self._writer().append([each.outgoing for each in batch], outcomes)
        except Dropped as error:
            self._drops += 1
            log.info("%s", error)
            self._lane.close()
            time.sleep(SETTLE)
            self._recognise(batch, outcomes)
            if len(batch) == 1 and outcomes[0] is None and self._hangs_up(batch[0]):
                done.results.append((batch[0].parcel, Put.failed(_hanging_up(batch[0]))))
                return {id(batch[0])}
        return self._judge(batch, outcomes, done)

    def _hangs_up(self, ticket: Ticket) -> bool:
        """Whether a letter has ended the connection so often that it must be the letter's fault."""
        self._again[ticket.parcel.path] += 1
        return self._again[ticket.parcel.path] >= HANGS

    def _begin(self, session: Session) -> None:
        """Note where new messages begin, so that what is in doubt can be found later."""
        if self._validity >= 0 and session.can("UIDPLUS"):
            return
        found = session.next_uid(self._to.mailbox)
        if found is None:
            self._boxes.again(session, self._to.mailbox)
        self._validity, self._next = found or (0, 1)

    def _writer(self) -> Writer:
        session = self._lane.session
        return Writer(
            session.wire,
            self._to.mailbox,
            many=session.can("MULTIAPPEND"),
            eager=session.can("LITERAL+"),
        )

    def _recognise(self, batch: Sequence[Ticket], outcomes: list[Outcome | None]) -> None:
        """After a lost connection: which of the open letters did the server take?"""
        unsure = [place for place, outcome in enumerate(outcomes) if outcome is None]
        for outcome in outcomes:
            self._advance(outcome)
        wants = [_want(batch[place]) for place in unsure]

        def look(session: Session) -> None:
            opened = session.select(self._to.mailbox)
            same = isinstance(opened, Selected) and opened.validity == self._validity
            first = self._next if same else 1
            finder = Finder(
                session, self._to.mailbox, first=first, slack=self._to.slack, digest=self._to.digest
            )
            for place, uid in zip(unsure, finder.match(session, wants), strict=True):
                outcomes[place] = Stored(finder.validity, uid) if uid else None

        self._lane.persistently(look)

    def _judge(
        self, batch: Sequence[Ticket], outcomes: Sequence[Outcome | None], done: Delivered
    ) -> set[int]:
        settled: set[int] = set()
        failure: BackupdError | None = None
        stored: list[tuple[Ticket, Stored]] = []
        for ticket, outcome in zip(batch, outcomes, strict=True):
            if isinstance(outcome, Stored):
                self._advance(outcome)
                stored.append((ticket, outcome))
                settled.add(id(ticket))
            elif outcome is not None:
                try:
                    if refused := self._refusal(ticket, outcome):
                        done.results.append((ticket.parcel, Put.failed(refused)))
                        settled.add(id(ticket))
                except BackupdError as error:
                    failure = failure or error
        done.results.extend(self._receipts(stored))
        if failure:
            raise failure
        return settled

    def _advance(self, outcome: Outcome | None) -> None:
        if isinstance(outcome, Stored) and outcome.uid:
            if outcome.validity != self._validity:
                self._validity, self._next = outcome.validity, 1
            self._next = max(self._next, outcome.uid + 1)

    def _refusal(self, ticket: Ticket, answer: Answer) -> ItemRefused | None:
        """Why the server refuses a letter; None when it is worth another try."""
        if answer.code == "OVERQUOTA" or self._is_full(ticket, answer):
            raise UserError(
                f"The mailbox of {self._to.user} is full: {answer.words or 'over quota'}",
                hint="Give it more room at the provider, then run the same restore again: it goes on where it stopped.",
                reason="quota",
            )
        if self._heal(ticket, answer):
            return None
        what = "is too large for the server" if answer.code in {"TOOBIG", "LIMIT"} else "is refused"
        return ItemRefused(
            f"{ticket.parcel.path} {what}: {answer.words or answer.code or answer.status}",
            reason=answer.code.lower() or "refused",
        )

    def _is_full(self, ticket: Ticket, answer: Answer) -> bool:
        """Cyrus refuses without a code when a mailbox is full: its quota tells."""
        if answer.status != "NO" or answer.code:
            return False
        free = self._lane.session.free(self._to.mailbox)
        return free is not None and free < ticket.letter.size

    def _heal(self, ticket: Ticket, answer: Answer) -> bool:
        """Do what a refusal asks for before the letter is put once more; False when nothing helps."""
        tries = self._again[ticket.parcel.path]
        if answer.code == "TRYCREATE" and tries < 1:
            self._boxes.again(self._lane.session, self._to.mailbox)
        elif answer.code in BUSY and tries < ATTEMPTS:
            time.sleep(min(30.0, 0.2 * 2**tries))
        else:
            return False
        self._again[ticket.parcel.path] += 1
        return True

    def _receipts(self, stored: Sequence[tuple[Ticket, Stored]]) -> Iterator[tuple[Parcel, Put]]:
        troubles = self._label(stored)
        for ticket, place in stored:
            letter = ticket.letter
            why = "; ".join((*letter.repairs, *ticket.notes, *troubles.get(id(ticket), ())))
            state = REPAIRED if why else RESTORED
            yield ticket.parcel, Put(state, self._where(place), why, letter.sha256)

    def _label(self, stored: Sequence[tuple[Ticket, Stored]]) -> dict[int, list[str]]:
        """Copy into the folders of labels; what did not work, by ticket."""
        groups: dict[Path, list[tuple[Ticket, int]]] = {}
        troubles: dict[int, list[str]] = {}
        for ticket, place in stored:
            for path in ticket.labels:
                groups.setdefault(path, []).append((ticket, place.uid))
        for path, members in groups.items():
            try:
                words = self._copy(path, [uid for _, uid in members])
            except (TransientError, UserError) as error:
                words = str(error)
            for ticket, _ in members if words else ():
                troubles.setdefault(id(ticket), []).append(f"not in {'/'.join(path)}: {words}")
        return troubles

    def _copy(self, path: Path, uids: Sequence[int]) -> str:
        """Why the messages could not be copied; empty when they were."""
        if not all(uids):
            return "the server does not say where the message lies"
        session = self._lane.session
        name = self._boxes.at(session, path)
        session.select(self._to.mailbox)
        answer = session.copy(uid_set(uids), name)
        return "" if answer.ok else answer.words or answer.status

    def _where(self, place: Stored) -> str:
        return f"{self._to.mailbox};{place.validity};{place.uid}"


def _hanging_up(ticket: Ticket) -> ItemRefused:
    return ItemRefused(
        f"{ticket.parcel.path}: the server ends the connection whenever it gets this message.",
        reason="hangs-up",
    )


def _want(ticket: Ticket) -> Want:
    return Want(ticket.letter.sha256, ticket.letter.size, id_in(ticket.letter.content))
