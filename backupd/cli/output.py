"""How results reach people and programs: text with units, or one JSON object on stdout."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from rich import filesize
from rich.console import Console
from rich.table import Table

from backupd.app import Outcome, Run
from backupd.cli.plain import printable
from backupd.errors import BackupdError
from backupd.model import Account, Service
from backupd.sync.placing import Tally

QUIET_INTERVAL = 60.0
"""Seconds between two lines of progress when stderr is no terminal."""

REDRAW = 0.2
"""Seconds between two states of the changing line."""


def emit(payload: Any, as_json: bool, render: Callable[[Console], None]) -> None:
    """Print a result: as JSON, or by `render` on a console."""
    if as_json:
        sys.stdout.write(json.dumps(payload, default=_jsonable, ensure_ascii=False) + "\n")
    else:
        render(console())


def console() -> Console:
    """For results. Lines are not cut when stdout is no terminal."""
    wide = None if sys.stdout.isatty() else 200
    return Console(
        file=sys.stdout, highlight=False, markup=False, emoji=False, width=wide, soft_wrap=True
    )


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, right: Sequence[int] = ()
) -> Table:
    """A plain table; columns numbered in `right` hold figures."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(printable(cell) for cell in row))
    return made


def size(count: int) -> str:
    """Bytes for people: `5.2 MB`."""
    return filesize.decimal(count)


class SyncProgress:
    """Says what a sync is at: a line that changes on a terminal, a line a minute elsewhere."""

    def __init__(self, as_json: bool) -> None:
        self._terminal = sys.stderr.isatty() and not as_json
        self._next = time.monotonic() + (0 if self._terminal else QUIET_INTERVAL)
        self._shown = 0
        self._said: set[str] = set()

    def __call__(self, account: Account, service: Service, folder: str, tally: Tally) -> None:
        """Called after every folder, from several threads."""
        done = f"{tally.fetched} fetched, {size(tally.fetched_bytes)}"
        self.line(f"{account.address}: {service} · {folder} · {done}")

    def line(self, text: str) -> None:
        """Say this, if it is time to say something."""
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + (REDRAW if self._terminal else QUIET_INTERVAL)
        self._say(printable(text))

    def say_once(self, text: str) -> None:
        """A line that stays, wherever stderr goes; the same one only once."""
        if text not in self._said:
            self._said.add(text)
            self.end()
            sys.stderr.write(printable(text) + "\n")

    def _say(self, line: str) -> None:
        if self._terminal:
            sys.stderr.write("\r" + line[:100].ljust(self._shown))
            self._shown = len(line[:100])
        else:
            sys.stderr.write(line + "\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Clear the changing line."""
        if self._terminal and self._shown:
            sys.stderr.write("\r" + " " * self._shown + "\r")


def show_run(run: Run, out: Console) -> None:
    """A table of accounts, then every problem with its hint."""
    out.print(table(("account", "fetched", "size", "moved", "removed", "waiting", "snapshot"), map(_row, run.outcomes), right=(1, 2, 3, 4, 5)))  # fmt: skip
    for name, error in run.source_errors.items():
        _problem(out, f"[sources.{name}]", error)
    for outcome in run.outcomes:
        for error in outcome.errors:
            _problem(out, outcome.address, error)
    for outcome in run.outcomes:
        _frozen(out, outcome)
    waiting = sum(outcome.sync.waiting for outcome in run.outcomes if outcome.sync)
    if waiting:
        out.print(
            f"\n{waiting} items could not be had; they are tried again. `backupd status` says why."
        )


def _row(outcome: Any) -> tuple[str, ...]:
    tallies = list(outcome.sync.tallies.values()) if outcome.sync else []
    made = outcome.snapshot.made if outcome.snapshot else {}
    snapshots = ", ".join(f"{name} {written.snapshot_id[:8]}" for name, written in made.items())
    unchanged = "unchanged" if outcome.snapshot and outcome.snapshot.unchanged else ""
    return (
        outcome.address,
        str(sum(tally.fetched for tally in tallies)),
        size(sum(tally.fetched_bytes for tally in tallies)),
        str(sum(tally.moved for tally in tallies)),
        str(sum(tally.removed for tally in tallies)),
        str(outcome.sync.waiting if outcome.sync else 0),
        snapshots or unchanged or "-",
    )


def _frozen(out: Console, outcome: Outcome) -> None:
    """That nothing is removed any more is no error, and must not go unnoticed."""
    if case := outcome.incident:
        scope = printable(case.scope)
        out.print(
            f"\n{printable(outcome.address)} is frozen: {scope} is {case.state} ({case.cause})."
        )
        out.print(f"hint: `backupd incidents {scope}` shows the evidence.")
    for why in outcome.snapshot.withheld.values() if outcome.snapshot else ():
        out.print(f"no snapshot: {printable(why)}")


def _problem(out: Console, subject: str, error: BackupdError) -> None:
    out.print(f"\nerror: {printable(subject)}: {printable(str(error))}")
    if error.hint:
        out.print(f"hint: {printable(error.hint)}")


def _jsonable(value: Any) -> Any:
    if isinstance(value, BackupdError):
        return {
            "message": str(value),
            "hint": value.hint,
            "reason": value.reason,
            "exit_code": value.exit_code,
        }
    if is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    if isinstance(value, frozenset | set):
        return sorted(value)
    return str(value)
