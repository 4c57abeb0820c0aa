"""A source connected to a simulated tenant, and short words for what a sync does with it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from backupd.config import Microsoft365
from backupd.demo.tenant import SimulatedTenant
from backupd.limits import Pace
from backupd.model import Account, Change, Collection, Gap, Item, Page, Service
from backupd.ports import Failed, Fetched
from sources.graph.source import GraphSource


class MemoryDraft:
    """A draft that keeps its bytes; only for tests that look at them."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.discarded = False

    @property
    def size(self) -> int:
        return len(self.data)

    def write(self, data: bytes) -> None:
        assert not self.discarded, "a discarded draft is written to"
        self.data += data

    def restart(self) -> None:
        self.data.clear()

    def close(self) -> None:
        pass

    def discard(self) -> None:
        self.discarded = True


@dataclass
class Landing:
    """Remembers every draft it handed out."""

    drafts: list[MemoryDraft] = field(default_factory=list)

    def __call__(self) -> MemoryDraft:
        self.drafts.append(MemoryDraft())
        return self.drafts[-1]


@dataclass
class Desk:
    """Short words for what a sync does with a source."""

    source: GraphSource
    landing: Landing = field(default_factory=Landing)

    def account(self, name: str) -> Account:
        return next(a for a in self.source.accounts() if a.address.startswith(name))

    def collection(self, account: Account, service: Service, name: str | None = None) -> Collection:
        found = self.source.collections(account, service)
        return next(
            c for c in found if isinstance(c, Collection) and name in {None, c.name, c.special}
        )

    def pages(self, account: Account, where: Collection, cursor: str | None = None) -> list[Page]:
        return list(self.source.pages(account, where, cursor))

    def changes(
        self, account: Account, where: Collection, cursor: str | None = None
    ) -> list[Change]:
        return [each for page in self.pages(account, where, cursor) for each in page.changes]

    def items(self, account: Account, where: Collection) -> list[Item]:
        """Each item once, as a sync merges them."""
        merged: dict[str, Item] = {}
        for each in self.changes(account, where):
            if isinstance(each, Item):
                merged[each.id] = each
        return list(merged.values())

    def fetch(
        self, account: Account, where: Collection, items: list[Item] | None = None
    ) -> list[Fetched | Failed]:
        asked = self.items(account, where) if items is None else items
        return list(self.source.fetch(account, where, asked, self.landing))

    def gaps(self, account: Account, service: Service) -> list[Gap]:
        return [g for g in self.source.collections(account, service) if isinstance(g, Gap)]


def bytes_of(result: Fetched | Failed) -> bytes:
    """What was fetched."""
    assert isinstance(result, Fetched), result
    assert isinstance(result.draft, MemoryDraft)
    return bytes(result.draft.data)


def write_section(tenant: SimulatedTenant, folder: Path, **changes: object) -> Microsoft365:
    """A `[sources.harbourlight]` for this tenant; `changes` replace values."""
    secret = folder / "secret"
    secret.write_text(tenant.client_secret)
    values: dict[str, object] = {
        "name": "harbourlight",
        "type": "microsoft365",
        "tenant_id": tenant.tenant_id,
        "client_id": tenant.client_id,
        "client_secret_file": secret,
        "graph_url": tenant.graph_url,
        "login_url": tenant.login_url,
        "token_file": folder / "tokens" / "harbourlight.json",
        "company": "Harbour Light",
    }
    return Microsoft365.model_validate(values | changes)


@contextlib.contextmanager
def open_desk(
    tenant: SimulatedTenant,
    folder: Path,
    *,
    pace: Pace | None = None,
    prompt: Callable[[str], None] | None = None,
    **changes: object,
) -> Iterator[Desk]:
    """A source connected to the tenant, closed at the end."""
    source = GraphSource(write_section(tenant, folder, **changes), pace=pace, prompt=prompt)
    try:
        yield Desk(source)
    finally:
        source.close()
