"""What the service costs when nothing happens: CPU and requests per account and cycle.

A simulated tenant in a process of its own holds 100 small accounts; everything is synced once. Then
cycles are run with nothing new at the source, in one process, one after the other: a glance (the fast
lane) and a whole sync of every account.

    python benchmarks/idle.py [--accounts 100] [--cycles 3] [--quick]    a table
    python benchmarks/idle.py --json                                    one object for the gate
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from figures import figure, peak_mb, tell

from backupd.app import App, Outcome
from backupd.config import Config
from backupd.demo.tenant import SimulatedTenant
from backupd.model import Account
from backupd.ports import Source

GOAL = 0.05
"""CPU seconds per account and cycle."""
MESSAGES = 20


@dataclass(frozen=True)
class Cost:
    """Of one account in one cycle."""

    cpu: float
    wall: float
    requests: float


def serve(accounts: int, line: Connection) -> None:
    """The tenant's process: says where it is, then how many requests it has had, when asked."""
    tenant = SimulatedTenant(7, people=1, messages=MESSAGES, oddities=False, extras=False)
    for number in range(accounts - 1):
        alias = f"person{number:03d}"
        tenant.state.add_user(alias, f"Person {number}")
        for each in range(MESSAGES):
            mime = b"Subject: %d\r\n\r\nhello\r\n" % each
            tenant.state.deliver(alias, ("inbox", "archive")[each % 2], mime)
    tenant.switches.window_requests = 1_000_000
    with tenant:
        line.send(
            (
                tenant.tenant_id,
                tenant.client_id,
                tenant.client_secret,
                tenant.graph_url,
                tenant.login_url,
            )
        )
        while line.recv():
            line.send(len(tenant.log))
            tenant.log.clear()


def configured(folder: Path, facts: tuple[str, ...]) -> App:
    tenant_id, client_id, secret, graph_url, login_url = facts
    (folder / "secret").write_text(secret)
    section = {
        "type": "microsoft365", "tenant_id": tenant_id, "client_id": client_id,
        "client_secret_file": str(folder / "secret"), "graph_url": graph_url, "login_url": login_url,
        "services": ["mail", "calendar", "contacts", "files"],
    }  # fmt: skip
    return App(
        Config.model_validate({"state_dir": str(folder / "state"), "sources": {"demo": section}})
    )


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def cycle(
    app: App, accounts: list[Account], work: Callable[[Account], Outcome], line: Connection
) -> Cost:
    """Do it for every account, as many at a time as the configuration says."""
    line.send(1)
    line.recv()
    before, began = cpu(), time.monotonic()
    with ThreadPoolExecutor(app.config.limits.workers) as workers:
        for outcome in workers.map(work, accounts):
            if outcome.errors:
                raise outcome.errors[0]
    spent, wall = cpu() - before, time.monotonic() - began
    line.send(1)
    count = len(accounts)
    return Cost(spent / count, wall / count, line.recv() / count)


def measure(app: App, source: Source, cycles: int, line: Connection) -> dict[str, Cost]:
    accounts = list(source.accounts())
    lanes: dict[str, Callable[[Account], Outcome]] = {
        "first sync": lambda each: app.sync_one(source, each),
        "glance": lambda each: app.glance_one(source, each),
        "sync": lambda each: app.sync_one(source, each),
    }
    costs = {}
    for name, work in lanes.items():
        runs = [
            cycle(app, accounts, work, line) for _ in range(1 if name == "first sync" else cycles)
        ]
        costs[name] = min(runs, key=lambda cost: cost.cpu)
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help="20 accounts")
    asked = parser.parse_args()
    count = 20 if asked.quick else asked.accounts
    near, far = multiprocessing.Pipe()
    tenant = multiprocessing.Process(target=serve, args=(count, far), daemon=True)
    tenant.start()
    with tempfile.TemporaryDirectory() as folder:
        app = configured(Path(folder), near.recv())
        with app.source("demo") as source:
            costs = measure(app, source, asked.cycles, near)
    near.send(0)
    if asked.json:
        goal = (GOAL * 1000, f"the goal of {GOAL * 1000:.0f} ms", 1.0, "ms an account and cycle")
        names = {"sync": "nothing new, whole sync, CPU", "glance": "nothing new, glance, CPU"}
        tell(
            [figure(name, costs[lane].cpu * 1000, *goal) for lane, name in names.items()], peak_mb()
        )
        return
    met = max(costs["glance"].cpu, costs["sync"].cpu) <= GOAL
    print(f"{count} accounts, per account and cycle (best of {asked.cycles}):")
    for name, cost in costs.items():
        print(
            f"  {name:10}  {cost.cpu * 1000:6.1f} ms CPU  {cost.wall * 1000:6.1f} ms  {cost.requests:5.1f} requests"
        )
    print(
        f"  peak memory {peak_mb():.0f} MB; goal {GOAL * 1000:.0f} ms CPU: {'met' if met else 'MISSED'}"
    )


if __name__ == "__main__":
    main()
