"""To Do lists and tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.demo.calls import Answer, Call, Handler, Json, key, not_found
from backupd.demo.ids import Kind
from backupd.demo.odata import Feed, collection, delta, entity
from backupd.demo.tasks import TASK_LISTS, Task, TaskBook, TaskList, list_json, task_json, tasks_in

if TYPE_CHECKING:
    from backupd.demo.changes import Change


def list_of(call: Call) -> TaskList:
    """The list of the path."""
    book = call.user().tasks
    for task_list in book.lists.values():
        if book.list_id(task_list.uid) == call.params["list"]:
            return task_list
    raise not_found("ErrorItemNotFound")


def task_of(call: Call) -> Task:
    """The task of the path."""
    book, task_list = call.user().tasks, list_of(call)
    for task in task_list.tasks.values():
        if book.ids.rest(Kind.TASK, task.uid) == call.params["task"]:
            return task
    raise not_found("ErrorItemNotFound")


def all_lists(call: Call) -> Answer:
    """Every list."""
    book = call.user().tasks
    return collection(call, [list_json(book, found) for found in book.lists.values()])


def get_list(call: Call) -> Answer:
    """One list."""
    return entity(call, list_json(call.user().tasks, list_of(call)))


def lists_delta(call: Call) -> Answer:
    """What changes among the lists."""
    user = call.user()
    book = user.tasks

    def rows(change: Change) -> list[Json]:
        found = book.lists.get(change.subject)
        return [list_json(book, found)] if found is not None else []

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        found = [entry for entry in book.lists.values() if entry.uid > after]
        return [(entry.uid, list_json(book, entry)) for entry in found[:limit]]

    path = f"users('{key(user.id)}')/todo/lists/delta"
    return delta(call, Feed(f"todoTaskList:{user.id}", user.log, TASK_LISTS, listing, rows, path))


def list_tasks(call: Call) -> Answer:
    """The tasks of a list."""
    book = call.user().tasks
    return collection(call, [task_json(book, task) for task in list_of(call).tasks.values()])


def get_task(call: Call) -> Answer:
    """One task."""
    return entity(call, task_json(call.user().tasks, task_of(call)))


def tasks_delta(call: Call) -> Answer:
    """What changes in a list."""
    user, task_list = call.user(), list_of(call)
    book = user.tasks

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        found = [task for task in task_list.tasks.values() if task.uid > after]
        return [(task.uid, task_json(book, task)) for task in found[:limit]]

    def rows(change: Change) -> list[Json]:
        return _task_change(book, task_list, change)

    path = f"users('{key(user.id)}')/todo/lists('{key(book.list_id(task_list.uid))}')/tasks/delta"
    scope = f"todoTask:{user.id}/{task_list.uid}"
    return delta(call, Feed(scope, user.log, tasks_in(task_list.uid), listing, rows, path))


def _task_change(book: TaskBook, task_list: TaskList, change: Change) -> list[Json]:
    if change.gone:
        gone = book.ids.rest(Kind.TASK, change.subject)
        return [{"id": gone, "@removed": {"reason": "deleted"}}]
    task = task_list.tasks.get(change.subject)
    return [task_json(book, task)] if task is not None else []


def none_of_task(call: Call) -> Answer:
    """Checklist items, linked resources, attachments: none of the tasks has any."""
    task_of(call)
    return collection(call, [])


_LISTS = "users/{user}/todo/lists"
_TASK = f"{_LISTS}/{{list}}/tasks/{{task}}"

ROUTES: dict[str, Handler] = {
    f"GET {_LISTS}": all_lists,
    f"GET {_LISTS}/delta": lists_delta,
    f"GET {_LISTS}/{{list}}": get_list,
    f"GET {_LISTS}/{{list}}/tasks": list_tasks,
    f"GET {_LISTS}/{{list}}/tasks/delta": tasks_delta,
    f"GET {_TASK}": get_task,
    f"GET {_TASK}/checklistItems": none_of_task,
    f"GET {_TASK}/linkedResources": none_of_task,
    f"GET {_TASK}/attachments": none_of_task,
}
