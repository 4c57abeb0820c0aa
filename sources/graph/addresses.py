"""Ids in addresses."""

from __future__ import annotations

import re
from urllib.parse import quote

_OTHER = re.compile("[^A-Za-z0-9_.~-]+")


def quoted(id_: str) -> str:
    """An id for a path; ids may hold `/`, `+` and `=`. `quote` alone takes a step for every character."""
    return _OTHER.sub(lambda some: quote(some[0], safe=""), id_)
