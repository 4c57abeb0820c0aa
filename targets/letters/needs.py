"""What one reading of a body finds that has to be done to its parts."""

from __future__ import annotations

from dataclasses import dataclass, field

from targets.letters.fields import CRLF, parse, tidied
from targets.letters.parts import Part, Step
from targets.letters.recode import BASE64, recoding, simplify
from targets.letters.rules import Rules
from targets.letters.strict import Decodes
from targets.letters.survey import straight


@dataclass(slots=True)
class Needs:
    """What has to be done, found step by step.

    Attributes:
        recode: the numbers of parts whose content cannot pass as it is, and how to encode them.
        empty: the numbers of multiparts whose boundary never came.
        said: the repairs in words.
    """

    rules: Rules
    recode: dict[int, str] = field(default_factory=dict)
    said: dict[str, None] = field(default_factory=dict)
    empty: set[int] = field(default_factory=set)
    _run: int = 0
    _reading: tuple[Part, Decodes] | None = None

    def look(self, step: Step) -> None:
        """Judge one piece of the body."""
        if self.rules.strict_parts:
            self._read(step)
        self._run += len(step.data.rstrip(b"\r\n"))
        if self.rules.max_line and self._run > self.rules.max_line:
            self._fix(step, f"lines over {self.rules.max_line} bytes broken")
        if step.data[-1:] in b"\r\n":
            self._run = 0
        if b"\0" in step.data and not self.rules.nul_allowed:
            lost = step.what != "content" or recoding(step.part) in {"", BASE64, step.part.encoding}
            self._fix(step, "NUL bytes removed" if lost and step.part.encoding != "binary" else "NUL bytes encoded")  # fmt: skip
        if step.part.encoding == "binary" and not step.part.text and _bare(step.data):
            self._fix(step, "binary part encoded")

    def end(self) -> None:
        """All was looked at."""
        if self._reading and self._reading[1].close():
            self._fix(Step("content", self._reading[0], b""), "broken encoding of a text mended")
        self._reading = None

    def _read(self, step: Step) -> None:
        """Follow what a strict program would make of a part's header and text."""
        if self._reading and (step.what != "content" or step.part is not self._reading[0]):
            self.end()
        if step.what == "content":
            if self._reading is None:
                self._reading = (step.part, Decodes(step.part))
            self._reading[1].feed(step.data)
        elif step.what == "head":
            self._read_head(step)
        elif step.what == "edge" and step.part.number in self.empty and step.data.startswith(b"--"):
            self.empty.discard(step.part.number)
        elif step.what == "unclosed" and step.part.number in self.empty:
            self._fix(step, "multipart without parts shown as text")
        elif step.what == "unclosed":
            self._fix(step, "missing boundary added")

    def _read_head(self, step: Step) -> None:
        block = straight(step.data)
        head, _ = parse(tidied(block))
        if simplify(head):
            self._fix(step, "unknown encoding of a part renamed")
        elif tidied(block) != block:
            self._fix(step, "header of a part tidied")
        if step.part.boundary:
            self.empty.add(step.part.number)

    def _fix(self, step: Step, repair: str) -> None:
        self.said[repair] = None
        if step.part.signed:
            self.said["the sender's signature no longer matches"] = None
        how = recoding(step.part) if step.what == "content" else ""
        if how:
            self.recode[step.part.number] = how


def _bare(data: bytes) -> bool:
    return not data.endswith(CRLF) and data[-1:] in b"\r\n"
