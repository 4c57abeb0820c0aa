"""The header block as a list of fields, each with the very bytes that it came with."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.charset import QP, Charset
from email.header import Header

CRLF = b"\r\n"

LINE_END = re.compile(rb"\r{0,2}\n|\r")
"""What some program once took for the end of a line; CR CR LF is one end that was converted twice."""

_BLANK_LINE = re.compile(rb"(?>\r{0,2}\n|\r)((?>\r{0,2}\n|\r))")
_FIELD = re.compile(rb"([!-9;-~]{1,300})[ \t]*:")
_KEPT = b"X-Backupd-Original-"
_BLANKS = re.compile(rb"[ \t\r\n]+")
_STRETCH = re.compile(rb".{1,900}(?=[ \t]|\Z)|.{1,900}", re.DOTALL)
_MBOX, _STRAY = _KEPT + b"Mbox-Line", _KEPT + b"Stray-Line"
_USUAL = re.compile(
    rb"(?:from|to|cc|date|subject|message-id|mime-version|received|reply-to|return-path)[ \t]*:",
    re.IGNORECASE,
)
_LEGACY = "cp1252"


@dataclass(slots=True)
class Field:
    """One field: its name, and its bytes from the name to the last line end (always CRLF)."""

    name: bytes
    raw: bytes
    key: bytes = b""
    """The name in lower case."""

    def __post_init__(self) -> None:
        self.key = self.name.lower()

    @property
    def value(self) -> bytes:
        """What follows the colon, on one line, without spaces around."""
        return _BLANKS.sub(b" ", self.raw.partition(b":")[2]).strip(b" ")

    @property
    def text(self) -> str:
        """The value as text, whatever its bytes are."""
        return decode(self.value)


@dataclass(slots=True)
class Head:
    """A header block in the making; `repairs` says what was changed, each thing once."""

    fields: list[Field]
    repairs: dict[str, None] = field(default_factory=dict)

    def __bytes__(self) -> bytes:
        return b"".join(each.raw for each in self.fields)

    def all(self, name: str) -> Iterator[Field]:
        """The fields of that name, from the top."""
        key = name.lower().encode()
        return iter([each for each in self.fields if each.key == key])

    def first(self, name: str) -> Field | None:
        """The field that a server looks at."""
        return next(self.all(name), None)

    def say(self, repair: str) -> None:
        """Remember what was done."""
        self.repairs[repair] = None

    def keep(self, old: Field) -> None:
        """Rename a field, so that its value stays and its meaning goes."""
        old.raw = _KEPT + old.name + b":" + old.raw.partition(b":")[2]
        old.name = _KEPT + old.name
        old.key = old.name.lower()

    def add(self, name: str, value: str, *, below: Field | None = None) -> Field:
        """Put a new field, at the top unless it shall be below another."""
        made = make(name, value)
        place = self.fields.index(below) + 1 if below else 0
        self.fields.insert(place, made)
        return made


def make(name: str, value: str) -> Field:
    """A field with that text, encoded and folded where it must be."""
    spoken = " ".join(value.split())
    said = spoken if spoken.isascii() else encode(spoken)
    return Field(name.encode(), fold(f"{name}: {said}".encode() + CRLF))


def encode(text: str) -> str:
    """Text as encoded words (RFC 2047), folded."""
    charset = Charset("utf-8")
    charset.header_encoding = QP
    words = Header(text, charset, maxlinelen=76, header_name="X" * 20).encode(linesep="\r\n")
    return words.replace("/", "=2F")  # allowed, yet refused by some


def fold(raw: bytes) -> bytes:
    """A field in lines of at most 900 bytes or so, broken at spaces where there are any."""
    lines: list[bytes] = []
    for line in raw.removesuffix(CRLF).split(CRLF):
        words = _STRETCH.findall(line)
        lines += [
            word if word[:1] in b" \t" or not at else b" " + word for at, word in enumerate(words)
        ]
    return CRLF.join([*lines, b""])


def decode(value: bytes) -> str:
    """8-bit bytes of a header as text: UTF-8 where they are, else what old Windows programs wrote."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode(_LEGACY, "replace")


def split(window: bytes, *, whole: bool) -> tuple[bytes, bytes] | None:
    """The header block with CRLF ends, and what follows it, the empty line included.

    None when the block does not end inside the window; `whole` says that the message ends
    where the window ends.
    """
    if LINE_END.match(window):
        return b"", window
    if blank := _BLANK_LINE.search(window):
        return LINE_END.sub(CRLF, window[: blank.start()]) + CRLF, window[blank.start(1) :]
    if not whole:
        return None
    block = LINE_END.sub(CRLF, window)
    return (block if block.endswith(CRLF) or not block else block + CRLF), b""


def parse(block: bytes) -> tuple[Head, bytes]:
    """The fields of a block with CRLF ends, and what begins with the first line of the body.

    A line that is no field stays, renamed, when the header obviously goes on behind it; else the
    empty line before the body was forgotten. mbox tools leave `From …` and `>From …`.
    """
    head, position = Head([]), 0
    found: list[tuple[bytes, list[bytes]]] = []
    lines = block.split(CRLF)[:-1]
    for at, line in enumerate(lines):
        if match := _FIELD.match(line):
            found.append((match[1], [line]))
        elif line[:1] in (b" ", b"\t") and found:
            found[-1][1].append(line)
        elif line.startswith((b"From ", b">From ")):
            found.append((_MBOX, [_MBOX + b": " + line]))
            head.say("line of a mailbox file in the header renamed")
        elif _goes_on(lines, at + 1):
            found.append((_STRAY, [_STRAY + b": " + line.lstrip()]))
            head.say("stray line in the header renamed")
        else:
            break
        position += len(line) + 2
    head.fields = [Field(name, CRLF.join([*lines, b""])) for name, lines in found]
    return head, block[position:]


def tidied(raw: bytes) -> bytes:
    """The header block of a part, as a strict parser reads it, with an empty line behind; nothing is left out."""
    lines: list[bytes] = []
    for line in raw.split(CRLF):
        if match := _FIELD.match(line):
            value = line[match.end() :]
            lines.append(match[1] + b":" + (b" " + value if value.startswith(b":") else value))
        elif line[:1] in {b" ", b"\t"} and lines:
            lines.append(line)
        else:
            lines.append(_STRAY + b": " + line.lstrip() if line else line)
    return CRLF.join(lines).rstrip(CRLF) + (2 * CRLF if any(lines) else CRLF)


def _goes_on(lines: list[bytes], at: int) -> bool:
    """Whether the next field after a stray line is one that only headers have."""
    while at < len(lines) and lines[at][:1] in (b" ", b"\t"):
        at += 1
    return at < len(lines) and bool(_USUAL.match(lines[at]))
