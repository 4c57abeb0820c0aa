"""What the benchmarks share: how a run is timed, alone in its process, and how a figure is told."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
"""Where it is set, each start of a program compiles everything anew, and that is all one would measure."""


@dataclass(frozen=True)
class Run:
    """What one contender needed: seconds and MiB."""

    wall: float
    cpu: float
    peak_mb: float


def timed(work: Callable[[], object]) -> Run:
    """What a piece of work takes in this process."""
    began, busy = time.monotonic(), time.process_time()
    work()
    wall, cpu = time.monotonic() - began, time.process_time() - busy
    return Run(wall, cpu, peak_mb())


def peak_mb() -> float:
    """The most memory that this process ever held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def middle_of(runs: Iterable[Run]) -> Run:
    """The medians of several runs, and their highest peak."""
    known = list(runs)
    return Run(
        statistics.median(run.wall for run in known),
        statistics.median(run.cpu for run in known),
        max(run.peak_mb for run in known),
    )


def in_a_process(work: Callable[..., None], *arguments: object) -> tuple[Run, int]:
    """Run `work(door, *arguments)` in a fresh process; it sends its Run and how many messages it had."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(work, there, *arguments))
    process.start()
    there.close()
    try:
        result: tuple[Run, int] = here.recv()
        return result
    finally:
        process.join()


def _work(work: Callable[..., None], door: Connection, *arguments: object) -> None:
    work(door, *arguments)


def figure(
    name: str, mine: float, peer: float, peer_name: str, goal: float, unit: str = "s"
) -> dict[str, object]:
    """One figure for the gate: `ratio` is ours to the peer's and must not exceed `goal`."""
    return {
        "name": name, "ours": round(mine, 3), "peer": round(peer, 3), "peer_name": peer_name,
        "ratio": round(mine / peer, 3), "goal": goal, "unit": unit,
    }  # fmt: skip


def tell(figures: list[dict[str, object]], peak: float) -> None:
    """The one object for the gate, on stdout; the first figure carries the peak memory."""
    figures[0]["peak_mb"] = round(peak, 1)
    print(json.dumps({"figures": figures}))
