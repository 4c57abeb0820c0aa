"""A simulated tenant in a process of its own, and configurations of a service that saves it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from backupd.demo.tenant import SimulatedTenant

Fill = Callable[..., None]
"""Called as `fill(tenant, *arguments)` in the tenant's process; a plain function of a module."""


@dataclass(frozen=True)
class Place:
    """How the tenant is reached."""

    tenant_id: str
    client_id: str
    client_secret: str
    graph_url: str
    login_url: str


@dataclass(frozen=True)
class Log:
    """What was asked: requests by status and by mailbox, the most that one mailbox had in flight, first and last second."""

    statuses: dict[int, int]
    mailboxes: dict[str, int]
    most_in_flight: int
    seconds: float


class Tenant:
    """A tenant that runs elsewhere."""

    def __init__(self, place: Place, line: Connection) -> None:
        self.place = place
        self._line = line

    def log(self) -> Log:
        """What was asked since the last time."""
        self._line.send("log")
        found: Log = self._line.recv()
        return found


@contextmanager
def running(fill: Fill, *arguments: object, people: int = 1) -> Iterator[Tenant]:
    """An empty tenant with so many people (`person0`, …), filled and served until the end."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    process = context.Process(target=_serve, args=(far, people, fill, *arguments), daemon=True)
    process.start()
    far.close()
    try:
        yield Tenant(near.recv(), near)
    finally:
        near.close()
        process.join()


def _serve(line: Connection, people: int, fill: Fill, *arguments: object) -> None:
    tenant = SimulatedTenant(7, people=0, messages=0, oddities=False, extras=False)
    for number in range(people):
        tenant.state.add_user(f"person{number}", f"Person {number}")
    tenant.switches.window_requests = tenant.switches.resource_units = 100_000_000
    fill(tenant, *arguments)
    tenant.state.baseline()
    with tenant:
        line.send(Place(tenant.tenant_id, tenant.client_id, tenant.client_secret, tenant.graph_url, tenant.login_url))  # fmt: skip
        while _more(line):
            line.send(_log(tenant))
            tenant.log.clear()


def _more(line: Connection) -> bool:
    try:
        return bool(line.recv())
    except EOFError:
        return False


def _log(tenant: SimulatedTenant) -> Log:
    records = [each for each in tenant.log if each.mailbox]
    return Log(
        dict(Counter(each.status for each in tenant.log)),
        dict(Counter(each.mailbox for each in records)),
        max((each.in_flight for each in records), default=0),
        max((each.end for each in records), default=0) - min((each.start for each in records), default=0),
    )  # fmt: skip


def configured(place: Place, folder: Path, *services: str) -> dict[str, object]:
    """The configuration of a service that saves these services of everybody."""
    secret = folder / "secret"
    secret.write_text(place.client_secret)
    section = {
        "type": "microsoft365", "tenant_id": place.tenant_id, "client_id": place.client_id,
        "client_secret_file": str(secret), "graph_url": place.graph_url,
        "login_url": place.login_url, "services": list(services), "accounts": ["person*"],
    }  # fmt: skip
    return {"state_dir": str(folder / "state"), "sources": {"bench": section}}
