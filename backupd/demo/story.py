"""The demonstration: a simulated tenant is backed up, cut off, and brought back elsewhere.

Nothing here is special: it drives the same verbs as the command line, on real restic vaults.
"""

from __future__ import annotations

import secrets
import shutil
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from backupd.app import App, Run
from backupd.config import load
from backupd.demo.tenant import SimulatedTenant
from backupd.errors import UserError
from backupd.jobs.restores import Destination, destination, job
from backupd.mirror.files import hash_file
from backupd.restore.contents import Selection
from backupd.restore.result import RestoreResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.home import Home

CONFIG = """\
state_dir = "{folder}/state"
[sources.demo]
type = "microsoft365"
tenant_id = "{tenant_id}"
client_id = "{client_id}"
client_secret_file = "{folder}/client_secret"
graph_url = "{graph_url}"
login_url = "{login_url}"
[storage.primary]
repository = "{folder}/vaults"
password_file = "{folder}/password"
"""

NEWS = b"""\
From: Registry <registry@court.example>\r
To: amelia@harbourlight.example\r
Date: Wed, 25 Nov 2026 08:00:00 +0000\r
Message-ID: <%d@court.example>\r
Subject: Hearing moved to room %d\r
Content-Type: text/plain; charset=utf-8\r
\r
The hearing takes place in room %d.\r
"""

NEW_MAILS = 3


class Narrator:
    """Prints the story, or keeps its facts for JSON."""

    def __init__(self, as_json: bool) -> None:
        self.facts: dict[str, object] = {}
        self._silent = as_json
        self._began = time.monotonic()

    def chapter(self, title: str) -> None:
        """A new part of the story."""
        self.say(f"\n[{time.monotonic() - self._began:4.0f} s] {title}")

    def say(self, line: str) -> None:
        """A line of it."""
        if not self._silent:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


def play(keep: str | None, narrator: Narrator) -> int:
    """Tell the story; returns an exit code: 0 only when every item came back with its hash."""
    with _folder(keep) as folder, SimulatedTenant(seed=7) as tenant:
        app = _configured(folder, tenant)
        narrator.chapter("A Microsoft 365 tenant (simulated, on this machine) is backed up")
        _show(narrator, "first", app.backup())
        narrator.chapter(f"{NEW_MAILS} mails arrive; the next backup takes only those")
        for number in range(NEW_MAILS):
            tenant.state.deliver("amelia", "inbox", NEWS % (number, number, number))
        _show(narrator, "second", app.backup())
        narrator.chapter("Nothing happens; the next backup starts no restic and writes no snapshot")
        _show(narrator, "third", app.backup())
        narrator.chapter("Overnight, the tenant is switched off")
        tenant.cut_off("tenant_deleted")
        _show_cut_off(narrator, app.backup())
        narrator.chapter("The mirrors are lost too; everything comes back from the vaults alone")
        homes = app.homes()
        for home in homes:
            shutil.rmtree(home.mirror_path)
        code = _restore_all(narrator, app, homes, folder / "restored")
        if keep:
            narrator.say(f"\nEverything is kept in {folder} (configuration: {folder}/config.toml).")
        return code


@contextmanager
def _folder(keep: str | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="backupd-demo-") as folder:
            yield Path(folder)
        return
    path = Path(keep).absolute()
    if path.exists() and any(path.iterdir()):
        raise UserError(f"{path} is not empty.", hint="Name a new folder.")
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    yield path


def _configured(folder: Path, tenant: SimulatedTenant) -> App:
    (folder / "client_secret").write_text(tenant.client_secret)
    (folder / "password").write_text(secrets.token_urlsafe(24))
    path = folder / "config.toml"
    path.write_text(
        CONFIG.format(
            folder=folder,
            tenant_id=tenant.tenant_id,
            client_id=tenant.client_id,
            graph_url=tenant.graph_url,
            login_url=tenant.login_url,
        )
    )
    return App(load(path))


def _show(narrator: Narrator, name: str, run: Run) -> None:
    tallies = [t for o in run.outcomes if o.sync for t in o.sync.tallies.values()]
    fetched = sum(tally.fetched for tally in tallies)
    size = sum(tally.fetched_bytes for tally in tallies)
    made = sum(len(o.snapshot.made) for o in run.outcomes if o.snapshot)
    waiting = sum(o.sync.waiting for o in run.outcomes if o.sync)
    narrator.say(
        f"  {len(run.outcomes)} accounts: {fetched} items fetched ({size / 1e6:.1f} MB), {made} snapshots"
    )
    if waiting:
        narrator.say(
            f"  {waiting} items the tenant does not hand out are in the retry ledger, with reasons"
        )
    for outcome in run.outcomes:
        for error in outcome.errors:
            narrator.say(f"  error: {outcome.address}: {error}")
    narrator.facts[name] = {
        "fetched": fetched,
        "bytes": size,
        "snapshots": made,
        "waiting": waiting,
    }


def _show_cut_off(narrator: Narrator, run: Run) -> None:
    for error in run.source_errors.values():
        narrator.say(f"  error: {error}")
        narrator.say(f"  hint: {error.hint}")
    narrator.say(f"  exit code {run.exit_code}; nothing was removed, no snapshot replaced")
    narrator.facts["cut_off"] = {"exit_code": run.exit_code}


def _restore_all(narrator: Narrator, app: App, homes: list[Home], target: Path) -> int:
    proven = expected = 0
    good = True
    for home in homes:
        result, on_disk = _restore_one(app, home, target / home.folder.name)
        items = sum(result.expected.values())
        proven, expected = proven + result.proven, expected + items
        good = good and result.exit_code == 0 and on_disk == items == result.proven
        narrator.say(f"  {home.address}: {result.proven} of {items} items, each with its hash")
    narrator.facts["restored"] = {"expected": expected, "proven": proven, "complete": good}
    verdict = "every item came back with the hash it was fetched with" if good else "NOT COMPLETE"
    narrator.chapter(f"{proven} of {expected} items: {verdict}")
    return 0 if good else 5


def _restore_one(app: App, home: Home, folder: Path) -> tuple[RestoreResult, int]:
    """Restore an account, then count by a second look how many of its hashes lie on the disk."""
    section, identity = destination(app.config, f"folder:{folder}", {})
    where = Destination(section, identity, home.address)
    with app.held(home) as held, job(app.config.state_dir, held, where, Selection()) as work:
        work.preflight()
        result = work.run()
    with home.reading() as catalog:
        wanted = [item.sha256 for item in catalog.items()]
    there = set()
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                there.add(hash_file(file))
    return result, sum(each in there for each in wanted)
