"""What systemd wants to be told: datagrams to the socket that it names in the environment."""

from __future__ import annotations

import contextlib
import os
import socket
import time

MICROSECONDS = 1_000_000


def notify(**facts: str | int) -> bool:
    """Send `READY=1` and the like; False when nobody listens. Never raises for a listener that is gone."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    told = "\n".join(f"{key}={_one_line(value)}" for key, value in facts.items())
    with (
        contextlib.suppress(OSError),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender,
    ):
        sender.connect("\0" + address[1:] if address.startswith("@") else address)
        sender.sendall(told.encode())
        return True
    return False


def reloading() -> None:
    """A reload begins; READY=1 ends it."""
    notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


def watchdog_seconds() -> float | None:
    """How often systemd wants a sign of life of this process, or None."""
    asked, whose = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not asked.isdigit() or (whose and whose != str(os.getpid())):
        return None
    return int(asked) / MICROSECONDS


def _one_line(value: str | int) -> str:
    return " ".join(str(value).splitlines())
