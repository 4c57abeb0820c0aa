"""Work on all vaults of an account at the same time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import TypeVar

from backupd.vaults.vault import Vault

T = TypeVar("T")


def at_once(
    vaults: Sequence[Vault], work: Callable[[Vault], T]
) -> Iterator[tuple[Vault, Future[T]]]:
    """Do the work for all vaults at the same time; each with its end, the quickest first."""
    if not vaults:
        return
    with ThreadPoolExecutor(len(vaults), thread_name_prefix="vault") as workers:
        waiting = {workers.submit(_tried, vault, work): vault for vault in vaults}
        for done in as_completed(waiting):
            yield waiting[done], done


def _tried(vault: Vault, work: Callable[[Vault], T]) -> T:
    with vault.gate.trying():
        vault.repository.knock()
        return work(vault)
