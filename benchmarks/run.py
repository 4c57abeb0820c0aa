"""Every benchmark, one after the other: one table of all figures, and one JSON file of them.

    python benchmarks/run.py [--quick] [--output build/benchmarks.json] [NAME …]

Without --quick each runs at full size (`memory` at a tenth), which takes an hour; name some to run only those.
Ends with 1 when a benchmark broke; a goal that is missed is told and breaks nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

NAMES = (
    "answers", "snapshot", "repository", "fleet", "graph_pull", "graph_files", "graph_limits", "imap_pull",
    "imap_nothing_new", "imap_push", "idle", "transport", "memory",
)  # fmt: skip

SMALL = {
    "idle": ["--accounts", "10", "--cycles", "1"],
    "transport": ["--count", "200", "--rounds", "1"],
}
"""Those that have no --quick, and what makes them small."""

LARGE = {"memory": ["--scale", "0.1"]}
"""Those whose full size takes hours, and what makes them bearable."""

PATIENCE = 6 * 3600


@dataclass(frozen=True)
class Done:
    """What a benchmark said, how long it took, and why it broke."""

    name: str
    seconds: float
    said: dict[str, Any]
    error: str = ""

    @property
    def figures(self) -> list[dict[str, Any]]:
        """The figures that can be compared."""
        return list(self.said.get("figures", ()))


def run(name: str, *, quick: bool) -> Done:
    """One benchmark in a process of its own."""
    options = SMALL.get(name, ["--quick"]) if quick else LARGE.get(name, [])
    command = [sys.executable, str(HERE / f"{name}.py"), "--json", *options]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)  # fmt: skip
        seconds = time.monotonic() - began
        return Done(name, seconds, json.loads(done.stdout.splitlines()[-1]))
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        why = done.stderr.strip()[-400:] if "done" in locals() else str(error)
        return Done(name, time.monotonic() - began, {}, why or str(error))


def told(done: Done) -> None:
    """The lines of one benchmark."""
    print(f"{done.name}  ({done.seconds:.0f} s)")
    if done.error:
        print(f"  BROKE: {done.error}")
    elif not done.figures:
        print(f"  {json.dumps(done.said)[:300]}")
    for each in done.figures:
        mark = "" if each["ratio"] <= each["goal"] else "  MISSED"
        print(f"  {each['name']:52} {each['ours']:>10} {each['unit']:14} {each['ratio']:>8.2f} of {each['peer_name']}, goal {each['goal']:.2f}{mark}")  # fmt: skip
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="small: does it still run")
    parser.add_argument("--output", default="build/benchmarks.json", help="the JSON file")
    asked = parser.parse_args()
    if unknown := set(asked.names) - set(NAMES):
        parser.error(f"no such benchmark: {', '.join(sorted(unknown))}")
    results = []
    for name in asked.names or NAMES:
        results.append(run(name, quick=asked.quick))
        told(results[-1])
    found = [
        {"name": each.name, "seconds": round(each.seconds, 1), **each.said, "error": each.error}
        for each in results
    ]
    output = Path(asked.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps({"quick": asked.quick, "benchmarks": found}, indent=1) + "\n")  # fmt: skip
    print(f"{sum(each.seconds for each in results):.0f} s in all; {asked.output}")
    sys.exit(any(each.error for each in results))


if __name__ == "__main__":
    main()
