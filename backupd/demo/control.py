"""The same switches for a person with curl: `POST /_control/…` with JSON."""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass, fields
from http import HTTPStatus
from typing import TYPE_CHECKING

from backupd.demo.calls import Answer, Json
from backupd.demo.changes import Refusal
from backupd.demo.cutoffs import SCENARIOS, Cutoffs
from backupd.demo.faults import Fault, Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from backupd.demo.directory import User
    from backupd.demo.requestlog import RequestLog
    from backupd.demo.state import TenantState
    from backupd.demo.switches import Switches


@dataclass
class Control:
    """Answers the control endpoint. It is for trying and tests, and listens on loopback only."""

    state: TenantState
    switches: Switches
    faults: Faults
    cutoffs: Cutoffs
    log: RequestLog

    def handle(self, path: str, body: bytes) -> Answer:
        """Do what `path` names with the JSON object in `body`."""
        doors: dict[str, Callable[[Json], Json]] = {
            "cut_off": self._cut_off,
            "restore_service": self._restore,
            "fault": self._fault,
            "clear_faults": self._clear_faults,
            "switch": self._switch,
            "expire_cursors": self._expire_cursors,
            "deliver": self._deliver,
            "put_file": self._put_file,
            "log": self._log,
            "truth": self._truth,
        }
        door = doors.get(path)
        if door is None:
            return Answer({"error": "unknown", "known": sorted(doors)}, HTTPStatus.NOT_FOUND)
        try:
            return Answer(door(json.loads(body or b"{}")))
        except (KeyError, TypeError, ValueError, AttributeError) as problem:
            return Answer({"error": f"{type(problem).__name__}: {problem}"}, HTTPStatus.BAD_REQUEST)

    def _cut_off(self, asked: Json) -> Json:
        self.cutoffs.begin(asked["scenario"], asked.get("user"))
        return self._restored_state()

    def _restore(self, asked: Json) -> Json:
        del asked
        self.cutoffs.end()
        return self._restored_state()

    def _restored_state(self) -> Json:
        known = {name: scenario.meaning for name, scenario in SCENARIOS.items()}
        return {"active": sorted(self.cutoffs.active), "known": known}

    def _fault(self, asked: Json) -> Json:
        return asdict(self.faults.add(Fault(**asked)))

    def _clear_faults(self, asked: Json) -> Json:
        del asked
        self.faults.clear()
        return {}

    def _switch(self, asked: Json) -> Json:
        known = {field.name for field in fields(self.switches)}
        if unknown := asked.keys() - known:
            raise KeyError(f"no switch named {', '.join(sorted(unknown))}")
        for name, value in asked.items():
            setattr(self.switches, name, value)
        return asdict(self.switches)

    def _expire_cursors(self, asked: Json) -> Json:
        refusal = Refusal(**asked["refusal"]) if "refusal" in asked else None
        self.state.expire_cursors(asked.get("user"), drive=asked.get("drive"), refusal=refusal)
        return {}

    def _deliver(self, asked: Json) -> Json:
        mime = _octets(asked["mime"])
        message = self.state.deliver(asked["user"], asked.get("folder", "inbox"), mime)
        return {"id": self.state.user(asked["user"]).mailbox.message_id(message)}

    def _put_file(self, asked: Json) -> Json:
        if "size" in asked:
            item = self.state.put_big_file(asked["drive"], asked["path"], int(asked["size"]))
        else:
            item = self.state.put_file(asked["drive"], asked["path"], _octets(asked["content"]))
        return {"id": self.state.drive(asked["drive"]).item_id(item.uid)}

    def _log(self, asked: Json) -> Json:
        last = int(asked.get("last", 100))
        return {"requests": [asdict(record) for record in self.log[-last:]]}

    def _truth(self, asked: Json) -> Json:
        del asked
        with self.state.lock:
            return {"users": [_counts(user) for user in self.state.directory.users]}


def _counts(user: User) -> Json:
    return {
        "address": user.upn,
        "id": user.id,
        "messages": len(user.mailbox.messages),
        "folders": len(user.mailbox.folders),
        "events": len(user.agenda.events),
        "contacts": len(user.contacts.contacts),
        "drive_items": sum(len(drive.items) for drive in user.drives),
    }


def _octets(text: str) -> bytes:
    """Base64 where it is base64, else the text itself."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return text.encode()
