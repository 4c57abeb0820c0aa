"""The report of a restore: one JSON document and one page, beside the list of every item."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from rich import filesize

from backupd import __version__
from backupd.errors import BackupdError
from backupd.restore.ledger import DONE
from backupd.restore.result import READ_ALL, RestoreResult

FORMAT = 1

STATES = (*DONE, "quarantined", "damaged", "missing")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first line of the page; `level` is `good`, `warn` or `bad`."""

    level: str
    words: str


def write_report(desk: Path, result: RestoreResult) -> Path:
    """Write `report-TIME.json` and `report-TIME.html` below the desk; returns the page's path."""
    moment = datetime.fromtimestamp(result.began, UTC)
    base = desk / f"report-{moment:%Y%m%dT%H%M%SZ}"
    document = base.with_suffix(".json")
    document.write_text(json.dumps(as_document(result), indent=1, ensure_ascii=False), "utf-8", "surrogatepass")  # fmt: skip
    page = base.with_suffix(".html")
    page.write_text(as_page(result), encoding="utf-8", errors="replace")
    return page


def as_document(result: RestoreResult) -> dict[str, Any]:
    """The result as JSON; its shape is `FORMAT`."""
    plain: dict[str, Any] = _plain(result)
    return plain | {
        "format": FORMAT,
        "version": __version__,
        "began": datetime.fromtimestamp(result.began, UTC).isoformat(timespec="seconds"),
        "exit_code": result.exit_code,
    }


def _plain(value: Any) -> Any:
    if isinstance(value, BackupdError):
        return {"message": str(value), "hint": value.hint, "reason": value.reason}
    if is_dataclass(value):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def as_page(result: RestoreResult) -> str:
    """The result as one self-contained page, on screen and on paper."""
    environment = Environment(loader=PackageLoader("backupd"), autoescape=True, trim_blocks=True)
    return environment.get_template("restore.html").render(
        result=result,
        verdict=verdict(result),
        total=sum(result.expected.values()),
        states=[state for state in STATES if result.states[state]],
        began=f"{datetime.fromtimestamp(result.began, UTC):%Y-%m-%d %H:%M} UTC",
        span=f"{result.seconds:.1f} s, {result.proof_seconds:.1f} s of them reading back",
        sample=filesize.decimal(READ_ALL),
        version=__version__,
    )


def verdict(result: RestoreResult) -> Verdict:
    """In one sentence: is everything there."""
    total = sum(result.expected.values())
    if result.error:
        return Verdict("bad", f"Not finished: {result.error}")
    if result.exit_code == 0:
        return Verdict("good", f"All {total} items are at the target and were read back from it.")
    left = total - result.proven
    if result.states["damaged"] or result.missing or result.unproven:
        return Verdict("bad", f"{left} of {total} items are not proven to be at the target.")
    parts = [
        f"{left} of {total} items are not at the target" if left else "",
        f"{sum(result.unsupported.values())} items have no place there"
        if result.unsupported
        else "",
    ]
    return Verdict("warn", "; ".join(filter(None, parts)) + ". All others were read back from it.")
