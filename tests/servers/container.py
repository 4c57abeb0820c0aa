"""A machine with a real systemd as PID 1: this one's own files under an overlay, booted by systemd-nspawn.

Nothing of the host is changed: what the machine writes lies in a tmpfs that goes with it. Needs
root, and no systemd on the host. The network is the host's, so 127.0.0.1 is the same for both.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
BOOTED = {"running", "degraded"}


class Container:
    """The machine; its files are below `root` and keep over a reboot."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = folder / "root"
        self._process: subprocess.Popen[bytes] | None = None

    def build(self) -> None:
        """Lay the overlay over the host's files, without the services of the host."""
        _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", str(self.folder))
        layers = [self.folder / name for name in ("upper", "work", "root")]
        for each in layers:
            each.mkdir()
        _run(
            "mount", "-t", "overlay", "-o",
            f"lowerdir=/,upperdir={layers[0]},workdir={layers[1]}", "overlay", str(self.root),
        )  # fmt: skip
        for wants in self.root.glob("etc/systemd/system/*.wants"):
            shutil.rmtree(wants)
        for place in (PROJECT, Path(sys.base_prefix)):
            for parent in place.parents:
                if self.path(str(parent)).is_dir():
                    self.path(str(parent)).chmod(0o755)
        shutil.rmtree(self.path("/var/log/journal"), ignore_errors=True)

    def path(self, inside: str) -> Path:
        """Where a file of the machine lies here."""
        return self.root / inside.lstrip("/")

    def boot(self) -> None:
        """Start it, and wait until systemd says that it is up."""
        with (self.folder / "console").open("ab") as console:
            self._process = subprocess.Popen(
                ["systemd-nspawn", "-D", self.root, "--boot", "--register=no", "--keep-unit",
                 "--console=pipe", "--machine=backupd-test", f"--bind-ro={PROJECT}",
                 f"--bind-ro={sys.base_prefix}"],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )  # fmt: skip
        end = time.monotonic() + 90
        while self._state() not in BOOTED:
            if time.monotonic() > end or self._process.poll() is not None:
                pytest.skip(f"the container does not boot here: {self.console[-800:]}")
            time.sleep(0.2)

    def run(self, *command: str, check: bool = True, stdin: str = "") -> str:
        """Run a command inside; what it printed."""
        done = self._inside(*command, stdin=stdin)
        assert not check or done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def fails(self, *command: str) -> str:
        """Run a command that must fail; what it said."""
        done = self._inside(*command)
        assert done.returncode, done.stdout
        return done.stdout + done.stderr

    def cut_power(self) -> None:
        """Kill everything in it at once."""
        leader = self._leader()
        if leader:
            os.kill(leader, signal.SIGKILL)
        if self._process:
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Cut the power and drop everything that it wrote."""
        self.cut_power()
        for place in (self.root, self.folder):
            subprocess.run(["umount", "-R", "-l", place], check=False, capture_output=True)

    @property
    def console(self) -> str:
        path = self.folder / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def _state(self) -> str:
        return (
            self._inside("systemctl", "is-system-running").stdout.strip() if self._leader() else ""
        )

    def _leader(self) -> int:
        """The machine's PID 1, as the host numbers it."""
        if self._process is None:
            return 0
        pid = self._process.pid
        with contextlib.suppress(OSError):
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            return int(children[0]) if children else 0
        return 0

    def _inside(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        door = [
            "nsenter",
            "-t",
            str(self._leader()),
            "-m",
            "-u",
            "-i",
            "-n",
            "-p",
            "-C",
            "-r",
            "-w",
            "--",
        ]
        return subprocess.run(
            [*door, *command], input=stdin, capture_output=True, text=True, check=False, timeout=150
        )


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]} is not allowed here: {done.stderr.strip()}")


@contextlib.contextmanager
def container(folder: Path) -> Iterator[Container]:
    """A booted machine. Skips the test where there can be none."""
    if os.geteuid():
        pytest.skip("only root can boot a container")
    for program in ("systemd-nspawn", "nsenter", "mount"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    machine = Container(folder)
    try:
        machine.build()
        machine.boot()
        yield machine
    finally:
        machine.remove()
