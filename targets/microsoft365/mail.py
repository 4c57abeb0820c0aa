"""Mail into Exchange Online: IMAP with an application's token, which keeps bytes, flags and dates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

from backupd.errors import AuthError
from backupd.ports import Finding
from targets.endpoint import Endpoint
from targets.imap import Imap
from targets.microsoft365.access import Access, application

OUTLOOK = "https://outlook.office365.com"
_GRANTS = (
    "Mail goes in by IMAP. In Entra give the application the permission IMAP.AccessAsApp (Office 365 Exchange "
    "Online) with admin consent; in Exchange Online PowerShell run New-ServicePrincipal -AppId CLIENT_ID "
    "-ObjectId OBJECT_ID_OF_THE_ENTERPRISE_APPLICATION, then Add-MailboxPermission -Identity {account} -User "
    "THAT_OBJECT_ID -AccessRights FullAccess. Graph would make drafts of all messages."
)


class Mail(Imap):
    """The mailbox of an account; see `targets.imap.Imap`.

    A session outlives its token; a new session gets a new token.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        access = Access(application(endpoint), _resource(endpoint))
        super().__init__(replace(endpoint, auth="xoauth2", secret=access.token))

    def preflight(self) -> Iterator[Finding]:
        """As for any IMAP server; a refused login tells what has to be granted."""
        try:
            yield from super().preflight()
        except AuthError as error:
            account = self._endpoint.username
            raise AuthError(
                str(error), hint=error.hint if "Entra" in str(error) else _GRANTS.format(account=account),
                reason=error.reason,
            ) from error  # fmt: skip

    def steps(self) -> Sequence[str]:
        """What Exchange wants beside the consent."""
        return (_GRANTS.format(account=self._endpoint.username),)


def _resource(endpoint: Endpoint) -> str:
    """National clouds have a host of their own, for which the token must be."""
    host = endpoint.host
    return f"https://{host}" if urlsplit(f"//{host}").hostname in _CLOUDS else OUTLOOK


_CLOUDS = frozenset({
    "outlook.office365.com", "outlook.office365.us", "outlook-dod.office365.us", "partner.outlook.cn",
})  # fmt: skip
