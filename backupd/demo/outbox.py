"""What Exchange sends to people when a calendar changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.demo.calls import Json


@dataclass(frozen=True)
class Invitation:
    """A message about an event: `kind` is `request`, `update` or `cancel`."""

    kind: str
    organizer: str
    subject: str
    recipients: tuple[str, ...]


def invitation(kind: str, organizer: str, data: Json) -> Invitation | None:
    """The message that a change of an event causes; None for an event without people or a draft."""
    people = [each.get("emailAddress") or {} for each in data.get("attendees") or ()]
    addresses = tuple(str(each.get("address", "")) for each in people)
    if not addresses or data.get("isDraft"):
        return None
    return Invitation(kind, organizer, str(data.get("subject") or ""), addresses)
