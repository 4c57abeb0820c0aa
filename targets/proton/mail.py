"""Mail into Proton, through Proton Mail Bridge on this machine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO

from backupd.errors import ConfigError
from backupd.imap.reader import uid_set
from backupd.imap.session import Selected, Session
from backupd.ports import (
    PRESENT,
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
from targets.imap.lane import Ticket
from targets.imap.layout import Path
from targets.imap.proof import AT_ONCE, place_of
from targets.imap.target import Imap
from targets.letters import BRIDGE, Letter, Rules, prepare
from targets.proton import guide
from targets.proton.layout import FOLDERS, LABELS, RECOVERED, Boxes, Layout
from targets.proton.meaning import Meaning, meaning_of

log = logging.getLogger(__name__)

TIMEOUT = 300
"""Seconds: Bridge waits out Proton's throttling by itself, and a client only sees a slow command."""

ANY_SIZE = 1 << 40
"""By so many bytes Bridge may change a size: it is no help in recognising a message."""

_MARKS: Mapping[str, object] = {"internaldate": "ignored", "timeout": TIMEOUT, "slack": ANY_SIZE}


class ProtonMail(Imap):
    """Any mailbox that Bridge serves; see `backupd.ports.Target`.

    One connection only: Proton counts them. A message is recognised by what it says, not by its
    bytes, for Bridge marks every message and writes some anew. Its categories become labels.
    """

    pace = Pace(items=2.0, bytes=500_000.0)

    def __init__(self, endpoint: Endpoint) -> None:
        patient = replace(endpoint, connections=1, quirks={**_MARKS, **endpoint.quirks})
        layout = Layout()
        super().__init__(patient, layout=layout, letters=self._letter, digest=Meaning)
        self._labels = layout
        self._boxes: Boxes = Boxes(layout)
        self._bridge = _rules(endpoint)
        self._special: dict[tuple[str, ...], str] = {}
        self._junk = False
        self._recovered: int | None = None
        self._ready = False

    def preflight(self) -> Iterator[Finding]:
        """Log in, make sure that it is Bridge, look into `Recovered Messages`. Raises ConfigError."""
        place = self._endpoint
        if not place.ca_file and not place.fingerprint:
            raise ConfigError(
                f"[targets.{place.name}.mail] does not say which certificate Bridge shows.",
                hint=guide.CERTIFICATE,
            )
        for each in super().preflight():
            if each.subject != "categories":  # they become labels
                yield each
        odd = list(self._recognised(self._lanes[0].session))
        self._ready = all(each.level != "error" for each in odd)
        yield from odd

    def steps(self) -> Sequence[str]:
        """Bridge before the restore; afterwards what Proton is going to remove or has lost."""
        steps = [] if self._ready else [*guide.BRIDGE]
        if self._junk:
            steps.append(guide.SPAM)
        if grown := self._grown():
            steps.append(guide.recovered(grown))
        return [*steps, *guide.DNS]

    def make_collection(self, shelf: Shelf) -> None:
        """Find or create the folder."""
        self._remember(shelf)
        super().make_collection(shelf)

    def put(
        self, shelf: Shelf, items: Iterable[tuple[Parcel, Reader]], *, look: bool
    ) -> Iterator[tuple[Parcel, Put]]:
        """One letter after the other; tells when Bridge put some aside."""
        self._remember(shelf)
        if self._recovered is None:
            self._recovered = self._aside()
        bare = Unlabelled(self._labels)
        for parcel, end in super().put(shelf, items, look=look):
            bare.take(parcel, end)
            yield parcel, end
        self._lanes[0].persistently(lambda session: bare.label(session, self._boxes))
        if grown := self._grown():
            log.warning("%s", guide.recovered(grown))

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:
        """By what the messages say. Categories are labels, which no message shows."""
        asked: dict[int, tuple[Claim, Claim]] = {}

        def bare() -> Iterator[Claim]:
            for claim in claims:
                asks = replace(claim, parcel=_without_categories(claim.parcel))
                asked[id(asks)] = (asks, claim)
                yield asks

        for proof in super().read_back(shelf, bare()):
            yield replace(proof, claim=asked.pop(id(proof.claim))[1])

    def _remember(self, shelf: Shelf) -> None:
        if shelf.special:
            self._special[shelf.names] = shelf.special
        self._junk = self._junk or shelf.special == "junkemail"

    def _letter(self, parcel: Parcel, held: IO[bytes]) -> Letter:
        rules = self._bridge.at(self._special.get(parcel.collection))
        letter = prepare(parcel, held, rules)
        letter.content.seek(0)
        meaning = meaning_of(letter.content)
        letter.content.seek(0)
        return replace(letter, sha256=meaning)

    def _ticket(
        self, parcel: Parcel, held: IO[bytes], opened: Selected | None, *, aside: bool = True
    ) -> Ticket:
        ticket = super()._ticket(_without_categories(parcel), held, opened, aside=aside)
        return replace(ticket, parcel=parcel, labels=self._layout.labels(parcel))

    def _recognised(self, session: Session) -> Iterator[Finding]:
        there = {each.name for each in session.mailboxes()}
        if not {FOLDERS, LABELS} <= there:
            yield Finding(
                "error", "Bridge", f"{self._endpoint.host}:{self._endpoint.port} is not Proton Mail Bridge",
                "It chooses the first free port from 1143 upwards: `info` in `protonmail-bridge --cli` names it.",
            )  # fmt: skip
        held = session.select(RECOVERED) if RECOVERED in there else None
        if isinstance(held, Selected) and held.exists:
            yield Finding(
                "warning", RECOVERED, f"{held.exists} messages lie there already", guide.LOOK
            )
        limit = (self._bridge.max_bytes or 0) // 1_000_000
        yield Finding("ok", "size", f"messages up to {limit} MB, which needs Bridge 3.22; larger ones become a text with a list of what is missing")  # fmt: skip

    def _aside(self) -> int | None:
        """The next UID of `Recovered Messages`; it grows with each message that Bridge put there."""
        found: list[tuple[int, int] | None] = []
        self._lanes[0].persistently(lambda session: found.append(session.next_uid(RECOVERED)))
        return found[-1][1] if found[-1] else None

    def _grown(self) -> int:
        if self._recovered is None:
            return 0
        return max(0, (self._aside() or 0) - self._recovered)


class Unlabelled:
    """Messages that were there already: a run that was killed may not have labelled them yet.

    A label that a message has is not given twice, so they are all labelled again.
    """

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._found: dict[tuple[str, Path], list[int]] = {}

    def take(self, parcel: Parcel, end: Put) -> None:
        """Remember a message that was there."""
        if end.state != PRESENT:
            return
        mailbox, _, uid = place_of(end.where)
        for path in self._layout.labels(parcel) if uid else ():
            self._found.setdefault((mailbox, path), []).append(uid)

    def label(self, session: Session, boxes: Boxes) -> None:
        """Label them. Raises UserError when Proton takes no such label."""
        for (mailbox, path), uids in self._found.items():
            label = boxes.at(session, path)
            session.select(mailbox)
            for at in range(0, len(uids), AT_ONCE):
                session.copy(uid_set(uids[at : at + AT_ONCE]), label)


def _rules(endpoint: Endpoint) -> Rules:
    limit = endpoint.quirks.get("max_bytes")
    own = tuple(
        dict.fromkeys(each.lower() for each in (endpoint.account, endpoint.username) if each)
    )
    return replace(BRIDGE, max_bytes=limit if isinstance(limit, int) else BRIDGE.max_bytes, own=own)


def _without_categories(parcel: Parcel) -> Parcel:
    return replace(parcel, about={k: v for k, v in parcel.about.items() if k != "categories"})
