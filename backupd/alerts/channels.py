"""The channels of [alerts]: what they are called, and whether they live when Microsoft does not.

A channel's URL is a secret as a whole. What is shown of it is its place in the list and its kind.
"""

from __future__ import annotations

import importlib
import logging
import re
import threading
import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from backupd.ports import Finding

MICROSOFT_KINDS = frozenset(
    {"azure", "msteams", "o365", "office365", "office365s", "outlook", "teams", "windows", "workflow", "workflows"}
)  # fmt: skip
MICROSOFT_HOSTS = (
    "azure-api.net", "azure.com", "azurewebsites.net", "cloud.microsoft", "hotmail.com", "live.com",
    "microsoft.com", "msn.com", "mx.microsoft", "office.com", "office365.com", "onmicrosoft.com", "outlook.com",
    "passport.com", "powerautomate.com", "powerplatform.com", "skype.com", "windows.net",
)  # fmt: skip
MICROSOFT_NAMES = frozenset({"hotmail", "live", "outlook", "msn"})
"""Mail for people lies under these names in many countries: hotmail.fr, live.nl, outlook.de."""

MailHosts = Callable[[str], Collection[str]]
"""Who takes the mail of a domain, as far as that is known; nobody where it is not."""

_LOADING = threading.Lock()

for chatty in ("apprise", "requests", "urllib3"):
    logging.getLogger(chatty).setLevel(logging.CRITICAL + 1)  # their lines hold whole addresses


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to a person; `label` is all that may be shown of it."""

    label: str
    url: str = field(repr=False)


def channels(urls: Iterable[str]) -> list[Channel]:
    """The channels in their order, each called by its place and kind: `1 (ntfys)`."""
    return [Channel(f"{place} ({kind_of(url)})", url) for place, url in enumerate(urls, 1)]


def kind_of(url: str) -> str:
    """The scheme of a URL, or `unknown` for what is no URL."""
    scheme, mark, _ = url.strip().partition("://")
    return scheme.lower() if mark and scheme.isalnum() and len(scheme) <= 20 else "unknown"  # noqa: PLR2004


def library() -> Any:
    """Apprise. It loads a hundred modules, some of them old, when the first channel is asked for."""
    with _LOADING:
        return _load()


@cache
def _load() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        apprise = importlib.import_module("apprise")
        apprise.Apprise.instantiate("json://127.0.0.1")
    return apprise


def plugin_of(url: str) -> Any:
    """What Apprise makes of a URL; None when it cannot."""
    try:
        return library().Apprise.instantiate(url)
    except Exception:  # noqa: BLE001 - code of a hundred authors that is handed whatever was typed
        return None


def nobody(domain: str) -> Collection[str]:
    """The mail hosts of a domain, where nothing was looked up."""
    del domain
    return ()


def depends_on_microsoft(
    urls: Sequence[str], ours: Collection[str] = (), hosts: MailHosts = nobody
) -> list[Finding]:
    """What is wrong with the channels: none at all, unknown ones, mailboxes at Microsoft under another name.

    The last finding is about all of them: whether one is left on the day of a cut-off.

    Args:
        urls: of the channels.
        ours: the mail domains that the sources serve: on the day of the cut-off they receive nothing.
    """
    found = [
        Finding(
            "error", f"alerts: channel {each.label}", "is no address that Apprise understands",
            "See github.com/caronc/apprise for the kinds; `backupd alerts test` tries them.",
        )
        for each in channels(urls)
        if plugin_of(each.url) is None and not is_microsoft(each.url, ours)
    ]  # fmt: skip
    return [*found, *_disguised(urls, ours, hosts), _independence(urls, ours, hosts)]


def _disguised(urls: Sequence[str], ours: Collection[str], hosts: MailHosts) -> Iterable[Finding]:
    """Mail to a domain that does not look like Microsoft's, and is."""
    for each in channels(urls):
        for domain in mail_domains([each.url]):
            there = [host for host in hosts(domain) if is_microsoft_host(host)]
            if there and not is_microsoft_host(domain, ours):
                yield Finding(
                    "warning", f"alerts: channel {each.label}",
                    f"ends in a mailbox at Microsoft: the mail of {domain} goes to {there[0]}",
                    "On the day of a cut-off it may not arrive. Give another address, at another provider.",
                )  # fmt: skip


def mail_domains(urls: Iterable[str]) -> list[str]:
    """The domains of those whom the channels send mail to."""
    plugins = [plugin_of(url) for url in urls]
    targets = [each for plugin in plugins if _is_mail(plugin) for each in plugin.targets]
    return sorted({str(address).rpartition("@")[2].lower() for _, address in targets} - {""})


def _is_mail(plugin: Any) -> bool:
    return type(plugin).__name__ == "NotifyEmail"


def _independence(urls: Sequence[str], ours: Collection[str], hosts: MailHosts) -> Finding:
    if not urls:
        return Finding(
            "warning", "alerts", "nobody is told when an account is cut off",
            "Set urls in [alerts], with at least one channel that is not Microsoft's.",
        )  # fmt: skip
    dependent = [is_microsoft(url, ours, hosts) for url in urls]
    if all(dependent):
        return Finding(
            "warning", "alerts", "every channel depends on Microsoft: on the day of a cut-off none may reach you",
            "Add one elsewhere to urls in [alerts]: ntfy, Signal, Matrix, SMS, or mail to a mailbox at "
            "another provider, sent through another provider.",
        )  # fmt: skip
    free = len(urls) - sum(dependent)
    return Finding("ok", "alerts", f"{free} of {len(urls)} channels do without Microsoft")


def is_microsoft(url: str, ours: Collection[str] = (), hosts: MailHosts = nobody) -> bool:
    """Whether a channel is Microsoft's, or ends in a mailbox that would be cut off with the rest."""
    if kind_of(url) in MICROSOFT_KINDS:
        return True
    plugin = plugin_of(url)
    if plugin is None:
        return is_microsoft_host(_host_of(url))
    if _is_mail(plugin):
        return _mail_is_microsoft(plugin, ours, hosts)
    if type(plugin).__name__ in {"NotifyWorkflows", "NotifyMSTeams", "NotifyOffice365"}:
        return True
    return is_microsoft_host(str(getattr(plugin, "host", "") or ""))


def _host_of(url: str) -> str:
    """Who is asked, in a URL that nobody understands."""
    return url.partition("://")[2].partition("/")[0].rpartition("@")[2].partition(":")[0]


def _mail_is_microsoft(plugin: Any, ours: Collection[str], hosts: MailHosts) -> bool:
    """It is sent by Microsoft, or everybody it goes to reads it there."""
    if is_microsoft_host(str(plugin.smtp_host or ""), ours):
        return True
    domains = [str(address).rpartition("@")[2] for _, address in plugin.targets]
    return bool(domains) and all(
        is_microsoft_host(domain, ours) or any(map(is_microsoft_host, hosts(domain)))
        for domain in domains
    )


def is_microsoft_host(host: str, ours: Collection[str] = ()) -> bool:
    """Whether a host or a mail domain is Microsoft's, or one of ours."""
    host = host.lower().rstrip(".")
    if host in {each.lower() for each in ours}:
        return True
    if any(host == each or host.endswith(f".{each}") for each in MICROSOFT_HOSTS):
        return True
    name, _, country = host.partition(".")
    return name in MICROSOFT_NAMES and re.fullmatch(r"((co|com)\.)?[a-z]{2}", country) is not None
