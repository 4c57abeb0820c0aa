"""Mail addresses as Graph hands them out: most are SMTP, some only mean something to Exchange."""

from __future__ import annotations

import re
from urllib.parse import quote

from sources.graph.fields import Json, line, mapping

_SMTP = re.compile(r"[^\s@<>\"(),:;\\]+@[^\s@<>\"(),:;\\/]+")
_LONGEST = 320


def is_smtp(address: str) -> bool:
    """Whether mail could be sent to `address`; false for `/o=ExchangeLabs/ou=…` and its like."""
    return len(address) <= _LONGEST and _SMTP.fullmatch(address) is not None


def name_and_address(recipient: Json) -> tuple[str, str]:
    """Display name and address of a Graph recipient; either may be ""."""
    written = mapping(recipient, "emailAddress")
    return line(written, "name"), line(written, "address")


def uri(name: str, address: str) -> str:
    """`mailto:` for an SMTP address, else an `invalid:` URI that keeps what is known, one per person."""
    return f"mailto:{address}" if is_smtp(address) else f"invalid:{quote(address or name, safe='')}"
