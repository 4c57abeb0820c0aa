"""What an answer of Microsoft's says: its JSON, its error code, and how long it wants to be left alone."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Mapping
from typing import Any

import httpx

from backupd.errors import Throttled, TransientError

LONGEST_PAUSE = 300.0
"""Seconds that a Retry-After is obeyed inside; for longer ones the run ends and is tried later."""


def body_of(answer: httpx.Response) -> Mapping[str, Any]:
    """The JSON object of an answer; empty when it holds none. Graph may leave control characters raw."""
    try:
        said = json.loads(answer.content, strict=False)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def codes_of(answer: httpx.Response) -> frozenset[str]:
    """The error code of an answer and those inside it, in lower case."""
    found: set[str] = set()
    error = body_of(answer).get("error")
    for _ in range(8):
        if not isinstance(error, dict):
            break
        found.add(str(error.get("code", "")).lower())
        error = error.get("innerError") or error.get("innererror")
    return frozenset(found - {""})


def words_of(answer: httpx.Response) -> str:
    """Status and code, for people."""
    error = body_of(answer).get("error")
    code = str(error.get("code", ""))[:80] if isinstance(error, dict) else ""
    printable = "".join(each for each in code if each.isprintable())
    return f"{answer.status_code} {printable}".strip()


def pause_of(answer: httpx.Response) -> float:
    """Seconds that a Retry-After asks for, in either of its forms; 0 for none."""
    written = answer.headers.get("retry-after", "")
    if written.isdecimal():
        return float(written[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(written).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def worth_a_retry(error: Exception) -> bool | float:
    """Whether to try again, and where the server named a pause, after how many seconds."""
    if isinstance(error, Throttled):
        if error.retry_after > LONGEST_PAUSE:
            return False
        return error.retry_after or True
    return isinstance(error, TransientError)
