"""A mailbox in which people move everything about: after each sync the mirror is what the server holds."""

from __future__ import annotations

import imaplib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_house import (
    House,
    Server,
    client,
    fill,
    folders,
    index_lines,
    letter,
    quoted,
    truth,
)
from servers.cyrus import cyrus
from servers.dovecot import dovecot

ROUNDS = 18
POOR = "IMAP4rev1 LITERAL+ UIDPLUS"
"""No lasting names, no modification numbers, no search by range."""
NAMES = ("Old", "New", "Grün", "Above", "Above/Below", "Above/Deep/Deeper", "Other", "Other/Old")


@pytest.fixture(scope="module", params=["dovecot", "poor", "cyrus"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    if request.param == "cyrus":
        with cyrus() as started:
            yield started
        return
    with dovecot(capability=POOR if request.param == "poor" else "") as one:
        yield one


class Person:
    """Does to a mailbox what comes to mind; what the server refuses is left."""

    def __init__(self, server: Server, user: str, chance: random.Random) -> None:
        self._server, self._user, self._chance = server, user, chance
        self._written = 0

    def act(self) -> str:
        """One thing; returns what it was."""
        deed = self._chance.choice(
            [self.write, self.write, self.rename, self.rename, self.delete, self.move, self.copy, self.expunge]
        )  # fmt: skip
        with client(self._server, self._user) as connection:
            try:
                return f"{deed.__name__} {deed(connection)}"
            except imaplib.IMAP4.error as error:
                return f"{deed.__name__} refused: {error}"

    def write(self, connection: imaplib.IMAP4) -> str:
        """New messages, into a folder that is made for them if need be."""
        del connection
        where = self._chance.choice(NAMES)
        count = self._chance.randrange(1, 6)
        numbers = range(self._written, self._written + count)
        self._written += count
        fill(self._server, where, [letter(each) for each in numbers], self._user)
        return f"{count} into {where}"

    def rename(self, connection: imaplib.IMAP4) -> str:
        """A folder gets the name of another that is not there, or of one that was there before."""
        was = self._folder(connection)
        free = [each for each in NAMES if quoted(each) not in folders(connection)]
        now = quoted(self._chance.choice(free)) if free and was != '"INBOX"' else '"Elsewhere"'
        return f"{was} to {now}: {connection.rename(was, now)[0]}"

    def delete(self, connection: imaplib.IMAP4) -> str:
        """A folder with all that is in it."""
        which = self._folder(connection)
        return f"{which}: {connection.delete(which)[0]}" if which != '"INBOX"' else "nothing"

    def move(self, connection: imaplib.IMAP4) -> str:
        """Some messages into another folder."""
        told = self.copy(connection)
        return told + self._strike(connection)

    def copy(self, connection: imaplib.IMAP4) -> str:
        """Some messages into another folder as well."""
        source, target = self._folder(connection), self._folder(connection)
        self._select(connection, source)
        return f"{source} to {target}: {connection.copy('1:2', target)[0]}"

    def expunge(self, connection: imaplib.IMAP4) -> str:
        """Some messages are gone."""
        folder = self._folder(connection)
        self._select(connection, folder)
        return folder + self._strike(connection)

    def _folder(self, connection: imaplib.IMAP4) -> str:
        return self._chance.choice(sorted(folders(connection)))

    @staticmethod
    def _select(connection: imaplib.IMAP4, folder: str) -> None:
        if connection.select(folder)[0] != "OK":
            raise imaplib.IMAP4.error(f"{folder} does not open")

    @staticmethod
    def _strike(connection: imaplib.IMAP4) -> str:
        connection.store("1:2", "+FLAGS", r"(\Deleted)")
        return f" struck: {connection.expunge()[0]}"


def lived(server: Server, user: str, place: Path, seed: int) -> None:
    """Some rounds of life, a sync after each."""
    chance = random.Random(seed)
    person = Person(server, user, chance)
    house = House(place, server, user=user, guard=100_000)
    fill(server, "INBOX", [letter(-each) for each in range(1, 4)], user)  # something always stays
    told: list[str] = []
    for _ in range(ROUNDS):
        told += [person.act() for _ in range(chance.randrange(1, 5))] + ["sync"]
        run = house.sync()
        assert not run.outcomes[0].errors, (seed, told, run.outcomes[0].errors)
        assert house.mirrored() == truth(server, user), (seed, told)
        files = list(house.home().mirror_path.rglob("*.eml"))
        assert len(files) == len(index_lines(house.home().mirror_path)), (seed, told)


SEEDS = (1, 211, 30)
"""Lives in which something went wrong once: a folder deleted above others, twins in a folder that got its name back,
a server that tells the numbers of former times."""


@pytest.mark.parametrize("number", range(len(SEEDS)))
def test_whatever_people_do_to_their_folders_the_mirror_ends_as_the_server_is(
    server: Server, number: int, tmp_path: Path
) -> None:
    lived(server, f"u{number + 1}", tmp_path, SEEDS[number])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1000, 1030))
def test_the_same_with_many_lives(seed: int, tmp_path: Path) -> None:
    for number, started in enumerate((dovecot(), dovecot(capability=POOR), cyrus())):
        with started as server:
            lived(server, "u1", tmp_path / str(number), seed)
