"""Finds the handler of a path."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.calls import Handler, Refused, Routes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Router:
    """Templates such as `GET users/{user}/messages/{message}/$value`, by their number of steps.

    Fixed steps are compared without case and win over placeholders; placeholders keep their case.
    """

    def __init__(self, *tables: Routes) -> None:
        self._by_length: dict[int, list[tuple[list[str], str, Handler]]] = {}
        for table in tables:
            for line, handler in table.items():
                method, _, template = line.partition(" ")
                steps = template.split("/")
                entry = (steps, method, handler)
                self._by_length.setdefault(len(steps), []).append(entry)
        for entries in self._by_length.values():
            entries.sort(key=lambda entry: [step.startswith("{") for step in entry[0]])

    def find(self, method: str, steps: Sequence[str]) -> tuple[str, dict[str, str], Handler]:
        """The template, its values and its handler; refuses as Graph does."""
        allowed = False
        for template, accepted, handler in self._by_length.get(len(steps), []):
            values = _match(template, steps)
            if values is not None and accepted == method:
                return "/".join(template), dict(values), handler
            allowed = allowed or values is not None
        if allowed:
            message = "The HTTP method is not supported for this resource."
            raise Refused(HTTPStatus.METHOD_NOT_ALLOWED, "Request_BadRequest", message)
        message = f"Resource not found for the segment '{steps[-1] if steps else ''}'."
        raise Refused(HTTPStatus.BAD_REQUEST, "BadRequest", message)

    def templates(self) -> list[str]:
        """Every "METHOD template"."""
        entries = [entry for entries in self._by_length.values() for entry in entries]
        return sorted(f"{method} {'/'.join(steps)}" for steps, method, _ in entries)


def _match(template: Sequence[str], steps: Sequence[str]) -> Mapping[str, str] | None:
    values = {}
    for want, step in zip(template, steps, strict=True):
        if want.startswith("{"):
            values[want[1:-1]] = step
        elif want.casefold() != step.casefold():
            return None
    return values
