"""The CalDAV and CardDAV servers of the tests behind one face, each with a recorder in front."""

from __future__ import annotations

import imaplib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
from parcels import loaded
from servers import radicale, sabre
from servers.cyrus import cyrus
from servers.recorder import Recorder, recorder

from backupd.ports import Parcel, Proof, Put, Shelf
from targets.endpoint import Endpoint

SERVERS = ("radicale", "sabre", "cyrus")


@dataclass(frozen=True)
class Place:
    """A server with an account on it."""

    name: str
    url: str
    calendars: str
    books: str
    recorder: Recorder

    def endpoint(self, type_: str, **changes: Any) -> Endpoint:
        made = Endpoint("there", type_, account="u1@x.test", username="u1", secret=lambda: "pw")
        where: dict[str, Any] = {"url": self.url}
        if not self.url:  # found by host and port alone
            seen = httpx.URL(self.recorder.url)
            where = {"host": seen.host, "port": seen.port, "security": "plain"}
        return replace(made, **{"connections": 2, "scheduling": "sabre", **where, **changes})

    def client(self, user: str = "u1") -> httpx.Client:
        """An independent client: plain HTTP, as that user."""
        return httpx.Client(base_url=self.recorder.url, auth=(user, "pw"), timeout=30)


@contextmanager
def place(name: str) -> Iterator[Place]:
    """A running server of that name."""
    if name == "radicale":
        with radicale.running() as server, recorder(server.port) as seen:
            yield Place(name, seen.url, "/u1/", "/u1/", seen)
    elif name == "sabre":
        with sabre.running() as server, recorder(server.port) as seen:
            yield Place(name, seen.url, "/calendars/u1/", "/addressbooks/u1/", seen)
    else:
        with cyrus() as server, recorder(server.http) as seen:
            for user in server.users[:3]:  # the first login makes the mailbox, calendars need it
                with imaplib.IMAP4(server.host, server.imap) as session:
                    session.login(user, server.password)
            home = "/dav/{}/user/u1/"
            yield Place(name, "", home.format("calendars"), home.format("addressbooks"), seen)


def put_all(
    target: Any, shelf: Shelf, pairs: Iterable[tuple[Parcel, bytes]], *, look: bool = False
) -> dict[str, Put]:
    """What became of each parcel, by its key; every one is answered exactly once."""
    pairs = list(pairs)
    answers = [(each.key, put) for each, put in target.put(shelf, loaded(pairs), look=look)]
    assert sorted(key for key, _ in answers) == sorted(each.key for each, _ in pairs)
    return dict(answers)


def states(proofs: Iterable[Proof]) -> dict[str, tuple[str, str]]:
    """State and difference by key."""
    return {each.claim.parcel.key: (each.state, each.what) for each in proofs}


def listed(folder: Path, ending: str) -> list[Path]:
    """The files of the corpus with an ending."""
    return sorted(each for each in folder.iterdir() if each.suffix == ending)
