"""A session: logged in, and what the server says it can do."""

from __future__ import annotations

import imaplib
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import imapclient
from imapclient import imap_utf7

from backupd.errors import TransientError
from backupd.imap.connect import Login, connect, connecting, log_in, only_loopback_in_plain
from backupd.imap.wire import Answer, Untagged, Wire, number, quoted, string, words

AHEAD = 50
"""Short commands that are sent before the answer to the first is read."""


@dataclass(frozen=True, slots=True)
class Mailbox:
    """A mailbox of the account: its whole name, decoded, and its attributes in lower case.

    `raw` is the name as the server wrote it, which need not be what `name` would be written as.
    """

    name: str
    delimiter: str
    attributes: frozenset[str]
    raw: bytes = b""

    @property
    def selectable(self) -> bool:
        """Whether messages can lie in it."""
        return not self.attributes & {"\\noselect", "\\nonexistent"}


@dataclass(frozen=True, slots=True)
class Selected:
    """What the server says when a mailbox is opened. `keywords` None: any keyword is kept.

    `modseq` is 0 where changes are not counted, `id` (RFC 8474) empty where mailboxes have none.
    """

    exists: int
    validity: int
    next: int
    keywords: frozenset[str] | None
    modseq: int = 0
    id: str = ""


class Session:
    """A connection that is logged in. Not thread-safe; after a TransientError only to be closed."""

    def __init__(self, client: imapclient.IMAPClient, login: Login) -> None:
        self._client, self._login = client, login
        self.wire = Wire(client._imap, login.name)  # noqa: SLF001 - messages go past its parser
        self.capabilities = self._capabilities()
        self.foreign: tuple[str, ...] = ()
        """Prefixes of what belongs to other people or to everybody."""
        self.prefix, self.delimiter = self._namespace()
        self.software = self._software()

    def close(self) -> None:
        """Say goodbye if the server still listens."""
        with suppress(OSError, imaplib.IMAP4.error):
            self._client.socket().settimeout(2)
            self._client.logout()
        with suppress(OSError, imaplib.IMAP4.error):
            self._client.shutdown()

    def can(self, capability: str) -> bool:
        """Whether the server announces it."""
        return capability in self.capabilities

    @property
    def append_limit(self) -> int | None:
        """The largest message in bytes, where the server says so (APPENDLIMIT)."""
        for each in self.capabilities:
            name, _, value = each.partition("=")
            if name == "APPENDLIMIT" and value.isdecimal():
                return int(value)
        return None

    def mailboxes(self) -> list[Mailbox]:
        """Every mailbox, with the attributes of special use where the server knows them."""
        command = b'LIST "" "*"'
        if self.can("SPECIAL-USE") and self.can("LIST-EXTENDED"):
            command += b" RETURN (SPECIAL-USE)"
        elif self.can("XLIST") and not self.can("SPECIAL-USE"):
            command = b'XLIST "" "*"'
        return self._listed(command)

    def exists(self, name: str) -> bool:
        """Whether there is a mailbox of exactly this name that can hold messages."""
        pattern = re.search(r"[%*]", name)
        found = self.mailboxes() if pattern else self._listed(b'LIST "" ' + quoted(name))
        return any(each.name == name and each.selectable for each in found)

    def create(self, name: str, use: str = "") -> Answer:
        r"""Create a mailbox; with `use` (`\Sent`) as the one for it, where the server knows that."""
        if use and self.can("CREATE-SPECIAL-USE"):
            answer = self._tell(b"CREATE %s (USE (%s))" % (quoted(name), use.encode()))
            if answer.ok:
                return answer
        return self._tell(b"CREATE " + quoted(name))

    def subscribe(self, name: str) -> None:
        """Show the mailbox in mail programs; a server that does not care is no error."""
        self._tell(b"SUBSCRIBE " + quoted(name))

    def select(self, name: str, *, write: bool = False) -> Selected | Answer:
        """Open a mailbox; the Answer says why not."""
        return self._opened((b"SELECT " if write else b"EXAMINE ") + quoted(name))

    def examine(self, raw: bytes) -> Selected | Answer:
        """Open a mailbox for reading only, by its raw name without control characters."""
        return self._opened(b"EXAMINE " + string(raw))

    def statuses(
        self, mailboxes: Sequence[bytes], asked: str
    ) -> dict[bytes, dict[str, object] | Answer]:
        """What mailboxes that stay closed say of themselves, by raw name; the answer of one that says nothing."""
        found: dict[bytes, dict[str, object] | Answer] = {}
        if self.can("LIST-STATUS") and self.can("LIST-EXTENDED"):
            if "MAILBOXID" in asked and self.software.lower().startswith("cyrus"):
                self._statuses_of_all(
                    asked
                )  # of a renamed folder Cyrus 3.6 tells any id the first time
            found |= self._statuses_of_all(asked)
        left = [raw for raw in mailboxes if raw not in found]
        for start in range(0, len(left), AHEAD):
            some = left[start : start + AHEAD]
            command = b"STATUS %s (" + asked.encode() + b")"
            tags = [self.wire.begin(command % string(raw)) for raw in some]
            found |= {raw: self._said(tag) for raw, tag in zip(some, tags, strict=True)}
        return found

    def _statuses_of_all(self, asked: str) -> dict[bytes, dict[str, object]]:
        answer, seen = self.wire.command(b'LIST "" "*" RETURN (STATUS (%s))' % asked.encode())
        return {name: said for name, said in map(_status, seen) if said and answer.ok}

    def _said(self, tag: bytes) -> dict[str, object] | Answer:
        said: dict[str, object] = {}
        for response in self.wire.rest(tag):
            if isinstance(response, Answer):
                return said if response.ok and said else response
            said = _status(response)[1] or said
        raise AssertionError  # the answer is the last

    def enable(self, capability: str) -> bool:
        """Switch an extension on (RFC 5161)."""
        can = self.can(capability) and self.can("ENABLE")
        return can and self._tell(b"ENABLE " + capability.encode()).ok

    def noop(self) -> None:
        """Hear whether the server is still there. Raises Dropped."""
        self._tell(b"NOOP")

    def idle(self, seconds: float) -> bool:
        """Wait until the open mailbox changes (RFC 2177), at most so long; whether it did. Raises TransientError."""
        try:
            self._client.idle()
            said = self._client.idle_check(seconds)
            self._client.idle_done()
        except (OSError, imaplib.IMAP4.error) as error:
            raise self.wire.dropped(error) from error
        return any(isinstance(each, tuple) and each[1:2] != (b"Still here",) for each in said)

    def _opened(self, command: bytes) -> Selected | Answer:
        answer, seen = self.wire.command(command)
        if not answer.ok:
            return answer
        flags = _permanent(seen)
        return Selected(
            exists=next((each.number for each in seen if each.kind == "EXISTS"), 0),
            validity=_code_number(seen, "UIDVALIDITY"),
            next=_code_number(seen, "UIDNEXT"),
            keywords=None if "\\*" in flags else frozenset(flags),
            modseq=_code_number(seen, "HIGHESTMODSEQ"),
            id=next((_inside(each.parts[0]) for each in seen if each.kind == "MAILBOXID"), ""),
        )

    def unselect(self) -> None:
        """Close the open mailbox without a change, where the server can."""
        if self.can("UNSELECT"):
            self._tell(b"UNSELECT")

    def next_uid(self, name: str) -> tuple[int, int] | None:
        """(UIDVALIDITY, UIDNEXT) of a mailbox that stays closed; None when it is not there."""
        answer, seen = self.wire.command(b"STATUS %s (UIDVALIDITY UIDNEXT)" % quoted(name))
        if not answer.ok:
            return None
        for each in seen:
            if each.kind == "STATUS" and len(each.parts) > 1 and isinstance(each.parts[-1], list):
                flat = each.parts[-1]
                found = dict(zip(flat[::2], flat[1::2], strict=False))
                return number(found.get(b"UIDVALIDITY")), number(found.get(b"UIDNEXT"))
        return 0, 0

    def copy(self, uids: bytes, name: str) -> Answer:
        """Copy messages of the open mailbox into another one."""
        return self._tell(b"UID COPY %s %s" % (uids, quoted(name)))

    def free(self, mailbox: str = "INBOX") -> int | None:
        """Bytes that still fit into a mailbox, where the server knows a quota."""
        if not self.can("QUOTA"):
            return None
        answer, seen = self.wire.command(b"GETQUOTAROOT " + quoted(mailbox))
        left: list[int] = []
        for each in seen if answer.ok else []:
            if each.kind == "QUOTA" and each.parts and isinstance(each.parts[-1], list):
                left.extend(_left(each.parts[-1]))
        return min(left, default=None)

    def _tell(self, command: bytes) -> Answer:
        return self.wire.command(command)[0]

    def _capabilities(self) -> frozenset[str]:
        _, seen = self.wire.command(b"CAPABILITY")
        return frozenset(
            part.decode("ascii", "replace").upper()
            for each in seen
            if each.kind == "CAPABILITY"
            for argument in each.parts
            if isinstance(argument, bytes)
            for part in argument.split()
        )

    def _namespace(self) -> tuple[str, str]:
        """Prefix and delimiter of the personal namespace; an empty delimiter: there is no hierarchy."""
        if self.can("NAMESPACE"):
            _, seen = self.wire.command(b"NAMESPACE")
            for each in seen:
                with suppress(IndexError, TypeError, KeyError):
                    if each.kind == "NAMESPACE":
                        self.foreign = tuple(_prefixes(each.parts[1:3]))
                        prefix, delimiter = each.parts[0][0][:2]  # type: ignore[index]
                        return decoded(prefix), (delimiter or b"").decode("ascii", "replace")
        root = self._listed(b'LIST "" ""')
        return "", root[0].delimiter if root else ""

    def _software(self) -> str:
        """What the server calls itself (RFC 2971); empty when it does not tell."""
        if not self.can("ID"):
            return ""
        for each in self.wire.command(b"ID NIL")[1]:
            if each.kind == "ID" and each.parts and isinstance(each.parts[0], list):
                flat = each.parts[0]
                name = dict(zip(flat[::2], flat[1::2], strict=False)).get(b"name")
                return words(name) if isinstance(name, bytes) else ""
        return ""

    def _listed(self, command: bytes) -> list[Mailbox]:
        answer, seen = self.wire.command(command)
        if not answer.ok:
            raise TransientError(f"{self._login.name} does not list its mailboxes: {answer.words}")
        found = [_mailbox(each) for each in seen if each.kind in {"LIST", "XLIST"}]
        return [each for each in found if each]


def _mailbox(response: Untagged) -> Mailbox | None:
    attributes, delimiter, name = (*response.parts, None, None, None)[:3]
    if not isinstance(attributes, list) or not isinstance(name, bytes):
        return None
    return Mailbox(
        decoded(name),
        delimiter.decode("ascii", "replace") if isinstance(delimiter, bytes) else "",
        frozenset(each.decode("ascii", "replace").lower() for each in attributes if isinstance(each, bytes)),
        name,
    )  # fmt: skip


def decoded(name: object) -> str:
    """A name in modified UTF-7 as people read it; what is none, as it looks."""
    if not isinstance(name, bytes):
        return ""
    try:
        return str(imap_utf7.decode(name))
    except (ValueError, UnicodeError):  # not modified UTF-7: what it looks like
        return name.decode("utf-8", "replace")


def _prefixes(spaces: Sequence[object]) -> Iterator[str]:
    """The prefixes of namespaces, those aside that everything begins with."""
    for space in spaces:
        for each in space if isinstance(space, list) else ():
            prefix = decoded(each[0]) if isinstance(each, list) and each else ""
            if prefix:
                yield prefix


def _status(response: Untagged) -> tuple[bytes, dict[str, object]]:
    """(raw name, values) of a STATUS response; no values for any other one."""
    name, flat = (*response.parts, None, None)[:2]
    if response.kind != "STATUS" or not isinstance(name, bytes) or not isinstance(flat, list):
        return b"", {}
    pairs = zip(flat[::2], flat[1::2], strict=False)
    return name, {words(key).upper(): value for key, value in pairs if isinstance(key, bytes)}


def _inside(value: object) -> str:
    """The id in `(id)`."""
    return value.decode("ascii", "replace").strip("() ") if isinstance(value, bytes) else ""


def _permanent(seen: list[Untagged]) -> set[str]:
    for each in seen:
        if each.kind == "PERMANENTFLAGS" and isinstance(each.parts[0], bytes):
            return set(each.parts[0].decode("utf-8", "replace").strip("() ").split())
    return {"\\*"}  # RFC 3501: without it all flags can be changed


def _code_number(seen: list[Untagged], code: str) -> int:
    return next((number(each.parts[0]) for each in seen if each.kind == code), 0)


def _left(triples: list[object]) -> Iterator[int]:
    for name, used, limit in zip(triples[::3], triples[1::3], triples[2::3], strict=False):
        if isinstance(name, bytes) and name.upper() == b"STORAGE":
            yield max(0, number(limit) - number(used)) << 10


def open_session(login: Login) -> Session:
    """Connect, check the certificate, log in.

    Raises:
        ConfigError: what is configured cannot be used (plain text over a network, no TLS there).
        UserError: the certificate is not trusted; reason `certificate`.
        AuthError: user name, password or token are refused; reason `credential`.
        TransientError: the server cannot be reached or is busy.
    """
    only_loopback_in_plain(login)
    with connecting(login):
        client = connect(login)
        try:
            log_in(client, login)
            return Session(client, login)
        except BaseException:
            with suppress(OSError, imaplib.IMAP4.error):
                client.shutdown()
            raise
