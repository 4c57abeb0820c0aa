"""Somebody who does to a Microsoft 365 account what comes to mind."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import TypeVar

from backupd.demo.addressbook import Contact
from backupd.demo.agenda import Event
from backupd.demo.content_events import Diary, Plan
from backupd.demo.drive import ROOT, Drive, DriveItem
from backupd.demo.mailbox import Mailbox, MailFolder, Message
from backupd.demo.state import TenantState

T = TypeVar("T")
WHO = "amelia"
FOLDERS = ("Old", "New", "OLD", "Gr\u00fcn", "Gru\u0308n", "2024-01", "a:b", "a%3Ab", "index.jsonl")
"""Names that are given again and again; some are one on a disk that folds them, some are words of the mirror."""
FILES = ("a.txt", "A.TXT", "b.txt", "Old", "con", ".backupd", "stra\u00dfe.txt", "strasse.txt")
KEPT = "kept.txt"
"""Something always stays."""
PASSING = "on its way"
"""What something is called while its name is given to another."""
CALENDARS, DEEP = 3, 6
"""More calendars and deeper folders than this are not made."""


class Nothing(Exception):
    """There is nothing to do a deed to, or the service would refuse it."""


@dataclass
class Person:
    """Does to an account what comes to mind."""

    state: TenantState
    chance: random.Random
    written: int = 0

    def act(self) -> str:
        """One thing; returns what it was."""
        deeds = [*Letters.deeds(self), *Shelves.deeds(self), *Dates.deeds(self)]
        deed = self.chance.choice(deeds)
        try:
            return f"{deed.__name__} {deed()}"
        except Nothing:
            return f"{deed.__name__} came to nothing"

    def pick(self, those: list[T]) -> T:
        """One of them."""
        if not those:
            raise Nothing
        return self.chance.choice(those)

    def number(self) -> int:
        """What was never written before."""
        self.written += 1
        return self.written


@dataclass(frozen=True)
class Letters:
    """What a person does to mail."""

    person: Person

    @classmethod
    def deeds(cls, person: Person) -> list[Callable[[], str]]:
        it = cls(person)
        return [
            it.receive, it.receive, it.move, it.move, it.delete, it.mark, it.rewrite, it.make, it.make, it.rename,
            it.rename, it.hang, it.hang, it.drop, it.replace, it.swap, it.turn, it.empty, it.forget,
        ]  # fmt: skip

    @property
    def state(self) -> TenantState:
        return self.person.state

    @property
    def box(self) -> Mailbox:
        return self.state.user(WHO).mailbox

    def receive(self) -> str:
        """New messages, some of them alike."""
        folder = self._any()
        for _ in range(self.person.chance.randrange(1, 4)):
            number = self.person.number()
            self.state.deliver(WHO, folder, b"Subject: letter %d\r\n\r\nx\r\n" % (number % 7))
        return self.box.path(folder)

    def move(self) -> str:
        message, folder = self._message(), self._any()
        self.state.move_message(WHO, message, folder)
        return f"{message.uid} to {self.box.path(folder)}"

    def delete(self) -> str:
        message = self._message()
        self.state.delete_message(WHO, message)
        return str(message.uid)

    def mark(self) -> str:
        message = self._message()
        status = self.person.pick(["flagged", "notFlagged"])
        read = self.person.pick([True, False])
        self.state.flag(WHO, message, isRead=read, flag={"flagStatus": status})
        return f"{message.uid} {read} {status}"

    def rewrite(self) -> str:
        """A draft is saved again."""
        message = self._message()
        mime = b"Subject: draft %d\r\n\r\ny\r\n" % self.person.number()
        self.state.rewrite(WHO, message, mime)
        return str(message.uid)

    def make(self) -> str:
        above = self._any(root=True)
        name = self._free(above)
        self.state.create_folder(WHO, name, above)
        return f"{self.box.path(above)}/{name}"

    def rename(self) -> str:
        folder = self._own()
        was, name = self.box.path(folder), self._free(self._above(folder))
        self.state.rename_folder(WHO, folder, name)
        return f"{was} to {name}"

    def hang(self) -> str:
        """A folder goes below another."""
        folder, above = self._own(), self._any(root=True)
        self._may_hang(folder, above)
        was = self.box.path(folder)
        self.state.move_folder(WHO, folder, above)
        return f"{was} below {self.box.path(above)}"

    def drop(self) -> str:
        """A folder with all that is in it."""
        folder = self._own()
        was = self.box.path(folder)
        self.state.delete_folder(WHO, folder)
        return was

    def empty(self) -> str:
        """What lies in a folder goes elsewhere, and the folder goes."""
        folder, elsewhere = self._own(), self._any()
        self._may_hang(folder, elsewhere, clash=False)
        told = f"{self.box.path(folder)} into {self.box.path(elsewhere)}"
        for message in list(folder.messages.values()):
            self.state.move_message(WHO, message, elsewhere)
        self.state.delete_folder(WHO, folder)
        return told

    def replace(self) -> str:
        """A folder goes, and another has its name."""
        folder = self._own()
        above, name = self._above(folder), folder.name
        self.state.delete_folder(WHO, folder)
        made = self.state.create_folder(WHO, name, above)
        self.state.deliver(WHO, made, b"Subject: letter\r\n\r\n%d\r\n" % self.person.number())
        return self.box.path(made)

    def swap(self) -> str:
        """Two folders in one place change names."""
        one = self._own()
        beside = [each for each in self._owned() if each.parent == one.parent and each is not one]
        other = self.person.pick(beside)
        name, others = one.name, other.name
        self.state.rename_folder(WHO, one, PASSING)
        self.state.rename_folder(WHO, other, name)
        self.state.rename_folder(WHO, one, others)
        return f"{name} and {others}"

    def turn(self) -> str:
        """A folder goes below the one that lay in it."""
        child = self.person.pick(
            [each for each in self._owned() if self._above(each) in self._owned()]
        )
        parent = self._above(child)
        self._may_hang(child, self._above(parent), but=parent)
        told = self.box.path(child)
        self.state.move_folder(WHO, child, self._above(parent))
        self._may_hang(parent, child)
        self.state.move_folder(WHO, parent, child)
        if self.person.pick([True, False]):  # and each has the other's name
            name, others = parent.name, child.name
            self.state.rename_folder(WHO, parent, others)
            self.state.rename_folder(WHO, child, name)
        return told

    def forget(self) -> str:
        """The service knows its cursors no more."""
        self.state.expire_cursors(WHO)
        return ""

    def _any(self, *, root: bool = False) -> MailFolder:
        seen = [e for e in self.box.folders.values() if not e.hidden and (e.parent or root)]
        return self.person.pick(seen)

    def _owned(self) -> list[MailFolder]:
        return [e for e in self.box.folders.values() if not e.well_known and not e.hidden]

    def _own(self) -> MailFolder:
        return self.person.pick(self._owned())

    def _message(self) -> Message:
        """One of those that may go: something always stays."""
        return self.person.pick(list(self.box.messages.values())[1:])

    def _above(self, folder: MailFolder) -> MailFolder:
        return self.box.folder(folder.parent)

    def _free(self, above: MailFolder) -> str:
        taken = {each.name for each in self.box.children(above.uid)}
        return self.person.pick([each for each in FOLDERS if each not in taken])

    def _may_hang(
        self,
        folder: MailFolder,
        above: MailFolder,
        but: MailFolder | None = None,
        *,
        clash: bool = True,
    ) -> None:
        """Not below itself, and not beside one of its name (other than `but`)."""
        at: MailFolder | None = above
        while at is not None:
            if at is folder:
                raise Nothing
            at = self.box.folders.get(at.parent)
        beside = [each for each in self.box.children(above.uid) if each not in (folder, but)]
        if clash and folder.name in {each.name for each in beside}:
            raise Nothing


@dataclass(frozen=True)
class Shelves:
    """What a person does to files."""

    person: Person

    @classmethod
    def deeds(cls, person: Person) -> list[Callable[[], str]]:
        it = cls(person)
        return [
            it.upload, it.upload, it.upload, it.change, it.make, it.make, it.rename, it.rename, it.move, it.move,
            it.move, it.delete, it.replace, it.replace, it.swap, it.swap, it.turn, it.turn, it.recase, it.link,
            it.infect, it.heal, it.empty, it.forget,
        ]  # fmt: skip

    @property
    def state(self) -> TenantState:
        return self.person.state

    @property
    def drive(self) -> Drive:
        return self.state.drive(WHO)

    def upload(self) -> str:
        folder = self._folder()
        path = self._below(folder, self._free_in(folder))
        self._write(path)
        return path

    def change(self) -> str:
        item = self._one(folders=False)
        self._write(self.drive.path(item))
        return self.drive.path(item)

    def make(self) -> str:
        above = self._folder()
        path = self._below(above, self._free_in(above))
        if path.count("/") > DEEP:
            raise Nothing
        self.state.put_folder(WHO, path)
        return path

    def rename(self) -> str:
        item = self._one()
        was, name = self.drive.path(item), self._free_in(self.drive.items[item.parent])
        self.state.rename_item(WHO, item, name)
        return f"{was} to {name}"

    def move(self) -> str:
        item, above = self._one(), self._folder()
        self._may_move(item, above)
        was = self.drive.path(item)
        self.state.move_item(WHO, item, above)
        return f"{was} to {self.drive.path(item)}"

    def delete(self) -> str:
        item = self._one()
        was = self.drive.path(item)
        self.state.delete_item(WHO, item)
        return was

    def replace(self) -> str:
        """Something goes, and something else has its name."""
        item = self._one()
        was = self.drive.path(item)
        self.state.delete_item(WHO, item)
        if self.person.pick([True, False]):
            self._write(was)
        else:
            self._write(f"{was}/{self.person.pick(list(FILES))}")
        return was

    def swap(self) -> str:
        """Two in one place change names."""
        one = self._one()
        beside = [each for each in self._owned() if each.parent == one.parent and each is not one]
        other = self.person.pick(beside)
        told = f"{self.drive.path(one)} and {other.name}"
        name, others = one.name, other.name
        self.state.rename_item(WHO, one, PASSING)
        self.state.rename_item(WHO, other, name)
        self.state.rename_item(WHO, one, others)
        return told

    def turn(self) -> str:
        """A/B becomes B/A."""
        folders = [e for e in self._owned() if e.is_folder and e.parent != ROOT]
        child = self.person.pick(folders)
        parent = self.drive.items[child.parent]
        above = self.drive.items[parent.parent]
        told = f"{self.drive.path(child)} turned"
        self._may_move(child, above)
        self.state.move_item(WHO, child, above)
        self._may_move(parent, child)
        self.state.move_item(WHO, parent, child)
        return told

    def recase(self) -> str:
        """a.txt becomes A.TXT."""
        item = self._one()
        name = item.name.swapcase()
        if name == item.name or name in self._names(self.drive.items[item.parent]):
            raise Nothing
        was = self.drive.path(item)
        self.state.rename_item(WHO, item, name)
        return f"{was} to {name}"

    def infect(self) -> str:
        """A file that the service holds for malware from the beginning."""
        folder = self._folder()
        path = self._below(folder, self._free_in(folder))
        self.state.put_file(WHO, path, b"EICAR %d" % self.person.number(), malware=True)
        return path

    def heal(self) -> str:
        """The service finds that one of those is harmless."""
        item = self.person.pick([each for each in self._owned() if each.malware])
        item.malware = False
        self.state.rename_item(WHO, item, self._free_in(self.drive.items[item.parent]))
        return self.drive.path(item)

    def link(self) -> str:
        """A shortcut into another drive."""
        folder = self._folder()
        item = self.drive.add(self._free_in(folder), folder, facets={"remoteItem": {"id": "there"}})
        return self.drive.path(item)

    def empty(self) -> str:
        """What lies in a folder goes one up, and the folder goes."""
        folder = self.person.pick([each for each in self._owned() if each.is_folder])
        above = self.drive.items[folder.parent]
        for each in self.drive.children(folder.uid):
            self._may_move(each, above)
        told = self.drive.path(folder)
        for each in self.drive.children(folder.uid):
            self.state.move_item(WHO, each, above)
        self.state.delete_item(WHO, folder)
        return told

    def forget(self) -> str:
        """The service knows its cursor no more."""
        self.state.expire_cursors(drive=WHO)
        return ""

    def _owned(self) -> list[DriveItem]:
        return [
            each for each in self.drive.items.values() if each.uid != ROOT and each.name != KEPT
        ]

    def _one(self, *, folders: bool = True) -> DriveItem:
        return self.person.pick([e for e in self._owned() if folders or e.content is not None])

    def _folder(self) -> DriveItem:
        return self.person.pick([e for e in self.drive.items.values() if e.is_folder])

    def _below(self, above: DriveItem, name: str) -> str:
        return f"{self.drive.path(above)}/{name}".lstrip("/")

    def _names(self, above: DriveItem) -> set[str]:
        return {each.name for each in self.drive.children(above.uid)}

    def _free_in(self, above: DriveItem) -> str:
        return self.person.pick([each for each in FILES if each not in self._names(above)])

    def _write(self, path: str) -> None:
        number = self.person.number()
        self.state.put_file(WHO, path, b"file %d" % (number // 3))  # some are alike

    def _may_move(self, item: DriveItem, above: DriveItem) -> None:
        at = above
        while at.uid != ROOT:
            if at is item:
                raise Nothing
            at = self.drive.items[at.parent]
        if item.name in self._names(above):
            raise Nothing


@dataclass(frozen=True)
class Dates:
    """What a person does to calendars and contacts."""

    person: Person

    @classmethod
    def deeds(cls, person: Person) -> list[Callable[[], str]]:
        it = cls(person)
        return [it.invite, it.change, it.cancel, it.calendar, it.meet, it.correct, it.lose, it.book]

    @property
    def state(self) -> TenantState:
        return self.person.state

    def invite(self) -> str:
        """A new event."""
        user = self.state.user(WHO)
        where = self.person.pick(list(user.agenda.calendars.values()))
        Diary(user).add(where, Plan(f"event {self.person.number()}", date(2026, 3, 4)))
        return where.name

    def change(self) -> str:
        event = self._event()
        subject = f"event {self.person.number()}"
        self.state.put_event(WHO, None, {"subject": subject}, event)
        return subject

    def cancel(self) -> str:
        event = self._event()
        self.state.delete_event(WHO, event)
        return str(event.data["subject"])

    def calendar(self) -> str:
        """A new calendar, or another name for one."""
        agenda = self.state.user(WHO).agenda
        taken = {each.name for each in agenda.calendars.values()}
        name = self.person.pick([each for each in FOLDERS if each not in taken])
        own = [each for each in agenda.calendars.values() if not each.default]
        if len(own) < CALENDARS:
            agenda.create_calendar(name)
        else:
            self.person.pick(own).name = name
        return name

    def meet(self) -> str:
        """A new contact."""
        book = self.state.user(WHO).contacts
        folder = self.person.pick(list(book.folders.values()))
        name = f"Somebody {self.person.number()}"
        self.state.put_contact(WHO, {"displayName": name, "givenName": name}, folder=folder)
        return name

    def correct(self) -> str:
        name = f"Somebody {self.person.number()}"
        contact = self._contact()
        self.state.put_contact(WHO, {"displayName": name, "givenName": name}, contact)
        return name

    def lose(self) -> str:
        contact = self._contact()
        self.state.delete_contact(WHO, contact)
        return str(contact.data["displayName"])

    def book(self) -> str:
        """A new folder of contacts, below another."""
        book = self.state.user(WHO).contacts
        above = self.person.pick(list(book.folders.values()))
        taken = {each.name for each in book.folders.values()}
        name = self.person.pick([each for each in FOLDERS if each not in taken])
        book.create_folder(name, above.uid)
        return name

    def _event(self) -> Event:
        return self.person.pick(list(self.state.user(WHO).agenda.events.values())[1:])

    def _contact(self) -> Contact:
        return self.person.pick(list(self.state.user(WHO).contacts.contacts.values())[1:])
