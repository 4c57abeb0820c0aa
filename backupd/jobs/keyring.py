"""Recovery keys of a whole configuration: made, added to new vaults, tried, and the older ones taken away."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace

from backupd.app import App
from backupd.errors import BackupdError, IntegrityError, UserError
from backupd.keys import keybook, shares
from backupd.keys import vault_keys as keys
from backupd.keys.keybook import Drill, Keybook, Noted
from backupd.keys.shares import Joined, Secret
from backupd.keys.vault_keys import Key, Keyed
from backupd.locks import exclusive

Heard = Callable[[str], None]
"""Told the place of every vault as it is done."""


@dataclass
class Done:
    """What became of every vault, by its place: done as asked, or the error that kept it from that."""

    done: dict[str, Noted] = field(default_factory=dict)
    failed: dict[str, BackupdError] = field(default_factory=dict)


@dataclass(frozen=True)
class Made:
    """A new set of shares, and the vaults that they open."""

    shares: list[str]
    secret: Secret
    joined: Joined
    vaults: Done


@dataclass(frozen=True, slots=True)
class Listed:
    """The keys of one vault, or why they cannot be told."""

    place: str
    keys: tuple[Key, ...] = ()
    error: BackupdError | None = None


def vaults(app: App, patterns: Sequence[str] = (), storage: str | None = None) -> list[Keyed]:
    """Every vault that was begun, each repository once. Raises ConfigError."""
    found: dict[str, Keyed] = {}
    for _, keyed in kept(app, patterns):
        if storage in {None, keyed.vault.storage}:
            found.setdefault(keyed.place, keyed)
    return list(found.values())


def kept(app: App, patterns: Sequence[str] = ()) -> Iterator[tuple[str, Keyed]]:
    """The source of every account and each of its vaults; a shared one comes once for each. Raises ConfigError."""
    for home in app.homes(patterns):
        source = home.folder.parent.name
        with home.reading() as catalog:
            begun = {each for each in app.config.storage if catalog.get(f"snapshot:{each}:id")}
        for vault in app.vaults(home) if begun else ():
            if vault.storage in begun:
                section = app.config.storage[vault.storage]
                yield source, Keyed(keys.name_for(section, source, home.address), vault)


def lists(app: App, chosen: Sequence[Keyed]) -> list[Listed]:
    """The keys of every vault."""

    def one(keyed: Keyed) -> Listed:
        try:
            return Listed(keyed.place, tuple(keys.keys_of(keyed.vault.repository)))
        except BackupdError as error:
            return Listed(keyed.place, error=error)

    with ThreadPoolExecutor(app.config.limits.workers) as workers:
        return list(workers.map(one, chosen))


def make(
    app: App, cut: tuple[int, int], hand_out: Callable[[Made], None], heard: Heard, *, renew: bool
) -> Made:
    """A new secret: its key in every vault, each opened with what the shares gave back.

    Args:
        cut: shares that are needed, and that are made.
        hand_out: brings the shares to people; a set that did not reach them is not noted.

    Raises UserError when there is no vault, when there is a set already and `renew` is not asked for, or
    when no vault could be given its key; then nothing is noted.
    """
    with alone(app):
        book = keybook.load(app.config.state_dir)
        if book.mark and not renew:
            raise UserError(
                f"There is a set of shares already ({book.mark}, {book.needed} of {book.number}).",
                hint="`backupd keys recovery --extend` adds its key to new vaults. A new set instead: --renew.",
                reason="exists",
            )
        chosen = _some(vaults(app))
        secret = shares.new_secret()
        parts = shares.split(secret, *cut)
        joined = shares.join_all(parts, cut[0])
        if len(joined.secrets) != 1 or not shares.same(joined.secrets[0], secret):
            raise IntegrityError("The shares did not give back the secret.", hint="Nothing was changed. Try again; if it stays so, this machine is not sound.")  # fmt: skip
        told = _give(app, joined.secrets[0], chosen, heard, fresh=True)
        if not told.done:
            raise next(iter(told.failed.values()))
        made = Made(parts, secret, joined, told)
        hand_out(made)
        fresh = Keybook(secret.mark, *cut, time.time(), told.done, drill=book.drill)
        keybook.save(app.config.state_dir, replace(fresh, leaving=book.leaving))
    return made


def extend(app: App, typed: Sequence[str], heard: Heard) -> Done:
    """Give the key of the set in use to every vault that lacks it."""
    secret = shares.join(typed)
    with alone(app):
        book = _ours(keybook.load(app.config.state_dir), secret, typed)
        told = _give(app, secret, _some(vaults(app)), heard)
        keybook.save(app.config.state_dir, replace(book, vaults=book.vaults | told.done))
    return told


def drill(app: App, typed: Sequence[str], *, everything: bool, heard: Heard) -> Done:
    """Open vaults with the shares alone and read from their newest snapshot; and note that it was done.

    Without `everything` one vault of each storage is opened, the one that was not for the longest time.
    """
    secret = shares.join(typed)
    with alone(app):
        book = _ours(keybook.load(app.config.state_dir), secret, typed)
        chosen = _some(vaults(app))
        told = each_of(app, chosen if everything else _longest_ago(chosen, book), _opener(app, secret), heard)  # fmt: skip
        used = tuple(sorted({shares.number_of(each) for each in typed}))
        last = Drill(time.time(), secret.mark, used, len(told.done), len(told.failed))
        lost = {place: each for place, each in book.vaults.items() if place not in told.failed}
        book = keybook.with_drill(replace(book, vaults=lost), last, told.done)
        keybook.save(app.config.state_dir, book)
    return told


def retire(app: App, heard: Heard) -> Done:
    """Remove the recovery keys of older sets from every vault.

    Raises UserError unless a drill has proven the set in use since it was made.
    """
    with alone(app):
        book = keybook.load(app.config.state_dir)
        if not book.drilled:
            raise UserError(
                "The shares in use were never tried; what opens the vaults otherwise stays.",
                hint="`backupd keys drill` first.",
                reason="no-drill",
            )

        def one(keyed: Keyed) -> Noted:
            noted = book.vaults[keyed.place]
            for key in keys.keys_of(keyed.vault.repository):
                if key.recovery and not _same_id(key.id, noted.key):
                    keys.remove(keyed.vault.repository, key.id)
            return noted

        return each_of(app, [each for each in vaults(app) if each.place in book.vaults], one, heard)


def _same_id(one: str, other: str) -> bool:
    """Ids come shortened or whole, by restic's version."""
    return one.startswith(other) or other.startswith(one)


def _ours(book: Keybook, secret: Secret, typed: Sequence[str]) -> Keybook:
    """The notes on this set. Raises UserError for shares of a set that is not the one in use."""
    if book.mark and book.mark != secret.mark:
        raise UserError(
            f"These are shares of set {secret.mark}; in use is {book.mark}.",
            hint="Older sheets were replaced. Their key still opens vaults that have it, until `backupd keys retire`.",
            reason="other-set",
        )
    if book.mark:
        return book
    return Keybook(secret.mark, shares.needed_of(typed[0]), 0, leaving=book.leaving)


def _give(
    app: App, secret: Secret, chosen: Sequence[Keyed], heard: Heard, *, fresh: bool = False
) -> Done:
    """Add the key where it does not open yet; every vault is opened with it in the end.

    Args:
        fresh: no vault can have it yet: none is asked (restic tries a wrong password on every key).
    """
    scratch = app.config.state_dir / "tmp"

    def one(keyed: Keyed) -> Noted:
        ours = keyed.vault.repository
        with keys.with_password(ours, secret.password(keyed.name), scratch) as recovery:
            path = recovery.password
            assert not isinstance(path, str)  # noqa: S101 - it was handed over as a file
            known = not fresh and keys.opens(ours, path)
            key = keys.current(ours, path) if known else keys.add(ours, path, keys.RECOVERY)
        return Noted(key.id, time.time())

    return each_of(app, chosen, one, heard)


def _opener(app: App, secret: Secret) -> Callable[[Keyed], Noted]:
    """Opens a vault with the recovery password alone, and reads the description in its newest snapshot."""
    scratch = app.config.state_dir / "tmp"

    def one(keyed: Keyed) -> Noted:
        password = secret.password(keyed.name)
        with keys.with_password(keyed.vault.repository, password, scratch) as recovery:
            vault = replace(keyed.vault, repository=recovery)
            with vault.content(vault.pick(), "account.json") as described:
                json.loads(described.read())
            key = next(each for each in keys.keys_of(recovery) if each.current)
        return Noted(key.id, time.time())

    return one


def _longest_ago(chosen: Sequence[Keyed], book: Keybook) -> list[Keyed]:
    """Of each storage the vault that was not opened for the longest time."""
    found: dict[str, Keyed] = {}
    never = Noted("", 0.0)
    for each in sorted(chosen, key=lambda each: book.vaults.get(each.place, never).opened):
        found.setdefault(each.vault.storage, each)
    return list(found.values())


def each_of(
    app: App, chosen: Iterable[Keyed], work: Callable[[Keyed], Noted], heard: Heard
) -> Done:
    """Do the work for every vault, several at a time; they fail one by one."""
    told = Done()

    def one(keyed: Keyed) -> None:
        try:
            told.done[keyed.place] = work(keyed)
        except BackupdError as error:
            told.failed[keyed.place] = error
        except ValueError as error:
            told.failed[keyed.place] = IntegrityError(f"{keyed.place} hands out something else than was put in: {error}.")  # fmt: skip
        heard(keyed.place)

    with ThreadPoolExecutor(app.config.limits.workers) as workers:
        list(workers.map(one, chosen))
    return told


def _some(chosen: list[Keyed]) -> list[Keyed]:
    if not chosen:
        raise UserError(
            "There is no vault yet.",
            hint="The first `backupd backup` makes them.",
            reason="no-vault",
        )
    return chosen


def alone(app: App) -> AbstractContextManager[None]:
    """Nobody else changes keys meanwhile. Raises TransientError(reason="busy")."""
    app.config.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return exclusive(app.config.state_dir / "keys.lock", "the keys of the vaults")
