"""iCalendar and vCard as nested content lines: what nobody changes travels on byte for byte.

The library's own objects drop what they cannot read and write some values anew; a restore must do
neither. So only the lines that a rule touches are taken apart, by the library, and put together again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from icalendar.parser import Contentline, Parameters
from vobject.base import parseParams

from backupd.errors import ItemRefused

_END_OF_LINE = re.compile(rb"\r?\n(?![ \t])")
_FOLD = re.compile(rb"\r?\n[ \t]")
_HEAD = re.compile(r'(?:[^":]|"[^"]*")*+:')
_NAME = re.compile(r"(?:([A-Za-z0-9-]+)\.)?([A-Za-z0-9-]+)(?=[;:])")
_CONTROLS = bytes((*range(9), 11, 12, *range(14, 32), 127))
_LONE_RETURN = re.compile(rb"\r(?!\n)")
"""A line end to some servers and none to others: we must see every line that any of them sees."""
_NO_LETTERS = re.compile(rb"\xef\xbf[\xbe\xbf]")
_BOM = b"\xef\xbb\xbf"
_WIDTH = 74
_HEADS = 8000
"""Bytes within which the parameters of a property end."""
_DEEPEST = 20


@dataclass(slots=True)
class Line:
    """One property: its name in capitals, its group, and the bytes as they came, folds included."""

    name: str
    raw: bytes
    group: str = ""

    @property
    def text(self) -> str:
        """The whole line in one."""
        return unfolded(self.raw)

    @property
    def head(self) -> str:
        """Name and parameters with the colon; "" for a line that has none."""
        found = _HEAD.match(unfolded(self.raw[:_HEADS]))
        return found[0] if found else ""

    @property
    def params(self) -> Parameters:
        """The parameters. Raises ValueError where they are none."""
        head = self.head
        if not head:
            raise ValueError(self.name)  # too long a head is none either
        start = len(self.group) + 1 if self.group else 0
        _, params, _ = Contentline(head[start:]).parts()  # type: ignore[no-untyped-call]
        return _merged(params, head) if head.count("=") > len(params) else params

    @property
    def value(self) -> str:
        """What stands behind the colon, still escaped."""
        return self.text[len(self.head) :]

    @property
    def is_binary(self) -> bool:
        """Whether the value is a file in base64."""
        return "ENCODING=B" in self.head.upper()


@dataclass(slots=True)
class Block:
    """A component: what stands between BEGIN and END, in order."""

    name: str
    inside: list[Line | Block] = field(default_factory=list)

    @property
    def lines(self) -> Iterator[Line]:
        """Its own properties."""
        return (each for each in self.inside if isinstance(each, Line))

    @property
    def blocks(self) -> Iterator[Block]:
        """The components inside it."""
        return (each for each in self.inside if isinstance(each, Block))

    def first(self, name: str) -> Line | None:
        """The first property of a name."""
        return next((each for each in self.lines if each.name == name), None)

    def drop(self, unwanted: Callable[[Line], bool]) -> int:
        """Remove properties; answers how many."""
        before = len(self.inside)
        self.inside = [x for x in self.inside if not (isinstance(x, Line) and unwanted(x))]
        return before - len(self.inside)

    def add(self, line: Line) -> None:
        """Put a property before the first component inside."""
        at = next((n for n, each in enumerate(self.inside) if isinstance(each, Block)), None)
        self.inside.insert(len(self.inside) if at is None else at, line)


def _merged(params: Parameters, head: str) -> Parameters:
    """Parameters that come several times, `TYPE=WORK;TYPE=PREF`, with all their values."""
    found: dict[str, list[str]] = {}
    for name, *values in parseParams(head[head.find(";") : -1]):
        found.setdefault(name.upper(), []).extend(values)
    for name, values in found.items():
        if name in params and len(values) > 1:
            params[name] = values
    return params


def unfolded(raw: bytes) -> str:
    """A folded line in one; folds may lie inside a letter."""
    return _FOLD.sub(b"", raw).decode("utf-8", "replace")


def line(name: str, value: str, params: Parameters | None = None, group: str = "") -> Line:
    """A new property; `value` is escaped already."""
    head = f"{group}." * bool(group) + name + (f";{params.to_ical().decode()}" if params else "")
    return Line(name.upper(), folded(f"{head}:{value}"), group)


def folded(text: str) -> bytes:
    """Lines of at most 75 bytes, never broken inside a letter."""
    data = re.sub(r"[\r\n]+", " ", text).encode("utf-8", "replace")
    pieces, at = [], 0
    while at < len(data):
        end = min(at + _WIDTH, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:  # noqa: PLR2004 - a letter goes on here
            end -= 1
        pieces.append(data[at:end])
        at = end
    return b"\r\n ".join(pieces)


def escaped(text: str) -> str:
    """A TEXT value as it is written."""
    text = text.replace("\\", "\\\\").replace(";", r"\;").replace(",", r"\,")
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\n", r"\n")


def cleaned(data: bytes) -> tuple[bytes, list[str]]:
    """UTF-8 without control characters, and what had to be repaired for it."""
    repairs = []
    data = data.removeprefix(_BOM)
    try:
        _FOLD.sub(b"", data).decode()
    except UnicodeDecodeError:
        data = data.decode("cp1252", "replace").encode()
        repairs.append("the letters were not UTF-8")
    clean = _NO_LETTERS.sub(b"", data.translate(None, _CONTROLS))
    if clean != data:
        repairs.append("control characters removed")
    return _LONE_RETURN.sub(b"\n", clean), repairs


def parse(data: bytes) -> tuple[list[Block], int]:
    """The components of a file, and how many lines in them nobody can read.

    Those are kept as the text of X-BACKUPD-UNREADABLE. Raises ItemRefused (reason `broken`) for
    what does not begin and end.
    """
    root, unreadable = Block(""), 0
    stack = [root]
    for raw in _END_OF_LINE.split(data):
        if not raw.strip():
            continue
        each = _line(raw)
        if each.name in {"BEGIN", "END"}:
            _nest(stack, each)
        else:
            unreadable += each.name == _UNREADABLE and not raw.startswith(_UNREADABLE.encode())
            stack[-1].inside.append(each)
    if len(stack) > 1 or any(root.lines):
        raise _broken()
    return list(root.blocks), unreadable


_UNREADABLE = "X-BACKUPD-UNREADABLE"


def _line(raw: bytes) -> Line:
    raw = raw.strip(b"\r\n")
    named = _NAME.match(unfolded(raw[:_HEADS]))
    if not named:
        return line(_UNREADABLE, escaped(unfolded(raw)))
    made = Line(named[2].upper(), raw, named[1] or "")
    try:
        _ = made.params
    except ValueError:
        return _mended(made)
    return made


def _mended(bad: Line) -> Line:
    """A line with parameters that lack their names, as old programs write them: `PHOTO;BASE64:`."""
    if not bad.head:
        return line(_UNREADABLE, escaped(bad.text))
    start, *params = bad.head[:-1].split(";")
    named = ";".join(
        each if "=" in each else _MENDED.get(each.upper(), f"TYPE={each}") for each in params
    )
    value = "".join(bad.value.split()) if "ENCODING=b" in named else bad.value
    made = Line(bad.name, folded(f"{start};{named}:{value}"), bad.group)
    try:
        _ = made.params
    except ValueError:
        return line(_UNREADABLE, escaped(bad.text))
    return made


_MENDED = {
    "BASE64": "ENCODING=b",
    "B": "ENCODING=b",
    "QUOTED-PRINTABLE": "ENCODING=QUOTED-PRINTABLE",
}


def _nest(stack: list[Block], each: Line) -> None:
    name = each.value.strip().upper()
    if each.name == "BEGIN":
        if len(stack) > _DEEPEST:
            raise _broken()
        inner = Block(name)
        stack[-1].inside.append(inner)
        stack.append(inner)
    elif len(stack) == 1 or stack.pop().name != name:
        raise _broken()


def _broken() -> ItemRefused:
    return ItemRefused("The item is broken: its parts do not begin and end.", reason="broken")


def serialize(blocks: Iterable[Block]) -> bytes:
    """The file again, with the line ends that the standards want."""
    return b"".join(_written(blocks))


def _written(blocks: Iterable[Block | Line]) -> Iterator[bytes]:
    for each in blocks:
        if isinstance(each, Line):
            yield _FOLD.sub(b"\r\n ", each.raw) + b"\r\n"
        else:
            yield f"BEGIN:{each.name}\r\n".encode()
            yield from _written(each.inside)
            yield f"END:{each.name}\r\n".encode()
