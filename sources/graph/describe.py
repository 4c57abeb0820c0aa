"""What Graph says of an item, in the words that all providers share (see `Source.describe`)."""

from __future__ import annotations

from typing import Any

from backupd.model import Facts, Service

ANSWERED = {"102", "103"}
"""PR_LAST_VERB_EXECUTED: replied to the sender, replied to all."""

LAST_VERB = "Integer 0x1081"


def describe(service: Service, facts: Facts) -> Facts:
    """The shared words for an item; a word without a value is left out."""
    said = _DESCRIBERS[service](facts)
    return {word: value for word, value in said.items() if value not in (None, "", [])}


def _message(facts: Facts) -> dict[str, Any]:
    flag = facts.get("flag")
    return {
        "subject": facts.get("subject"),
        "received": facts.get("receivedDateTime"),
        "sent": facts.get("sentDateTime"),
        "message_id": facts.get("internetMessageId"),
        "seen": bool(facts.get("isRead")),
        "flagged": isinstance(flag, dict) and flag.get("flagStatus") == "flagged",
        "answered": (_last_verb(facts) in ANSWERED) if _last_verb(facts) else None,
        "draft": bool(facts.get("isDraft")),
        "categories": facts.get("categories"),
    }


def _event(facts: Facts) -> dict[str, Any]:
    raw = facts.get("raw") or {}
    start = raw.get("start")
    return {
        "subject": raw.get("subject"),
        "uid": raw.get("iCalUId"),
        "start": start.get("dateTime") if isinstance(start, dict) else None,
        "modified": raw.get("lastModifiedDateTime"),
        "categories": raw.get("categories"),
    }


def _contact(facts: Facts) -> dict[str, Any]:
    raw = facts.get("raw") or {}
    return {
        "subject": raw.get("displayName"),
        "modified": raw.get("lastModifiedDateTime"),
        "categories": raw.get("categories"),
    }


def _file(facts: Facts) -> dict[str, Any]:
    return {"created": facts.get("created"), "modified": facts.get("modified")}


def _last_verb(facts: Facts) -> str | None:
    for each in facts.get("singleValueExtendedProperties") or ():
        if isinstance(each, dict) and each.get("id") == LAST_VERB:
            return str(each.get("value"))
    return None


_DESCRIBERS = {
    Service.MAIL: _message,
    Service.CALENDAR: _event,
    Service.CONTACTS: _contact,
    Service.FILES: _file,
}
