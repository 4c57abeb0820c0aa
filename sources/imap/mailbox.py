"""Mailboxes of a section: who they are, and connections to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from backupd.config import AccountFilter, ImapMailbox
from backupd.imap.connect import Login
from backupd.meters import meter_of
from backupd.model import Account, AccountKind, Service
from sources.imap.lanes import Lane, Lanes

if TYPE_CHECKING:
    from backupd.config import Imap
    from sources.graph.signin import Prompt
    from sources.imap.tokens import Tokens

Held = Callable[[str], Iterable[Account]]
"""The accounts that are held of another source, by its name."""


class Mailboxes:
    """The accounts of a section, and lanes to them. Thread-safe."""

    def __init__(self, section: Imap, prompt: Prompt | None, held: Held) -> None:
        self._section, self._held = section, held
        self._lanes = Lanes()
        self._modest: set[str] = set()
        self._tokens: Tokens | None = None
        if section.auth == "xoauth2":
            from sources.imap.tokens import Tokens  # noqa: PLC0415 - only who uses it pays for it

            self._tokens = Tokens(section, prompt)

    def accounts(self) -> Iterator[Account]:
        """Those that the configuration selects."""
        wanted = AccountFilter(self._section.accounts)
        for username, address, name, kind in self._everyone():
            if wanted.takes(address, username):
                mail = frozenset({Service.MAIL})
                yield Account(username, address, name, kind, self._section.name, mail)

    def _everyone(self) -> Iterator[tuple[str, str, str, AccountKind]]:
        """User name, address, name and kind of each mailbox, as written down or as held of another source."""
        for each in self._section.everyone:
            address = (each.address or each.username).lower()
            yield each.username, address, each.username, AccountKind.USER
        for account in self._held(self._section.like) if self._section.like else ():
            if account.kind is not AccountKind.SITE:
                yield account.address, account.address, account.name, account.kind

    @contextmanager
    def lane(self, account: Account) -> Iterator[Lane]:
        """A connection to a mailbox for this block."""
        with self._lanes.borrowed(account.id, lambda: self._made(account)) as lane:
            yield lane

    @contextmanager
    def lanes(self, account: Account) -> Iterator[list[Lane]]:
        """As many as the configuration and the server allow."""
        wanted = 1 if account.id in self._modest else self._section.connections
        with ExitStack() as stack:
            yield [stack.enter_context(self.lane(account)) for _ in range(wanted)]

    def only_one(self, account: Account) -> None:
        """The server takes no second connection to this mailbox: do not knock again."""
        self._modest.add(account.id)

    def close(self) -> None:
        """End what is open."""
        self._lanes.close()

    def _made(self, account: Account) -> Lane:
        section, tokens = self._section, self._tokens
        written = (each for each in section.everyone if each.username == account.id)
        mailbox = next(written, None) or ImapMailbox(username=account.id)
        used = [""]

        def secret() -> str:
            if tokens is None:
                return section.password(mailbox)
            used[0] = tokens.token()
            return used[0]

        def renew() -> bool:
            return tokens is not None and bool(used[0]) and tokens.token(used[0]) != used[0]

        return Lane(_login(section, mailbox, secret), renew, meter_of(section.name))


def _login(section: Imap, mailbox: ImapMailbox, secret: object) -> Login:
    port = section.port or (993 if section.security == "tls" else 143)
    return Login(
        f"[sources.{section.name}]", section.host, port, mailbox.username, secret,  # type: ignore[arg-type]
        section.security, section.auth, section.ca_file, section.fingerprint,
    )  # fmt: skip
