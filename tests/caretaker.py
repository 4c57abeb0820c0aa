"""`backupd run` beside a simulated tenant, as a process, and what it says to systemd and to the log."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from household import Household, indexed

from backupd.home import home_of

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"
QUICK = '[schedule]\nsync = "2s"\nfast = "1s"\nsnapshot = "3s"\n'


def subjects(house: Household, alias: str = "amelia") -> set[str]:
    """The subjects that the mirror tells of."""
    home = home_of(house.folder / "state", "demo", f"{alias}@harbourlight.example")
    return {line.get("subject", "") for _, line in indexed(home.mirror_path, "mail")}


def letter(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\nx\r\n".encode()


def small(build: Build, **more: Any) -> Household:
    more = {"people": 1, "messages": 3, "oddities": False, "extras": False, **more}
    house = build(accounts=["*"], services=["mail", "calendar"], **more)
    house.configure(QUICK)
    return house


def until(true: Callable[[], Any], seconds: float = 60.0, *, every: float = 0.3) -> Any:
    """Wait for something to become true and return it; fails when it does not."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(every)
    return found


class Notices:
    """A real notification socket, and all that was sent to it."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "notify")
        self.heard: list[tuple[float, str]] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(0.2)
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._open = True
        self._thread.start()

    def _listen(self) -> None:
        while self._open:
            with contextlib.suppress(TimeoutError):
                self.heard.append((time.monotonic(), self._socket.recv(65536).decode()))

    def has(self, word: str) -> bool:
        return any(word in text.splitlines() for _, text in self.heard)

    def count(self, word: str) -> int:
        return sum(word in text.splitlines() for _, text in self.heard)

    def close(self) -> None:
        self._open = False
        self._thread.join()
        self._socket.close()
        Path(self.path).unlink()


class Caretaker:
    """The service as a process of its own; killed with everything it started at the end of `with`."""

    def __init__(self, house: Household, *options: str, **environment: str) -> None:
        self.house = house
        self.log_path = house.folder / "service.log"
        self.log_path.unlink(missing_ok=True)
        self.notices = Notices(house.folder)
        self._log = self.log_path.open("w")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "backupd", "--config", str(house.config), *options, "run"],
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, "NOTIFY_SOCKET": self.notices.path, **environment},
            start_new_session=True,
        )

    def __enter__(self) -> Caretaker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        self.notices.close()
        self._log.close()
        if error:
            sys.stdout.write(self.log)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def ready(self) -> Caretaker:
        until(lambda: self.notices.has("READY=1") or self.process.poll() is not None)
        assert self.process.poll() is None, self.log
        return self

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def stop(self) -> tuple[int, float]:
        """Ask it to end; its exit code and the seconds that it took."""
        began = time.monotonic()
        self.signal(signal.SIGTERM)
        code = self.process.wait(40)
        return code, time.monotonic() - began

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    @property
    def state(self) -> dict[str, Any]:
        """What `service.json` says."""
        try:
            found: dict[str, Any] = json.loads(
                (self.house.folder / "state/service.json").read_text()
            )
        except FileNotFoundError:
            return {"accounts": {}, "sources": {}}
        return found

    def ran(self, verb: str, address: str) -> dict[str, Any]:
        """The last run of a verb for an account, or {}."""
        found: dict[str, Any] = (
            self.state["accounts"].get(f"demo/{address}@harbourlight.example", {}).get(verb, {})
        )
        return found


@contextlib.contextmanager
def running(house: Household, *options: str, **environment: str) -> Iterator[Caretaker]:
    """The service, ready."""
    with Caretaker(house, *options, **environment) as service:
        yield service.ready()
