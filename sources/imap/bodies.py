"""Messages into drafts: streamed, the next request on its way while the answer to the last one arrives.

Each connection takes chunks of a collection from a common supply and goes on in the middle of one after it was
lost. A message at which the server hangs up time and again is set aside; the others arrive.
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from datetime import UTC

from backupd.errors import BackupdError, ItemGone, ItemUnreadable, TransientError
from backupd.imap import lister
from backupd.imap.reader import Message, ask_bodies, read_bodies
from backupd.imap.session import Session
from backupd.imap.wire import Answer, Dropped
from backupd.model import Facts, Item
from backupd.ports import Draft, Failed, Fetched, Landing
from sources.imap import facts
from sources.imap.lanes import Lane

CHUNK = 100
"""Messages in one request."""
CHUNK_BYTES = 8 << 20
"""Bytes after which a request is closed early: so much is asked for again when it breaks."""
AHEAD = 2
"""Requests on their way at once on a connection."""
HANDFUL = 16
"""Messages that are handed over at once: a thread that waits for another costs more than a message."""
WAITING = 20
"""Handfuls that may wait for whoever takes them."""
TRIES = 3
HOPELESS = 3
"""Messages in a row at which the server hung up, after which it is the server that is broken."""
SIZE_DIFFERS = "size-differs"
"""The server names another size than it delivers: many only estimate it."""

Reply = Fetched | Failed


class Sink:
    """A draft, and the header that went into it."""

    __slots__ = ("_whole", "draft", "head")

    def __init__(self, draft: Draft) -> None:
        self.draft, self.head = draft, b""
        self._whole = False

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        if not self._whole:
            self.head = facts.header_of(self.head + data)
            self._whole = (
                len(self.head) < self.draft.size + len(data) or len(self.head) == facts.HEAD
            )
        self.draft.write(data)
        return None


@dataclass
class Chunk:
    """A request: what it still waits for, and how often it was tried without getting anything."""

    waiting: dict[int, Item]
    tag: bytes = b""
    left: int = 0
    tries: int = 0

    @property
    def alone(self) -> bool:
        """Whether it is about one message, which is then asked for with nothing else on the way."""
        return len(self.waiting) == 1 and self.tries > 0


@dataclass
class Supply:
    """Hands out chunks. Thread-safe."""

    items: Iterator[Item]
    validity: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    strange: list[Item] = field(default_factory=list)

    def next(self) -> Chunk | None:
        """Some messages that nobody has asked for; None at the end."""
        waiting: dict[int, Item] = {}
        size = 0
        with self.lock:
            for item in self.items:
                _, validity, uid = facts.place_of(item.id)
                if validity != self.validity or not uid or uid in waiting:
                    self.strange.append(item)
                    continue
                waiting[uid] = item
                told = item.facts.get("size")
                size += told if isinstance(told, int) else 0
                if len(waiting) >= CHUNK or size >= CHUNK_BYTES:
                    break
        return Chunk(waiting) if waiting else None


class Reader:
    """One connection at work. `give` takes answers and says whether anybody still wants more."""

    def __init__(self, lane: Lane, raw: bytes, supply: Supply, landing: Landing, give: Callable[[list[Reply]], bool]) -> None:  # fmt: skip
        self._lane, self._raw, self._supply, self._landing, self._give = (
            lane,
            raw,
            supply,
            landing,
            give,
        )
        self._ahead: deque[Chunk] = deque()
        self._again: deque[Chunk] = deque()
        self._open: dict[int, Sink] = {}
        self._ready: list[Reply] = []
        self._hopeless = 0
        self._wanted = True

    def run(self) -> None:
        """Until the supply ends. Raises what ends the whole fetch; no draft is left open then."""
        try:
            while self._wanted and self._fill():
                try:
                    self._read(self._asked())
                except Dropped as error:
                    self._lost(error)
        finally:
            self._hand_over()
            self._discard()
            if self._ahead:
                self._lane.close()  # answers are on their way that nobody will read

    def _fill(self) -> bool:
        """Keep requests ready: those that are tried again go by themselves."""
        while len(self._ahead) < AHEAD and not (self._ahead and self._ahead[0].alone):
            if self._again:
                if self._ahead:
                    break
                self._ahead.append(self._again.popleft())
                continue
            chunk = self._supply.next()
            if chunk is None:
                break
            self._ahead.append(chunk)
        return bool(self._ahead)

    def _asked(self) -> Session:
        session, opened = self._lane.examine(self._raw)
        if opened.validity != self._supply.validity:
            raise TransientError("The server numbered a folder anew while it was read.")
        for chunk in self._ahead:
            if not chunk.tag:
                chunk.left = len(chunk.waiting)
                chunk.tag = ask_bodies(session.wire, chunk.waiting)
        return session

    def _read(self, session: Session) -> None:
        """The answer to the first request; messages of the one behind it may come among them."""
        chunk = self._ahead[0]
        for message in read_bodies(session.wire, chunk.tag, self._sink):
            if isinstance(message, Answer):
                self._ended(session, chunk, message)
                return
            self._arrived(message)
            if not self._wanted:
                return

    def _sink(self) -> Sink:
        sink = Sink(self._landing())
        self._open[id(sink)] = sink
        return sink

    def _arrived(self, message: Message[Sink]) -> None:
        sink = message.sink
        del self._open[id(sink)]
        owner = next((each for each in self._ahead if message.uid in each.waiting), None)
        if owner is None:  # sent twice, or never asked for
            sink.draft.discard()
            return
        sink.draft.close()
        item = owner.waiting.pop(message.uid)
        self._hopeless = 0
        note = SIZE_DIFFERS if message.size and message.size != sink.draft.size else ""
        self._add(Fetched(item, sink.draft, _learnt(message, item), note=note))

    def _ended(self, session: Session, chunk: Chunk, answer: Answer) -> None:
        """What was left out is gone, or is tried once more by itself."""
        if answer.status == "BAD":
            raise TransientError(f"The server does not hand out messages: {answer.words}")
        self._ahead.popleft()
        if not chunk.waiting:
            return
        if self._ahead:  # nothing may be asked in between: wait until the line is free
            self._again.append(Chunk(chunk.waiting))
            return
        there = lister.still_there(session, list(chunk.waiting))
        for uid, item in chunk.waiting.items():
            if uid not in there:
                self._fail(item, ItemGone("The message was deleted before it was fetched."))
            elif chunk.tries:
                words = (
                    answer.words if not answer.ok else "it is listed, and left out when asked for"
                )
                self._fail(item, ItemUnreadable(f"The server does not hand the message out: {words}", reason="unreadable"))  # fmt: skip
            else:
                self._again.append(Chunk({uid: item}, tries=1))

    def _lost(self, error: Dropped) -> None:
        """Go on with a new connection; after a loss without any progress in smaller steps."""
        self._lane.close()
        self._discard()
        first = self._ahead[0]
        for chunk in self._ahead:
            chunk.tag = b""
        if not first.waiting:
            self._ahead.popleft()
            return
        first.tries = first.tries + 1 if len(first.waiting) == first.left else 0
        if first.tries < TRIES:
            return
        self._ahead.popleft()
        if len(first.waiting) > 1:
            self._again.extend(Chunk({uid: item}, tries=1) for uid, item in first.waiting.items())
            return
        self._hopeless += 1
        if self._hopeless >= HOPELESS:
            raise error
        for item in first.waiting.values():
            self._fail(item, TransientError(f"The server ends the connection at this message: {error}"))  # fmt: skip

    def _fail(self, item: Item, error: ItemGone | ItemUnreadable | TransientError) -> None:
        self._add(Failed(item, error))

    def _add(self, answer: Reply) -> None:
        self._ready.append(answer)
        if len(self._ready) >= HANDFUL:
            self._hand_over()

    def _hand_over(self) -> None:
        ready, self._ready = self._ready, []
        if ready and not self._give(ready):
            discard(ready)
            self._wanted = False

    def _discard(self) -> None:
        for sink in self._open.values():
            sink.draft.discard()
        self._open.clear()


def _learnt(message: Message[Sink], item: Item) -> Facts:
    """What came along with the bytes and was not listed."""
    told = {**facts.of_flags(message.flags), **facts.of_header(message.sink.head)}
    if message.date and "received" not in item.facts:
        told["received"] = facts.written(message.date.astimezone(UTC))
    return told


class Fetch:
    """Fetches the items of one folder over several connections.

    Only the first must be taken by the server; `unwelcome` says afterwards that another one was refused.
    """

    def __init__(self, lanes: list[Lane], raw: bytes, validity: int, landing: Landing) -> None:
        self._lanes, self._raw, self._validity, self._landing = lanes, raw, validity, landing
        self._answers: queue.Queue[list[Reply] | BaseException | None] = queue.Queue(WAITING)
        self._over = threading.Event()
        self.unwelcome = False

    def run(self, items: Iterable[Item]) -> Iterator[Reply]:
        """Each item is answered once. Raises lanes.Refused and whatever ends the whole fetch."""
        supply = Supply(iter(items), self._validity)
        few = isinstance(items, Sized) and len(items) <= CHUNK
        threads = [
            threading.Thread(target=self._work, args=(lane, supply), name="imap", daemon=True)
            for lane in (self._lanes[:1] if few else self._lanes)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from self._collected(len(threads))
            gone = ItemGone("The server numbered the folder anew, and lists the message again.")
            yield from (Failed(item, gone) for item in supply.strange)
        finally:
            self._over.set()
            self._drain(threads)

    def _collected(self, working: int) -> Iterator[Reply]:
        while working:
            answer = self._answers.get()
            if answer is None:
                working -= 1
            elif isinstance(answer, BaseException):
                raise answer
            else:
                yield from self._handed(answer)

    def _handed(self, answers: list[Reply]) -> Iterator[Reply]:
        """One by one; what is not taken is discarded."""
        answers.reverse()
        try:
            while answers:
                yield answers.pop()
        finally:
            discard(answers)

    def _work(self, lane: Lane, supply: Supply) -> None:
        end: BaseException | None = None
        try:
            if self._welcome(lane):
                Reader(lane, self._raw, supply, self._landing, self._put).run()
        except BaseException as error:  # noqa: BLE001 - it is raised again where the items are taken
            end = error
        self._put(end)

    def _welcome(self, lane: Lane) -> bool:
        """Whether a connection can help; servers limit how many there may be."""
        if lane is self._lanes[0]:
            return True
        try:
            lane.session()
        except BackupdError:
            self.unwelcome = True
            return False
        return True

    def _put(self, answer: list[Reply] | BaseException | None) -> bool:
        while not self._over.is_set():
            try:
                self._answers.put(answer, timeout=0.2)
            except queue.Full:
                continue
            return True
        return False

    def _drain(self, threads: list[threading.Thread]) -> None:
        """Wait for the connections and discard what nobody takes any more."""
        for thread in threads:
            thread.join()
        while not self._answers.empty():
            answer = self._answers.get()
            if isinstance(answer, list):
                discard(answer)


def discard(answers: Iterable[Reply]) -> None:
    """Drop drafts that nobody takes."""
    for each in answers:
        if isinstance(each, Fetched):
            each.draft.discard()
