"""Reading back: what a mailbox holds of what was put into it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from backupd.imap.reader import Header, Message, fetch_bodies, fetch_headers
from backupd.imap.session import Selected, Session
from backupd.ports import REPAIRED, Claim, Proof
from targets.imap.finder import FIELD, Finder, Hashing, Want, id_named
from targets.imap.lane import Address, Lane
from targets.imap.marks import Marks, differences

AT_ONCE = 200
"""Messages that are asked for in one command."""

Expected = Callable[[Claim], Marks]


def place_of(where: str) -> tuple[str, int, int]:
    """Mailbox, UIDVALIDITY and UID of an address; ("", 0, 0) for what is none."""
    mailbox, *numbers = where.rsplit(";", 2)
    if len(numbers) != 2 or not all(each.isdecimal() for each in numbers):  # noqa: PLR2004
        return "", 0, 0
    return mailbox, int(numbers[0]), int(numbers[1])


class Prover:
    """Proves claims over one lane.

    Args:
        expected: the marks that a claim's message should have.
        home: the mailbox of claims whose address names none.
        how: by what letters are recognised; its mailbox is of no interest.
    """

    def __init__(
        self,
        lane: Lane,
        expected: Expected,
        home: Callable[[], str],
        how: Address,
    ) -> None:
        self._lane, self._expected, self._home, self._how = lane, expected, home, how
        self._finders: dict[str, Finder] = {}

    def prove(self, claims: Iterable[Claim]) -> Iterator[Proof]:
        """Each claim exactly once. Raises TransientError when the server stays away."""
        iterator = iter(claims)
        while batch := list(islice(iterator, AT_ONCE)):
            by_mailbox: dict[str, list[Claim]] = {}
            for claim in batch:
                mailbox = place_of(claim.put.where)[0] or self._home()
                by_mailbox.setdefault(mailbox, []).append(claim)
            for mailbox, members in by_mailbox.items():
                yield from self._of(mailbox, members)

    def _of(self, mailbox: str, claims: Sequence[Claim]) -> list[Proof]:
        proofs: list[Proof] = []

        def work(session: Session) -> None:
            proofs.clear()
            opened = session.select(mailbox)
            if isinstance(opened, Selected):
                proofs.extend(self._inside(session, mailbox, opened, claims))
            else:
                proofs.extend(Proof(each, "missing", "its folder is gone") for each in claims)

        self._lane.persistently(work)
        return proofs

    def _inside(
        self, session: Session, mailbox: str, opened: Selected, claims: Sequence[Claim]
    ) -> Iterator[Proof]:
        here: dict[int, Claim] = {}
        lost: list[Claim] = []
        for claim in claims:
            _, validity, uid = place_of(claim.put.where)
            if uid and validity == opened.validity and uid not in here:
                here[uid] = claim
            else:
                lost.append(claim)
        for uid, proof in self._look(session, here):
            del here[uid]
            yield proof
        yield from self._search(session, mailbox, [*lost, *here.values()])

    def _look(self, session: Session, here: dict[int, Claim]) -> list[tuple[int, Proof]]:
        deep = [uid for uid, claim in here.items() if claim.deep]
        flat = [uid for uid, claim in here.items() if not claim.deep]
        found = [
            (each.uid, self._compared(here[each.uid], each))
            for each in fetch_bodies(session.wire, deep, self._how.digest)
        ]
        found.extend(
            (each.uid, _sized(here[each.uid], each, self._how.slack))
            for each in (fetch_headers(session.wire, flat, FIELD) if flat else ())
            if each.uid in here
        )
        return found

    def _compared(self, claim: Claim, message: Message[Hashing]) -> Proof:
        if message.sink.hexdigest() != _digest(claim):
            what = f"the server holds other bytes ({message.sink.size} of them)"
            return Proof(claim, "changed", what)
        marks = self._expected(claim)
        return Proof(claim, "same", differences(marks, message.flags, message.date))

    def _search(self, session: Session, mailbox: str, claims: Sequence[Claim]) -> Iterator[Proof]:
        """What is not where it was put: anywhere else in the mailbox, by its content."""
        if not claims:
            return
        if mailbox not in self._finders:
            self._finders[mailbox] = Finder(
                session, mailbox, slack=self._how.slack, digest=self._how.digest
            )
        wants = [_want(each) for each in claims]
        for claim, uid in zip(claims, self._finders[mailbox].match(session, wants), strict=True):
            yield Proof(claim, "same" if uid else "missing")


def _digest(claim: Claim) -> str:
    return claim.put.digest or claim.parcel.sha256


def _want(claim: Claim) -> Want:
    size = None if claim.put.state == REPAIRED or claim.put.digest not in {"", claim.parcel.sha256} else claim.parcel.size  # fmt: skip
    return Want(_digest(claim), size, id_named(claim.parcel.about.get("message_id")))


def _sized(claim: Claim, header: Header, slack: int) -> Proof:
    """Same when the size is right, as far as it is known: a repair changes it."""
    if _digest(claim) == claim.parcel.sha256 and abs(header.size - claim.parcel.size) > slack:
        return Proof(claim, "changed", f"{header.size} bytes instead of {claim.parcel.size}")
    return Proof(claim, "same")
