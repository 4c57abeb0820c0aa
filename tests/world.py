"""A household in simulated time, for tests of what is thought of an account and how soon."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from household import Household

from backupd.app import App
from backupd.config import load
from backupd.cutoff.verdict import FROZEN, State
from backupd.demo.tenant import SimulatedTenant
from backupd.model import Service

AMELIA = "demo/amelia@harbourlight.example"
TENANT = "demo"
CYCLE = 5
"""Minutes between two syncs: the default of [schedule]."""

RECOVERED = 3
"""Good syncs after which a scope is healthy: two thaw it, one more and nobody speaks of it."""

MADE_BY_US = {"account.json", "README.txt"}
"""Written anew with each snapshot; they hold times."""


@dataclass
class World:
    """A household in simulated time."""

    house: Household
    now: float = 1_800_000_000.0
    seen: dict[tuple[str, State], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.app = self.with_config(self.house.config)

    @property
    def tenant(self) -> SimulatedTenant:
        return self.house.tenant

    def with_config(self, path: Path) -> App:
        return App(load(path), clock=lambda: self.now)

    def live(self, minutes: int, cycle: int = CYCLE, only: str = "*") -> None:
        """A sync every `cycle` minutes, and every minute what is due; note what was thought when.

        It begins right after a sync: the worst moment. The first sync is of everybody, the later
        ones of `only`.
        """
        for minute in range(minutes + 1):
            if minute and minute % cycle == 0:
                self.app.backup([only] if minute > cycle else [])
            self.app.watch(self.now)
            for case in self.app.incidents.cases():
                self.seen.setdefault((case.scope, case.state), minute)
            self.now += 60

    def heal(self) -> int:
        """Give service back; how many cycles it takes until all is well again, four at most."""
        self.tenant.restore_service()
        self.tenant.faults.clear()
        self.app = self.with_config(self.house.config)
        for cycle in range(1, 5):
            self.now += CYCLE * 60
            self.app.backup()
            if all(case.state is State.HEALTHY for case in self.app.incidents.cases()):
                return cycle
        return 99

    def forget(self) -> None:
        shutil.rmtree(self.app.incidents.folder, ignore_errors=True)
        self.seen.clear()

    def state(self, scope: str) -> State:
        return self.app.incidents.case(scope).state

    def thought(self) -> str:
        """For people who read a failure."""
        store = self.app.incidents
        return "\n".join(
            f"{case.scope} {case.state} {case.cause}: {each.rung} {each.cause} {each.code} {each.said}"
            for case in store.cases()
            for each in store.evidence(case.scope, 3)
        )

    def goods(self) -> dict[str, str]:
        """Every file of the mirrors, and every pack and index of the vaults, with its bytes."""
        found = {}
        for path in self.house.folder.rglob("*"):
            place = path.relative_to(self.house.folder).as_posix()
            kept = "/mirror/" in place and path.name not in MADE_BY_US
            if path.is_file() and (kept or "/data/" in place or "/index/" in place):
                found[place] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def snapshots(self) -> int:
        return len(list(self.house.folder.glob("vaults/*/*/snapshots/*")))


@contextmanager
def settled(folder: Path, more: str = "") -> Iterator[World]:
    """Two people, backed up once. `more` is added to the configuration."""
    with SimulatedTenant(7, people=2, messages=4, extras=False, oddities=False) as tenant:
        tenant.cutoffs.stage_seconds = 1.0
        house = Household(folder, tenant, services=[Service.MAIL, Service.FILES])
        house.configure(more)
        world = World(house)
        assert world.app.backup().exit_code == 0
        yield world


@contextmanager
def befallen(world: World) -> Iterator[World]:
    """For one test: nothing of what was there is lost by it, and all heals when service is back."""
    before, snapshots = world.goods(), world.snapshots()
    yield world
    cycles, thought, after = world.heal(), world.thought(), world.goods()
    world.forget()
    gone = {place for place, digest in before.items() if after.get(place) != digest}
    assert not gone, "the last good state must stay as it was, byte for byte"
    assert world.snapshots() >= snapshots
    assert cycles <= RECOVERED, f"all is well again soon after service is\n{thought}"


def never_frozen(world: World) -> None:
    assert not [scope for scope, state in world.seen if state in FROZEN], world.thought()
