"""What a server holds of items: many at a time, told by meaning."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from backupd.errors import ItemRefused, UserError
from backupd.ports import Claim, Proof
from targets.dav import meaning
from targets.dav.http import Http
from targets.dav.xml import DAV, asked, element, written

UNREADABLE = "?"
"""The meaning of what cannot be read: equal to no other."""


def fetched(http: Http, report: str, data: str, urls: Sequence[str]) -> dict[str, bytes]:
    """Many resources of one collection by path, as far as the server hands them out in one answer.

    Args:
        report: the name of the REPORT, `calendar-multiget` say.
        data: the property that holds a resource in its answer.
        urls: where they are; empty ones are skipped.
    """
    paths = [urlsplit(each).path for each in urls if each]
    folder = http.resolve(str(http.base), f"{paths[0].rpartition('/')[0]}/") if paths else None
    if folder is None:
        return {}
    hrefs = [element(f"{DAV}href", each) for each in paths]
    try:
        entries = http.report(folder, written(element(report, asked([data]), *hrefs)))
    except (UserError, ItemRefused) as error:
        if error.reason not in {"no-dav", "too-large"}:
            raise
        entries = []
    return {path_of(x.href): x.props[data].encode() for x in entries if x.props.get(data)}


def proof(claim: Claim, held: str) -> Proof:
    """What the meaning that was found (`held`, "" for nothing) says of a claim."""
    if not held:
        return Proof(claim, "missing")
    if not claim.put.digest or not claim.deep:
        return Proof(claim, "same")
    if held == UNREADABLE:
        return Proof(claim, "changed", "the item cannot be read")
    told = meaning.differences(held, claim.put.digest)
    if meaning.same(held, claim.put.digest):
        return Proof(claim, "same", f"not kept as it was: {told}" if told else "")
    return Proof(claim, "changed", told)


def path_of(url: str) -> str:
    """The path of an address, unquoted: servers quote in their own ways."""
    return unquote(urlsplit(url).path)
