"""Cyrus IMAP 3.6 on loopback, run by an ordinary user: IMAP, IMAPS, CalDAV and CardDAV."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from servers.process import (
    certificate,
    folder,
    free_port,
    give,
    identity,
    need,
    ordinary_user,
    running,
)

PASSWORD = "pw"
USERS = ("u1", "u2", "u3", "admin")
BIN = Path("/usr/lib/cyrus/bin")
FOLDERS = ("conf/db", "conf/socket", "conf/proc", "conf/log", "conf/msg", "conf/ptclient", "spool", "sieve", "run", "lock")  # fmt: skip


@dataclass(frozen=True)
class Cyrus:
    """A running server.

    Attributes:
        imap: port with STARTTLS, plain allowed.
        imaps: port with TLS from the first byte.
        http: port of CalDAV and CardDAV, without TLS.
        cert: the self-signed certificate (localhost, 127.0.0.1), which is its own authority.
        users: who can log in, all with `password`; the last one is the administrator.
    """

    folder: Path
    imap: int
    imaps: int
    http: int
    cert: Path
    host: str = "127.0.0.1"
    users: tuple[str, ...] = USERS
    password: str = PASSWORD
    _life: ExitStack = field(default_factory=ExitStack, repr=False)

    @property
    def url(self) -> str:
        """The root of its HTTP services."""
        return f"http://{self.host}:{self.http}"

    def calendars(self, user: str) -> str:
        """The calendar home of a user."""
        return f"{self.url}/dav/calendars/user/{user}/"

    def books(self, user: str) -> str:
        """The address book home of a user."""
        return f"{self.url}/dav/addressbooks/user/{user}/"

    def start(self) -> None:
        """Start it; what was stored is there again."""
        home = self.folder
        command = [BIN / "master", "-C", home / "imapd.conf", "-M", home / "cyrus.conf", "-p", home / "run/master.pid", "-L", home / "run/master.log"]  # fmt: skip
        self._life.enter_context(running(command, self.imap, log=home / "run" / "out"))

    def stop(self) -> None:
        """End it with every session; the ports stay reserved for `start`."""
        self._life.close()

    def restart(self) -> None:
        """What a client sees as a dropped connection."""
        self.stop()
        self.start()


@contextmanager
def cyrus(
    *, quota: int = 1048576, max_mail: int = 36700160, scheduling: bool = True
) -> Iterator[Cyrus]:
    """A server that runs until the block ends; mailboxes are made at the first login.

    Args:
        quota: KiB that a user may store.
        max_mail: bytes of the largest message.
        scheduling: whether CalDAV sends invitations (to its own users; nothing leaves the machine).
    """
    need(str(BIN / "master"), "saslpasswd2", "openssl")
    with _in_memory() as home, ExitStack() as life:
        for each in FOLDERS:
            (home / each).mkdir(parents=True)
        cert, _ = certificate(home)
        server = Cyrus(home, free_port(), free_port(), free_port(), cert, _life=life)
        values = {
            "home": home, "user": ordinary_user(), "quota": quota, "max_mail": max_mail, "bin": BIN,
            "scheduling": "on" if scheduling else "off",
            "imap": server.imap, "imaps": server.imaps, "http": server.http,
        }  # fmt: skip
        (home / "imapd.conf").write_text(CONFIG % values)
        (home / "cyrus.conf").write_text(SERVICES % values)
        give(home)
        for user in USERS:
            subprocess.run(
                ["saslpasswd2", "-p", "-c", "-f", str(home / "sasldb2"), "-u", "localhost", user],
                input=PASSWORD.encode(), check=True, capture_output=True, cwd="/",
                **identity(),  # type: ignore[call-overload]
            )  # fmt: skip
        server.start()
        yield server


@contextmanager
def _in_memory() -> Iterator[Path]:
    """A folder whose fsync costs nothing, for Cyrus syncs with every message; else an ordinary one."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
    if not os.access(memory, os.W_OK):
        with folder() as home:
            yield home
        return
    home = Path(tempfile.mkdtemp(prefix="bs-", dir=memory))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


CONFIG = r"""
cyrus_user: %(user)s
configdirectory: %(home)s/conf
defaultpartition: default
partition-default: %(home)s/spool
proc_path: %(home)s/conf/proc
mboxname_lockpath: %(home)s/lock
sievedir: %(home)s/sieve
admins: admin
servername: localhost
defaultdomain: localhost
virtdomains: userid
altnamespace: yes
unixhierarchysep: yes
allowplaintext: yes
autocreate_quota: %(quota)s
autocreate_post: yes
autocreate_inbox_folders: Drafts|Sent|Junk|Trash|Archive
autocreate_subscribe_folders: Drafts|Sent|Junk|Trash|Archive
xlist-drafts: Drafts
xlist-sent: Sent
xlist-junk: Junk
xlist-trash: Trash
xlist-archive: Archive
maxmessagesize: %(max_mail)s
conversations: yes
conversations_db: twoskip
sync_log: no
delete_mode: immediate
expunge_mode: delayed
httpmodules: caldav carddav
httpallowcompress: no
caldav_allowscheduling: %(scheduling)s
caldav_realm: cyrus
search_engine: none
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: %(home)s/sasldb2
sasl_mech_list: PLAIN LOGIN
tls_server_cert: %(home)s/cert.pem
tls_server_key: %(home)s/key.pem
tls_client_certs: off
tls_session_timeout: 0
skiplist_unsafe: yes
statuscache: on
failedloginpause: 0s
"""

SERVICES = """
START {
  recover cmd="%(bin)s/ctl_cyrusdb -C %(home)s/imapd.conf -r"
}
SERVICES {
  imap  cmd="imapd -C %(home)s/imapd.conf -U 250" listen="127.0.0.1:%(imap)s" prefork=1 proto=tcp4
  imaps cmd="imapd -C %(home)s/imapd.conf -s -U 250" listen="127.0.0.1:%(imaps)s" prefork=0 proto=tcp4
  http  cmd="httpd -C %(home)s/imapd.conf -U 250" listen="127.0.0.1:%(http)s" prefork=1 proto=tcp4
}
EVENTS {
  checkpoint cmd="%(bin)s/ctl_cyrusdb -C %(home)s/imapd.conf -c" period=30
}
"""
