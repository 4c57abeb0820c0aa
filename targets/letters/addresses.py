"""Which addresses of a field a strict parser reads: a subset of RFC 5322 in linear time.

The `email` package takes seconds for some hostile fields and forgives what servers do not, so
the text is cut into tokens, each token becomes one letter, and a regular expression without
backtracking judges the letters.
"""

from __future__ import annotations

import re

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_CHARSET = r"(?:utf-8|us-ascii|iso-8859-\d+|windows-125\d|koi8-[ru]|gb2312|gbk|gb18030|big5|euc-jp|iso-2022-jp|shift_jis|euc-kr)"
_BASE64 = r"(?:[A-Za-z0-9+/]{4})*+(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"
_QUOTED = r"(?:[A-Za-z0-9!#$%&'*+^_`{|}~-]|=[0-9A-Fa-f]{2})*+"
_WORD = rf"=\?(?i:{_CHARSET}\?(?:b\?{_BASE64}|q\?{_QUOTED}))\?=(?![^ \t\r\n()<>@,;:])"
_TOKEN = re.compile(
    rf"""(?P<space>[ \t\r\n]+)|(?P<w>{_WORD})|(?P<a>(?!=){_ATOM})|(?P<q>"(?:[ !#-\[\]-~\t]|\\[ -~])*+")
    |(?P<l>\[[!-Z^-~]*\])|(?P<special>[<>:;@,.])""",
    re.VERBOSE,
)
_ANY_WORD = re.compile(_WORD)
_MARK = re.compile(r"\\.|[()]", re.DOTALL)
_SPEC = r" ?+[aq](?: ?+\. ?+[aq])*+ ?+@ ?+(?:a(?:\.a)*+|l) ?+"
_MAILBOX = rf"(?:(?: ?+[aq](?: ?+[aq.])*+)? ?+<{_SPEC}> ?+|{_SPEC})"
_MAILBOXES = rf"{_MAILBOX}(?:,{_MAILBOX})*+"
_ADDRESS = rf"(?:{_MAILBOX}| ?+a(?: ?+[aq.])*+ ?+:(?:{_MAILBOXES})?+ ?+; ?+)"

_ONE = re.compile(_MAILBOX)
_SEVERAL = re.compile(_MAILBOXES)
_LIST = re.compile(rf"{_ADDRESS}(?:,{_ADDRESS})*+")
_NEXT = re.compile(_ADDRESS)


def is_mailbox(value: str) -> bool:
    """Whether this is exactly one address, as `Sender` must be."""
    return bool(_ONE.fullmatch(_shape(value)[0]))


def is_mailboxes(value: str) -> bool:
    """Whether this is a list of addresses, as `From` must be."""
    return bool(_SEVERAL.fullmatch(_shape(value)[0]))


def is_list(value: str) -> bool:
    """Whether this is a list of addresses and groups, as `To` must be."""
    return bool(_LIST.fullmatch(_shape(value)[0]))


def readable(value: str) -> list[str]:
    """The addresses and groups of a list that can be read, each as it stands."""
    shape, starts = _shape(value)
    found, position = [], 0
    while position < len(shape):
        match = _NEXT.match(shape, position)
        end = match.end() if match else position
        if match and (end == len(shape) or shape[end] in ",;"):
            found.append(value[starts[position] : starts[end]].strip())
        else:
            end = _comma(shape, position)
        position = end + 1
    return found


def bad_words(value: str) -> bool:
    """Whether there is an encoded word (RFC 2047) that a strict parser does not read."""
    return bool(_ANY_WORD.sub("", value).count("=?"))


def _comma(shape: str, position: int) -> int:
    found = shape.find(",", position)
    return len(shape) if found < 0 else found


def _shape(value: str) -> tuple[str, list[int]]:
    """One letter for each token, and where each token starts; `!` is what no token may be."""
    letters: list[str] = []
    starts: list[int] = []
    position = 0
    while position < len(value):
        letter, end = _letter(value, position)
        if letter != " " or letters[-1:] != [" "]:
            letters.append(letter)
            starts.append(position)
        position = end
    return "".join(letters), [*starts, len(value)]


def _letter(value: str, position: int) -> tuple[str, int]:
    """The letter of the token here, and its end."""
    if value[position] == "(":
        return _comment(value, position)
    if not (token := _TOKEN.match(value, position)):
        return "!", position + 1
    kind = token.lastgroup or "!"
    return {"space": " ", "special": token[0], "w": "a"}.get(kind, kind), token.end()


def _comment(value: str, position: int) -> tuple[str, int]:
    """A comment counts as a space; one without an end spoils all that follows."""
    depth = 0
    for mark in _MARK.finditer(value, position):
        depth += {"(": 1, ")": -1}.get(mark[0], 0)
        if not depth:
            return " ", mark.end()
    return "!", len(value)
