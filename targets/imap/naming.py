"""Names that a server can bear, as near to the original as it allows.

What cannot stand in a name is replaced by its look-alike, so that people read the same and the
original can be told from it; only when a server refuses that too, letters are lost.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from backupd.imap.wire import encoded

LONGEST = 150
"""Bytes of one name in modified UTF-7: several levels of them must fit where a server keeps a path in one file name."""

_BIDI = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")
_LEADING = {"#": "\uff03", "~": "\uff5e"}  # both mean other namespaces at the beginning
_OUTER = "\u00a0"
_DELIMITERS = {".": "\u2024", "/": "\u2215", "\\": "\uff3c", "|": "\uff5c"}


def mark(*names: str) -> str:
    """Six digits that tell a path from every other one."""
    return hashlib.sha256("\0".join(names).encode("utf-8", "replace")).hexdigest()[:6]


def faithful(name: str, delimiter: str) -> str:
    """The name with what no server takes replaced: delimiter, wildcards, control characters, outer blanks."""
    text = _BIDI.sub("", name.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))
    text = "".join(_printable(each) for each in text).translate(
        {ord("*"): "\u2217", ord("%"): "\uff05"}
    )
    if delimiter:
        text = text.replace(delimiter, _DELIMITERS.get(delimiter, "-"))
    body = text.strip()
    text = (
        _OUTER * (len(text) - len(text.lstrip())) + body + _OUTER * (len(text) - len(text.rstrip()))
    )
    if not body:
        return f"Folder-{mark(name)}"
    if set(body) == {"."}:
        text = text.replace(".", "\u2024")
    return shortened(_LEADING.get(text[0], text[0]) + text[1:], name)


def plain_punctuation(name: str, delimiter: str) -> str:
    """The same with every ASCII sign in its full-width form."""
    text = faithful(name, delimiter)
    text = "".join(
        chr(ord(each) + 0xFEE0) if "!" <= each <= "~" and not each.isalnum() and each not in "-_" else each
        for each in text
    )  # fmt: skip
    return shortened(text, name)


def ascii_only(name: str) -> str:
    """Letters and digits of ASCII, told from its like by six more."""
    flat = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    flat = re.sub(r"[^A-Za-z0-9]+", "_", flat).strip("_")[:40]
    return f"{flat or 'Folder'}-{mark(name)}"


def shortened(text: str, name: str) -> str:
    """At most LONGEST bytes; what is cut ends in six digits of the whole name."""
    if len(encoded(text)) <= LONGEST:
        return text
    while len(encoded(text)) > LONGEST - 8:
        text = text[: max(1, len(text) * 7 // 8)]
    return f"{text.rstrip()}-{mark(name)}"


def _printable(each: str) -> str:
    if each < " ":
        return chr(0x2400 + ord(each))  # the picture of a control character
    if "\x7f" <= each <= "\x9f" or each in "\u2028\u2029":
        return "\ufffd"
    return each


def keyword(category: str) -> str:
    """A category as an IMAP keyword: an atom in modified UTF-7, as mail programs write their tags."""
    text = re.sub(r"[\x00-\x20(){%*\"\\\]\[\x7f]+", "_", category.strip()).strip("_")
    raw = encoded(text.encode("utf-8", "replace").decode()).decode("ascii")
    if len(raw) > 50:  # noqa: PLR2004 - where Dovecot ends a keyword
        raw = f"{raw[:40].rstrip('&')}-{mark(category)}"
    return raw or f"Category-{mark(category)}"
