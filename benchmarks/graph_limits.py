"""A first sync of mail under Microsoft's limits: how much of what is allowed is used, and whether a limit is ever overrun.

The simulated tenant counts as Exchange Online documents it: per application and mailbox 4 requests at a time and 10,000 in
10 minutes, 429 above either. Its clock runs faster than ours, and so do the pace of the client and the time that an answer
takes (0.15 s in its clock), so that two windows pass in minutes. Allowed is 10,000 requests per window from the first
request to the last. A single 429, or a fifth request in flight, is a violation.

    python benchmarks/graph_limits.py [--quick]    a table
    python benchmarks/graph_limits.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path

from figures import figure, in_a_process, tell, timed
from simulated import Log, Place, configured, running

from backupd.demo.content_bulk import write_bulk
from backupd.demo.tenant import SimulatedTenant

MESSAGES, QUICK = 11_000, 900
MAILBOXES, SCALE = 2, 3.0
ALLOWED = 10_000 / 600
LATENCY = 0.15
GOAL = 1 / 0.95


@dataclass(frozen=True)
class Found:
    """The tenant's log, and what the client needed."""

    log: Log
    wall: float
    cpu: float
    peak_mb: float

    @property
    def rate(self) -> float:
        """Requests a second and mailbox in the tenant's clock."""
        return min(self.log.mailboxes.values()) / self.log.seconds / SCALE

    @property
    def violations(self) -> int:
        """Refusals, and a fifth request in flight."""
        return self.log.statuses.get(429, 0) + max(0, self.log.most_in_flight - 4)


def fill(tenant: SimulatedTenant, messages: int) -> None:
    for number in range(MAILBOXES):
        user = tenant.state.user(f"person{number}")
        write_bulk(user.mailbox, user.mailbox.folder("inbox"), user.upn, messages)
    tenant.switches.window_requests = 10_000
    tenant.switches.clock_scale = SCALE
    tenant.switches.latency = LATENCY / SCALE


def pull(door: Connection, place: Place, folder: Path) -> None:
    """A first sync of every mailbox at once, as the service does it, in the tenant's clock."""
    from backupd.app import App  # noqa: PLC0415 - its import is not what is measured
    from backupd.config import Config  # noqa: PLC0415
    from backupd.limits import UNHURRIED, Rate  # noqa: PLC0415
    from sources.graph.source import GraphSource  # noqa: PLC0415

    app = App(Config.model_validate(configured(place, folder, "mail")))
    usual = UNHURRIED.mailbox
    assert usual  # noqa: S101 - it has one
    pace = replace(UNHURRIED, mailbox=Rate(usual.per_second * SCALE, usual.burst), drives=None)
    source = GraphSource(app.config.sources["bench"], pace=pace)  # type: ignore[arg-type]
    accounts = list(source.accounts())

    def work() -> None:
        with ThreadPoolExecutor(len(accounts)) as workers:
            for outcome in workers.map(lambda each: app.sync_one(source, each), accounts):
                if outcome.errors:
                    raise outcome.errors[0]

    run = timed(work)
    source.close()
    door.send((run, len(accounts)))


def measure(messages: int) -> Found:
    with (
        tempfile.TemporaryDirectory() as folder,
        running(fill, messages, people=MAILBOXES) as tenant,
    ):
        run, _ = in_a_process(pull, tenant.place, Path(folder))
        return Found(tenant.log(), run.wall, run.cpu, run.peak_mb)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages a mailbox")
    asked = parser.parse_args()
    messages = QUICK if asked.quick else MESSAGES
    found = measure(messages)
    if asked.json:
        tell(
            [
                figure("seconds a request under the mailbox limit", 1 / found.rate, 1 / ALLOWED, "what Microsoft allows", GOAL),
                figure("limits overrun (and 1)", found.violations + 1, 1, "none", 1.0, "times"),
            ],
            found.peak_mb,
        )  # fmt: skip
        return
    print(f"{MAILBOXES} mailboxes of {messages:,} messages, clock {SCALE:.0f} times as fast, {found.wall:.0f} s, CPU {found.cpu:.0f} s")  # fmt: skip
    print(f"  {found.rate:.2f} requests a second and mailbox of {ALLOWED:.2f} allowed: {found.rate / ALLOWED:.1%} (goal 95 %)")  # fmt: skip
    print(f"  requests by status: {found.log.statuses}; most in flight: {found.log.most_in_flight} of 4")  # fmt: skip
    print(f"  limits overrun: {found.violations}")


if __name__ == "__main__":
    main()
