"""The changes of many folders in one request: most of them have none."""

from __future__ import annotations

from collections.abc import Sequence

from backupd.errors import BackupdError
from backupd.model import Account, Collection
from sources.graph.batch import Part, ask_all
from sources.graph.client import Json
from sources.graph.exchange import Mailbox
from sources.graph.failures import Broken, Refused, Scope
from sources.graph.listing import Cursor

FEW = 50
"""Changes of a folder that come along; what is behind them is asked for by itself."""


class Ahead:
    """First pages that were asked for before they are wanted. Each is handed out once, for the very cursor."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, tuple[str | None, Json]]] = {}

    def ask(self, mailbox: Mailbox, wanted: Sequence[tuple[Collection, str]]) -> None:
        """Ask for all of them; whatever goes wrong shows again when a folder is asked for by itself."""
        held = self._held[mailbox.account.id] = {}
        links = [(folder.id, text, _link(text)) for folder, text in wanted]
        chosen = [each for each in links if each[2].startswith(f"{mailbox.client.base}/")]
        if len(chosen) < 2:  # noqa: PLR2004 - one is no fewer than one
            return
        prefer = {"Prefer": f"odata.maxpagesize={FEW}"}
        parts = [Part(link.removeprefix(mailbox.client.base), prefer) for _, _, link in chosen]
        call = mailbox.batch(Scope.COLLECTION, "the changes in several folders")
        try:
            replies = mailbox.client.loop.call(ask_all(mailbox.client, parts, call))
        except (Refused, Broken, BackupdError):
            return
        for (folder, text, _), reply in zip(chosen, replies, strict=True):
            if reply.refusal is None:
                held[folder] = (text, reply.body)

    def take(self, account: Account, folder: Collection, cursor: str | None) -> Json | None:
        """The first page behind a cursor, if it is here."""
        text, page = self._held.get(account.id, {}).pop(folder.id, (None, {}))
        return page if text is not None and text == cursor else None


def _link(text: str) -> str:
    known = Cursor.unpack(text)
    return known.link if known and known.mode == "delta" else ""
