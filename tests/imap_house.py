"""A configured backupd beside an IMAP server, and the server's own truth to compare with."""

from __future__ import annotations

import imaplib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from household import PASSWORD, folder_names, indexed, sha
from imapclient import imap_utf7
from servers.cyrus import Cyrus
from servers.dovecot import Dovecot

from backupd.app import App, Run
from backupd.config import Imap, load
from backupd.home import Home
from sources.imap.source import ImapSource

Server = Dovecot | Cyrus

CONFIG = """\
state_dir = "{folder}/state"
[guard]
items = {guard}
[sources.legacy]
type = "imap"
host = "127.0.0.1"
port = {port}
security = "plain"
{who}
[storage.primary]
repository = "{folder}/vaults"
password_file = "{folder}/password"
"""


@dataclass
class House:
    """The files of one test. `port` may be that of something between us and the server."""

    folder: Path
    server: Server
    port: int = 0
    user: str = "u1"
    who: str = ""
    guard: int = 50

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "password").write_text(PASSWORD)
        (self.folder / "imap").write_text(self.server.password)
        one = f'username = "{self.user}"\npassword_file = "{self.folder}/imap"'
        text = CONFIG.format(
            folder=self.folder, port=self.port or self.server.imap, who=self.who or one, guard=self.guard
        )  # fmt: skip
        self.config.write_text(text)

    @property
    def config(self) -> Path:
        return self.folder / "config.toml"

    @property
    def app(self) -> App:
        return App(load(self.config))

    def sync(self, **how: Any) -> Run:
        return self.app.sync(**how)

    def backup(self) -> Run:
        return self.app.backup()

    def home(self) -> Home:
        return self.app.home(self.user)

    def start(self) -> subprocess.Popen[bytes]:
        """A backup in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-m", "backupd", "--config", str(self.config), "sync"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def restored(self, target: Path) -> Path:
        """What stock restic and the password give back, without anything of ours."""
        vault = next((self.folder / "vaults").glob(f"*/{self.user}*"))
        subprocess.run(
            ["restic", "-r", str(vault), "restore", "latest", "--target", str(target)],
            check=True, capture_output=True, env={**os.environ, "RESTIC_PASSWORD": PASSWORD},
        )  # fmt: skip
        return target

    def mirrored(self) -> Counter[tuple[str, str]]:
        """What the mirror holds, described as a snapshot would."""
        with self.app.held(self.home(), from_mirror=True):
            return kept(self.home().mirror_path)


def kept(tree: Path) -> Counter[tuple[str, str]]:
    """(folder path, SHA-256 of the file) of every message in a tree."""
    names = folder_names(tree, "mail")
    found: Counter[tuple[str, str]] = Counter()
    for path, line in indexed(tree, "mail"):
        digest = sha(path.read_bytes())
        assert digest == line["sha256"]
        found[names[path.parent.parent.relative_to(tree).as_posix()], digest] += 1
    return found


@contextmanager
def client(server: Server, user: str = "u1") -> Iterator[imaplib.IMAP4]:
    connection = imaplib.IMAP4(server.host, server.imap)
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.login(user, server.password)
    try:
        yield connection
    finally:
        with suppress(OSError, imaplib.IMAP4.error):
            connection.logout()
        with suppress(OSError):
            connection.shutdown()


def quoted(name: str) -> str:
    raw = imap_utf7.encode(name).decode()
    return '"' + raw.replace("\\", "\\\\").replace('"', '\\"') + '"'


def fill(server: Server, folder: str, bodies: Sequence[bytes], user: str = "u1", flags: str = "") -> int:  # fmt: skip
    """Put mail into a folder; what the server refuses is left out. Returns how many it took."""
    with client(server, user) as connection:
        if folder != "INBOX":
            connection.create(quoted(folder))
        if together(connection, quoted(folder), bodies, flags):
            return len(bodies)
        return sum(connection.append(quoted(folder), flags or None, None, body)[0] == "OK" for body in bodies)  # type: ignore[arg-type]  # fmt: skip


def together(connection: imaplib.IMAP4, folder: str, bodies: Sequence[bytes], flags: str) -> bool:
    """All of it in one command (MULTIAPPEND), which the server takes as a whole or not at all."""
    crlf = [re.sub(rb"\r\n|\r|\n", b"\r\n", body) for body in bodies]
    marks = f" {flags}".encode() if flags else b""
    tag = connection._new_tag()  # type: ignore[attr-defined]
    connection.send(tag + b" APPEND " + folder.encode())
    for body in crlf:
        connection.send(b"%s {%d+}\r\n%s" % (marks, len(body), body))
    connection.send(b"\r\n")
    while not (line := connection.readline()).startswith(tag):
        assert line, "the connection ended"
    return b" OK" in line


_CLOSED = re.compile(rb"noselect|nonexistent", re.IGNORECASE)
_LISTED = re.compile(rb'\((?P<attributes>[^)]*)\) "(?P<delimiter>.)" (?P<name>.*)')


def folders(connection: imaplib.IMAP4) -> list[str]:
    """The raw names of all folders that can be opened, quoted."""
    _, lines = connection.list()
    found = []
    for line in lines:
        if isinstance(line, tuple):
            found.append('"' + line[1].decode().replace("\\", "\\\\").replace('"', '\\"') + '"')
        elif line and (match := _LISTED.match(line)) and not _CLOSED.search(match["attributes"]):
            name = match["name"].decode()
            found.append(name if name.startswith('"') else f'"{name}"')
    return found


def truth(server: Server, user: str = "u1") -> Counter[tuple[str, str]]:
    """(folder path, SHA-256 of what the server delivers) of every message, by another client."""
    found: Counter[tuple[str, str]] = Counter()
    with client(server, user) as connection:
        for name in folders(connection):
            answer, [count] = connection.select(name, readonly=True)
            if b"doesn't exist" in (count or b""):
                continue  # Dovecot may list what is only the name of others
            assert answer == "OK", (name, count)
            plain = name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
            _, parts = connection.fetch("1:*", "(BODY.PEEK[])") if count != b"0" else ("", [])
            for part in parts:
                if isinstance(part, tuple):
                    found[imap_utf7.decode(plain.encode()), sha(part[1])] += 1
    return found


def letter(number: int, text: str = "", *, size: int = 0) -> bytes:
    return (
        f"From: a@example.org\r\nTo: b@example.org\r\nDate: Thu, 4 Mar 2021 05:06:07 +0000\r\n"
        f"Message-ID: <{number}@example.org>\r\nSubject: letter {number}\r\n\r\n{text}\r\n"
    ).encode() + (b"0123456789" * 7 + b"\r\n") * (size // 72)


@dataclass
class Watching:
    """A port in front of a server that counts what is asked, and can break what is answered.

    Attributes:
        asked: every line that clients sent.
        cut_after: bytes of answers after which a connection is cut; None lets everything pass.
        cuts: how often it was cut; `most` ends that.
    """

    server: int
    port: int = 0
    asked: list[bytes] = field(default_factory=list)
    cut_after: int | None = None
    cuts: int = 0
    most: int = 1_000_000
    edit: Any = None
    sockets: list[socket.socket] = field(default_factory=list)

    @property
    def bodies(self) -> int:
        """Requests for whole messages."""
        return sum(b"BODY.PEEK[]" in line for line in self.asked)

    def _accept(self, listening: socket.socket) -> None:
        with suppress(OSError):
            while True:
                near, _ = listening.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.server))
                except OSError:
                    near.close()
                    continue
                self.sockets += [near, far]
                threading.Thread(target=self._up, args=(near, far), daemon=True).start()
                threading.Thread(target=self._down, args=(far, near), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := near.recv(65536):
                self.asked += data.splitlines()
                far.sendall(data)
        self._end(near, far)

    def _down(self, far: socket.socket, near: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := far.recv(65536):
                passed += len(data)
                if self.cut_after is not None and passed > self.cut_after and self.cuts < self.most:
                    near.sendall(data[: len(data) // 2])
                    self.cuts += 1
                    break
                near.sendall(self.edit(data) if self.edit else data)
        self._end(near, far)

    def _end(self, *ends: socket.socket) -> None:
        for each in ends:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


@contextmanager
def watching(server: int, **how: Any) -> Iterator[Watching]:
    """Such a port while the block lasts."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Watching(server, listening.getsockname()[1], **how)
        thread = threading.Thread(target=made._accept, args=(listening,), daemon=True)
        thread.start()
        try:
            yield made
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for each in made.sockets:
                each.close()


def section(folder: Path, server: Server, **over: Any) -> Imap:
    """A `[sources.legacy]` for a server; `over` replaces values."""
    secret = folder / "secret"
    secret.write_text(server.password)
    values = {
        "name": "legacy", "type": "imap", "host": server.host, "port": server.imaps, "username": "u1",
        "password_file": secret, "ca_file": server.cert,
    }  # fmt: skip
    return Imap.model_validate(values | over)


@contextmanager
def source(folder: Path, server: Server, **over: Any) -> Iterator[ImapSource]:
    """A source connected to a server, closed at the end."""
    made = ImapSource(section(folder, server, **over))
    try:
        yield made
    finally:
        made.close()


OURS = {"file", "key", "id", "sha256", "size", "source", "note"}


def index_lines(tree: Path) -> list[dict[str, Any]]:
    """The index, with the shared words under `about`."""
    lines = [line for _, line in indexed(tree, "mail")]
    return [{**line, "about": {word: line[word] for word in line.keys() - OURS}} for line in lines]


def collections_of(tree: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads((tree / "account.json").read_text())["collections"]
    return told
