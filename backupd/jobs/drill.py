"""Level 5 of verify: a drill. An account is restored out of a vault, read back, and timed."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from backupd.app import App
from backupd.errors import BackupdError, IntegrityError, UserError
from backupd.home import Home
from backupd.jobs import restores
from backupd.jobs.restores import Destination
from backupd.restore.contents import Selection
from backupd.restore.result import RestoreResult
from backupd.restore.unpacking import VaultContents
from backupd.verify import DRILL
from backupd.verify.findings import Flaw, Verification

SPARE, AMPLE = 1.1, 2.0
"""How many times its size an account needs on disk while it is restored into a folder: at least, and
where nobody asked for it, so that nothing else runs out of room."""


def drill(
    app: App,
    home: Home,
    storage: str,
    to: str = "",
    *,
    spare: float = SPARE,
    beat: Callable[[], None] = lambda: None,
) -> Verification:
    """Restore the newest snapshot of an account; what goes wrong is in the answer.

    Args:
        to: a target as `restore --to` takes it, in which everything stays; "" for a scratch folder
            below the state directory that is removed at the end.
        spare: how many times the account's size must be free for a scratch folder.
        beat: called with every item; what it raises ends the drill.
    """
    found = Verification(home.address, home.folder.parent.name, DRILL, storage)
    began = time.monotonic()
    scratch = app.config.state_dir / "tmp"
    scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        with (
            tempfile.TemporaryDirectory(dir=scratch, prefix="drill-") as folder,
            app.held(home, storage=storage) as held,
        ):
            if not to:
                _need_room(
                    Path(folder), sum(each.size for each in held.shelves(Selection())), spare
                )
            _restore(app, held, Path(folder), to, found, beat)
    except BackupdError as error:
        found.broken_off(error)
    found.seconds = time.monotonic() - began
    return found


def _restore(
    app: App, held: object, folder: Path, to: str, found: Verification, beat: Callable[[], None]
) -> None:
    assert isinstance(held, VaultContents)  # noqa: S101 - a storage was named
    shelves = held.shelves(Selection())
    found.of_items = sum(each.items for each in shelves)
    found.of_size = sum(each.size for each in shelves)
    found.snapshot = held.snapshot.id
    section, identity = restores.destination(app.config, to or f"folder:{folder / 'restored'}", {})
    where = Destination(section, identity, "")
    desk = app.config.state_dir if to else folder
    with restores.job(desk, held, where, Selection()) as job:
        result = job.run(listener=lambda *_: beat())
    found.facts.update(to=to or "scratch folder", time=held.snapshot.time)
    _judge(result, found)


def _judge(result: RestoreResult, found: Verification) -> None:
    found.items, found.size = result.proven, result.size
    found.share = result.proven / found.of_items if found.of_items else 1.0
    found.facts.update(
        restored=result.seconds - result.proof_seconds,
        proof=result.proof_seconds,
        states=dict(result.states),
        unsupported={str(word): count for word, count in result.unsupported.items()},
    )
    damage = result.exit_code == IntegrityError.exit_code
    for problem in result.problems:
        what = f"{problem.path}: {problem.state}: {problem.why}"
        found.note(Flaw(problem.state, problem.path, what, "", damage))
    if result.error:
        found.broken_off(result.error)
    if result.exit_code and not found.flawed:
        what = f"{found.of_items - result.proven} of {found.of_items} items did not come back as they were."
        found.note(Flaw("incomplete", found.storage, what, "", damage))


def _need_room(folder: Path, size: int, spare: float) -> None:
    free = shutil.disk_usage(folder).free
    if free < size * spare:
        raise UserError(
            f"A drill needs {size * spare / 1e9:.1f} GB of room in {folder.parent}; {free / 1e9:.1f} GB are free.",
            hint="Name another place with --to folder:PATH.",
            reason="no-room",
        )
