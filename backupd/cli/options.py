"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
Account = Annotated[
    str | None, typer.Option("--account", help="Whose data; needed when several are held.")
]
SnapshotId = Annotated[
    str | None, typer.Option("--snapshot", metavar="ID", help="Look into this snapshot.")
]
Storage = Annotated[str | None, typer.Option("--storage", metavar="NAME", help="In this storage.")]
