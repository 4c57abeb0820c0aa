"""The seams: what a source and a target must do for the verbs, and what they may assume.

A source lists and fetches; it keeps no state of its own between calls: cursors and facts are
handed in. A target takes; it never deletes. Both are plain blocking objects; what runs
inside them concurrently is their own business.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from backupd.cutoff.verdict import Evidence
from backupd.errors import BackupdError, IntegrityError
from backupd.model import Account, Collection, Facts, Gap, Item, Page, Service, nothing


class Draft(Protocol):
    """A file in the making: outside the mirror, hashed while it is written.

    Not thread-safe: one writer. Raises OSError when the disk does not take the bytes.
    """

    @property
    def size(self) -> int:
        """Bytes written so far: where a resumed download goes on."""
        ...

    def write(self, data: bytes) -> None:
        """Append `data`."""
        ...

    def restart(self) -> None:
        """Drop what was written and begin again."""
        ...

    def close(self) -> None:
        """All bytes are written: release the open file. Safe to call twice."""
        ...

    def discard(self) -> None:
        """Remove the file; safe to call twice."""
        ...


class Landing(Protocol):
    """Hands out drafts on the disk that the mirror lies on."""

    def __call__(self) -> Draft:
        """A new empty draft."""
        ...


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an item, complete and checked against what the source says of them.

    Attributes:
        item: the very object that was asked for.
        draft: the bytes in their open format (RFC 5322, iCalendar, vCard or the file itself).
        facts: what the fetch learnt beyond the listing; it wins over `item.facts`.
        gaps: parts that could not be taken along (a cloud attachment, say).
        note: a reason word when the bytes are a fall-back or a check was only advisory, else "".
    """

    item: Item
    draft: Draft
    facts: Facts = field(default_factory=nothing)
    gaps: tuple[Gap, ...] = ()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """An item that could not be had, and why: an ItemError, or a TransientError after all retries."""

    item: Item
    error: BackupdError


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer of a check: `level` is `ok`, `warning` or `error`; `hint` says what to do."""

    level: str
    subject: str
    message: str
    hint: str = ""


class Source(Protocol):
    """Where data comes from.

    Every method raises AuthError when credentials or permissions are at fault, CutOff when the
    account or tenant is refused, TransientError when retrying inside did not help.
    """

    name: str
    recognises: frozenset[Service]
    """Services whose ids do not last (a server may number everything anew), but whose `version` names the
    content wherever it lies. What is new is then looked for among what is held and no longer there."""

    def accounts(self) -> Iterator[Account]:
        """Every account the configuration selects."""
        ...

    def collections(self, account: Account, service: Service) -> Sequence[Collection | Gap]:
        """Every collection, parents before children; Gaps for what is known but not taken.

        Raises CutOff(reason="licence") when the account has no such service at all (any more).
        """
        ...

    def pages(self, account: Account, collection: Collection, cursor: str | None) -> Iterator[Page]:
        """The changes since `cursor` (everything for None), ending with a page marked `last`.

        A cursor that the source refuses is no error: the next page is marked `restart`.
        Raises ItemGone when the collection itself no longer exists.
        """
        ...

    def keys(self, account: Account, service: Service, ids: Sequence[str]) -> Mapping[str, str]:
        """For each id, a key that stays when the item moves within the account.

        An id that has no better key maps to itself.
        """
        ...

    def version(self, service: Service, facts: Facts) -> str:
        """What identifies the content behind `facts` (merged, complete); equal means: do not fetch.

        Pure and fast: it is called for every item of every page.
        """
        ...

    def describe(self, service: Service, facts: Facts) -> Facts:
        """The facts (merged, complete) in the words that all providers share; pure and fast.

        mail: subject, received, sent, message_id, seen, flagged, answered, draft, categories ·
        calendar: subject, uid, start, modified, categories · contacts: subject, modified,
        categories · files: created, modified (the name is the item's own). Times are RFC 3339; what is unknown is left out.
        """
        ...

    def fetch(
        self, account: Account, collection: Collection, items: Iterable[Item], landing: Landing
    ) -> Iterator[Fetched | Failed]:
        """Fetch each item into a draft of its own; in any order, several at a time.

        `item.facts` are the merged facts. Each item is answered exactly once; a Failed one leaves
        no draft behind. An exception ends the iteration: the caller discards what it has not taken.
        """
        ...

    def locate(
        self, account: Account, service: Service, held: Mapping[str, Item]
    ) -> Mapping[str, str | None]:
        """Where items are now: key → collection id, or None when it is truly gone.

        `held` are keys with the items as they were last seen. A key missing from the answer is unknown, and its item must be kept.
        """
        ...

    def check(self) -> Iterator[Finding]:
        """Try credentials, permissions and reachability without changing anything."""
        ...

    def close(self) -> None:
        """Release connections and threads."""
        ...


@runtime_checkable
class Probing(Protocol):
    """A source that can be asked, apart from a sync, whether it still lets us in.

    Nothing here raises a BackupdError: a failure is an answer. Each question is cheap and
    time-boxed, none of them changes anything.
    """

    name: str

    def probe(self, account: Account | None) -> Iterator[Evidence]:
        """One answer a rung: of the whole source for None, else of the account alone.

        The rungs of the whole source end at the first one that makes the others pointless: when
        the network or our clock is at fault, and when no token is given out.
        """
        ...

    def warnings(self, accounts: Sequence[Account]) -> Iterator[Finding]:
        """What announces a cut-off: expiring credentials, lapsing subscriptions, blocked people.

        Args:
            accounts: those that are held here; of others nobody needs to know.
        """
        ...


@runtime_checkable
class Expecting(Protocol):
    """A source that asks for the changes of many collections at once, when it knows which will be wanted."""

    def expect(self, account: Account, wanted: Sequence[tuple[Collection, str]]) -> None:
        """`pages` will be called for these collections with these cursors. A hint: what is in the way shows there.

        Raises no BackupdError.
        """
        ...


@runtime_checkable
class Listening(Protocol):
    """A source that hears of changes as they happen."""

    def wait(self, account: Account, seconds: float) -> bool:
        """Until something is not as it was at the last wait, at most so long; whether it is.

        A hint: a sync finds out what. With no time at all it only looks. Raises as `pages` does.
        """
        ...


@dataclass(frozen=True, slots=True)
class Shelf:
    """A collection as a snapshot describes it, on its way into a target.

    Attributes:
        path: its path inside the snapshot, with `/`: safe and unique.
        names: its display names from the top; hostile.
        special: `inbox`, `sentitems`, `drafts`, … where the source knew, else None.
    """

    service: Service
    path: str
    names: tuple[str, ...]
    items: int
    size: int
    special: str | None = None


@dataclass(frozen=True, slots=True)
class Parcel:
    """An item on its way into a target.

    Attributes:
        path: its path inside the snapshot, with `/`.
        collection: the display names from the top to its collection.
        key: its stable key; unique within the account and service.
        inner: for files the true names of its folders inside the drive and its own; else empty.
        sha256: as recorded when it was fetched.
        about: what its index line says in the words of `Source.describe`.
    """

    service: Service
    collection: tuple[str, ...]
    path: str
    key: str
    inner: tuple[str, ...]
    size: int
    sha256: str
    about: Facts


class Reader(Protocol):
    """A stream of bytes that is read once."""

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes; b"" at the end."""
        ...


RESTORED, PRESENT, REPAIRED = "restored", "present", "repaired"
QUARANTINED, DAMAGED = "quarantined", "damaged"


@dataclass(frozen=True, slots=True)
class Put:
    """What became of a parcel.

    Attributes:
        state: `restored` as it was, `repaired` (see why), `present` (it was there already),
            `quarantined` (the target does not take it) or `damaged` (storage handed out other
            bytes than were fetched; nothing was put).
        where: the address of the item at the target, enough for `read_back` to find it.
        why: what was repaired, or the reason; empty for restored and present.
        digest: what `read_back` compares with: SHA-256 of the bytes that were handed over, or of
            their meaning where the target is known to write them anew (calendars, contacts).
    """

    state: str
    where: str = ""
    why: str = ""
    digest: str = ""

    @classmethod
    def failed(cls, error: BackupdError) -> Put:
        """The end of an item whose put raised ItemError or IntegrityError."""
        return cls(DAMAGED if isinstance(error, IntegrityError) else QUARANTINED, why=str(error))


@dataclass(frozen=True, slots=True)
class Claim:
    """An item that should be at the target; `deep` asks for its bytes, not only its existence and size."""

    parcel: Parcel
    put: Put
    deep: bool = True


@dataclass(frozen=True, slots=True)
class Proof:
    """What the target holds of a claim: `same`, `changed` or `missing`; `what` names the difference.

    Changed means the content. A flag or date that the target did not keep is `same`, with `what`.
    """

    claim: Claim
    state: str
    what: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """What a target takes, for the estimate of a plan; deliberately on the slow side."""

    items: float
    """Items a second."""
    bytes: float
    """Bytes a second."""


class Target(Protocol):
    """Where data goes. It only adds; a second run with the same parcels changes nothing.

    Every method raises AuthError when the credentials are refused, UserError with reason `quota`
    when the target is full, TransientError when retrying inside did not help.
    """

    name: str
    services: frozenset[Service]
    """What it takes; the other services must not be handed to it."""
    pace: Pace

    def preflight(self) -> Iterator[Finding]:
        """Log in, look at quota and capabilities; nothing is written that stays."""
        ...

    def steps(self) -> Sequence[str]:
        """What a person has to do by hand, in order: told before the restore and after it."""
        ...

    def examine(self, parcel: Parcel, content: Reader) -> Put:
        """What `put` would make of an item, without asking the target; `where` stays empty."""
        ...

    def make_collection(self, shelf: Shelf) -> None:
        """Create the collection, which may stay empty; nothing happens when it is there."""
        ...

    def put(
        self, shelf: Shelf, items: Iterable[tuple[Parcel, Reader]], *, look: bool
    ) -> Iterator[tuple[Parcel, Put]]:
        """Put items of one collection. Each is answered exactly once, in any order.

        A reader must be read before the next item is asked for; at its end it raises
        IntegrityError when the bytes are not those that were fetched, so nothing may be
        put before that end was seen, or it must be taken back.

        Args:
            look: items may be there that the ledger does not know of (a run was killed, the
                ledger is lost): what is there with the same content is answered `present`.
        """
        ...

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:
        """What the target holds now; each claim is answered exactly once, in any order."""
        ...

    def close(self) -> None:
        """Flush and release."""
        ...
