"""Calendar items that invite nobody: what makes a server or a program send mail is taken out.

Works on the lines of an item (`targets.dav.lines`), so that everything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from icalendar.parser import Parameters

from targets.dav.lines import Block, Line, escaped, folded, line

HEADERS: Mapping[str, str] = MappingProxyType({"Schedule-Reply": "F", "Scheduling-Enabled": "F"})
"""Sent with every PUT and DELETE: asks servers that know them to send nothing."""

PROFILES = frozenset({"none", "sabre", "nextcloud", "agent", "cyrus", "strip", "file"})
"""The ways of presets.toml; any other word means `strip`, the way that works everywhere."""

_PEOPLE = ("ORGANIZER", "ATTENDEE")
_LOUD_PARAMETERS = ("RSVP", "SCHEDULE-STATUS", "SCHEDULE-FORCE-SEND", "SCHEDULE-AGENT")
_LOUD_MARKS = ("RSVP", "SCHEDULE-")
_MAIL_ONLY = frozenset({"ATTENDEE", "ORGANIZER", "SUMMARY", "ATTACH", "ACTION"})
_ANSWERS = {
    "ACCEPTED": "accepted",
    "DECLINED": "declined",
    "TENTATIVE": "tentative",
    "DELEGATED": "delegated",
    "NEEDS-ACTION": "no answer",
}


@dataclass(frozen=True, slots=True)
class Way:
    """How people are kept from being written to.

    Attributes:
        strip: organizer and attendees become text; else they stay, marked as the client's business.
        mark: the property that tells Nextcloud to leave an event alone.
    """

    strip: bool
    mark: bool = False


def way(profile: str, *, keep_attendees: bool) -> Way:
    """What a profile means. `keep_attendees` is a person's choice after a canary has passed."""
    strip = profile not in PROFILES or profile == "strip"
    return Way(strip=strip and not keep_attendees, mark=profile == "nextcloud")


def silence(calendars: Iterable[Block], how: Way) -> list[str]:
    """Take out of the components whatever makes noise, in place; answers what is worth a word.

    METHOD, RSVP and the SCHEDULE- parameters always go; alarms that send mail become ones on the
    screen.
    """
    stripped: set[tuple[str, str]] = set()
    alarms = 0
    for each in calendars:
        for block in _all(each):
            alarms += _silence(block, how, stripped)
    return _words(stripped, alarms)


def _all(block: Block) -> Iterator[Block]:
    yield block
    for each in block.blocks:
        yield from _all(each)


def _silence(block: Block, how: Way, stripped: set[tuple[str, str]]) -> int:
    block.drop(lambda each: each.name == "METHOD")
    alarms = _to_screen(block) if block.name == "VALARM" else 0
    people = [each for each in block.lines if each.name in _PEOPLE]
    if how.strip and people:
        _to_text(block, people)
        stripped |= {(each.name, each.value.lower()) for each in people}
    block.inside = [_quiet(x) if isinstance(x, Line) else x for x in block.inside]
    if how.mark and block.name in {"VEVENT", "VTODO"}:
        block.drop(lambda each: each.name == "X-NC-DISABLE-SCHEDULING")
        block.add(line("X-NC-DISABLE-SCHEDULING", "true"))
    return alarms


def _to_screen(alarm: Block) -> int:
    """An alarm by mail becomes one on the screen; no alarm keeps the addresses of people."""
    action = alarm.first("ACTION")
    if action is None or action.value.strip().upper() != "EMAIL":
        alarm.drop(lambda each: each.name in _PEOPLE)
        return 0
    said = alarm.first("DESCRIPTION") or alarm.first("SUMMARY")
    alarm.drop(lambda each: each.name in {*_MAIL_ONLY, "DESCRIPTION"})
    alarm.inside.insert(0, line("ACTION", "DISPLAY"))
    alarm.add(line("DESCRIPTION", said.value if said else "Reminder"))
    return 1


def _quiet(each: Line) -> Line:
    """The line without loud parameters; people get the mark that they are not the server's business."""
    person = each.name in _PEOPLE
    if not person and not any(mark in each.head.upper() for mark in _LOUD_MARKS):
        return each
    params = each.params
    for name in _LOUD_PARAMETERS:
        params.pop(name, None)
    if person:
        params["SCHEDULE-AGENT"] = "CLIENT"
    return line(each.name, each.value, params)


def _to_text(block: Block, people: list[Line]) -> None:
    """Move people to the end of the description, and keep each whole in a property of ours."""
    block.drop(lambda each: each.name in _PEOPLE)
    for each in people:
        block.add(line(f"X-BACKUPD-{each.name}", each.value, _without_noise(each.params)))
    if block.name not in {"VEVENT", "VTODO", "VJOURNAL"}:
        return
    told = escaped(_told(people))
    there = block.first("DESCRIPTION")
    if there is None:
        block.add(line("DESCRIPTION", told))
    else:
        gap = r"\n\n" if there.value.strip() else ""
        there.raw = folded(f"{there.text}{gap}{told}")


def _without_noise(params: Parameters) -> Parameters:
    for name in _LOUD_PARAMETERS:
        params.pop(name, None)
    return params


def _told(people: list[Line]) -> str:
    organizers = [_person(each) for each in people if each.name == "ORGANIZER"]
    attendees = [f"- {_person(each)}" for each in people if each.name == "ATTENDEE"]
    told = [f"Organizer: {each}" for each in organizers]
    return "\n".join([*told, *(["Attendees:", *attendees] if attendees else [])])


def _person(each: Line) -> str:
    params, address = each.params, each.value.strip()
    if address.lower().startswith("mailto:"):
        address = address[len("mailto:") :]
    name = str(params.get("CN", "")).replace("\n", " ").strip()
    who = f"{name} <{address}>" if name and name != address else address
    answer = _ANSWERS.get(str(params.get("PARTSTAT", "")).upper(), "")
    return f"{who} ({answer})" if answer and each.name == "ATTENDEE" else who


def _words(stripped: set[tuple[str, str]], alarms: int) -> list[str]:
    words = []
    attendees = sum(name == "ATTENDEE" for name, _ in stripped)
    if attendees:
        words.append(f"{attendees} attendee{'s' * (attendees > 1)} moved into the text")
    elif stripped:
        words.append("the organizer moved into the text")
    if alarms:
        words.append("a reminder by mail became one on the screen")
    return words
