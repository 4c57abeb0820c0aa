"""To Do lists of a mailbox."""

from __future__ import annotations

import itertools
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from backupd.demo.changes import Change, ChangeLog, Stream
from backupd.demo.ids import IdSpace, Kind
from backupd.demo.moments import EPOCH, now, stamp

if TYPE_CHECKING:
    from datetime import datetime

    from backupd.demo.calls import Json

TASK_LISTS: Stream = ("task-lists", 0)


@dataclass
class Task:
    """One task; `data` is Graph's JSON without ids and keys."""

    uid: int
    data: Json
    version: int = 1
    modified: datetime = EPOCH


@dataclass
class TaskList:
    """One list of tasks."""

    uid: int
    name: str
    well_known: str = "none"
    tasks: dict[int, Task] = field(default_factory=dict)


def tasks_in(task_list: int) -> Stream:
    """The stream of changes of one list."""
    return ("tasks", task_list)


class TaskBook:
    """The task lists of one owner."""

    def __init__(self, ids: IdSpace, log: ChangeLog) -> None:
        self.ids = ids
        self.log = log
        self.lists: dict[int, TaskList] = {}
        self._numbers = itertools.count(1)
        self.create_list("Tasks", "defaultList")
        self.create_list("Flagged Emails", "flaggedEmails")

    def create_list(self, name: str, well_known: str = "none") -> TaskList:
        """Make a list."""
        made = TaskList(next(self._numbers), name, well_known)
        self.lists[made.uid] = made
        self.log.note(TASK_LISTS, Change(made.uid))
        return made

    def list_of(self, name: str) -> TaskList:
        """Find a list by id or display name; raises KeyError."""
        for candidate in self.lists.values():
            if name in {candidate.name, self.list_id(candidate.uid)}:
                return candidate
        raise KeyError(name)

    def put(self, task_list: TaskList, data: Json, task: Task | None = None) -> Task:
        """Make a task, or replace properties of one."""
        if task is None:
            task = Task(next(self._numbers), deepcopy(data))
            task_list.tasks[task.uid] = task
        else:
            task.data |= deepcopy(data)
            task.version += 1
            task.modified = now()
        self.log.note(tasks_in(task_list.uid), Change(task.uid))
        return task

    def delete(self, task_list: TaskList, task: Task) -> None:
        """Remove a task."""
        del task_list.tasks[task.uid]
        self.log.note(tasks_in(task_list.uid), Change(task.uid, gone=True))

    def list_id(self, uid: int) -> str:
        """The id of a list."""
        return self.ids.rest(Kind.TASK_LIST, uid)


def list_json(book: TaskBook, task_list: TaskList) -> Json:
    """A list as Graph shows it."""
    return {
        "id": book.list_id(task_list.uid),
        "displayName": task_list.name,
        "isOwner": True,
        "isShared": False,
        "wellknownListName": task_list.well_known,
    }


def task_json(book: TaskBook, task: Task) -> Json:
    """A task as Graph shows it."""
    key = book.ids.change_key(task.uid, task.version)
    row: Json = {
        "@odata.etag": f'W/"{key}"',
        "id": book.ids.rest(Kind.TASK, task.uid),
        "importance": "normal",
        "isReminderOn": False,
        "status": "notStarted",
        "title": "",
        "createdDateTime": stamp(EPOCH),
        "lastModifiedDateTime": stamp(task.modified),
        "hasAttachments": False,
        "categories": [],
        "body": {"content": "", "contentType": "text"},
    }
    return row | task.data
