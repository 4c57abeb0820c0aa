"""Figures for Prometheus, as a textfile or on a port of loopback.

No address leaves this machine by them: an account is the first digits of the SHA-256 of
`SOURCE/ADDRESS`, as in log lines (`backupd status MARK` says whose it is). Names, gauges but for those that end in `_total`:

    backupd_info{version}                                   1
    backupd_protected_age_seconds{account,source,service}   age of what a vault holds completely
    backupd_protected_timestamp_seconds{…}                  the same as a time, right also when we are gone
    backupd_synced_timestamp_seconds{account,source,service}
    backupd_snapshot_timestamp_seconds{account,source,storage}
    backupd_snapshot_current{account,source,storage}        1 when it lacks nothing that the mirror has
    backupd_items_held{account,source,service}, backupd_bytes_held{account,source}
    backupd_items_waiting{account,source}                   could not be had yet: the retry ledger
    backupd_retry_ledger_items{account,source,reason}       the same by why
    backupd_items_vanished{account,source}                  gone at the source, kept here
    backupd_case_state{source,account}                      0 healthy, 1 recovered, 2 degraded, 3 suspected, 4 confirmed
    backupd_frozen{source,account}                          1 when nothing of it is removed; account "" is a whole source
    backupd_run_success{account,source,verb}, backupd_run_failures_in_a_row{…}, backupd_run_timestamp_seconds{…}
    backupd_disk_free_bytes
    backupd_requests_total{source,outcome}                  attempts of this process: ok, connection, throttled, transient, …
    backupd_retries_total{source}                           those that were not the first
    backupd_throttled_seconds_total{source}                 pauses that the provider asked for

What is not known is left out: a service that was never saved has no age.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from backupd import __version__
from backupd.app import App
from backupd.cutoff.incidents import Incidents
from backupd.cutoff.verdict import Case, State
from backupd.errors import BackupdError
from backupd.marks import mark_of, word
from backupd.meters import readings
from backupd.report.status import AccountStatus, status_of

log = logging.getLogger(__name__)

STATES = {state: number for number, state in enumerate((State.HEALTHY, State.RECOVERED, State.DEGRADED, State.SUSPECTED, State.CONFIRMED))}  # fmt: skip
FRESH = 60.0
"""Seconds for which figures are handed out again before they are gathered anew."""
EVERY = 60.0
"""Seconds between two writings of the textfile."""


class Figures(Collector):
    """Everything above, gathered when it is asked for."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._kept: list[Metric] = []
        self._until = float("-inf")

    def collect(self) -> Iterable[Metric]:
        """The figures now, or as they were a moment ago."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._kept = list(_gathered(self._app))
                self._until = time.monotonic() + FRESH
            return self._kept


def registry_of(app: App) -> CollectorRegistry:
    """A registry of our own, with nothing else in it."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(app))
    return registry


def write(app: App) -> bool:
    """Replace the textfile, if there is to be one; whether it was written. Never raises for a disk."""
    path = app.config.metrics.textfile
    if path is None:
        return False
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_to_textfile(str(path), registry_of(app))
        path.chmod(0o644)  # somebody else's collector reads it; it names nobody
    except (OSError, BackupdError) as error:
        why = error.strerror if isinstance(error, OSError) else word(error.reason)
        log.warning("The figures cannot be written to %s: %s", path, why)
        return False
    return True


def serve(app: App) -> Callable[[], None]:
    """Answer on the configured port of loopback; call what is returned to stop. Raises OSError."""
    port = app.config.metrics.port
    if not port:
        return lambda: None
    server, thread = start_http_server(port, addr="127.0.0.1", registry=registry_of(app))

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join(5)

    return stop


class Exporter:
    """Keeps the textfile up to date while the service runs: give it every event, and close it."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._due = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics", daemon=True)
        try:
            self._stop = serve(app)
        except OSError as error:
            log.error("No figures on port %d: %s", app.config.metrics.port, error.strerror)  # noqa: TRY400
            self._stop = lambda: None
        if app.config.metrics.textfile:
            self._thread.start()

    def listen(self, event: object) -> None:
        """Something happened: the textfile is written soon. Returns at once."""
        del event
        self._due.set()

    def close(self) -> None:
        """Free the port, and write once more."""
        self._stop()
        self._ended.set()
        self._due.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _work(self) -> None:
        while self._due.wait():
            self._due.clear()
            write(self._app)
            if self._ended.wait(EVERY):
                write(self._app)
                return


# -- gathering --------------------------------------------------------------------------------


def _gathered(app: App) -> Iterator[Metric]:
    cases = {case.scope: case for case in Incidents(app.config.state_dir).cases()}
    found = [each for home in app.homes() if (each := _status(app, home, cases))]
    info = GaugeMetricFamily("backupd_info", "The version that runs.", labels=["version"])
    info.add_metric([__version__], 1)
    yield info
    yield from _ages(found)
    yield from _copies(found)
    yield from _amounts(found)
    yield from _ledgers(found)
    yield from _states(cases.values())
    yield from _requests()
    yield from _runs(app)
    free = GaugeMetricFamily("backupd_disk_free_bytes", "Free on the disk of the mirrors.")
    if app.config.state_dir.exists():
        free.add_metric([], shutil.disk_usage(app.config.state_dir).free)
    yield free


def _status(app: App, home: Any, cases: dict[str, Case]) -> AccountStatus | None:
    try:
        return status_of(home, list(app.config.storage), cases)
    except BackupdError as error:
        mark = mark_of(home.folder.parent.name, home.address)
        log.warning("account %s: no figures (%s)", mark, word(error.reason))
        log.debug("account %s: %s", mark, error)
        return None


def _who(each: AccountStatus) -> list[str]:
    return [mark_of(each.source, each.address), each.source]


def _ages(found: Iterable[AccountStatus]) -> Iterator[GaugeMetricFamily]:
    labels = ["account", "source", "service"]
    age = GaugeMetricFamily("backupd_protected_age_seconds", "Age of what a vault holds completely.", labels=labels)  # fmt: skip
    safe = GaugeMetricFamily("backupd_protected_timestamp_seconds", "Time up to which a vault holds everything.", labels=labels)  # fmt: skip
    synced = GaugeMetricFamily("backupd_synced_timestamp_seconds", "Time of the last complete sync.", labels=labels)  # fmt: skip
    now = int(time.time())
    for each in found:
        for service, seconds in each.protected.items():
            if seconds is not None:
                age.add_metric([*_who(each), service], seconds)
                safe.add_metric([*_who(each), service], now - seconds)
        for service, seconds in each.synced.items():
            if seconds is not None:
                synced.add_metric([*_who(each), service], now - seconds)
    yield from (age, safe, synced)


def _copies(found: Iterable[AccountStatus]) -> Iterator[GaugeMetricFamily]:
    labels = ["account", "source", "storage"]
    when = GaugeMetricFamily("backupd_snapshot_timestamp_seconds", "Time of the newest snapshot.", labels=labels)  # fmt: skip
    current = GaugeMetricFamily("backupd_snapshot_current", "1 when the newest snapshot lacks nothing.", labels=labels)  # fmt: skip
    now = int(time.time())
    for each in found:
        for copy in each.copies:
            when.add_metric([*_who(each), copy.storage], now - copy.age)
            current.add_metric([*_who(each), copy.storage], int(copy.current))
    yield from (when, current)


def _amounts(found: Iterable[AccountStatus]) -> Iterator[GaugeMetricFamily]:
    labels = ["account", "source"]
    items = GaugeMetricFamily("backupd_items_held", "Items in the mirror.", labels=[*labels, "service"])  # fmt: skip
    size = GaugeMetricFamily("backupd_bytes_held", "Bytes in the mirror.", labels=labels)
    waiting = GaugeMetricFamily("backupd_items_waiting", "Items that could not be had yet.", labels=labels)  # fmt: skip
    vanished = GaugeMetricFamily("backupd_items_vanished", "Items gone at the source and kept here.", labels=labels)  # fmt: skip
    for each in found:
        size.add_metric(_who(each), each.size)
        waiting.add_metric(_who(each), each.waits)
        vanished.add_metric(_who(each), each.missing)
        for service, count in each.items.items():
            items.add_metric([*_who(each), service], count)
    yield from (items, size, waiting, vanished)


def _ledgers(found: Iterable[AccountStatus]) -> Iterator[GaugeMetricFamily]:
    """Why items could not be had yet."""
    ledger = GaugeMetricFamily("backupd_retry_ledger_items", "Items that wait, by why.", labels=["account", "source", "reason"])  # fmt: skip
    for each in found:
        reasons: Counter[str] = Counter()
        for trouble in each.waiting:
            reasons[word(trouble.reason)] += trouble.items
        for reason, items in sorted(reasons.items()):
            ledger.add_metric([*_who(each), reason], items)
    yield ledger


def _requests() -> Iterator[CounterMetricFamily]:
    """What this process has asked of its sources."""
    requests = CounterMetricFamily("backupd_requests_total", "Attempts by what came of them.", labels=["source", "outcome"])  # fmt: skip
    retries = CounterMetricFamily("backupd_retries_total", "Attempts after the first.", labels=["source"])  # fmt: skip
    throttled = CounterMetricFamily("backupd_throttled_seconds_total", "Pauses that the provider asked for.", labels=["source"])  # fmt: skip
    for source, reading in readings().items():
        for outcome, count in sorted(reading.requests.items()):
            requests.add_metric([source, outcome], count)
        retries.add_metric([source], reading.retries)
        throttled.add_metric([source], reading.throttled)
    yield from (requests, retries, throttled)


def _states(cases: Iterable[Case]) -> Iterator[GaugeMetricFamily]:
    labels = ["account", "source"]
    state = GaugeMetricFamily("backupd_case_state", "0 healthy, 1 recovered, 2 degraded, 3 suspected, 4 confirmed.", labels=labels)  # fmt: skip
    frozen = GaugeMetricFamily("backupd_frozen", "1 when nothing of it is removed.", labels=labels)
    for case in cases:
        source, _, address = case.scope.partition("/")
        who = [mark_of(source, address) if address else "", source]
        state.add_metric(who, STATES[case.state])
        frozen.add_metric(who, int(case.frozen))
    yield from (state, frozen)


def _runs(app: App) -> Iterator[GaugeMetricFamily]:
    """What the service noted of its last runs; nothing when it never ran."""
    labels = ["account", "source", "verb"]
    success = GaugeMetricFamily("backupd_run_success", "1 when the last run went well.", labels=labels)  # fmt: skip
    failures = GaugeMetricFamily("backupd_run_failures_in_a_row", "Runs that failed since the last good one.", labels=labels)  # fmt: skip
    ended = GaugeMetricFamily("backupd_run_timestamp_seconds", "When the last run ended.", labels=labels)  # fmt: skip
    for scope, runs in service_notes(app).get("accounts", {}).items():
        source, _, address = scope.partition("/")
        for verb, run in runs.items():
            who = [mark_of(source, address), source, verb]
            success.add_metric(who, int(run["ok"]))
            failures.add_metric(who, run["failures"])
            ended.add_metric(who, run["ended"])
    yield from (success, failures, ended)


def service_notes(app: App) -> dict[str, Any]:
    """What `backupd run` noted last (`<state>/service.json`); empty when it never ran."""
    try:
        return dict(json.loads((app.config.state_dir / "service.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}
