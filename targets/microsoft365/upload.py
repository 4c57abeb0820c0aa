"""Upload sessions: a large file in pieces, gone on with where a lost connection left it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import IO, Any

import httpx
import stamina

from backupd.errors import ItemRefused
from targets.microsoft365.answers import body_of, words_of, worth_a_retry
from targets.microsoft365.graph import ATTEMPTS, Graph, Json

GRAIN = 320 * 1024
PIECE = 32 * GRAIN
"""Bytes of one request: ten MiB, and a multiple of what Microsoft asks for."""
SMALL_PIECE = 10 * GRAIN
"""The same for what is attached to an event: below four MB."""
SESSIONS = 3
"""Sessions that may end under our hands before a file is given up for this run."""
_TAKEN, _GONE, _OUT_OF_STEP = 409, 404, 416


class Ended(ItemRefused):
    """The session is gone. The file may be stored completely: the answer to the last piece can be lost."""


class Upload:
    """One file on its way through one session."""

    def __init__(self, graph: Graph, held: IO[bytes], piece: int = PIECE) -> None:
        self._graph, self._held, self._most = graph, held, piece
        self._size = held.seek(0, os.SEEK_END)
        self._url, self._at = "", 0

    def run(self, path: str, body: Json) -> Json | None:
        """Send the whole file; what the service says of it, or None when its name is taken.

        Raises Ended when the session is lost; TransientError when nothing helps.

        Args:
            path: the `createUploadSession` of the file.
        """
        opened = self._graph.ask("POST", path, body)
        if opened.status_code == _TAKEN:
            return None
        said = body_of(opened)
        if opened.status_code not in {200, 201} or not isinstance(said.get("uploadUrl"), str):
            self._graph.refuse(opened)
        self._url, self._at = said["uploadUrl"], 0
        while True:
            answer = self._persistently()
            if answer.status_code in {200, 201}:
                return body_of(answer)
            if answer.status_code == _TAKEN:
                return None
            self._advance(answer)

    def _persistently(self) -> httpx.Response:
        """The answer to the next piece, once it is there."""
        for attempt in stamina.retry_context(
            worth_a_retry, attempts=ATTEMPTS, timeout=900.0, wait_initial=0.5, wait_max=60.0
        ):
            with attempt:
                if attempt.num > 1:
                    self._resume()
                return self._piece()
        raise AssertionError  # the loop ends by itself

    def _piece(self) -> httpx.Response:
        self._held.seek(self._at)
        data = self._held.read(self._most)
        last = self._at + len(data) - 1
        headers = {
            "Content-Range": f"bytes {self._at}-{last}/{self._size}",
            "Content-Type": "application/octet-stream",
        }
        return self._graph.send_openly("PUT", self._url, data, headers)

    def _advance(self, answer: httpx.Response) -> None:
        """Go on where the service wants the next bytes from."""
        if answer.status_code == _OUT_OF_STEP:
            before = self._at
            self._resume()
            if self._at == before:
                raise ItemRefused("OneDrive takes no further piece of it.", reason="upload")
            return
        if answer.status_code == _GONE:
            raise Ended("The upload session has ended.", reason="session")
        if answer.status_code != httpx.codes.ACCEPTED:
            raise ItemRefused(
                f"OneDrive refuses a piece of it ({words_of(answer)}).", reason="upload"
            )
        self._at = _next(body_of(answer), min(self._at + self._most, self._size))

    def _resume(self) -> None:
        """Ask the session which bytes it misses."""
        answer = self._graph.send_openly("GET", self._url, None, {})
        if answer.status_code != httpx.codes.OK:
            raise Ended("The upload session has ended.", reason="session")
        self._at = _next(body_of(answer), self._at)


def _next(said: Mapping[str, Any], otherwise: int) -> int:
    ranges = said.get("nextExpectedRanges")
    first = str(ranges[0]) if isinstance(ranges, list) and ranges else ""
    start = first.partition("-")[0]
    return int(start[:18]) if start.isdecimal() else otherwise
