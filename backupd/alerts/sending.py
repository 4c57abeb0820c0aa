"""Telling a person: over every channel of [alerts], once for each matter, and never in the way.

Channels are tried side by side, each in a thread that may hang as long as it likes: whoever tells
goes on after `PATIENCE`. What was told is kept in `<state>/alerts.json`, so that a restart repeats
nothing. No address of a channel is ever logged: they are secrets.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from backupd.alerts.channels import Channel, channels, library, plugin_of
from backupd.config import Alerts as Section
from backupd.errors import BackupdError
from backupd.locks import exclusive

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds that all channels together have; a channel that needs longer counts as one that failed."""
SLOW_PATIENCE = 2.0
"""Seconds that a channel has which did not answer the last time, when the others are done."""
PING_PATIENCE = 10.0
CLAIM = 120.0
"""Seconds for which a message that somebody began to send is left to them."""
KEPT = 60 * 86_400.0
"""Seconds for which it is remembered that something was told."""
LATE = "no answer in time"
SUBJECT, BODY = 200, 20_000
"""Characters of a message, at most."""


@dataclass(frozen=True, slots=True)
class Message:
    """One thing to tell.

    Attributes:
        matter: what it is about; the same matter is told again only after `repeat`.
        level: `info`, `success`, `warning` or `failure`, as channels colour it.
    """

    matter: str
    subject: str
    body: str
    level: str = "warning"


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a channel took a message, and in words why not."""

    channel: str
    taken: bool
    why: str = ""


class Memory:
    """What was told and when: `<state>/alerts.json`; any number of processes may use it."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "alerts.json"
        self._lock = state_dir / "alerts.lock"
        self._threads = threading.Lock()

    def read(self) -> dict[str, Any]:
        """Everything remembered; nothing when there is no file or it cannot be read."""
        try:
            return dict(json.loads(self._path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError):
            log.warning("%s cannot be read: what was told before may be told again.", self._path)
            return {}

    @contextmanager
    def change(self) -> Iterator[dict[str, Any]]:
        """Everything remembered, to be changed; kept at the end. Raises BackupdError or OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._threads, exclusive(self._lock, "the alerts", patience=5.0):
            stored = self.read()
            yield stored
            fresh = self._path.with_name(f".{self._path.name}.new")
            fresh.touch(mode=0o600)
            with fresh.open("w", encoding="utf-8") as file:
                file.write(json.dumps(stored, indent=1, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(self._path)


class Alerts:
    """The channels of a configuration. Nothing here raises: an alert never breaks a backup."""

    def __init__(
        self,
        section: Section,
        state_dir: Path,
        *,
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.memory = Memory(state_dir)
        self._section = section
        self._patience = patience
        self._clock = clock
        self._slow: set[str] = set()

    def channels(self) -> list[Channel]:
        """The channels as they are configured now; none, with a line in the log, if unreadable."""
        try:
            return channels(self._section.channels())
        except BackupdError as error:
            log.error("No alert can be sent: %s", error)  # noqa: TRY400 - a sentence, not a trace
            return []

    def tell(self, message: Message) -> bool:
        """Send it, unless the matter was told less than `repeat` ago; whether a channel took it.

        What no channel took counts as not told, and is tried again at the next occasion.
        """
        found = self.channels()
        if not found or not self._claim(message.matter):
            return False
        answers = send(found, message, self._patience, self._slow)
        self._slow = {each.channel for each in answers if each.why == LATE}
        taken = any(each.taken for each in answers)
        for each in answers:
            if not each.taken:
                log.warning(
                    "Channel %s did not take what is to be told (%s): %s",
                    each.channel,
                    message.matter,
                    each.why,
                )
        self._settle(message, taken)
        return taken

    def over(self, *prefixes: str) -> None:
        """These matters have ended: should they come back, they are told at once."""
        try:
            with self.memory.change() as stored:
                told = stored.get("told", {})
                stored["told"] = {
                    key: value for key, value in told.items() if not key.startswith(prefixes)
                }
        except (BackupdError, OSError) as error:
            log.warning("What was told cannot be kept: %s", error)

    def test(self) -> list[Taken]:
        """Send a message over every channel, whatever was told before. Raises ConfigError."""
        found = channels(self._section.channels())
        subject = f"backupd on {os.uname().nodename}: this is a test"
        body = (
            "If you can read this, backupd can reach you over this channel.\n\n"
            "It will write when an account is cut off, when runs fail, when copies grow old and when "
            "the disk fills up. Nothing has happened now and nothing is to be done."
        )
        return send(found, Message("test", subject, body, "info"), self._patience)

    def ping(self, *, good: bool) -> bool:
        """Tell the dead man's switch that a cycle has ended, well or not; whether it answered."""
        url = self._section.ping_url
        if not url:
            return False
        answer: queue.SimpleQueue[str] = queue.SimpleQueue()
        _aside(lambda: answer.put(_get(url if good else _failed(url))))
        try:
            why = answer.get(timeout=PING_PATIENCE)
        except queue.Empty:
            why = LATE
        if why:
            log.warning("ping_url: %s", why)
        return not why

    def _claim(self, matter: str) -> bool:
        """Whether it is for us to tell this now."""
        now = self._clock()
        try:
            with self.memory.change() as stored:
                told = stored.setdefault("told", {})
                known = told.get(matter, {})
                if _within(now, known.get("at"), self._section.repeat):
                    return False
                if _within(now, known.get("begun"), CLAIM):
                    return False
                told[matter] = {**known, "begun": now}
        except (BackupdError, OSError) as error:
            log.warning("What was told cannot be kept: %s", error)  # better twice than never
        return True

    def _settle(self, message: Message, taken: bool) -> None:
        now = self._clock()
        try:
            with self.memory.change() as stored:
                told = {**stored.get("told", {}), message.matter: {}}
                if taken:
                    told[message.matter] = {"at": now, "subject": message.subject}
                stored["told"] = {key: each for key, each in told.items() if _recent(each, now)}
        except (BackupdError, OSError) as error:
            log.warning("What was told cannot be kept: %s", error)


def _within(now: float, then: float | None, span: float) -> bool:
    """Whether that was less than `span` ago; a clock that was set back remembers nothing."""
    return then is not None and 0 <= now - then < span


def _recent(entry: dict[str, Any], now: float) -> bool:
    newest: float = max(entry.get("at", 0.0), entry.get("begun", 0.0))
    return now - newest < KEPT


def send(
    to: Sequence[Channel],
    message: Message,
    patience: float = PATIENCE,
    slow: Collection[str] = (),
) -> list[Taken]:
    """Hand a message to every channel at once; what each said, in their order.

    Args:
        patience: seconds that all of them have together.
        slow: labels of channels that did not answer lately: nobody waits long for them again.
    """
    answers: queue.SimpleQueue[Taken] = queue.SimpleQueue()
    for channel in to:
        _aside(lambda channel=channel: answers.put(_send(channel, message)))  # type: ignore[misc]
    found: dict[str, Taken] = {}
    deadline = time.monotonic() + patience
    while len(found) < len(to):
        if all(each.label in found or each.label in slow for each in to):
            deadline = min(deadline, time.monotonic() + SLOW_PATIENCE)
        try:
            taken = answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        found[taken.channel] = taken
    return [found.get(each.label, Taken(each.label, False, LATE)) for each in to]


def _send(channel: Channel, message: Message) -> Taken:
    """One channel, however long it takes."""
    if plugin_of(channel.url) is None:
        return Taken(channel.label, False, "Apprise does not understand this address")
    try:
        apprise = library()
        asset = apprise.AppriseAsset(async_mode=False, service_timeout=0)  # in this thread alone
        post = apprise.Apprise(asset=asset)
        post.add(channel.url)
        taken = post.notify(
            body=_plain(message.body, BODY),
            title=" ".join(_plain(message.subject, SUBJECT).split()),
            notify_type=message.level,
            body_format=apprise.NotifyFormat.TEXT,
        )
    except Exception as error:  # noqa: BLE001 - code of a hundred authors; its words may hold the URL
        return Taken(channel.label, False, f"it broke with {type(error).__name__}")
    return Taken(channel.label, bool(taken), "" if taken else "it refused, or cannot be reached")


def _aside(work: Callable[[], object]) -> None:
    """In a thread that keeps nobody from ending."""
    threading.Thread(target=work, name="alert", daemon=True).start()


def _failed(url: str) -> str:
    """The address for bad cycles: `/fail` at the end of the path."""
    made = httpx.URL(url)
    return str(made.copy_with(path=made.path.rstrip("/") + "/fail"))


def _get(url: str) -> str:
    """Ask for it; why that did not work, or ""."""
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its other lines hold the address
    try:
        answer = httpx.get(url, timeout=PING_PATIENCE, follow_redirects=True)
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        return type(error).__name__
    return "" if answer.is_success else f"HTTP {answer.status_code}"


def _plain(text: str, most: int) -> str:
    """Text from anywhere, safe for whatever shows it."""
    kept = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    return kept if len(kept) <= most else kept[: most - 1] + "…"
