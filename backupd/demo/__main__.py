"""`python -m backupd.demo`: serve the simulated tenant until told to stop.

Prints one line of JSON with the addresses, ids and the (worthless) secret, then nothing.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading

from backupd.demo.tenant import SimulatedTenant


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m backupd.demo", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="of login and Graph; any free one")
    parser.add_argument("--seed", type=int, default=7, help="the same seed, the same tenant")
    parser.add_argument("--people", type=int, default=6, help="users, at most six")
    parser.add_argument("--messages", type=int, default=30, help="everyday messages of each")
    parser.add_argument("--bulk", type=int, default=0, help="made messages of the first user")
    return parser.parse_args()


def describe(tenant: SimulatedTenant) -> dict[str, object]:
    """What a client must know to connect."""
    return {
        "graph_url": tenant.graph_url,
        "login_url": tenant.login_url,
        "download_url": tenant.download_url,
        "control_url": tenant.graph_url.removesuffix("v1.0") + "_control/",
        "tenant_id": tenant.tenant_id,
        "client_id": tenant.client_id,
        "client_secret": tenant.client_secret,
        "users": [user.upn for user in tenant.state.directory.users],
    }


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    asked = _arguments()
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with SimulatedTenant(
        asked.seed,
        port=asked.port,
        people=asked.people,
        messages=asked.messages,
        bulk_messages=asked.bulk,
    ) as tenant:
        sys.stdout.write(json.dumps(describe(tenant)) + "\n")
        sys.stdout.flush()
        stop.wait()


if __name__ == "__main__":
    main()
