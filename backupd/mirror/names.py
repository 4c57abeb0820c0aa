"""Names that cannot leave their folder.

A component is readable, at most `LIMIT` bytes, and escaped reversibly: every character that some
file system, shell or reader could take for something else stands as the %XX of its UTF-8 bytes.
Only a name that is too long or has a twin loses that property; its index line has the original.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from datetime import UTC, datetime
from urllib.parse import unquote_to_bytes

LIMIT = 180
"""Bytes in one component: file systems allow 255, and restores add suffixes of their own."""

SUBJECT_LIMIT = 80
"""Bytes of a subject in a mail's file name; enough to recognise it by."""

_FORBIDDEN = frozenset('%/\\:*?"<>|')
"""What a path, a Windows share or our own escape could misread."""

_ANY_FORBIDDEN = re.compile(f"[{re.escape(''.join(sorted(_FORBIDDEN)))}]")

EXTENSION_LIMIT = 16
"""Bytes, dot included, up to which the end of a name is kept as its extension."""

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)
"""Device names on Windows, whatever their extension."""

OURS = frozenset({"index.jsonl", ".backupd", "account.json", "readme.txt", "undated"})
"""Names the mirror itself uses, folded."""

SHARD = re.compile(r"\d{4}-\d{2}")
"""A month folder of the mirror."""


def escape(name: str, *, ours: bool = True) -> str:
    """`name` as one safe path component, without a limit on its length.

    Args:
        ours: also escape the names the mirror uses for itself.
    """
    harmless = name.isprintable() and not _ANY_FORBIDDEN.search(name)  # the same at C's speed
    text = (
        name if harmless else "".join(_percent(each) if _hostile(each) else each for each in name)
    )
    if text.endswith((".", " ")):
        text = text[:-1] + _percent(text[-1])
    taken = ours and (text.casefold() in OURS or SHARD.fullmatch(text))
    if text and (text[0] == " " or _RESERVED.fullmatch(text) or taken):
        text = _percent(text[0]) + text[1:]
    return text or "%00"


def unescape(component: str) -> str:
    """The name that `escape` was given."""
    if component == "%00":
        return ""
    return unquote_to_bytes(component).decode("utf-8", "surrogatepass")


def component(name: str) -> str:
    """`name` as one path component of at most `LIMIT` bytes."""
    return shorten(escape(name), LIMIT, mark=short_key(name)[:8])


def twin(local: str, key: str) -> str:
    """`local` made unlike its siblings by a mark derived from `key`, before the extension."""
    return shorten(local, LIMIT, mark=short_key(key)[:8], always=True)


def fold(local: str) -> str:
    """Equal for names that a case-insensitive or normalising file system takes for one."""
    return local.lower() if local.isascii() else unicodedata.normalize("NFC", local.casefold())


def short_key(key: str) -> str:
    """13 characters (65 bits) that stand for a key of any length and alphabet."""
    return base64.b32encode(hashlib.sha256(_bytes(key)).digest()[:10])[:13].decode().lower()


def mail_name(received: datetime | None, subject: str, key: str) -> str:
    """`<yyyy-mm>/<UTC time>_<subject>_<key>.eml`; the month keeps restic's trees small."""
    when = f"{received:%Y-%m/%Y%m%dT%H%M%SZ}" if received else "undated/undated"
    words = escape(" ".join(subject.split()), ours=False) if subject.strip() else ""
    title = shorten(words, SUBJECT_LIMIT).rstrip(" ._")
    return f"{when}_{title}_{short_key(key)}.eml"


def parse_time(text: object) -> datetime | None:
    """An RFC 3339 time (any number of fraction digits) as UTC, or None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        plain = re.sub(r"\.(\d{1,6})\d*", r".\1", text) if "." in text else text
        moment = datetime.fromisoformat(plain)
        if moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def shorten(text: str, limit: int, *, mark: str = "", always: bool = False) -> str:
    """Cut `text` to `limit` bytes between characters and escapes, keeping a short extension.

    Args:
        mark: put as `~mark` before the extension when something was cut.
        always: put the mark even when nothing had to be cut.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if size <= limit and not always:
        return text
    stem, dot, extension = text.rpartition(".")
    if not stem or len((dot + extension).encode()) > EXTENSION_LIMIT:
        stem, dot, extension = text, "", ""
    tail = (f"~{mark}" if mark else "") + dot + extension
    room = limit - len(tail.encode())
    return _cut(stem, room) + tail


def _cut(text: str, room: int) -> str:
    cut = text.encode()[:room].decode("utf-8", "ignore")
    return re.sub(r"(%[0-9A-F]?|(?:%[89A-F][0-9A-F]){1,3})$", "", cut) if cut != text else cut


def _hostile(char: str) -> bool:
    """Unprintable is what hides or reorders text: controls, bidi marks, odd spaces, surrogates."""
    return char in _FORBIDDEN or not (char == " " or char.isprintable())


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in _bytes(char))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
