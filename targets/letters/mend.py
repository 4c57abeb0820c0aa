"""The repairs of a header block, from the top of the table to its end."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.utils import format_datetime, parsedate_to_datetime

from backupd.mirror.names import parse_time
from backupd.ports import Parcel
from targets.letters import addresses
from targets.letters.eightbit import ascii_field
from targets.letters.fields import CRLF, Field, Head, encode, fold, make
from targets.letters.recode import simplify
from targets.letters.rules import Rules

UNKNOWN = "unknown@invalid"
"""A sender that nobody can answer to: `invalid` never resolves (RFC 2606)."""

_CLOCKS = (("received", "receipt"), ("sent", "sending"), ("created", "creation"))
_RECIPIENTS = ("To", "Cc", "Bcc")
_NAMING = ("From", "Sender", *_RECIPIENTS)
_WORD = re.compile(r"=\?[^ \t?]{0,100}(?:\?[^ \t?]{0,100}(?:\?[^ \t?]{0,2000}(?:\?=)?)?)?")
_LONGEST_DATE = 200
_QUOTED_TEXT = 120
_LONGEST_WORDS = 2_000


def mend(head: Head, parcel: Parcel, rules: Rules) -> None:
    """Make a header block what the rules want, remembering each repair."""
    for step in STEPS:
        step(head, parcel, rules)


def _nul(head: Head, _parcel: Parcel, rules: Rules) -> None:
    for each in head.fields:
        if not rules.nul_allowed and b"\0" in each.raw:
            each.raw = each.raw.replace(b"\0", b"")
            head.say("NUL bytes removed from the header")


def _names(head: Head, _parcel: Parcel, rules: Rules) -> None:
    """Strict parsers allow no space before the colon and no second colon behind it."""
    for each in head.fields if rules.recipients else ():
        value = each.raw.partition(b":")[2]
        tidy = each.name + b":" + (b" " + value if value.startswith(b":") else value)
        if tidy != each.raw:
            each.raw = tidy
            head.say("field names tidied")


def _strip(head: Head, _parcel: Parcel, rules: Rules) -> None:
    for name in rules.strip_headers:
        for each in head.all(name):
            head.keep(each)
            head.say(f"{name} renamed")


def _disarm(head: Head, _parcel: Parcel, rules: Rules) -> None:
    for name in rules.disarm:
        for each in head.all(name):
            head.keep(each)
            head.say("read receipt disarmed")


def _ascii(head: Head, _parcel: Parcel, rules: Rules) -> None:
    for each in head.fields if rules.ascii_headers else ():
        if not each.raw.isascii():
            each.raw = ascii_field(each)
            head.say("8-bit header encoded")


def _words(head: Head, _parcel: Parcel, rules: Rules) -> None:
    """Names in old or broken encodings; one that nobody can read goes, its address stays."""
    for name in _NAMING if rules.recipients else ():
        for each in head.all(name):
            text = each.text
            if each.raw.isascii() and addresses.bad_words(text):
                fresh = make(name, _WORD.sub(_anew, text))
                head.fields.insert(head.fields.index(each), fresh)
                head.keep(each)
                head.say(f"names in {name} encoded anew")


def _spoken(text: str) -> str:
    """Encoded words as people read them."""
    try:
        return str(make_header(decode_header(text[:_LONGEST_WORDS])))
    except (HeaderParseError, LookupError, ValueError):
        return text


def _anew(word: re.Match[str]) -> str:
    text = _spoken(word[0])
    return f" {encode(text)} " if text.strip() and "=?" not in text else " "


def _beginning(head: Head, parcel: Parcel, _rules: Rules) -> None:
    """A letter without any field gets those that every letter has."""
    if head.fields:
        return
    head.say("header added")
    head.add("Subject", str(parcel.about.get("subject") or "(no header)"))
    head.add("From", f'"unknown" <{UNKNOWN}>')
    head.add("Date", _clock(parcel)[0])


def _date(head: Head, parcel: Parcel, rules: Rules) -> None:
    there = head.first("Date")
    if not rules.gate or (there and _is_date(there.text)):
        return
    for each in head.all("Date"):
        head.keep(each)
    moment, clock = _clock(parcel)
    head.add("Date", moment)
    head.say(f"Date taken from the time of {clock}" if clock else "Date unknown, set to 1970")


def _is_date(text: str) -> bool:
    try:
        return bool(text) and bool(parsedate_to_datetime(text[:_LONGEST_DATE]))
    except (ValueError, OverflowError, IndexError):
        return False


def _clock(parcel: Parcel) -> tuple[str, str]:
    for word, name in _CLOCKS:
        if moment := parse_time(parcel.about.get(word)):
            return format_datetime(moment), name
    return format_datetime(datetime.fromtimestamp(0, UTC)), ""


def _from(head: Head, _parcel: Parcel, rules: Rules) -> None:
    there = head.first("From")
    if not rules.gate or (there and addresses.is_mailboxes(there.text)):
        return
    said = there.text if there else ""
    for each in head.all("From"):
        head.keep(each)
    head.fields.insert(0, _nobody(said))
    head.say("From could not be read" if there else "From was missing")


def _nobody(said: str) -> Field:
    """A sender made of text that is no address."""
    words = (
        re.sub(r'[\\"\x00-\x1f\x7f]+|=\?', " ", _spoken(said))[:_QUOTED_TEXT].strip() or "unknown"
    )
    if words.isascii():
        return make("From", f'"{words}" <{UNKNOWN}>')
    named = make("From", words)
    return Field(named.name, named.raw.removesuffix(CRLF) + CRLF + f" <{UNKNOWN}>".encode() + CRLF)


def _sender(head: Head, _parcel: Parcel, rules: Rules) -> None:
    """A Sender that cannot be read goes; several authors need one that can."""
    author, sender = head.first("From"), head.first("Sender")
    if not rules.gate or not author:
        return
    if sender and not addresses.is_mailbox(sender.text):
        for each in head.all("Sender"):
            head.keep(each)
        head.say("Sender could not be read")
        sender = None
    authors = addresses.readable(author.text)
    if not sender and len(authors) > 1:
        head.add("Sender", authors[0], below=author)
        head.say("Sender added, because From names several")


def _recipients(head: Head, _parcel: Parcel, rules: Rules) -> None:
    for name in _RECIPIENTS if rules.recipients else ():
        for each in head.all(name):
            if each.value and addresses.is_list(each.text):
                continue
            _salvage(head, name, each)


def _salvage(head: Head, name: str, there: Field) -> None:
    """Keep what can be read of a list of recipients."""
    good = addresses.readable(there.text)
    empty = not there.value
    if good:
        lines = f"{name}: " + ",\r\n ".join(good)
        head.fields.insert(head.fields.index(there), Field(name.encode(), lines.encode() + CRLF))
    head.keep(there)
    head.say(f"empty {name} removed" if empty else f"{name} could not be read")


def _received(head: Head, parcel: Parcel, rules: Rules) -> None:
    """Without `Received` the server would take it for a mail that the account sent."""
    author = head.first("From")
    if (
        not rules.received_required
        or head.first("Received")
        or parcel.about.get("draft")
        or (author and any(each in author.text.lower() for each in rules.own))
    ):
        return
    head.add("Received", f"from unknown by backupd; {_clock(parcel)[0]}")
    head.say("Received added")


def _identity(head: Head, parcel: Parcel, rules: Rules) -> None:
    there = head.first("Message-ID")
    if not rules.message_id or (there and there.value):
        return
    for each in head.all("Message-ID"):
        head.keep(each)
    head.add(
        "Message-ID",
        f"<{hashlib.sha256(parcel.key.encode('utf-8', 'replace')).hexdigest()[:40]}@backupd.invalid>",
    )
    head.say("Message-ID added")


def _simple(head: Head, _parcel: Parcel, rules: Rules) -> None:
    if rules.strict_parts and simplify(head):
        head.say("type or encoding of the whole renamed, for no parser knows it")


def _long(head: Head, _parcel: Parcel, rules: Rules) -> None:
    for each in head.fields:
        longest = max(map(len, each.raw.split(CRLF)))
        if rules.max_line and longest > rules.max_line:
            each.raw = fold(each.raw)
            head.say("long header folded")


STEPS: tuple[Callable[[Head, Parcel, Rules], None], ...] = (
    _nul, _names, _strip, _disarm, _ascii, _words, _long, _beginning, _date, _from, _sender, _recipients,
    _simple, _identity, _received, _long,
)  # fmt: skip
"""Long lines come twice: before addresses are judged, and because renamed fields are longer."""
