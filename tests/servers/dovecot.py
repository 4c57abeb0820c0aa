"""Dovecot 2.3 on loopback, run by an ordinary user: IMAP, IMAPS, quota, size limits and XOAUTH2."""

from __future__ import annotations

import base64
import grp
import pwd
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jwt
from servers.process import certificate, folder, free_port, give, need, ordinary_user, running

PASSWORD = "pw"
ISSUER = "https://login.test/tenant/v2.0"
SIGNING = b"secret-secret-secret-secret-1234"
SPECIAL = ("Drafts", "Junk", "Trash", "Sent", "Archive")


@dataclass(frozen=True)
class Dovecot:
    """A running server. Any user name logs in with the password; its mailbox is made at once.

    Attributes:
        imap: port with STARTTLS, plain allowed.
        imaps: port with TLS from the first byte.
        cert: the self-signed certificate (localhost, 127.0.0.1), which is its own authority.
    """

    folder: Path
    imap: int
    imaps: int
    cert: Path
    host: str = "127.0.0.1"
    password: str = PASSWORD
    _life: ExitStack = field(default_factory=ExitStack, repr=False)

    def start(self) -> None:
        """Start it; what was stored is there again."""
        config = self.folder / "dovecot.conf"
        command = ["dovecot", "-F", "-c", config]
        self._life.enter_context(running(command, self.imap, log=self.folder / "log" / "out"))

    def stop(self) -> None:
        """End it with every session; the ports stay reserved for `start`."""
        self._life.close()

    def restart(self) -> None:
        """What a client sees as a dropped connection."""
        self.stop()
        self.start()

    def maildir(self, user: str) -> Path:
        """Where a user's INBOX lies; other folders are `.Name` below it."""
        return self.folder / "mail" / user / "Mail"

    def token(self, user: str, *, lifetime: int = 3600) -> str:
        """An access token that XOAUTH2 accepts; a negative lifetime is an expired one."""
        now = int(time.time())
        claims = {"upn": user, "sub": user, "iss": ISSUER, "iat": now - 9, "exp": now + lifetime}
        return jwt.encode(claims, SIGNING, "HS256")


@contextmanager
def dovecot(  # noqa: PLR0913 - the ways of a server that clients meet
    *,
    quota: str = "100G",
    max_mail: str = "35M",
    layout: str = "maildir",
    capability: str = "",
    special: bool = True,
    prefix: str = "",
    introspection: str = "",
) -> Iterator[Dovecot]:
    """A server that runs until the block ends.

    Args:
        quota: what a user may store (`1M`).
        max_mail: the largest message (`200k`).
        layout: how mail is stored: `maildir`, `sdbox` or `mdbox`.
        capability: all that it announces, to play a poor server; empty: what it can.
        special: whether there are special folders from the beginning.
        prefix: where people's folders lie: `INBOX.` as Courier has it; then `.` is the delimiter.
        introspection: the address that says whose a token is (RFC 7662), instead of its signature.
    """
    need("dovecot", "/usr/lib/dovecot/imap", "openssl")
    with folder() as home, ExitStack() as life:
        for each in ("run", "state", "mail", "log", "keys/default/HS256"):
            (home / each).mkdir(parents=True)
        cert, _ = certificate(home)
        server = Dovecot(home, free_port(), free_port(), cert, _life=life)
        text = CONFIG % {
            "home": home, "user": ordinary_user(), "group": _group(), "layout": layout, "quota": quota,
            "max_mail": max_mail, "imap": server.imap, "imaps": server.imaps,
            "mailboxes": "".join(_mailbox(name) for name in SPECIAL if special),
            "namespace": f"separator = .\n  prefix = {prefix}" if prefix else "separator = /",
            "capability": f"imap_capability = {capability}" if capability else "",
        }  # fmt: skip
        (home / "dovecot.conf").write_text(text)
        tokens = TOKENS % {"home": home, "issuer": ISSUER}
        (home / "oauth.conf").write_text(ASKED % introspection if introspection else tokens)
        (home / "keys/default/HS256/default").write_bytes(base64.b64encode(SIGNING))
        give(home)
        server.start()
        yield server


def _group() -> str:
    return grp.getgrgid(pwd.getpwnam(ordinary_user()).pw_gid).gr_name


def _mailbox(name: str) -> str:
    return f"  mailbox {name} {{\n    special_use = \\{name}\n    auto = subscribe\n  }}\n"


CONFIG = r"""
base_dir = %(home)s/run
state_dir = %(home)s/state
log_path = %(home)s/log/dovecot.log
protocols = imap
listen = 127.0.0.1
default_login_user = %(user)s
default_internal_user = %(user)s
default_internal_group = %(group)s
first_valid_uid = 1
first_valid_gid = 1
mail_uid = %(user)s
mail_gid = %(group)s
mail_location = %(layout)s:%(home)s/mail/%%u/Mail
mail_fsync = never
mail_max_userip_connections = 50
disable_plaintext_auth = no
auth_mechanisms = plain login xoauth2 oauthbearer
auth_failure_delay = 0 secs
ssl = yes
ssl_cert = <%(home)s/cert.pem
ssl_key = <%(home)s/key.pem
mail_plugins = quota
protocol imap {
  mail_plugins = quota imap_quota
  %(capability)s
}
passdb {
  driver = static
  mechanisms = plain login
  args = password=pw
}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = %(home)s/oauth.conf
}
userdb {
  driver = static
  args = uid=%(user)s gid=%(group)s home=%(home)s/mail/%%u
}
plugin {
  quota = count:User quota
  quota_rule = *:storage=%(quota)s
  quota_grace = 0
  quota_vsizes = yes
  quota_max_mail_size = %(max_mail)s
}
namespace inbox {
  inbox = yes
  %(namespace)s
%(mailboxes)s
}
service anvil {
  chroot =
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
service stats {
  chroot =
}
service imap-login {
  chroot =
  inet_listener imap {
    port = %(imap)s
  }
  inet_listener imaps {
    port = %(imaps)s
    ssl = yes
  }
}
service imap {
  process_limit = 64
}
"""

TOKENS = """
introspection_mode = local
local_validation_key_dict = fs:posix:prefix=%(home)s/keys/
username_attribute = upn
issuers = %(issuer)s
"""

ASKED = """
introspection_mode = post
introspection_url = %s
username_attribute = upn
active_attribute = active
active_value = true
"""
