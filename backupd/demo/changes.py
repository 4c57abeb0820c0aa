"""The change log of a mailbox, a drive or the directory, and the generations of its cursors."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Stream = tuple[str, int]
"""What a delta query follows: ("messages", folder number), ("items", 0), …"""


@dataclass(frozen=True, slots=True)
class Change:
    """One entry: `subject` changed, or left the stream when `gone`.

    Attributes:
        incarnation: the subject's incarnation at that time, for the id that it had.
        fields: the properties that changed, or empty for "all of it".
        arrived: the subject came here by a move.
        reason: what `@removed` says.
    """

    subject: int
    incarnation: int = 0
    gone: bool = False
    fields: frozenset[str] = frozenset()
    arrived: bool = False
    reason: str = "deleted"
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Refusal:
    """How expired cursors are refused: the status, the code, and whether a `Location` is given."""

    status: int = 410
    code: str = "SyncStateNotFound"
    location: bool = False


class ChangeLog:
    """Every change since the content was first written, by stream."""

    def __init__(self) -> None:
        self.head = 0
        self._streams: dict[Stream, list[Change]] = {}
        self._generations: dict[Stream, int] = {}
        self._generation = 0
        self.refusal: Refusal | None = None

    def note(self, stream: Stream, change: Change) -> None:
        """Append a change; it gets its number here."""
        self.head += 1
        self._streams.setdefault(stream, []).append(replace(change, seq=self.head))

    def baseline(self) -> None:
        """Forget what happened so far: the content is as if it had always been there."""
        self._streams.clear()

    def after(self, stream: Stream, seq: int) -> Sequence[Change]:
        """The changes of a stream after `seq`, oldest first."""
        changes = self._streams.get(stream, [])
        return changes[bisect_right(changes, seq, key=lambda change: change.seq) :]

    def generation(self, stream: Stream) -> int:
        """The generation that a cursor of this stream must have."""
        return self._generation + self._generations.get(stream, 0)

    def expire(self, stream: Stream | None = None, refusal: Refusal | None = None) -> None:
        """Refuse every cursor handed out so far, of one stream or of all, next links included."""
        self.refusal = refusal
        if stream is None:
            self._generation += 1
        else:
            self._generations[stream] = self._generations.get(stream, 0) + 1
