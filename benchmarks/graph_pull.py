"""Mail out of Graph: a whole first sync beside a bare loop over aiohttp that fetches and writes the same messages.

A simulated tenant in a process of its own holds 20,000 messages (median 8 kB, heavy tail) in 8 mailboxes and throttles
nothing. Ours is a whole first sync of all mailboxes: listing, immutable ids, every batch durable, catalogued, indexed,
one account after the other in as many workers as the service has. The loop has a list of the messages in its hands
before the clock starts and does nothing but GET them, four at a time in each of as many mailboxes, and write each to a
file. Measured is the CPU time of the one process, divided by the messages.

    python benchmarks/graph_pull.py [--quick]    a table
    python benchmarks/graph_pull.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import quote

import aiohttp
from figures import Run, figure, in_a_process, middle_of, tell, timed

COUNT, QUICK, MAILBOXES = 20_000, 2_000, 8
GOAL_CPU, GOAL_MB = 1.3, 150
MEDIAN, SIGMA, LARGEST = 8_000, 1.2, 3 << 20
FOLDERS = ("inbox", "archive", "sentitems")
WIDTH, WORKERS = 4, 4


@dataclass(frozen=True)
class Place:
    """How the tenant is reached."""

    tenant_id: str
    client_id: str
    client_secret: str
    graph_url: str
    login_url: str


def bodies(count: int) -> Iterator[bytes]:
    """Messages, the same on every run."""
    chance = random.Random(20_240_229)
    text = chance.randbytes(1 << 20).hex()
    for number in range(count):
        size = min(LARGEST, int(chance.lognormvariate(0, SIGMA) * MEDIAN))
        start = chance.randrange(1 << 20)
        head = (
            f"From: Person {number % 97} <p{number % 97}@example.org>\r\nTo: us@example.net\r\n"
            f"Date: Thu, 29 Feb 2024 12:00:00 +0000\r\nMessage-ID: <{number}.{start}@example.org>\r\n"
            f"Subject: Message {number}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
        )
        lines = (text[(p := (start + at) % (1 << 20)) : p + 76] for at in range(0, size, 76))
        yield (head + "\r\n".join(lines) + "\r\n").encode()


def serve(door: Connection, count: int) -> None:
    """The tenant's process: says where it is and which messages there are, until it is told to end."""
    from backupd.demo.tenant import SimulatedTenant  # noqa: PLC0415 - only this process needs it

    tenant = SimulatedTenant(7, people=1, messages=0, oddities=False, extras=False)
    people = [f"person{number}" for number in range(MAILBOXES)]
    for each in people:
        tenant.state.add_user(each, each.title())
    for number, body in enumerate(bodies(count)):
        folder = FOLDERS[number // MAILBOXES % len(FOLDERS)]
        tenant.state.deliver(people[number % MAILBOXES], folder, body)
    tenant.switches.window_requests = 100_000_000
    with tenant:
        facts = (tenant.tenant_id, tenant.client_id, tenant.client_secret)
        door.send(Place(*facts, tenant.graph_url, tenant.login_url))
        door.recv()


def configured(place: Place, folder: Path) -> dict[str, object]:
    """The configuration of a service that saves the mail of all these people."""
    (folder / "secret").write_text(place.client_secret)
    section = {
        "type": "microsoft365", "tenant_id": place.tenant_id, "client_id": place.client_id,
        "client_secret_file": str(folder / "secret"), "graph_url": place.graph_url,
        "login_url": place.login_url, "services": ["mail"], "accounts": ["person*"],
    }  # fmt: skip
    return {"state_dir": str(folder / "state"), "sources": {"bench": section}}


def ours(door: Connection, place: Place, folder: Path) -> None:
    """A first sync of every account, as the service does it."""
    from backupd.app import App  # noqa: PLC0415 - its import is not what is measured
    from backupd.config import Config  # noqa: PLC0415
    from backupd.model import Service  # noqa: PLC0415
    from sources.graph import source  # noqa: F401, PLC0415

    app = App(Config.model_validate(configured(place, folder)))
    done: list[int] = []

    def work() -> None:
        run = app.sync()
        for outcome in run.outcomes:
            if outcome.errors or outcome.sync is None:
                raise SystemExit(f"ours: {outcome.errors}")
            done.append(outcome.sync.tallies[Service.MAIL].fetched)

    run = timed(work)
    door.send((run, sum(done)))


def loop(door: Connection, place: Place, folder: Path) -> None:
    """The peer: GET and write, nothing else."""
    done: list[int] = []
    listed = asyncio.run(listing(place))
    run = timed(lambda: done.append(asyncio.run(pull(place, listed, folder))))
    door.send((run, done[0]))


async def token(session: aiohttp.ClientSession, place: Place) -> dict[str, str]:
    """The header that opens the tenant."""
    form = {
        "grant_type": "client_credentials", "client_id": place.client_id,
        "client_secret": place.client_secret, "scope": "https://graph.microsoft.com/.default",
    }  # fmt: skip
    async with session.post(
        f"{place.login_url}/{place.tenant_id}/oauth2/v2.0/token", data=form
    ) as answer:
        return {"Authorization": f"Bearer {(await answer.json())['access_token']}"}


async def listing(place: Place) -> list[list[str]]:
    """The address of every message, by mailbox."""
    async with aiohttp.ClientSession() as session:
        session.headers.update(await token(session, place))
        users = await values(session, f"{place.graph_url}/users?$select=id,userPrincipalName")
        chosen = [str(each["id"]) for each in users if str(each["userPrincipalName"])[:6] == "person"]  # fmt: skip
        found = []
        for user in chosen:
            base = f"{place.graph_url}/users/{quote(user, safe='')}/messages"
            messages = await values(session, f"{base}?$select=id&$top=1000")
            found.append([f"{base}/{quote(str(each['id']), safe='')}/$value" for each in messages])
    return found


async def values(session: aiohttp.ClientSession, url: str) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    while url:
        async with session.get(url) as answer:
            page = await answer.json()
        found += page["value"]
        url = page.get("@odata.nextLink", "")
    return found


async def pull(place: Place, listed: list[list[str]], folder: Path) -> int:
    """Four requests at a time in each of four mailboxes."""
    done = 0
    mailboxes = iter(enumerate(listed))
    async with aiohttp.ClientSession() as session:
        session.headers.update(await token(session, place))

        async def reader(where: Path, numbered: Iterator[tuple[int, str]]) -> None:
            nonlocal done
            for number, url in numbered:
                async with session.get(url) as answer:
                    answer.raise_for_status()
                    body = await answer.read()
                (where / f"{number}.eml").write_bytes(body)
                done += 1

        async def worker() -> None:
            for mailbox, urls in mailboxes:
                where = folder / str(mailbox)
                where.mkdir()
                numbered = iter(enumerate(urls))
                await asyncio.gather(*(reader(where, numbered) for _ in range(WIDTH)))

        await asyncio.gather(*(worker() for _ in range(WORKERS)))
    return done


def compare(count: int) -> dict[str, Run]:
    """Both at one tenant; each must have had every message."""
    context = multiprocessing.get_context("spawn")
    near, far = context.Pipe()
    tenant = context.Process(target=serve, args=(far, count), daemon=True)
    tenant.start()
    place = near.recv()
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, work in (("loop", loop), ("ours", ours)):
            where = Path(folder) / name
            where.mkdir()
            os.sync()
            runs[name], got = in_a_process(work, place, where)
            if got != count:
                raise SystemExit(f"{name}: {got} messages instead of {count}")
    near.send("end")
    tenant.join()
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    count = QUICK if asked.quick else COUNT
    rounds = [compare(count) for _ in range(asked.rounds)]
    mine, peer = (middle_of(runs[name] for runs in rounds) for name in ("ours", "loop"))
    if asked.json:
        each = (mine.cpu / count * 1000, peer.cpu / count * 1000, "bare aiohttp loop", GOAL_CPU)
        tell([figure("first sync of mail by Graph, CPU", *each, unit="ms a message")], mine.peak_mb)
        return
    print(f"{count} messages in {MAILBOXES} mailboxes; ours is durable, indexed and catalogued")
    for name, run in (("bare aiohttp loop", peer), ("ours", mine)):
        print(f"  {name:20} {run.wall:7.2f} s  CPU {run.cpu:6.2f} s, {run.cpu / count * 1000:.3f} ms a message  peak {run.peak_mb:4.0f} MiB")  # fmt: skip
    print(f"CPU: {mine.cpu / peer.cpu:.2f} of the loop (goal {GOAL_CPU}); memory: {mine.peak_mb:.0f} MiB (goal {GOAL_MB})")  # fmt: skip


if __name__ == "__main__":
    main()
