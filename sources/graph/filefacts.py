"""What is kept of a file, and what of it identifies its bytes."""

from __future__ import annotations

from backupd.model import Facts
from sources.graph.client import Json
from sources.graph.fields import mapping, number
from sources.graph.listing import string


def version(facts: Facts) -> str:
    """What identifies the bytes: hash and size, where there is no hash the content or entity tag."""
    if quick := facts.get("quickXorHash"):
        return f"{quick}:{facts.get('size')}"
    return str(facts.get("cTag") or facts.get("eTag") or f"size:{facts.get('size')}")


def file_facts(item: Json) -> Facts:
    """What is worth keeping of a file; times are those of the file system where it has some."""
    system, file = mapping(item, "fileSystemInfo"), mapping(item, "file")
    return {  # every key each time: a listing that lost its hash must not inherit the old one
        "size": number(item, "size"),
        "quickXorHash": string(mapping(file, "hashes"), "quickXorHash"),
        "mimeType": string(file, "mimeType"),
        "cTag": string(item, "cTag"),
        "eTag": string(item, "eTag"),
        "created": string(system, "createdDateTime") or string(item, "createdDateTime"),
        "modified": string(system, "lastModifiedDateTime") or string(item, "lastModifiedDateTime"),
        "createdBy": _who(mapping(item, "createdBy")),
        "modifiedBy": _who(mapping(item, "lastModifiedBy")),
    }


def _who(identities: Json) -> str:
    user = mapping(identities, "user")
    return string(user, "email") or string(user, "displayName")
