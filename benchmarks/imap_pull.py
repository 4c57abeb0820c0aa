"""Mail out of an IMAP server: ours beside mbsync and beside a bare loop of FETCH.

20,000 generated messages (median 20 kB, heavy tail) in four folders of one Dovecot on loopback. Ours is a whole sync
of the account into an empty mirror: every batch flushed to disk, named in the catalog, indexed. Then nothing is
new, then 100 messages are. Each contender is a process of its own; measured are its wall time, its CPU time and its
peak memory.

    python benchmarks/imap_pull.py [--quick]    a table
    python benchmarks/imap_pull.py --json       one object for the gate
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import imapclient
from figures import Run, figure, in_a_process, middle_of, tell, timed

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from servers.dovecot import Dovecot, dovecot
from servers.process import give

COUNT, QUICK, NEW = 20_000, 2_000, 100
GOAL_WALL, GOAL_CPU, GOAL_MB = 1.0, 0.25, 150
MEDIAN, SIGMA, LARGEST = 20_000, 1.2, 3 << 20
FOLDERS = ("", ".Work", ".Lists", ".Old")
USER = "bench"


def generate(maildir: Path, count: int, first: int = 0) -> int:
    """Messages, the same on every run, into a Maildir that Dovecot serves; returns their bytes."""
    chance = random.Random(20_240_229 + first)
    text = chance.randbytes(1 << 20).hex()
    total = 0
    for number in range(first, first + count):
        size = min(LARGEST, int(chance.lognormvariate(0, SIGMA) * MEDIAN))
        start = chance.randrange(1 << 20)
        head = (
            f"Received: from mx{number % 7}.example.org by example.net; Thu, 29 Feb 2024 12:00:00 +0000\r\n"
            f"From: Person {number % 97} <p{number % 97}@example.org>\r\nTo: us@example.net\r\n"
            f"Date: Thu, 29 Feb 2024 12:00:00 +0000\r\nMessage-ID: <{number}.{start}@example.org>\r\n"
            f"Subject: Message {number}\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n"
        )
        lines = (text[(p := (start + at) % (1 << 20)) : p + 76] for at in range(0, size, 76))
        folder = maildir / FOLDERS[number % len(FOLDERS)]
        for each in ("cur", "new", "tmp"):
            (folder / each).mkdir(parents=True, exist_ok=True)
        body = (head + "\r\n".join(lines) + "\r\n").encode()
        path = folder / "cur" / f"{1_700_000_000 + number}.M{number}.bench:2,S"
        path.write_bytes(body)
        os.utime(path, (1_700_000_000 + number * 900,) * 2)
        total += len(body)
    return total


def ours(door: Connection, server: tuple[str, int, str], folder: Path) -> None:
    """One sync of the account, as the daemon does it."""
    from backupd.config import Imap  # noqa: PLC0415 - its import is not what is measured
    from backupd.home import home_of  # noqa: PLC0415
    from backupd.model import Service  # noqa: PLC0415
    from backupd.sync.account import sync_account  # noqa: PLC0415
    from backupd.sync.guard import Guard  # noqa: PLC0415
    from sources.imap.source import ImapSource  # noqa: PLC0415

    host, port, password = server
    secret = folder / "secret"
    secret.write_text(password)
    section = Imap.model_validate(
        {
            "name": "bench", "type": "imap", "host": host, "port": port, "security": "plain",
            "username": USER, "password_file": secret,
        }
    )  # fmt: skip
    source = ImapSource(section)
    [account] = source.accounts()
    home = home_of(folder / "state", "bench", account.address)
    done: list[int] = []

    def work() -> None:
        result = sync_account(source, account, list(Service), home, Guard(0.5, 50))
        if result.errors:
            raise SystemExit(f"ours: {result.errors}")
        done.append(result.tallies[Service.MAIL].fetched)

    run = timed(work)
    source.close()
    door.send((run, done[0]))


def loop(door: Connection, server: tuple[str, int, str], folder: Path) -> None:
    """The peer that everybody writes first: FETCH by a hundred, a file each, what is there already skipped."""
    host, port, password = server
    client = imapclient.IMAPClient(host, port, ssl=False)
    client.login(USER, password)
    done: list[int] = []

    def work() -> None:
        for _, _, name in client.list_folders():
            where = folder / name
            where.mkdir(parents=True, exist_ok=True)
            client.select_folder(name, readonly=True)
            uids = [uid for uid in client.search() if not (where / f"{uid}.eml").exists()]
            for start in range(0, len(uids), 100):
                asked = uids[start : start + 100]
                for uid, held in client.fetch(asked, ["BODY.PEEK[]", "FLAGS"]).items():
                    (where / f"{uid}.eml").write_bytes(held[b"BODY[]"])
                    done.append(uid)

    run = timed(work)
    client.logout()
    door.send((run, len(done)))


def alone(work: Callable[..., None], server: Dovecot, folder: Path) -> tuple[Run, int]:
    """A contender in a process of its own."""
    return in_a_process(work, (server.host, server.imap, server.password), folder)


MBSYNC = """
FSync {fsync}

IMAPStore there
Host {host}
Port {port}
User {user}
Pass {password}
SSLType None
AuthMechs LOGIN
PipelineDepth 50

MaildirStore here
Path {folder}/mail/
Inbox {folder}/mail/INBOX
SubFolders Verbatim

Channel pull
Far :there:
Near :here:
Patterns *
Create Near
Sync Pull
SyncState *
"""


def mbsync(server: Dovecot, folder: Path, *, fsync: bool) -> tuple[Run, int]:
    (folder / "mail").mkdir(parents=True, exist_ok=True)
    config = folder / "mbsyncrc"
    before = messages(folder / "mail")
    config.write_text(
        MBSYNC.format(
            host=server.host, port=server.imap, user=USER, password=server.password, folder=folder,
            fsync="yes" if fsync else "no",
        )
    )  # fmt: skip
    began = time.monotonic()
    process = subprocess.Popen(["mbsync", "-q", "-c", str(config), "pull"])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"mbsync ended with {process.returncode}")
    run = Run(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
    return run, messages(folder / "mail") - before


def messages(folder: Path) -> int:
    return sum(1 for path in folder.rglob("*") if path.is_file() and path.parent.name in {"cur", "new"})  # fmt: skip


def installed() -> str:
    """The version of mbsync, installed from Debian when it is missing and we may."""
    if shutil.which("mbsync") is None and os.geteuid() == 0:
        subprocess.run(["apt-get", "install", "-qy", "isync"], check=False, capture_output=True)
    if shutil.which("mbsync") is None:
        raise SystemExit("mbsync is not installed: apt-get install isync")
    said = subprocess.run(["mbsync", "--version"], capture_output=True, text=True, check=True)
    return (said.stdout or said.stderr).splitlines()[0].replace("isync", "mbsync")


Rounds = dict[str, dict[str, Run]]


def compare(count: int) -> tuple[Rounds, int]:
    """Everybody on one server: all of it, nothing new, some new."""
    runs: Rounds = {"all": {}, "nothing new": {}, f"{NEW} new": {}}
    with tempfile.TemporaryDirectory() as place, dovecot() as server:
        total = generate(server.maildir(USER), count)
        give(server.folder / "mail")
        # Dovecot's own index, for everybody. What it wrote stays: ext4 is slow for minutes after many files were deleted.
        alone(loop, server, made(Path(place) / "warm"))
        contenders: dict[str, Callable[[Path], tuple[Run, int]]] = {
            "loop": lambda folder: alone(loop, server, folder),
            "mbsync": lambda folder: mbsync(server, folder, fsync=False),
            "mbsync fsync": lambda folder: mbsync(server, folder, fsync=True),
            "ours": lambda folder: alone(ours, server, folder),
        }
        for part, wanted in (("all", count), ("nothing new", 0), (f"{NEW} new", NEW)):
            if part == f"{NEW} new":
                generate(server.maildir(USER), NEW, first=count)
                give(server.folder / "mail")
            for name, work in contenders.items():
                os.sync()
                runs[part][name], got = work(made(Path(place) / name.replace(" ", "-")))
                if got != wanted:
                    raise SystemExit(f"{name}, {part}: {got} messages instead of {wanted}")
    return runs, total


def made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} messages")
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    version = installed()
    peers = {
        "loop": f"loop over imapclient {importlib.metadata.version('imapclient')}",
        "mbsync": f"{version}, FSync no",
        "mbsync fsync": f"{version}, FSync yes",
    }
    count = QUICK if asked.quick else COUNT
    rounds = [compare(count) for _ in range(asked.rounds)]
    middle = {
        part: {name: middle_of([runs[part][name] for runs, _ in rounds]) for name in named}
        for part, named in rounds[0][0].items()
    }
    report(middle, peers, (count, rounds[0][1]), as_json=asked.json)


def report(runs: Rounds, peers: dict[str, str], work: tuple[int, int], *, as_json: bool) -> None:
    everything, nothing = runs["all"], runs["nothing new"]
    mine = everything["ours"]
    if as_json:
        figures = [
            figure("pull mail by IMAP, wall", mine.wall, everything["mbsync"].wall, peers["mbsync"], GOAL_WALL),
            figure("pull mail by IMAP, CPU", mine.cpu, everything["loop"].cpu, peers["loop"], GOAL_CPU),
            figure("nothing new by IMAP, wall", nothing["ours"].wall, nothing["mbsync"].wall, peers["mbsync"], GOAL_WALL),
        ]  # fmt: skip
        tell(figures, mine.peak_mb)
        return
    count, total = work
    print(
        f"{count} messages, {total / 1e6:.0f} MB, Dovecot on loopback; ours is durable, indexed and catalogued"
    )
    for part, named in runs.items():
        print(part)
        for name, run in named.items():
            print(
                f"  {peers.get(name, name):40} {run.wall:7.2f} s  CPU {run.cpu:6.2f} s  peak {run.peak_mb:5.0f} MiB"
            )
    print(f"wall: {mine.wall / everything['mbsync'].wall:.2f} of mbsync without fsync (goal {GOAL_WALL})")  # fmt: skip
    print(f"CPU: {mine.cpu / everything['loop'].cpu:.2f} of the loop (goal {GOAL_CPU})")
    print(f"memory: {mine.peak_mb:.0f} MiB (goal {GOAL_MB})")
    print(f"nothing new: {nothing['ours'].wall / nothing['mbsync'].wall:.2f} of mbsync (goal {GOAL_WALL})")  # fmt: skip


if __name__ == "__main__":
    main()
