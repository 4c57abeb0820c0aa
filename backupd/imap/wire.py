"""Raw commands on a connection that imapclient opened: lines, literals and response codes.

Messages never pass through a parser here: their bytes go from the socket to a sink. Everything
that a server says is hostile; what is no IMAP ends the connection as a TransientError.
"""

from __future__ import annotations

import imaplib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import NoReturn, Protocol

from imapclient import imap_utf7

from backupd.errors import TransientError

CHUNK = 1 << 17
"""Bytes that are handed to a sink at once: most messages are one piece."""
SMALL = 1 << 16
"""The largest literal that is kept in memory: names and header fields, never messages."""
PIECES = 1000
"""More literals than this in one response are no answer to anything we ask."""
DEPTH = 50
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DIGITS = 19

_ENDS_IN_LITERAL = re.compile(rb"~?\{(\d{1,19})\}$")
_STATUS = re.compile(
    rb"(OK|NO|BAD|BYE|PREAUTH)(?: +(?:\[([^\]]*)\])? *(.*))?$", re.IGNORECASE | re.DOTALL
)
_TOKEN = re.compile(
    rb'(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]|\\.){0,4000})"'
    rb'|(?P<atom>[^\s()"\[]+(?:\[[^\]]{0,4000}\](?:<\d+>)?)?|\[[^\s()"]*)',
    re.DOTALL,
)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


class Dropped(TransientError):
    """The connection is gone, or what came over it was not IMAP."""


class Sink(Protocol):
    """Takes the bytes of a literal: a draft, a hash, a file."""

    def write(self, data: bytes, /) -> object:
        """Take the next bytes."""
        ...


class Connection(Protocol):
    """What imaplib offers below its commands."""

    def read(self, size: int, /) -> bytes:
        """`size` bytes, fewer at the end."""
        ...

    def readline(self) -> bytes:
        """A line with its end."""
        ...

    def send(self, data: bytes, /) -> None:
        """All of it."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """How a command ended.

    Attributes:
        status: `OK`, `NO` or `BAD`.
        code: the response code in upper case: `OVERQUOTA`, `APPENDUID`, ….
        argument: what follows the code inside the brackets.
        words: what it says to people, shortened and printable.
    """

    status: str
    code: str = ""
    argument: str = ""
    words: str = ""

    @property
    def ok(self) -> bool:
        """Whether the server did it."""
        return self.status == "OK"

    @property
    def no_such_mailbox(self) -> bool:
        """Whether it says that a mailbox does not exist: by the code of RFC 5530, or in words where a server has no codes."""
        told = self.code == "NONEXISTENT" or (not self.code and _NO_SUCH.match(self.words))
        return self.status == "NO" and bool(told)


_NO_SUCH = re.compile(r"mailbox (?:doesn't|does not) exist\b", re.IGNORECASE)
"""How Dovecot 2.3 and Cyrus 3.6 begin; what follows may be a name that somebody chose."""


@dataclass(frozen=True, slots=True)
class Untagged:
    """One untagged response: `kind` in upper case, the number before it, and its parts.

    `parts` are bytes (atoms, strings, literals), None for NIL, and lists. A literal that went
    into a sink stands there as that sink.
    """

    kind: str
    number: int
    parts: tuple[object, ...]


class Taker(Protocol):
    """Decides where a literal of a response goes: a sink, or None to keep it in memory."""

    def __call__(self, before: bytes, size: int, /) -> Sink | None:
        """`before` is the response so far, without earlier literals."""
        ...


def _in_memory(before: bytes, size: int, /) -> Sink | None:  # noqa: ARG001 - a Taker
    return None


class Wire:
    """Commands and responses. Not thread-safe; after Dropped only to be thrown away."""

    def __init__(self, connection: Connection, place: str) -> None:
        self._connection, self._place = connection, place
        self._tags = count(1)

    def begin(self, command: bytes) -> bytes:
        """Send the first line of a command, ended; returns its tag."""
        tag = b"B%d" % next(self._tags)
        self.send(tag + b" " + command + b"\r\n")
        return tag

    def tag(self) -> bytes:
        """A new tag, for a command that the caller sends."""
        return b"B%d" % next(self._tags)

    def send(self, data: bytes) -> None:
        """Send bytes as they are. Raises Dropped."""
        try:
            self._connection.send(data)
        except OSError as error:
            raise self.dropped(error) from error

    def command(self, command: bytes) -> tuple[Answer, list[Untagged]]:
        """One command with everything that came with its answer."""
        tag = self.begin(command)
        seen: list[Untagged] = []
        while True:
            response = self.response(tag)
            if isinstance(response, Answer):
                return response, seen
            if response is not None:
                seen.append(response)

    def finish(self, tag: bytes) -> Answer:
        """The answer to a command; what came before it is passed over."""
        while True:
            response = self.response(tag)
            if isinstance(response, Answer):
                return response

    def responses(self, command: bytes, taker: Taker = _in_memory) -> Iterator[Untagged | Answer]:
        """One command, its responses as they come; the Answer is the last."""
        yield from self.rest(self.begin(command), taker)

    def rest(self, tag: bytes, taker: Taker = _in_memory) -> Iterator[Untagged | Answer]:
        """The responses to a command that was begun; the Answer is the last."""
        while True:
            response = self.response(tag, taker)
            if response is not None:
                yield response
            if isinstance(response, Answer):
                return

    def go_ahead(self, tag: bytes) -> Answer | None:
        """Wait for the `+` that lets a literal be sent: None, or the answer that refuses it."""
        while True:
            line = self.line()
            if line.startswith(b"+"):
                return None
            response = self.understood(line, tag)
            if isinstance(response, Answer):
                return response

    def response(self, tag: bytes, taker: Taker = _in_memory) -> Untagged | Answer | None:
        """The next response: an Answer when it is the tag's, None when it says nothing to us."""
        return self.understood(self.line(), tag, taker)

    def understood(
        self, line: bytes, tag: bytes, taker: Taker = _in_memory
    ) -> Untagged | Answer | None:
        """The response that begins with a line; see `response`."""
        head, _, rest = line.partition(b" ")
        if head == tag:
            return self._answer(rest)
        if head != b"*":
            return None if head == b"+" or head[:1] == b"B" else self._nonsense(line)
        if status := _STATUS.match(rest):
            return self._untagged_status(status)
        return self._data(rest, taker)

    def _answer(self, rest: bytes) -> Answer:
        found = _STATUS.match(rest)
        if found is None or found[1].upper() not in {b"OK", b"NO", b"BAD"}:
            self._nonsense(rest)
        code, _, argument = (found[2] or b"").partition(b" ")
        return Answer(
            found[1].decode().upper(),
            code.decode("ascii", "replace").upper(),
            argument.decode("utf-8", "replace"),
            words(found[3] or b""),
        )

    def _untagged_status(self, found: re.Match[bytes]) -> Untagged | None:
        if found[1].upper() == b"BYE":
            raise Dropped(f"{self._place} ended the connection: {words(found[3] or b'')}")
        if not found[2]:
            return None
        code, _, argument = found[2].partition(b" ")
        return Untagged(code.decode("ascii", "replace").upper(), 0, (argument,))

    def _data(self, rest: bytes, taker: Taker) -> Untagged:
        number = 0
        first, _, after = rest.partition(b" ")
        if first.isdigit() and len(first) <= DIGITS:
            number, rest = int(first), after
        kind, _, text = rest.partition(b" ")
        return Untagged(kind.decode("ascii", "replace").upper(), number, self._parts(text, taker))

    def _parts(self, text: bytes, taker: Taker) -> tuple[object, ...]:
        """The tree of a response, going on over its literals."""
        top: list[object] = []
        stack = [top]
        pieces = 0
        while literal := _ENDS_IN_LITERAL.search(text):
            before = text[: literal.start()]
            self._tokens(before, stack)
            stack[-1].append(self._literal(int(literal[1]), before, taker))
            text, pieces = self.line(), pieces + 1
            if pieces > PIECES:
                self._nonsense(text)
        self._tokens(text, stack)
        if len(stack) != 1:
            self._nonsense(text)
        return tuple(top)

    def close_list(self, line: bytes) -> None:
        """What follows a literal inside the list of a response: passed over. Raises Dropped."""
        if line != b")":
            self._parts(b"(" + line, _in_memory)

    def _tokens(self, text: bytes, stack: list[list[object]]) -> None:
        for token in _TOKEN.finditer(text):
            kind = token.lastgroup
            if kind == "open":
                if len(stack) > DEPTH:
                    self._nonsense(text)
                inner: list[object] = []
                stack[-1].append(inner)
                stack.append(inner)
            elif kind == "close":
                if len(stack) == 1:
                    self._nonsense(text)
                stack.pop()
            elif kind == "quoted":
                stack[-1].append(_ESCAPED.sub(rb"\1", token["quoted"]))
            else:
                stack[-1].append(None if token["atom"].upper() == b"NIL" else token["atom"])

    def _literal(self, size: int, before: bytes, taker: Taker) -> object:
        sink = taker(before, size)
        if sink is not None:
            self.pour(size, sink)
            return sink
        if size > SMALL:
            self._nonsense(before)
        return self._exactly(size)

    def pour(self, size: int, sink: Sink) -> None:
        """The next `size` bytes into a sink: a literal whose beginning was read."""
        while size:
            data = self._exactly(min(size, CHUNK))
            sink.write(data)
            size -= len(data)

    def _exactly(self, size: int) -> bytes:
        try:
            data = self._connection.read(size) if size else b""
        except (OSError, imaplib.IMAP4.error) as error:
            raise self.dropped(error) from error
        if len(data) != size:
            raise self.dropped(None)
        return data

    def line(self) -> bytes:
        """The next line without its end. Raises Dropped."""
        try:
            line = self._connection.readline()
        except (OSError, imaplib.IMAP4.error) as error:
            raise self.dropped(error) from error
        if not line.endswith(b"\n"):
            raise self.dropped(None)
        return line.rstrip(b"\r\n")

    def _nonsense(self, line: bytes) -> NoReturn:
        raise Dropped(f"{self._place} answers what is not IMAP: {words(line)!r}")

    def dropped(self, error: Exception | None) -> Dropped:
        """The error for a connection that is gone."""
        why = (
            "it took too long"
            if isinstance(error, socket.timeout)
            else words(str(error or "").encode())
        )
        return Dropped(f"The connection to {self._place} was lost{f' ({why})' if why else ''}.")


def words(text: bytes, limit: int = 160) -> str:
    """What a server says, as one short printable line."""
    shown = " ".join(text[: 4 * limit].decode("utf-8", "replace").split())
    shown = "".join(each if each.isprintable() else "?" for each in shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def number(value: object) -> int:
    """A number of a response; 0 for what is none."""
    return (
        int(value) if isinstance(value, bytes) and value.isdigit() and len(value) <= DIGITS else 0
    )


def encoded(name: str) -> bytes:
    """A name in modified UTF-7, as mailboxes and keywords are written."""
    return bytes(imap_utf7.encode(name))


def quoted(name: str) -> bytes:
    """A mailbox name as an IMAP string in modified UTF-7. Control characters must be gone."""
    return string(encoded(name))


def string(raw: bytes) -> bytes:
    """Bytes without control characters as an IMAP string."""
    return b'"' + raw.replace(b"\\", rb"\\").replace(b'"', rb"\"") + b'"'
