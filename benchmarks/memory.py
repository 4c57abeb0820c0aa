"""Peak memory: a mailbox of 1,000,000 messages, a drive of 1,000,000 files, one file of 20 GB, beside a hundredth of each.

A simulated tenant in a process of its own makes everything when it is asked for. Each measured run is a process of its own:
the first sync, a sync with nothing new, and a snapshot, of which restic's own peak is told beside ours (no less than that of the process that starts it, as the kernel counts). Flat means: at most
1.2 times the peak of the run of a hundredth the size, and below 250 MB.

    python benchmarks/memory.py [--scale 1.0] [--only mail]    a table; the whole takes hours
    python benchmarks/memory.py --scale 0.1                    a tenth of it
    python benchmarks/memory.py --quick                        a thousandth, without the drive
    python benchmarks/memory.py --json                         one object for the gate
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from figures import Run, figure, in_a_process, tell, timed
from simulated import Place, configured, running

from backupd.demo.content_bulk import write_bulk
from backupd.demo.tenant import SimulatedTenant

SIZES = {"mail": 1_000_000, "files": 1_000_000, "one file": 20_000_000_000}
"""Messages, files, bytes."""

QUICK = 0.001
SMALLER = 100
GOAL_RATIO, GOAL_MB = 1.2, 250
IN_A_FOLDER = 500


class Small:
    """A small file out of its number."""

    quick_xor = ""
    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    @property
    def size(self) -> int:
        """Between 100 bytes and 4 kB."""
        return 100 + self._number * 7919 % 4000

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`."""
        yield hashlib.shake_128(str(self._number).encode()).digest(self.size)[start:stop]


@dataclass(frozen=True)
class Peaks:
    """MiB: of the first sync, of one with nothing new, of a snapshot, and of restic in it."""

    first: float
    again: float
    snapshot: float
    restic: float
    wall: float

    @property
    def ours(self) -> float:
        return max(self.first, self.again, self.snapshot)


def fill(tenant: SimulatedTenant, what: str, size: int) -> None:
    user = tenant.state.user("person0")
    if what == "mail":
        write_bulk(user.mailbox, user.mailbox.folder("inbox"), user.upn, size)
    elif what == "one file":
        tenant.state.put_big_file("person0", "large.bin", size)
    else:
        drive = user.drives[0]
        for number in range(size):
            if number % IN_A_FOLDER == 0:
                folder = drive.make_folders(f"folder {number // IN_A_FOLDER:05d}")
            drive.add(f"file {number}.txt", folder, content=Small(number))


def sync(door: Connection, place: Place, folder: Path, service: str) -> None:
    """A sync by the service; its peak and how much it holds."""
    from backupd.app import App  # noqa: PLC0415 - counted in the process where it is used
    from backupd.config import Config  # noqa: PLC0415

    app = App(Config.model_validate(_config(place, folder, service)))

    def work() -> None:
        for outcome in app.sync().outcomes:
            if outcome.errors:
                raise outcome.errors[0]

    run = timed(work)
    with app.homes()[0].reading() as catalog:
        door.send((run, catalog.totals()[0]))


def snapshot(door: Connection, place: Place, folder: Path, service: str) -> None:
    """A snapshot; sends the run, and restic's peak in kiB where else a number stands."""
    from backupd.app import App  # noqa: PLC0415
    from backupd.config import Config  # noqa: PLC0415

    app = App(Config.model_validate(_config(place, folder, service)))

    def work() -> None:
        for outcome in app.snapshot().outcomes:
            if outcome.errors:
                raise outcome.errors[0]

    run = timed(work)
    door.send((run, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))


def _config(place: Place, folder: Path, service: str) -> dict[str, object]:
    password = folder / "password"
    password.write_text("a benchmark\n")
    vault = {"repository": str(folder / "vault"), "password_file": str(password)}
    return configured(place, folder, service) | {"storage": {"primary": vault}}


def peaks(what: str, size: int) -> Peaks:
    """One size of one case, from the start."""
    service = "mail" if what == "mail" else "files"
    expected = 1 if what == "one file" else size
    with tempfile.TemporaryDirectory() as name, running(fill, what, size) as tenant:
        runs: list[Run] = []
        for _ in range(2):
            run, held = in_a_process(sync, tenant.place, Path(name), service)
            if held != expected:
                raise SystemExit(f"{what}: {held} held instead of {expected}")
            runs.append(run)
        last, restic = in_a_process(snapshot, tenant.place, Path(name), service)
    first, again = runs
    return Peaks(first.peak_mb, again.peak_mb, last.peak_mb, restic / 1024, first.wall)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"--scale {QUICK}")
    parser.add_argument("--scale", type=float, default=1.0, help="this share of the full sizes")
    parser.add_argument("--only", choices=list(SIZES))
    asked = parser.parse_args()
    scale = QUICK if asked.quick else asked.scale
    chosen = [what for what in SIZES if asked.only in {None, what} and not (asked.quick and what == "files")]  # fmt: skip
    cases = {what: int(SIZES[what] * scale) for what in chosen}
    found = {what: (peaks(what, max(1, size // SMALLER)), peaks(what, size)) for what, size in cases.items()}  # fmt: skip
    if asked.json:
        tell(
            [
                figure(f"peak memory, {what} at scale {scale}", large.ours, small.ours, "a hundredth of the size", GOAL_RATIO, "MB")
                for what, (small, large) in found.items()
            ],
            max(large.ours for _, large in found.values()),
        )  # fmt: skip
        return
    print(f"scale {scale} of the full sizes; peaks in MiB (goal: {GOAL_RATIO} times a hundredth of the size, and {GOAL_MB})")  # fmt: skip
    for what, both in found.items():
        for size, each in zip((cases[what] // SMALLER, cases[what]), both, strict=True):
            print(f"  {what:9} {size:>14,}  first {each.first:4.0f}  nothing new {each.again:4.0f}  snapshot {each.snapshot:4.0f}  restic {each.restic:4.0f}  first sync {each.wall:.0f} s")  # fmt: skip
        print(f"  {'':9} {both[1].ours / both[0].ours:.2f} times")


if __name__ == "__main__":
    main()
