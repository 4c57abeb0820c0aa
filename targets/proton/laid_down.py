"""Files laid down in a folder, for a person to upload."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from backupd.model import Service
from backupd.ports import Finding
from targets.endpoint import Endpoint
from targets.folder import Folder
from targets.proton import guide


class LaidDown(Folder):
    """A folder of files, and what to do with it; see `backupd.ports.Target`."""

    services = frozenset({Service.FILES})

    def __init__(self, endpoint: Endpoint) -> None:
        super().__init__(endpoint)
        self._shown = str(endpoint.path)

    def preflight(self) -> Iterator[Finding]:
        """The folder can be written to; what would do better."""
        yield from super().preflight()
        yield Finding("warning", "files", "Proton's command line for Drive is not installed: the files will have to be uploaded by hand", guide.DRIVE)  # fmt: skip

    def steps(self) -> Sequence[str]:  # type: ignore[override]
        """How the files get into Drive."""
        return (guide.NO_DRIVE.format(path=self._shown),)
