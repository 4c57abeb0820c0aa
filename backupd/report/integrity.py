"""The integrity report: how ready we are, and what was proven of it, as one signed document.

The first part is the readiness of `backupd.report.readiness`; beside it stands, for every account, what each
level of verify last said, which snapshots there are, and a Merkle root over the newest of each vault.
`docs/reports.md` describes it for those who check it, `schemas/report.schema.json` for programs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from rich import filesize

from backupd.app import App
from backupd.report import plots
from backupd.report.chain import Chain
from backupd.report.proofs import unproven
from backupd.report.readiness import Readiness, as_document, as_page, as_text, readiness, verdict
from backupd.report.signing import SigningKey, signing_key
from backupd.verify import NAMES, PACKS
from backupd.verify.findings import Verification
from backupd.verify.record import Record, Standing, read_record

KIND = "backupd integrity report"
SCHEMA = 1
"""The version of the document; raised only when a reader of the old one would misread the new one."""

LATE = 3
"""Intervals of `verify` after which a proof is called old."""

LIMITS = (
    "Hashes prove that what is held is what was fetched, not that the source handed out what it should.",
    "Of older snapshots the packs are read (level 2); items are compared with their hashes in the newest one.",
    "Whoever controls the machine that makes this report can make another one; copies kept elsewhere show it.",
)
"""What no verification here can prove."""


@dataclass(frozen=True)
class Issued:
    """A report that was made.

    Attributes:
        path: of the signed file; None when it could not be written, so that it stays unsigned.
        why: the reason for that.
    """

    found: Readiness
    document: dict[str, Any]
    path: Path | None
    why: str = ""


def chain_of(state_dir: Path) -> Chain:
    """The reports of this installation."""
    return Chain(state_dir / "reports")


def issue(app: App, patterns: Sequence[str] = (), run: Sequence[Verification] = ()) -> Issued:
    """Make a report of the accounts that match, sign it, and put it at the end of the chain.

    Raises IntegrityError for an incident that cannot be read, UserError for a key that cannot be used.
    """
    found = readiness(app, patterns)
    made = document(app, found, run)
    state = app.config.state_dir
    key: SigningKey | None = None
    try:
        key = signing_key(state)
        path = chain_of(state).append(made, key)
    except OSError as error:
        return Issued(found, made, None, f"{error.strerror}: {error.filename}")
    return Issued(found, json.loads(path.read_bytes()), path)


def document(app: App, found: Readiness, run: Sequence[Verification]) -> dict[str, Any]:
    """The report as JSON values, without its place in the chain."""
    late = app.config.schedule.verify * LATE
    records = {
        f"{home.folder.parent.name}/{home.address}": read_record(home) for home in app.homes()
    }
    plain = as_document(found)
    for account, status in zip(plain["accounts"], found.accounts, strict=True):
        scope = f"{status.source}/{status.address}"
        account["proofs"] = [_proof(each) for each in status.proofs]
        account["snapshots"] = _snapshots(records.get(scope, Record()))
    return plain | {
        "kind": KIND,
        "schema": SCHEMA,
        "run": [_told(each) for each in run],
        "unproven": [
            {"account": who, "what": what} for who, what in unproven(found.accounts, late)
        ],
        "limits": list(LIMITS),
    }


def text(issued: Issued) -> str:
    """The report for a terminal or a mail: the answers, then what was not proven."""
    lines = [as_text(issued.found).rstrip("\n"), ""]
    missing = issued.document["unproven"]
    if missing:
        lines += ["Not proven", *(f"  {each['account']}: {each['what']}" for each in missing)]
    return "\n".join([*lines, stamp(issued)]) + "\n"


def short(issued: Issued) -> tuple[str, str]:
    """A subject and a body of a few lines, for an alert or a mail that anchors the chain elsewhere."""
    missing = issued.document["unproven"]
    lines = [verdict(issued.found), f"Not proven: {len(missing)}; the report names each." if missing else "Everything that is held is proven.", "", stamp(issued)]  # fmt: skip
    return f"backupd report {issued.document.get('sequence', '')}: {issued.found.level}", "\n".join(
        lines
    )


def stamp(issued: Issued) -> str:
    """Number, hash and key: what somebody else keeps, to recognise the report by."""
    if issued.path is None:
        return f"NOT signed: {issued.why}."
    number, sha256 = chain_of(issued.path.parent.parent).head()
    return f"Report {number}, SHA-256 {sha256}, signed with key {issued.document['public_key']}."


def schema() -> dict[str, Any]:
    """The JSON schema of the document."""
    found = files("backupd").joinpath("schemas/report.schema.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(found)
    return loaded


def _proof(standing: Standing) -> dict[str, Any]:
    """A level of verify for one storage."""
    last = standing.last
    return {
        "level": standing.level,
        "name": NAMES[standing.level],
        "storage": standing.storage,
        "verdict": standing.verdict,
        "age": standing.age,
        "whole": standing.whole,
        "last": _told(last) if last else None,
    }


def _told(found: Verification) -> dict[str, Any]:
    """A verification, with every flaw that was named."""
    return {
        "account": f"{found.source}/{found.address}",
        "level": found.level,
        "name": NAMES[found.level],
        "storage": found.storage,
        "snapshot": found.snapshot,
        "verdict": found.verdict.value,
        "began": round(found.began, 3),
        "seconds": round(found.seconds, 3),
        "unit": "subsets" if found.level == PACKS else "items",
        "items": found.items,
        "of_items": found.of_items,
        "bytes": found.size,
        "of_bytes": found.of_size,
        "share": round(found.share, 6),
        "flawed": found.flawed,
        "flaws": [
            {"kind": each.kind, "where": each.where, "what": each.what, "damage": each.damage}
            for each in found.flaws
        ],
        "facts": found.facts,
    }


def _snapshots(record: Record) -> dict[str, list[dict[str, Any]]]:
    """The snapshots of every storage as they were last seen, with the roots that were computed."""
    return {
        storage: [
            {"id": key, "time": each[0], "tree": each[1], "root": known.get("roots", {}).get(key)}
            for key, each in sorted(
                known.get("snapshots", {}).items(), key=lambda item: str(item[1][0])
            )
        ]
        for storage, known in sorted(record.vaults.items())
    }


def page(issued: Issued) -> str:
    """One self-contained page: the readiness, then what was proven and what was not."""
    chain = chain_of(issued.path.parent.parent) if issued.path else None
    return as_page(
        issued.found,
        "report.html",
        unproven=issued.document["unproven"],
        limits=issued.document["limits"],
        stamp=stamp(issued),
        coverage=list(plots.coverage(issued.found)),
        drills=list(plots.drills(issued.found)),
        sizes=plots.sizes(issued.found),
        growth=plots.growth(chain.files(), issued.found) if chain else None,
        size=filesize.decimal,
    )
