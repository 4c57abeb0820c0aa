"""A double of Proton Mail Bridge's IMAP: no account can be had for tests, so it is scripted.

It uses none of the code that it tries. What it stores can be looked at: `box("Folders/Work")`.
"""

from __future__ import annotations

import re
import socket
import socketserver
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from imapclient import imap_utf7
from servers.bridge_account import KEPT, Box, Bridge, Refused, Stored
from servers.process import certificate, folder

__all__ = ["Bridge", "Stored", "bridge"]

CAPABILITIES = b"IMAP4rev1 IDLE UNSELECT UIDPLUS MOVE ID STARTTLS"


class _Session(socketserver.StreamRequestHandler):
    """One connection."""

    bridge: Bridge
    context: ssl.SSLContext
    wbufsize = 1 << 16
    disable_nagle_algorithm = True

    def handle(self) -> None:
        self.logged_in, self.selected, self.faults = False, None, 0
        self.secure = False
        self.bridge.open += 1
        self.bridge.most_open = max(self.bridge.most_open, self.bridge.open)
        with suppress(OSError, ValueError):
            self.say(b"* OK [CAPABILITY " + CAPABILITIES + b"] Proton Mail Bridge double")
            while self.command():
                pass
        self.bridge.open -= 1

    def finish(self) -> None:
        with suppress(OSError):
            super().finish()
        self.request.close()

    def say(self, line: bytes) -> None:
        self.wfile.write(line + b"\r\n")
        if not line.startswith(b"* ") or not self.logged_in:
            self.wfile.flush()

    def command(self) -> bool:
        """One command; whether the session goes on."""
        parts: list[bytes] = []
        while True:
            line = self.rfile.readline(1 << 20)
            if not line.endswith(b"\n"):
                return False
            parts.append(line.rstrip(b"\r\n"))
            literal = re.search(rb"\{(\d+)(\+?)\}$", parts[-1])
            if not literal:
                break
            if literal[2]:
                self.say(parts[0].split()[0] + b" BAD LITERAL+ is not known")
                return False
            self.say(b"+ Ready")
            parts[-1] = parts[-1][: literal.start()]
            parts.append(self.rfile.read(int(literal[1])))
        tag, _, rest = parts[0].partition(b" ")
        return self.answer(tag, [rest, *parts[1:]])

    def answer(self, tag: bytes, parts: list[bytes]) -> bool:
        word, _, rest = parts[0].partition(b" ")
        word = word.upper()
        if word == b"UID":
            word, _, rest = rest.partition(b" ")
            word = b"UID" + word.upper()
        try:
            with self.bridge.lock:
                words = self.known(word)([rest, *parts[1:]]) or b"done"
        except Refused as refused:
            self.faults += 1
            self.say(tag + b" " + refused.status + b" " + refused.words.encode())
            return self.faults < 20
        self.faults = 0
        self.say(tag + b" OK " + words)
        if word == b"STARTTLS":
            self.encrypt()
        return word != b"LOGOUT"

    def known(self, word: bytes) -> Callable[[list[bytes]], bytes | None]:
        method = getattr(self, f"do_{word.decode('ascii', 'replace').lower()}", None)
        if method is None or not (self.logged_in or word in _BEFORE_LOGIN):
            raise Refused(b"BAD", "unknown command, or too early")
        return method

    def encrypt(self) -> None:
        self.request = self.context.wrap_socket(self.request, server_side=True)
        self.setup()
        self.secure = True

    def do_capability(self, _parts: list[bytes]) -> None:
        self.say(b"* CAPABILITY " + CAPABILITIES)

    def do_noop(self, _parts: list[bytes]) -> None:
        """Nothing."""

    do_starttls = do_subscribe = do_noop

    def do_id(self, _parts: list[bytes]) -> None:
        self.say(b'* ID ("name" "Proton Mail Bridge")')

    def do_logout(self, _parts: list[bytes]) -> None:
        self.say(b"* BYE")

    def do_login(self, parts: list[bytes]) -> None:
        user, password = _tokens(parts)
        if not self.secure or (user, password) != (
            self.bridge.user.encode(),
            self.bridge.password.encode(),
        ):
            raise Refused(b"NO", "no such user")
        self.bridge.logins += 1
        self.logged_in = True

    def do_list(self, parts: list[bytes]) -> None:
        _, pattern = map(_name, _tokens(parts))
        if not pattern:
            self.say(b'* LIST (\\Noselect) "/" ""')
        wanted = re.compile(re.escape(pattern).replace(r"\*", ".*").replace("%", "[^/]*"))
        for name, box in self.bridge.boxes.items():
            if wanted.fullmatch(name):
                self.say(b'* LIST (%s) "/" %s' % (box.attribute, _wire(name)))

    def do_status(self, parts: list[bytes]) -> None:
        name = _name(_tokens(parts)[0])
        box = self.existing(name)
        self.say(
            b"* STATUS %s (MESSAGES %d UIDNEXT %d UIDVALIDITY %d UNSEEN 0 RECENT 0)"
            % (_wire(name), len(box.held), box.next, box.validity)
        )

    def existing(self, name: str) -> Box:
        box = self.bridge.named(name)
        if box is None or box.attribute == b"\\Noselect":
            raise Refused(b"NO", "no such mailbox")
        return box

    def do_select(self, parts: list[bytes]) -> bytes:
        box = self.selected = self.existing(_name(_tokens(parts)[0]))
        flags = b" ".join((*KEPT, b"$Forwarded"))
        for line in (b"FLAGS (%s)" % flags, b"%d EXISTS" % len(box.held), b"0 RECENT"):
            self.say(b"* " + line)
        for code in (
            b"PERMANENTFLAGS (%s)" % flags,
            b"UIDNEXT %d" % box.next,
            b"UIDVALIDITY %d" % box.validity,
        ):
            self.say(b"* OK [" + code + b"]")
        return b"[READ-WRITE] SELECT"

    do_examine = do_select

    def do_unselect(self, _parts: list[bytes]) -> None:
        self.selected = None

    def do_create(self, parts: list[bytes]) -> None:
        self.bridge.create(_name(_tokens(parts)[0]))

    def do_append(self, parts: list[bytes]) -> bytes:
        self.bridge.appends += 1
        found = re.match(rb'("(?:[^"\\]|\\.)*"|\S+) *(?:\(([^)]*)\))? *(?:"[^"]*")? *$', parts[0])
        if not found or len(parts) != 3:
            raise Refused(b"BAD", "one message at a time")
        name = _name(_tokens([found[1]])[0])
        box, uid = self.bridge.append(name, (found[2] or b"").split(), parts[1])
        if self.bridge.fall_after is not None:
            self.bridge.fall_after -= 1
            if self.bridge.fall_after < 0:
                self.bridge.fall_after = None
                with suppress(OSError):
                    self.request.shutdown(socket.SHUT_RDWR)
        return b"[APPENDUID %d %d] APPEND" % (box.validity, uid)

    def chosen(self, text: bytes, *, uid: bool) -> list[tuple[int, int, Stored]]:
        """(sequence number, UID, message) of a set."""
        if self.selected is None:
            raise Refused(b"BAD", "no mailbox is selected")
        every = [(n, uid_, m) for n, (uid_, m) in enumerate(self.selected.held.items(), 1)]
        last = (every[-1][uid] if every else 0)  # fmt: skip
        found = set()
        for part in text.split(b","):
            ends = [last if each == b"*" else int(each) for each in part.split(b":")]
            found |= {each[:2] for each in every if min(ends) <= each[uid] <= max(ends)}
        return [each for each in every if each[:2] in found]

    def do_uidfetch(self, parts: list[bytes], *, uid: bool = True) -> None:
        wanted, _, items = parts[0].partition(b" ")
        for number, uid_, message in self.chosen(wanted, uid=uid):
            said = [b"UID %d" % uid_] if uid else []
            said += filter(None, (_fetched(item, message) for item in _ITEM.findall(items.upper())))
            self.say(b"* %d FETCH (%s)" % (number, b" ".join(said)))

    def do_fetch(self, parts: list[bytes]) -> None:
        self.do_uidfetch(parts, uid=False)

    def do_uidsearch(self, parts: list[bytes], *, uid: bool = True) -> None:
        words = _tokens(parts)
        found = self.chosen(b"1:*", uid=True)
        while words:
            word = words.pop(0).upper()
            if word == b"HEADER":
                name, value = words.pop(0), words.pop(0)
                found = [each for each in found if _has(each[2], name, value)]
            elif word == b"UID":
                chosen = {each[1] for each in self.chosen(words.pop(0), uid=True)}
                found = [each for each in found if each[1] in chosen]
            elif word not in {b"ALL", b"CHARSET", b"UTF-8", b"NOT", b"DELETED", b"UNDELETED"}:
                raise Refused(b"BAD", "search key is not known")
        self.say(b"* SEARCH" + b"".join(b" %d" % each[1 if uid else 0] for each in found))

    def do_search(self, parts: list[bytes]) -> None:
        self.do_uidsearch(parts, uid=False)

    def do_uidstore(self, parts: list[bytes]) -> None:
        found = re.match(
            rb"(\S+) ([+-]?)FLAGS(?:\.SILENT)? \(?([^)]*)\)?$", parts[0], re.IGNORECASE
        )
        if not found:
            raise Refused(b"BAD", "what to store?")
        flags = {each for each in found[3].split() if each in KEPT or each == b"$Forwarded"}
        for _, _, message in self.chosen(found[1], uid=True):
            old = message.flags
            message.flags = old | flags if found[2] == b"+" else old - flags if found[2] else flags

    def do_uidcopy(self, parts: list[bytes]) -> bytes:
        wanted, _, rest = parts[0].partition(b" ")
        box = self.existing(_name(_tokens([rest, *parts[1:]])[0]))
        pairs = [(uid, box.add(message)) for _, uid, message in self.chosen(wanted, uid=True)
                 if message not in box.held.values()]  # fmt: skip
        if not pairs:
            return b"COPY"
        ends = (b",".join(b"%d" % pair[at] for pair in pairs) for at in (0, 1))
        return b"[COPYUID %d %s %s] COPY" % (box.validity, *ends)

    def do_expunge(self, _parts: list[bytes]) -> None:
        raise Refused(b"NO", "a restore must not remove anything")

    do_delete = do_uidmove = do_uidexpunge = do_close = do_rename = do_expunge


_BEFORE_LOGIN = frozenset((b"CAPABILITY", b"NOOP", b"LOGIN", b"STARTTLS", b"LOGOUT", b"ID"))
_ITEM = re.compile(rb"BODY(?:\.PEEK)?\[[^\]]*\]|[A-Z0-9.]+")
_TOKEN = re.compile(rb'"((?:[^"\\]|\\.)*)"|([^\s"]+)')


def _fetched(item: bytes, message: Stored) -> bytes:
    if item == b"FLAGS":
        return b"FLAGS (" + b" ".join(sorted(message.flags)) + b")"
    if item == b"INTERNALDATE":
        moment = datetime.now(UTC)  # a draft may have no Date
        with suppress(ValueError, TypeError):
            moment = parsedate_to_datetime(message.date)
        return moment.strftime('INTERNALDATE "%d-%b-%Y %H:%M:%S +0000"').encode()
    if item == b"RFC822.SIZE":
        return b"RFC822.SIZE %d" % len(message.literal)
    if not item.startswith(b"BODY"):
        return b""
    data, wanted = message.literal, item.replace(b".PEEK", b"")
    head = data.partition(b"\r\n\r\n")[0] + b"\r\n"
    if found := re.search(rb"HEADER\.FIELDS \(([^)]*)\)", wanted):
        names = b"|".join(map(re.escape, found[1].split()))
        lines = re.findall(rb"(?ims)^(?:" + names + rb"):.*?\r\n(?![ \t])", head)
        data = b"".join(lines) + b"\r\n"
    elif b"HEADER" in wanted:
        data = head + b"\r\n"
    return wanted + b" {%d}\r\n" % len(data) + data


def _has(message: Stored, name: bytes, value: bytes) -> bool:
    head = re.sub(rb"\r\n(?=[ \t])", b"", message.literal.partition(b"\r\n\r\n")[0])
    fields = (line.partition(b":") for line in head.split(b"\r\n"))
    return any(
        key.lower() == name.lower() and value.lower() in said.lower() for key, _, said in fields
    )


def _tokens(parts: list[bytes]) -> list[bytes]:
    """Words, quoted strings and literals of a command without lists."""
    found: list[bytes] = []
    for at, part in enumerate(parts):
        if at % 2:
            found.append(part)
        else:
            found += [word or re.sub(rb"\\(.)", rb"\1", quoted)
                      for quoted, word in _TOKEN.findall(part)]  # fmt: skip
    return found


def _name(token: bytes) -> str:
    name: str = imap_utf7.decode(token)
    return name


def _wire(name: str) -> bytes:
    text = bytes(imap_utf7.encode(name)).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'"' + text + b'"'


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True


@contextmanager
def bridge(*, max_bytes: int = 50_000_000) -> Iterator[Bridge]:
    """A double on a free port, with a certificate of its own that must be pinned."""
    made = Bridge(max_bytes=max_bytes)
    with folder() as place:
        made.cert, key = certificate(place)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(made.cert, key)
        handler = type("Session", (_Session,), {"bridge": made, "context": context})
        with _Server(("127.0.0.1", 0), handler) as server:
            made.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield made
            finally:
                server.shutdown()
                thread.join()
