"""Files out of OneDrive: 5,000 small ones and one of 4 GB, beside a bare loop over aiohttp and beside `cp`.

A simulated tenant in a process of its own serves both and throttles nothing. Small files: CPU time of a whole first sync
(listing, folders, hashes, durable, catalogued, indexed) beside a loop that has every address in its hands and does nothing
but GET and write, eight at a time. The large file: bytes a second of the sync beside the same loop; `cp` of the same bytes
on the same disk, flushed at the end, tells what the disk alone allows.

    python benchmarks/graph_files.py [--quick]    a table
    python benchmarks/graph_files.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import quote

import aiohttp
from figures import Run, figure, in_a_process, tell, timed
from graph_pull import token, values
from simulated import Place, configured, running

from backupd.demo.drive import BytesContent
from backupd.demo.tenant import SimulatedTenant

FILES, LARGE = 5_000, 4_000_000_000
QUICK_FILES, QUICK_LARGE = 1_000, 200_000_000
MEDIAN, SIGMA, LARGEST = 24_000, 1.6, 4 << 20
IN_A_FOLDER, WIDTH = 50, 8
GOAL_CPU, GOAL_RATE = 1.3, 1 / 0.8
PIECE = 1 << 18


@dataclass(frozen=True)
class Case:
    """What lies in the drive of a person: so many small files, or one of `large` bytes."""

    person: int
    files: int
    large: int = 0


def fill(tenant: SimulatedTenant, cases: tuple[Case, ...]) -> None:
    chance = random.Random(20_240_229)
    stuff = chance.randbytes(LARGEST + (1 << 20))
    for case in cases:
        drive = tenant.state.user(f"person{case.person}").drives[0]
        if case.large:
            tenant.state.put_big_file(drive, "large.bin", case.large)
        for number in range(0 if case.large else case.files):
            size = min(LARGEST, 1 + int(chance.lognormvariate(0, SIGMA) * MEDIAN))
            start = chance.randrange(1 << 20)
            content = BytesContent(stuff[start : start + size])
            drive.put_file(f"folder {number // IN_A_FOLDER:03d}/file {number:05d}.bin", content)


def ours(door: Connection, place: Place, folder: Path, case: Case) -> None:
    """A first sync of the one drive, as the service does it."""
    from backupd.app import App  # noqa: PLC0415 - its import is not what is measured
    from backupd.config import Config  # noqa: PLC0415
    from backupd.model import Service  # noqa: PLC0415
    from sources.graph import source  # noqa: F401, PLC0415

    app = App(Config.model_validate(configured(place, folder, "files")))
    done: list[int] = []

    def work() -> None:
        for outcome in app.sync([f"person{case.person}@*"]).outcomes:
            if outcome.errors or outcome.sync is None:
                raise SystemExit(f"ours: {outcome.errors}")
            done.append(outcome.sync.tallies[Service.FILES].fetched)

    run = timed(work)
    door.send((run, sum(done)))


def loop(door: Connection, place: Place, folder: Path, case: Case) -> None:
    """The peer: GET and write, nothing else."""
    done: list[int] = []
    listed = asyncio.run(listing(place, case))
    run = timed(lambda: done.append(asyncio.run(pull(place, listed, folder))))
    door.send((run, done[0]))


async def listing(place: Place, case: Case) -> list[str]:
    """The address of every file of the person."""
    async with aiohttp.ClientSession() as session:
        session.headers.update(await token(session, place))  # type: ignore[arg-type]
        users = await values(session, f"{place.graph_url}/users?$select=id,userPrincipalName")
        (user,) = (each["id"] for each in users if str(each["userPrincipalName"]).startswith(f"person{case.person}@"))  # fmt: skip
        async with session.get(f"{place.graph_url}/users/{user}/drive") as answer:
            drive = quote((await answer.json())["id"], safe="")
        found = await values(session, f"{place.graph_url}/drives/{drive}/root/delta?$top=500")
        chosen = {str(each["id"]) for each in found if "file" in each}
        return [f"{place.graph_url}/drives/{drive}/items/{quote(each, safe='')}/content" for each in sorted(chosen)]  # fmt: skip


async def pull(place: Place, listed: list[str], folder: Path) -> int:
    """Eight at a time; redirects to the download host are followed, as `curl -L` does."""
    done = 0
    numbered = iter(enumerate(listed))
    async with aiohttp.ClientSession() as session:
        headers = await token(session, place)  # type: ignore[arg-type]

        async def reader(rest: Iterator[tuple[int, str]]) -> None:
            nonlocal done
            for number, url in rest:
                async with session.get(url, headers=headers, allow_redirects=False) as answer:
                    answer.raise_for_status()
                    where = answer.headers["Location"]
                async with session.get(where) as answer:
                    answer.raise_for_status()
                    with (folder / str(number)).open("wb") as file:
                        async for piece in answer.content.iter_chunked(PIECE):
                            file.write(piece)
                done += 1

        await asyncio.gather(*(reader(numbered) for _ in range(WIDTH)))
    return done


def copied(folder: Path) -> float:
    """Seconds that `cp` takes for the file that the loop left, until it is on the disk."""
    began = time.monotonic()
    subprocess.run(["cp", str(folder / "0"), str(folder / "copy")], check=True)
    with (folder / "copy").open("rb") as file:
        os.fsync(file.fileno())
    return time.monotonic() - began


def compare(place: Place, root: Path, case: Case) -> tuple[dict[str, Run], float]:
    """Both at one tenant; each must have had every file. And `cp`, for a large one."""
    runs: dict[str, Run] = {}
    copy = 0.0
    for name, work in (("loop", loop), ("ours", ours)):
        # Nothing is deleted in between: ext4 is slow for minutes after many files were.
        folder = Path(tempfile.mkdtemp(dir=root))
        os.sync()
        runs[name], got = in_a_process(work, place, folder, case)
        if got != case.files:
            raise SystemExit(f"{name}: {got} files instead of {case.files}")
        if name == "loop" and case.large:
            copy = copied(folder)
    return runs, copy


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FILES} files, one of {QUICK_LARGE // 1_000_000} MB")  # fmt: skip
    asked = parser.parse_args()
    count, large = (QUICK_FILES, QUICK_LARGE) if asked.quick else (FILES, LARGE)
    small, one = Case(0, count), Case(1, 1, large)
    with tempfile.TemporaryDirectory() as root, running(fill, (small, one), people=2) as tenant:
        many, _ = compare(tenant.place, Path(root), small)
        single, copy = compare(tenant.place, Path(root), one)
    peak = max(many["ours"].peak_mb, single["ours"].peak_mb)
    if asked.json:
        each = (many["ours"].cpu / count * 1000, many["loop"].cpu / count * 1000, "bare aiohttp loop")  # fmt: skip
        tell(
            [
                figure("first sync of small files, CPU", *each, GOAL_CPU, "ms a file"),
                figure(f"one file of {large / 1e9} GB", single["ours"].wall, single["loop"].wall, "bare aiohttp loop", GOAL_RATE),
            ],
            peak,
        )  # fmt: skip
        return
    print(f"{count:,} small files; ours is durable, hashed, indexed and catalogued")
    for name, run in many.items():
        print(f"  {name:5} {run.wall:7.2f} s  CPU {run.cpu:6.2f} s, {run.cpu / count * 1000:.3f} ms a file  peak {run.peak_mb:4.0f} MiB")  # fmt: skip
    print(f"  CPU: {many['ours'].cpu / many['loop'].cpu:.2f} of the loop (goal {GOAL_CPU})")
    print(f"one file of {large / 1e9} GB")
    for name, run in single.items():
        print(f"  {name:5} {run.wall:7.2f} s  {large / run.wall / 1e6:6.0f} MB/s  CPU {run.cpu:6.2f} s  peak {run.peak_mb:4.0f} MiB")  # fmt: skip
    print(f"  cp    {copy:7.2f} s  {large / copy / 1e6:6.0f} MB/s")
    print(f"  rate: {single['loop'].wall / single['ours'].wall:.0%} of the loop (goal 80 %)")


if __name__ == "__main__":
    main()
