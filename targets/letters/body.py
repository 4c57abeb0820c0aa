"""The body of a letter: as it is but for its line ends, or with single parts encoded anew."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from targets.letters.fields import CRLF, Head, fold, parse, tidied
from targets.letters.needs import Needs
from targets.letters.parts import Part, Step, part_of, walk
from targets.letters.recode import Recoder, as_text, header, retag, simplify
from targets.letters.rules import Rules
from targets.letters.survey import Survey, straight

Rest = Callable[[], Iterator[bytes]]
"""The body from its beginning, as often as it is called."""

_WIDTH = 900
"""Where a line is broken that nothing better can be done with."""


def needs_of(head: Head, rest: Rest, found: Survey, rules: Rules) -> Needs:
    """What has to be done to the parts of a body, whose header is mended already."""
    root, needs = part_of(head), Needs(rules)
    if rules.strict_parts and root.boundary:
        needs.empty.add(root.number)
    nul = found.nul and not rules.nul_allowed
    long = bool(rules.max_line) and found.longest > (rules.max_line or 0)
    if nul or long or rules.strict_parts or (found.bare and found.binary):
        for step in walk(root, rest()):
            needs.look(step)
        needs.end()
    return needs


def body(head: Head, rest: Rest, needs: Needs) -> Iterator[bytes]:
    """The repaired body; what is done to it is told to `head` before the first block comes."""
    root = part_of(head)
    for repair in needs.said:
        head.say(repair)
    if root.number in needs.empty:
        as_text(head)
    if how := needs.recode.get(root.number):
        retag(head, root, how)
    if not needs.said:
        return map(straight, rest())
    return _rewritten(walk(root, rest()), needs)


def _rewritten(steps: Iterator[Step], needs: Needs) -> Iterator[bytes]:
    """Each step as it is written; a recoder lives as long as its part's content goes on."""
    at_hand: tuple[Part, Recoder] | None = None
    breaker = _Breaker(needs.rules)
    for step in steps:
        if at_hand and (step.what != "content" or step.part is not at_hand[0]):
            yield at_hand[1].finish(whole=False)
            at_hand = None
        how = needs.recode.get(step.part.number, "")
        if step.what == "head":
            yield _head(step, how, needs)
        elif step.what == "unclosed":
            yield breaker.close(step, needs)
        elif how and step.what == "content":
            at_hand = at_hand or (step.part, Recoder(step.part, how))
            yield at_hand[1].feed(step.data)
        else:
            yield breaker.feed(step.data)
    if at_hand:
        yield at_hand[1].finish(whole=True)


def _head(step: Step, how: str, needs: Needs) -> bytes:
    """The header of a part, tidied, folded, and saying how its content is encoded."""
    rules, data = needs.rules, straight(step.data)
    if not rules.nul_allowed:
        data = data.replace(b"\0", b"")
    if rules.strict_parts:
        data = _simplified(tidied(data), step.part.number in needs.empty)
    if rules.max_line and max(map(len, data.split(CRLF))) > rules.max_line:
        data = fold(data.removesuffix(CRLF)) if data.endswith(CRLF) else fold(data)
    return header(data, step.part, how) if how else data


def _simplified(data: bytes, empty: bool) -> bytes:
    head, stray = parse(data)
    changed = simplify(head)
    if empty:
        as_text(head)
    return bytes(head) + stray if changed or empty else data


class _Breaker:
    """Straight line ends, no NUL, and lines that are too long broken hard."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._run = 0
        self._open = False

    def close(self, step: Step, needs: Needs) -> bytes:
        """The boundary that is missing at the end of a multipart."""
        if not self._rules.strict_parts or step.part.number in needs.empty:
            return b""
        end, self._open = CRLF if self._open else b"", False
        return end + b"--" + step.part.boundary + b"--" + CRLF

    def feed(self, piece: bytes) -> bytes:
        """One piece of a line."""
        data = straight(piece)
        if not self._rules.nul_allowed:
            data = data.replace(b"\0", b"")
        line = data.removesuffix(CRLF)
        end = data[len(line) :]
        limit = self._rules.max_line
        self._open = not end and bool(line)
        if not limit or self._run + len(line) <= limit:
            self._run = 0 if end else self._run + len(line)
            return data
        before, self._run = self._run, 0 if end else limit
        cut = [line[at : at + _WIDTH] for at in range(0, len(line), _WIDTH)]
        return (CRLF if before else b"") + CRLF.join(cut) + end
