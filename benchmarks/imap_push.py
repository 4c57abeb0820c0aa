"""Mail into an IMAP server: ours beside mbsync and beside a bare loop of APPEND.

10,000 generated messages (median 20 kB, heavy tail) go into one Dovecot on loopback, each
contender into a user of its own, in a process of its own. Measured are wall time, the CPU time of
the contender and its peak memory; `read back` is ours alone: every message fetched and hashed.

    python benchmarks/imap_push.py [--quick]    a table
    python benchmarks/imap_push.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

import imapclient

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from servers.dovecot import Dovecot, dovecot

from backupd.errors import IntegrityError
from backupd.model import Service
from backupd.ports import Claim, Parcel, Reader, Shelf
from targets.endpoint import Endpoint
from targets.imap import Imap

COUNT, QUICK = 10_000, 1_000
GOAL_LOOP, GOAL_MBSYNC, GOAL_MB = 0.5, 1.0, 200
MEDIAN, SIGMA, LARGEST = 20_000, 1.2, 3 << 20
WHERE = Shelf(Service.MAIL, "mail/Bench", ("Bench",), 0, 0)


@dataclass(frozen=True)
class Run:
    """What one contender needed."""

    wall: float
    cpu: float
    peak_mb: float


def generate(folder: Path, count: int) -> int:
    """A Maildir of messages that are the same on every run; returns their bytes."""
    chance = random.Random(20_240_229)
    text = chance.randbytes(1 << 20).hex()
    for each in ("cur", "new", "tmp"):
        (folder / each).mkdir(parents=True)
    total = 0
    for number in range(count):
        size = min(LARGEST, int(chance.lognormvariate(0, SIGMA) * MEDIAN))
        start = chance.randrange(1 << 20)
        head = (
            f"Received: from mx{number % 7}.example.org by example.net; Thu, 29 Feb 2024 12:00:00 +0000\n"
            f"From: Person {number % 97} <p{number % 97}@example.org>\nTo: us@example.net\n"
            f"Date: Thu, 29 Feb 2024 12:00:00 +0000\nMessage-ID: <{number}.{start}@example.org>\n"
            f"Subject: Message {number}\nMIME-Version: 1.0\nContent-Type: text/plain\n\n"
        )
        lines = (
            text[(place := (start + at) % (1 << 20)) : place + 76] for at in range(0, size, 76)
        )
        body = head + "\n".join(lines) + "\n"
        (folder / "cur" / f"{number:06d}.bench:2,S").write_text(body)
        total += len(body)
    return total


def crlf(path: Path) -> bytes:
    """The message as mail is kept in a mirror."""
    return path.read_bytes().replace(b"\n", b"\r\n")


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cur").iterdir())


class Checked:
    """A reader as the verb hands it out, hashing what it reads."""

    def __init__(self, path: Path, sha256: str) -> None:
        self._path, self._wanted, self._hash = path, sha256, hashlib.sha256()
        self._file: IO[bytes] | None = None

    def read(self, size: int = -1, /) -> bytes:
        self._file = self._file or self._path.open("rb")
        data = self._file.read(size)
        self._hash.update(data)
        if not data:
            self._file.close()
            if self._hash.hexdigest() != self._wanted:
                raise IntegrityError("other bytes than were fetched")
        return data


def parcels(folder: Path) -> Iterator[tuple[Parcel, Reader]]:
    for path in files(folder):
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        about = {"seen": True, "received": "2024-02-29T12:00:00Z"}
        each = Parcel(Service.MAIL, WHERE.names, path.name, path.name, (), len(data), digest, about)
        yield each, Checked(path, digest)


def ours(door: Connection, server: tuple[str, int, str], mirror: Path) -> None:
    """Put everything, then read it back; two runs are sent through the door."""
    host, port, password = server
    there = Imap(
        Endpoint(
            "bench", "imap", host=host, port=port, security="plain", username="ours",
            secret=lambda: password,
        )
    )  # fmt: skip
    there.make_collection(WHERE)
    items = list(parcels(mirror))  # what restic hands over; not measured
    door.send(timed(lambda: results.extend(there.put(WHERE, items, look=False)), results := []))
    claims = [Claim(parcel, done) for parcel, done in results]
    proofs: list[str] = []
    door.send(timed(lambda: proofs.extend(each.state for each in there.read_back(WHERE, claims))))
    door.send(({done.state for _, done in results}, set(proofs), len(proofs)))
    there.close()


def loop(door: Connection, server: tuple[str, int, str], mirror: Path) -> None:
    """The peer that everybody writes first."""
    host, port, password = server
    client = imapclient.IMAPClient(host, port, ssl=False)
    client.login("loop", password)
    client.create_folder("Bench")
    paths = files(mirror)

    def work() -> None:
        for path in paths:
            client.append("Bench", path.read_bytes(), (imapclient.SEEN,))

    door.send(timed(work))
    client.logout()


def timed(work: Callable[[], object], _: object = None) -> Run:
    began, busy = time.monotonic(), time.process_time()
    work()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return Run(time.monotonic() - began, time.process_time() - busy, peak)


def in_a_process(work: Callable[..., None], server: Dovecot, mirror: Path, answers: int) -> list:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    door = (server.host, server.imap, server.password)
    process = context.Process(target=work, args=(there, door, mirror))
    process.start()
    there.close()
    try:
        return [here.recv() for _ in range(answers)]
    finally:
        process.join()


MBSYNC = """
FSync no

IMAPStore there
Host {host}
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN
{depth}

MaildirStore here
Path {work}/
Inbox {maildir}
SubFolders Verbatim

Channel push
Far :there:Bench
Near :here:
Create Far
Sync Push
SyncState {work}/
"""


def mbsync(server: Dovecot, maildir: Path, user: str, depth: int | None) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        work, config = Path(folder), Path(folder) / "mbsyncrc"
        copy = work / "Maildir"  # it renames the files
        shutil.copytree(maildir, copy)
        config.write_text(
            MBSYNC.format(
                host=server.host, port=server.imap, user=user, password=server.password,
                depth=f"PipelineDepth {depth}" if depth else "", work=work, maildir=copy,
            )
        )  # fmt: skip
        began = time.monotonic()
        process = subprocess.Popen(
            ["mbsync", "-q", "-c", str(config), "push"], stderr=subprocess.DEVNULL
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"mbsync ended with {process.returncode}")
        return Run(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def installed() -> str:
    """The version of mbsync, installed from Debian when it is missing and we may."""
    if shutil.which("mbsync") is None and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-qy", "isync"], check=False, capture_output=True)
    if shutil.which("mbsync") is None:
        raise SystemExit("mbsync is not installed: apt-get install isync")
    said = subprocess.run(["mbsync", "--version"], capture_output=True, text=True, check=True)
    return (said.stdout or said.stderr).splitlines()[0].replace("isync", "mbsync")


def stored(server: Dovecot, user: str) -> int:
    client = imapclient.IMAPClient(server.host, server.imap, ssl=False)
    client.login(user, server.password)
    count = int(client.folder_status("Bench", "MESSAGES")[b"MESSAGES"])
    client.logout()
    return count


def compare(count: int) -> tuple[dict[str, Run], int]:
    """One round of everybody on one server."""
    runs: dict[str, Run] = {}
    with tempfile.TemporaryDirectory() as folder, dovecot() as server:
        plain, mirror = Path(folder) / "plain", Path(folder) / "mirror"
        total = generate(plain, count)
        (mirror / "cur").mkdir(parents=True)
        for path in files(plain):
            (mirror / "cur" / path.name).write_bytes(crlf(path))
        [runs["loop"]] = in_a_process(loop, server, mirror, 1)
        put, back, (states, proofs, number) = in_a_process(ours, server, mirror, 3)
        runs["ours"], runs["read back"] = put, back
        runs["mbsync"] = mbsync(server, plain, "mbsync", None)
        runs["mbsync 50"] = mbsync(server, plain, "mbsync50", 50)
        for user in ("loop", "ours", "mbsync", "mbsync50"):
            if stored(server, user) != count:
                raise SystemExit(f"{user} stored {stored(server, user)} messages")
        if states != {"restored"} or proofs != {"same"} or number != count:
            raise SystemExit(f"ours: {states}, {proofs}, {number}")
    return runs, total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    peers = {"loop": f"loop over imapclient {importlib.metadata.version('imapclient')}"}
    version = installed()
    peers |= {
        "mbsync": f"{version}, FSync no",
        "mbsync 50": f"{version}, FSync no, PipelineDepth 50",
    }
    count = QUICK if asked.quick else COUNT
    rounds = [compare(count) for _ in range(asked.rounds)]
    middle = {
        name: Run(
            statistics.median(runs[name].wall for runs, _ in rounds),
            statistics.median(runs[name].cpu for runs, _ in rounds),
            max(runs[name].peak_mb for runs, _ in rounds),
        )
        for name in rounds[0][0]
    }
    report(middle, peers, (count, rounds[0][1]), as_json=asked.json)


def report(
    runs: dict[str, Run], peers: dict[str, str], work: tuple[int, int], *, as_json: bool
) -> None:
    mine = runs["ours"]
    goals = {"loop": GOAL_LOOP, "mbsync": GOAL_MBSYNC, "mbsync 50": GOAL_MBSYNC}
    if as_json:
        figures = [
            {
                "name": f"put mail by IMAP, beside {name}",
                "ours": round(mine.wall, 2),
                "peer": round(runs[name].wall, 2),
                "peer_name": peers[name],
                "ratio": round(mine.wall / runs[name].wall, 3),
                "goal": goal,
                "unit": "s",
                "peak_mb": round(mine.peak_mb, 1),
            }
            for name, goal in goals.items()
        ]
        print(json.dumps({"figures": figures}))
        return
    count, total = work
    print(f"{count} messages, {total / 1e6:.0f} MB, Dovecot on loopback")
    for name, run in runs.items():
        ratio = f"ours is {mine.wall / run.wall:.2f} of it (goal {goals[name]})" if name in goals else ""  # fmt: skip
        print(
            f"{peers.get(name, name):48} {run.wall:7.2f} s  CPU {run.cpu:6.2f} s"
            f"  peak {run.peak_mb:5.0f} MiB  {count / run.wall:6.0f}/s  {ratio}"
        )
    print(f"memory goal: {GOAL_MB} MiB")


if __name__ == "__main__":
    main()
