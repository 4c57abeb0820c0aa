"""Files into Proton Drive by Proton's own command line."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from backupd.errors import (
    AuthError,
    IntegrityError,
    ItemError,
    ItemRefused,
    TransientError,
)
from backupd.mirror.files import hash_file
from backupd.model import Service
from backupd.ports import PRESENT, Claim, Finding, Pace, Parcel, Proof, Put, Reader, Shelf
from targets import paths
from targets.endpoint import Endpoint
from targets.proton import guide
from targets.proton.cli import ROOT, Answer, Node, Program
from targets.staging import Batch

CLAIMS = 100
"""Files that are read back together."""


class ProtonDrive:
    """Puts files below one folder of Drive; see `backupd.ports.Target`.

    It always looks before it puts: a file of the same size and SHA-1 is `present`, another one
    stays and ours goes beside it. Quirks: `binary`, `folder` (the folder in Drive).
    """

    services = frozenset({Service.FILES})
    pace = Pace(items=1.0, bytes=1e6)

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.name
        self._program = program(endpoint)
        self._top = str(endpoint.quirks.get("folder", "Restored"))
        self._staging = endpoint.state / "staging-drive"
        self._known: dict[str, dict[str, Node]] = {}

    def preflight(self) -> Iterator[Finding]:
        """The program is recent enough and somebody is logged in. Raises AuthError."""
        version = ".".join(map(str, self._program.version()))
        self._log_in()
        yield Finding("ok", "proton-drive", f"version {version}, files go into {ROOT}/{self._top}")
        yield Finding("warning", "proton-drive", "is a beta, and Proton has announced a change of its encryption for early 2027 that stops old versions", "Get the current version before a large restore.")  # fmt: skip

    def steps(self) -> Sequence[str]:
        """The login."""
        return [guide.DRIVE]

    def examine(self, parcel: Parcel, content: Reader) -> Put:  # noqa: ARG002 - no file is refused for its bytes
        """The name it gets; content is never changed."""
        put = paths.place(parcel).stored(parcel.sha256)
        return Put(put.state, why=put.why, digest=put.digest)

    def make_collection(self, shelf: Shelf) -> None:
        """Create the folder of a drive."""
        batch = self._batch()
        try:
            (batch.root / paths.collection(shelf)).mkdir(parents=True, exist_ok=True)
            answer = self._program.upload(batch.root)
            if not answer.ok:
                raise self._trouble(answer)
        finally:
            self.close()

    def put(
        self,
        shelf: Shelf,  # noqa: ARG002 - a parcel says where it belongs
        items: Iterable[tuple[Parcel, Reader]],
        *,
        look: bool,  # noqa: ARG002 - see the class
    ) -> Iterator[tuple[Parcel, Put]]:
        """Put files in batches; see `backupd.ports.Target`."""
        self._log_in()
        batch = self._batch()
        try:
            for parcel, content in items:
                place = paths.place(parcel)
                if batch.ready(place, parcel):
                    yield from self._deliver(batch)
                try:
                    batch.take(parcel, place, content)
                except (ItemError, IntegrityError) as error:
                    yield parcel, Put.failed(error)
            if batch.held:
                yield from self._deliver(batch)
        finally:
            self.close()

    def read_back(self, shelf: Shelf, claims: Iterable[Claim]) -> Iterator[Proof]:  # noqa: ARG002
        """Size, and for deep claims the SHA-256 of what is downloaded, a folder's files together."""
        self._known.clear()
        stream = iter(claims)
        while batch := list(itertools.islice(stream, CLAIMS)):
            batch.sort(key=_folder_of)
            for _, members in itertools.groupby(batch, key=_folder_of):
                yield from self._proofs(list(members))

    def close(self) -> None:
        """Remove what is staged."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def _batch(self) -> Batch:
        """An empty batch whose root bears the name of the folder in Drive."""
        batch = Batch(self._staging / self._top)
        batch.clear()
        self._known.clear()
        return batch

    def _log_in(self) -> None:
        if self._program.children(ROOT) is None:
            raise AuthError(
                "Proton Drive does not answer: nobody is logged in, or the login has ended.",
                hint="As the user that runs the restore: proton-drive auth login",
                reason="credential",
            )

    def _deliver(self, batch: Batch) -> Iterator[tuple[Parcel, Put]]:
        """Compare, make room for twins, upload what is absent; leaves the batch empty."""
        present = {path for path in list(batch.held) if self._is_there(batch, path)}
        for path in [each for each in batch.held if each not in present]:
            if self._node(path) is not None:
                aside = batch.move_aside(path)
                present |= {aside} if self._is_there(batch, aside) else set()
        for path in present:
            (batch.root / path).unlink()
        absent = [path for path in batch.held if path not in present]
        trouble = self._upload(batch, absent)
        for path, (parcel, place) in batch.held.items():
            if path in present:
                yield parcel, Put(PRESENT, path, digest=parcel.sha256)
            elif path in trouble:
                yield parcel, Put.failed(ItemRefused(f"{parcel.path}: {trouble[path]}", reason="drive"))  # fmt: skip
            else:
                yield parcel, place.stored(parcel.sha256)
        batch.clear()

    def _upload(self, batch: Batch, absent: list[str]) -> dict[str, str]:
        """Upload and look at what arrived; what became of the others, by path."""
        if not absent:
            return {}
        digests = {path: _sha1(batch.root / path) for path in absent}
        answer = self._program.upload(batch.root)
        self._known.clear()
        missing = [path for path in absent if not self._holds(path, *digests[path])]
        if missing == absent and not answer.ok:
            raise self._trouble(answer)
        return dict.fromkeys(missing, answer.said or "it did not arrive in Drive")

    def _is_there(self, batch: Batch, path: str) -> bool:
        return self._node(path) is not None and self._holds(path, *_sha1(batch.root / path))

    def _holds(self, path: str, size: int, sha1: str) -> bool:
        """Whether Drive has a file of this content there; without a SHA-1 of it the size decides."""
        node = self._node(path)
        return bool(node and not node.folder and node.size == size and node.sha1 in {"", sha1})

    def _node(self, path: str) -> Node | None:
        folder, _, leaf = path.rpartition("/")
        return self._listing(folder).get(leaf)

    def _listing(self, folder: str) -> dict[str, Node]:
        """What is in a folder below ours; nothing when its parent does not know it."""
        if folder not in self._known:
            parent, _, leaf = f"{self._top}/{folder}".rstrip("/").rpartition("/")
            inside = parent.partition("/")[2]
            there = self._listing(inside) if parent else (self._program.children(ROOT) or {})
            node = there.get(leaf)
            held = self._program.children(self._address(folder)) if node and node.folder else {}
            if held is None:
                raise TransientError(f"Proton Drive does not list {folder}.", reason="drive")
            self._known[folder] = held
        return self._known[folder]

    def _address(self, path: str) -> str:
        return f"{ROOT}/{self._top}/{path}".rstrip("/")

    def _proofs(self, claims: Sequence[Claim]) -> Iterator[Proof]:
        deep = [each.put.where for each in claims if each.deep and self._node(each.put.where)]
        hashes = self._hashes(deep)
        for claim in claims:
            where = claim.put.where
            node = self._node(where)
            if node is None or node.folder:
                yield Proof(claim, "missing")
            elif node.size not in {None, claim.parcel.size}:
                yield Proof(claim, "changed", f"{node.size} bytes instead of {claim.parcel.size}")
            elif claim.deep and hashes.get(where) != claim.parcel.sha256:
                yield Proof(claim, "changed", "other content")
            else:
                yield Proof(claim, "same")

    def _hashes(self, only: Sequence[str]) -> dict[str, str]:
        """SHA-256 of files of one folder, downloaded and thrown away."""
        if not only:
            return {}
        with tempfile.TemporaryDirectory() as to:
            answer = self._program.download([self._address(each) for each in only], Path(to))
            found = {}
            for each in only:
                file = Path(to, each.rpartition("/")[2])
                if file.is_file():
                    with file.open("rb") as content:
                        found[each] = hash_file(content)
            if not found and not answer.ok:
                raise self._trouble(answer)
            return found

    def _trouble(self, answer: Answer) -> TransientError:
        return TransientError(
            f"Proton Drive does not do it: {answer.said or f'exit code {answer.code}'}",
            hint="Look at `proton-drive filesystem list /my-files`; then run the same restore again.",
            reason="drive",
        )


def _folder_of(claim: Claim) -> str:
    return claim.put.where.rpartition("/")[0]


def program(endpoint: Endpoint) -> Program:
    """The command line that an endpoint names."""
    binary = endpoint.quirks.get("binary")
    return Program(binary) if isinstance(binary, str) else Program()


def _sha1(file: Path) -> tuple[int, str]:
    """Size and SHA-1, which is what Drive tells of a file."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, lambda: hashlib.sha1(usedforsecurity=False))
    return file.stat().st_size, digest.hexdigest()
