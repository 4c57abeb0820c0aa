"""The text of an HTML body, for the formats whose description is plain."""

from __future__ import annotations

import html as entities

from bs4 import BeautifulSoup
from bs4.element import NavigableString, Tag
from bs4.exceptions import ParserRejectedMarkup

LARGEST = 512 * 1024
"""Characters of HTML that are turned into text; a megabyte takes seconds."""

_BLOCK_NAMES = """
    address article blockquote body caption center dd div dl dt fieldset figure footer form
    h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre section table td th tr ul
"""
_BLOCKS = frozenset(_BLOCK_NAMES.split())
_SILENT = frozenset({"head", "script", "style", "template", "title"})
_NOT_SHOWN = -1


def plain(html: str) -> str:
    """What a reader of `html` sees, one block a line; of at most its first `LARGEST` characters."""
    if "<" not in html:
        return entities.unescape(html).strip()
    # The element in front keeps bs4 from taking a leading <?xml … for XML, and from warning of it.
    # lxml, because Python's own parser takes time in the square of some broken markup.
    try:
        soup = BeautifulSoup(f"<html>{html[:LARGEST]}", "lxml")
    except ParserRejectedMarkup:
        return ""
    lines = ("".join(block).split() for block in _blocks(soup))
    return "\n".join(" ".join(words) for words in lines if words)


def _blocks(soup: BeautifulSoup) -> list[list[str]]:
    """The strings of each block in reading order. Linear, and without recursion."""
    owners: dict[int, int] = {}  # by id(): the innermost block that an element belongs to
    blocks: list[list[str]] = [[]]
    last, breaks = (0, 0), 0
    for node in soup.descendants:
        owner = owners.get(id(node.parent), 0)
        if isinstance(node, Tag):
            owners[id(node)] = _owner(node, owner)
            breaks += node.name == "br"
        elif type(node) is NavigableString and owner != _NOT_SHOWN:  # not a Comment, not a Script
            if (owner, breaks) != last:
                blocks.append([])
                last = (owner, breaks)
            blocks[-1].append(node)
    return blocks


def _owner(tag: Tag, outer: int) -> int:
    if tag.name in _SILENT:
        return _NOT_SHOWN
    return id(tag) if tag.name in _BLOCKS and outer != _NOT_SHOWN else outer
