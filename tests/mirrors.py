"""Mirrors made by hand, in the format that snapshots have: what a restore reads, without a source."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ADDRESS = "alice@example.org"


class MirrorMaker:
    """Writes items below a folder; `finish` makes it a mirror."""

    def __init__(self, root: Path, address: str = ADDRESS) -> None:
        self.root = root
        self._address = address
        self._shelves: dict[str, dict[str, Any]] = {}

    def shelf(self, service: str, *names: str, special: str | None = None) -> str:
        """A collection, and those it lies in; returns its path."""
        path = service
        for name in names:
            path = f"{path}/{name}"
            self._shelves.setdefault(path, {"service": service, "path": path, "name": name, "special": None, "items": 0, "bytes": 0})  # fmt: skip
        self._shelves[path]["special"] = special
        (self.root / path).mkdir(parents=True, exist_ok=True)
        return path

    def mail(self, shelf: str, data: bytes, received: str, **about: Any) -> str:
        """A message; its key is its hash and time unless told."""
        month, digest = received[:7], hashlib.sha256(data).hexdigest()
        key = about.pop("key", digest[:12] + received)
        leaf = f"{received.replace(':', '')}_{hashlib.sha256(key.encode()).hexdigest()[:10]}.eml"
        return self._add(
            shelf, f"{shelf}/{month}", leaf, data, key, {"received": received, **about}
        )

    def item(self, shelf: str, leaf: str, data: bytes, **about: Any) -> str:
        """An event or a contact."""
        return self._add(shelf, shelf, leaf, data, about.pop("key", leaf), about)

    def file(self, shelf: str, inner: str, data: bytes, **about: Any) -> str:
        """A file of a drive, with the folders above it."""
        *folders, leaf = inner.split("/")
        folder = shelf
        for name in folders:
            index = self._index(folder)
            if f'"file": "{name}"' not in (index.read_text() if index.exists() else ""):
                self._line(folder, {"folder": name, "file": name, "id": name})
            folder = f"{folder}/{name}"
        return self._add(shelf, folder, leaf, data, about.pop("key", inner), about)

    def finish(self) -> Path:
        """Describe what was written; more may follow, and another finish."""
        described = {
            "format": 1,
            "account": {"address": self._address, "source": "hand", "id": "1", "name": "", "kind": "user"},
            "collections": list(self._shelves.values()),
            "gaps": [],
            "missing": [],
        }  # fmt: skip
        (self.root / "account.json").write_text(json.dumps(described))
        return self.root

    def _add(
        self, shelf: str, folder: str, leaf: str, data: bytes, key: str, about: Mapping[str, Any]
    ) -> str:
        place = self.root / folder / leaf
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)
        self._line(folder, {**about, "file": leaf, "name": leaf, "key": key, "id": key, "sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "source": {}})  # fmt: skip
        self._shelves[shelf]["items"] += 1
        self._shelves[shelf]["bytes"] += len(data)
        return f"{folder}/{leaf}"

    def _line(self, folder: str, line: Mapping[str, Any]) -> None:
        index = self._index(folder)
        index.parent.mkdir(parents=True, exist_ok=True)
        with index.open("a") as lines:
            lines.write(json.dumps(line) + "\n")

    def _index(self, folder: str) -> Path:
        inside = folder.replace("files", "files/.backupd/index", 1) if folder.startswith("files/") else folder  # fmt: skip
        return self.root / inside / "index.jsonl"
