"""The index lines beside the items, and `account.json`: what makes a snapshot complete by itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

from backupd.catalog import Catalog, Described, dumps, loads
from backupd.catalog.rows import FolderRow, id_of
from backupd.mirror import names
from backupd.mirror.files import Mirror
from backupd.mirror.tree import index_path
from backupd.model import Account, Service

FORMAT = 1
"""The version of the mirror's layout and of every JSON in it; raised only for a breaking change."""

README = """\
This is the whole account of {address}, as backupd last saw it.

Nothing but this folder is needed to read it:

  mail/        one .eml file (RFC 5322) a message, in its folder, by month of receipt
  calendar/    one .ics file (iCalendar) an event or series, in its calendar
  contacts/    one .vcf file (vCard 3.0) a contact, in its address book
  files/       the files under their own names and paths, one folder a drive

Beside them lie index.jsonl files, one JSON object a line: the file, its SHA-256 and size, the id
it had at the provider, and whatever the open format cannot carry (flags, categories, times).
For files they lie in files/.backupd/index/. account.json names every folder, what it holds and
what could not be taken.

A character that could harm a file system stands as %XX of its UTF-8 bytes in a name; the true
name is in account.json (folders) and in the index lines (files).

Any mail program imports .eml, any calendar .ics, any address book .vcf. `backupd restore` puts
all of it into another provider.
"""


OWN = frozenset({"key", "id", "file", "sha256", "size", "source", "note"})
"""Words of an index line that are not about the item itself."""

_quoted = json.JSONEncoder(ensure_ascii=False).encode


def shard_of(service: Service, name: str) -> str:
    """The month folder a mail lies in, else nothing."""
    return name.partition("/")[0] if service is Service.MAIL else ""


def render_dirty(catalog: Catalog, mirror: Mirror) -> None:
    """Write every index file that no longer tells what the catalog does."""
    for dirty in catalog.dirty():
        folder = catalog.folder(dirty.folder)
        path = index_path(folder, dirty.shard)
        mirror.write(path, index_lines(catalog, folder, dirty.shard))
        if dirty.shard and not mirror.exists(path):
            mirror.remove_folder(f"{folder.path}/{dirty.shard}")
        with catalog.transaction() as session:
            session.delete(dirty)


def index_lines(catalog: Catalog, folder: FolderRow, shard: str) -> Iterator[str]:
    """What the index file of a folder (and month) must say."""
    if folder.service is Service.FILES:
        for inner in catalog.children(folder):
            yield dumps({"folder": inner.name, "file": inner.local, "id": inner.source_id})
    for item in catalog.described(id_of(folder), shard):
        yield item_line(item)


def item_line(item: Described) -> str:
    """One item as a line of its index: JSON put together from JSON, since there are very many."""
    told = item.about[1:-1]
    note = f',"note":{_quoted(item.note)}' if item.note else ""
    return (
        f'{{{told}{"," if told else ""}"file":{_quoted(item.name.rpartition("/")[2])},"id":{_quoted(item.source_id)},'
        f'"key":{_quoted(item.key)}{note},"sha256":"{item.sha256}","size":{item.size},"source":{item.facts}}}'
    )


def write_account(catalog: Catalog, mirror: Mirror, account: Account) -> None:
    """Write `account.json` and `README.txt` for what the mirror holds now."""
    held = catalog.collections(gone=True)
    paths = {row.id: row.path for row in held}
    described = {
        "format": FORMAT,
        "account": {
            "address": account.address,
            "id": account.id,
            "name": account.name,
            "kind": account.kind,
            "source": account.source,
        },
        "collections": [collection_entry(catalog, row) for row in held],
        "gaps": [
            {
                "service": gap.service,
                "kind": gap.kind,
                "name": gap.name,
                "why": gap.why,
                "id": gap.source_id,
                "collection": paths.get(gap.collection),
                "owner": gap.owner,
            }
            for gap in catalog.gaps()
        ],
        "missing": [
            {"service": row.service, "id": row.source_id, "name": row.name, "reason": row.reason}
            for row in catalog.retries()
        ],
    }
    text = json.dumps(described, indent=1, ensure_ascii=True, sort_keys=True)
    mirror.write("account.json", text.splitlines())
    mirror.write("README.txt", README.format(address=_printable(account.address)).splitlines())


def collection_entry(catalog: Catalog, row: FolderRow) -> dict[str, Any]:
    """What `account.json` says of a collection."""
    digest, count, size = hashlib.sha256(), 0, 0
    for key, sha256, each in catalog.hashes(row):
        digest.update(f"{key} {sha256}\n".encode())
        count += 1
        size += each
    return {
        "service": row.service,
        "path": row.path,
        "name": row.name,
        "id": row.source_id,
        "special": row.special,
        "items": count,
        "bytes": size,
        "source_count": row.count,
        "complete": row.complete,
        "sha256": digest.hexdigest(),
        "facts": loads(row.facts),
    }


def _printable(text: str) -> str:
    return names.escape(text, ours=False)
