"""What `doctor` asks of an IMAP server: a login to each mailbox, and what the server can do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from backupd.errors import BackupdError
from backupd.imap import lister
from backupd.imap.session import Session
from backupd.model import Account, Collection
from backupd.ports import Finding
from sources.imap.folders import list_folders

if TYPE_CHECKING:
    from backupd.config import Imap
    from sources.imap.mailbox import Mailboxes

NAMES = {
    lister.EMAILID: "messages have lasting names (OBJECTID)",
    lister.GUID: "messages have lasting names (X-GUID)",
    lister.GMAIL: "messages have lasting names (X-GM-MSGID)",
    lister.HEADER: "messages are recognised by date, size and header",
}


def checks(section: Imap, mailboxes: Mailboxes) -> Iterator[Finding]:
    """One or more findings for each mailbox; one that is refused does not keep the others from being tried."""
    found = 0
    for account in mailboxes.accounts():
        found += 1
        try:
            yield from _mailbox(mailboxes, account)
        except BackupdError as error:
            hint = error.hint
            if section.auth == "xoauth2" and error.reason == "credential":
                hint = EXCHANGE
            yield Finding("error", account.address, str(error), hint)
    if not found:
        hint = (
            f"Those of [sources.{section.like}] count once they are held: run `backupd sync` with it first."
            if section.like
            else "Check `accounts`."
        )
        yield Finding("error", "accounts", "no mailbox is selected", hint)
    if section.security == "plain":
        yield Finding("warning", "security", "nothing is encrypted on the way", "Fine on loopback.")


EXCHANGE = (
    "Exchange says the same of all these: the application lacks IMAP.AccessAsApp or its consent; it has no access to "
    "this mailbox (New-ServicePrincipal with the object id of the enterprise application, then Add-MailboxPermission); "
    "IMAP is switched off for it (Set-CASMailbox); the account is disabled or has no licence any more."
)


def _mailbox(mailboxes: Mailboxes, account: Account) -> Iterator[Finding]:
    with mailboxes.lane(account) as lane:
        folders = lane.ask(list_folders)
        session = lane.session()
        taken = [each for each in folders.listed if isinstance(each, Collection)]
        count = sum(each.count or 0 for each in taken)
        yield Finding("ok", account.address, f"{len(taken)} folders with {count} messages")
        yield Finding("ok", f"{account.address}: server", _abilities(session))
        if folders.doubtful:
            yield Finding(
                "warning", account.address, "some folders cannot be opened",
                "Open them in a mail program; the server may say more there.",
            )  # fmt: skip


def _abilities(session: Session) -> str:
    if session.can("QRESYNC"):
        changes = "changes are told"
    elif session.can("CONDSTORE"):
        changes = "changed flags are told, deletions are compared"
    else:
        changes = "changes are found by comparing"
    name = session.software or "a server that does not say its name"
    return f"{name}: {changes}; {NAMES[lister.naming(session)]}"
