"""To Do lists."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from backupd.demo.directory import User


def write_tasks(user: User) -> None:
    """A few tasks in the default list and in one of their own."""
    book = user.tasks
    default = book.list_of("Tasks")
    book.put(default, {"title": "File the appeal", "importance": "high", "status": "inProgress"})
    due = {"dateTime": "2026-11-13T00:00:00.0000000", "timeZone": "UTC"}
    book.put(default, {"title": "Call the interpreter", "dueDateTime": due})
    done = {"dateTime": "2026-10-30T00:00:00.0000000", "timeZone": "UTC"}
    errands = book.create_list("Errands / Besorgungen")
    book.put(errands, {"title": "Stamps", "status": "completed", "completedDateTime": done})
