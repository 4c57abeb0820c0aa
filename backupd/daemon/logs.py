"""Log lines for a service: the journal's levels, and accounts by a mark instead of a name.

At INFO and above no line holds an address or a message from a server: an account goes by the first
digits of a hash (`backupd.marks`). At DEBUG one line an account says whose mark it is, and failures
are told in full.
"""

from __future__ import annotations

import logging
import os
import sys

PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)
"""Levels of Python and those of the journal."""

CHATTY = (
    "apscheduler", "apprise", "asyncio", "imapclient", "httpx", "httpcore", "aiohttp", "sqlalchemy", "stamina",
)  # fmt: skip
"""Libraries whose lines may hold addresses."""


class JournalFormatter(logging.Formatter):
    """`<6>message`: one line for the journal, with its priority; a traceback goes line by line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        mark = next(mark for level, mark in PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{mark}>{line}" for line in super().format(record).splitlines() or [""])


def begin(*, debug: bool) -> None:
    """Log to stderr from now on, for the journal when it is the journal that reads it."""
    handler = logging.StreamHandler(sys.stderr)
    if os.environ.get("JOURNAL_STREAM"):
        handler.setFormatter(JournalFormatter("%(message)s"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(
        handlers=[handler], level=logging.DEBUG if debug else logging.INFO, force=True
    )
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING if debug else logging.CRITICAL)
