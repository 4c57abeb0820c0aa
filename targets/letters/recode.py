"""Parts that cannot pass as they are, encoded anew so that nobody loses a byte of their content."""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from targets.letters.fields import CRLF, Head, make, parse, tidied
from targets.letters.parts import Part, part_of

PLAIN = frozenset({"7bit", "8bit", "binary", ""})
QUOTED, BASE64 = "quoted-printable", "base64"

_ATOM_OF_TYPE = r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]+"
_SAID = rf"(?:{_ATOM_OF_TYPE}|\"(?:[ !#-\[\]-~]|\\[ -~])*\")"
_TYPE = re.compile(rf"{_ATOM_OF_TYPE}/{_ATOM_OF_TYPE} ?(?:; ?{_ATOM_OF_TYPE}={_SAID} ?)*+(?:; ?)?")
_GOOD = re.compile(_SAID)
_PARAMETER = re.compile(rf'; ?({_ATOM_OF_TYPE})=({_SAID}(?=[ ;]|$)|[^;" ]+)')

_WIDTH = 57
"""Bytes that make a base64 line of 76 characters."""

_LINE = 75
_UNSAFE = re.compile(rb"[^\t -<>-~]")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NO_LETTER = re.compile(rb"[^A-Za-z0-9+/=]+")
_ATOM = re.compile(rb"=[0-9A-Fa-f]{2}|.", re.DOTALL)


def recoding(part: Part) -> str:
    """How a part's content is encoded anew; "" where the standard allows nothing (multiparts)."""
    if part.kind.startswith("multipart/"):
        return ""
    if part.encoding in {QUOTED, BASE64}:
        return part.encoding
    if part.encoding not in PLAIN or part.kind.startswith("message/"):
        return ""
    return QUOTED if part.text else BASE64


def header(raw: bytes, part: Part, how: str) -> bytes:
    """A part's header block that says how its content is encoded now; the old value is kept."""
    head, stray = parse(tidied(raw))
    retag(head, part, how)
    return bytes(head) + stray


def simplify(head: Head) -> bool:
    """Make a header block say nothing that a strict parser stumbles over; whether it did.

    A multipart without a boundary becomes text, an encoding that nobody knows is renamed.
    """
    part = part_of(head)
    if part.kind.startswith("multipart/"):
        if part.boundary:
            return _plainly_typed(head, part)
        as_text(head)
        return True
    return part.encoding not in PLAIN | {QUOTED, BASE64} and _bare(head)


def _plainly_typed(head: Head, part: Part) -> bool:
    """A type whose parameters are not all well-formed, with those that are; whether it was one."""
    there = head.first("Content-Type")
    text = there.text if there else ""
    found = _PARAMETER.findall(text)
    params = {name.lower(): _good(value) for name, value in reversed(found)}
    if there is None or (_TYPE.fullmatch(text) and len(params) == len(found)):
        return False
    params["boundary"] = _good(part.boundary.decode("latin-1"))
    value = "; ".join([part.kind, *(f"{name}={said}" for name, said in params.items())])
    if not _TYPE.fullmatch(value):
        as_text(head)
        return True
    head.fields.insert(head.fields.index(there), make("Content-Type", value))
    for each in head.all("Content-Type"):
        if each.value.decode("latin-1") != value:
            head.keep(each)
    return True


def _good(value: str) -> str:
    """The value of a parameter, quoted where it must be."""
    if _GOOD.fullmatch(value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def as_text(head: Head) -> None:
    """Show a multipart whose parts cannot be told apart as the text that it is."""
    for each in head.all("Content-Type"):
        head.keep(each)
    head.add("Content-Type", "text/plain")
    _bare(head)


def _bare(head: Head) -> bool:
    """Without an encoding, unless it is none."""
    coded = [
        x for x in head.all("Content-Transfer-Encoding") if x.text.strip().lower() not in PLAIN
    ]
    for each in coded:
        head.keep(each)
    return bool(coded)


def retag(head: Head, part: Part, how: str) -> None:
    """Name the new encoding in a header block."""
    if part.encoding == how:
        return
    for each in head.all("Content-Transfer-Encoding"):
        head.keep(each)
    head.add("Content-Transfer-Encoding", how)


class Recoder:
    """The content of one part, piece by piece, encoded anew.

    The line end before a boundary belongs to the boundary, so the last one is held back.
    """

    def __init__(self, part: Part, how: str) -> None:
        self._part, self._how = part, how
        self._held = b""
        self._end = b""
        self._letters = b""

    def feed(self, data: bytes) -> bytes:
        """What can be written after one more piece."""
        if self._how == BASE64:
            return self._armoured(data)
        return self._quoted(data)

    def finish(self, *, whole: bool) -> bytes:
        """The rest; `whole` says that the message ends here and not at a boundary."""
        if self._how == QUOTED:
            return b"" if self._is_nothing(self._held) else _soft(self._held, self._part)
        if self._part.encoding == BASE64:
            rest = self._held + self._decoded(b"", last=True)
        else:
            rest = self._held + (self._end if whole else b"")
        return b"".join(_base64_lines(rest))

    def _armoured(self, data: bytes) -> bytes:
        if self._part.encoding == BASE64:
            return self._lines(self._decoded(data))
        end = _line_end(data)
        ready = self._lines(self._end + data[: len(data) - len(end)])
        self._end = end
        return ready

    def _decoded(self, data: bytes, *, last: bool = False) -> bytes:
        """Whatever letters there are; padding ends a group wherever it stands."""
        *groups, rest = (self._letters + _NO_LETTER.sub(b"", data)).split(b"=")
        cut = 0 if last else len(rest) - len(rest) % 4
        whole, self._letters = (rest, b"") if last else (rest[:cut], rest[cut:])
        return b"".join(_from_base64(each) for each in (*groups, whole))

    def _lines(self, data: bytes) -> bytes:
        """Whole lines of base64; what does not fill one waits."""
        self._held += data
        cut = len(self._held) - len(self._held) % _WIDTH
        ready, self._held = self._held[:cut], self._held[cut:]
        return b"".join(_base64_lines(ready))

    def _is_nothing(self, line: bytes) -> bool:
        """A soft break with nothing before it."""
        return self._part.encoding == QUOTED and line.rstrip(b" \t") == b"="

    def _quoted(self, data: bytes) -> bytes:
        end = _line_end(data)
        line = self._held + data[: len(data) - len(end)]
        if end:
            self._held = b""
            if self._is_nothing(line):
                return b""
            return _soft(line, self._part) + CRLF
        cut = len(line) - 3
        if cut <= 0 or len(line) < _LINE:
            self._held = line
            return b""
        cut = line.rindex(b"=", cut) if b"=" in line[cut:] else len(line)
        self._held = line[cut:]
        return _soft(line[:cut], self._part) + b"=" + CRLF


def _from_base64(letters: bytes) -> bytes:
    """A group of letters whose padding may be wrong; a single letter too many means nothing."""
    cut = len(letters) - (len(letters) % 4 == 1)
    return binascii.a2b_base64(letters[:cut] + b"=" * (-cut % 4))


def _line_end(data: bytes) -> bytes:
    return data[len(data.rstrip(b"\r\n")) :]


def _base64_lines(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), _WIDTH):
        yield binascii.b2a_base64(data[at : at + _WIDTH], newline=False) + CRLF


def _escape(found: re.Match[bytes]) -> bytes:
    return b"=%02X" % found[0][0]


def _soft(line: bytes, part: Part) -> bytes:
    """A line in quoted-printable, broken softly; one that is in it already keeps its escapes."""
    if part.encoding == QUOTED:
        stripped = line.rstrip(b" \t")
        safe = _CONTROL.sub(_escape, stripped if stripped.endswith(b"=") else line)
    else:
        safe = _UNSAFE.sub(_escape, line)
        safe = re.sub(rb"[ \t]\Z", _escape, safe)
    soft = b"=" if part.encoding == QUOTED and safe.endswith(b"=") else b""
    safe = safe.removesuffix(soft)
    lines, width = [bytearray()], 0
    for atom in _ATOM.findall(safe):
        if width + len(atom) > _LINE:
            lines.append(bytearray())
            width = 0
        lines[-1] += atom
        width += len(atom)
    return (b"=" + CRLF).join(lines) + soft
