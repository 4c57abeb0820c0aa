"""Any storage that rclone knows, for files; by its own program.

Items travel in batches: staged in a folder of ours under the names they get, compared with what is
there, copied by one rclone. So the price of a process is paid once in a hundred files, and each
batch ends in one of rclone's documented exit codes, which is all that decisions are made on: the
remote control daemon would answer with nothing but texts. Large files are staged too, for a stream
into `rclone rcat` cannot be sent again after a broken connection, nor held back until its end has
proven its hash.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf

from backupd.errors import (
    BackupdError,
    IntegrityError,
    ItemError,
    ItemRefused,
    TransientError,
    UserError,
)
from backupd.model import Service
from backupd.ports import PRESENT, Claim, Finding, Pace, Parcel, Proof, Put, Reader, Shelf
from targets import paths
from targets.endpoint import Endpoint
from targets.rclone_program import Answer, Program
from targets.staging import Batch

NO_FOLDER, NO_FILE, TEMPORARY, LIMIT_REACHED = 3, 4, 5, 8
"""Exit codes from rclone's documentation."""

NO_FAULT = frozenset({0, NO_FOLDER, NO_FILE})

CLAIMS = 500
"""Files that one rclone reads back."""

BRIEF = ("--no-modtime", "--no-mimetype")
"""What would cost some storages a request for each file that is listed."""

ONCE = ("--retries=1", "--low-level-retries=2")
"""For questions whose answer may be no."""

FRUITLESS = 3
"""Single files in a row that did not arrive, after which it is no matter of the file."""

RULES = paths.Rules(
    # rclone writes forbidden characters of a storage by these, and skips silently what it misreads
    forbidden="\u201b" + "".join(map(chr, range(0x2400, 0x2427))) + "\uff0e\uff0f"
)

SAME, OTHER, ABSENT = "=", "*", "+"
"""What `rclone check --combined` says of a file."""


class Rclone:
    """Puts files to a remote of the user's own rclone configuration; see `backupd.ports.Target`.

    It always looks before it puts, since `look` cannot tell whose file is in the way: a file of the
    same content is `present`, another one stays and ours goes beside it. Quirks: `config` (the
    path of a configuration file), `binary`. The secret, if there is one, opens that configuration.
    """

    services = frozenset({Service.FILES})
    pace = Pace(items=4.0, bytes=4e6)

    def __init__(self, endpoint: Endpoint) -> None:
        self.name = endpoint.name
        self._remote = endpoint.remote
        self._program = Program(endpoint)
        self._staging = endpoint.state / "staging"
        self._fruitless = 0
        self._worked = False

    def preflight(self) -> Iterator[Finding]:
        """Rclone is recent enough, the remote answers and has room."""
        version = ".".join(map(str, self._program.version()))
        answer = self._listed()
        if answer.code not in NO_FAULT:
            raise self._trouble(answer, 0)
        self._worked = True
        yield Finding("ok", self._remote, f"answers to rclone {version}")
        free = self._free()
        if free < inf:
            level = "ok" if free > 0 else "error"
            yield Finding(level, self._remote, f"{int(free) >> 20} MiB free")

    def steps(self) -> Sequence[str]:
        """None: the remote was set up by `rclone config`."""
        return ()

    def examine(self, parcel: Parcel, content: Reader) -> Put:  # noqa: ARG002 - no file is refused for its bytes
        """The name it gets; content is never changed."""
        put = paths.place(parcel, RULES).stored(parcel.sha256)
        return Put(put.state, why=put.why, digest=put.digest)

    def make_collection(self, shelf: Shelf) -> None:
        """Create the folder of a drive, where the storage has folders."""
        answer = self._program.run("mkdir", "--", self._address(paths.collection(shelf, RULES)))
        if answer.code:
            raise self._trouble(answer, 0)

    def put(
        self,
        shelf: Shelf,  # noqa: ARG002 - a parcel says where it belongs
        items: Iterable[tuple[Parcel, Reader]],
        *,
        look: bool,  # noqa: ARG002 - see the class
    ) -> Iterator[tuple[Parcel, Put]]:
        """Put files in batches; see `backupd.ports.Target`."""
        batch = Batch(self._staging)
        batch.clear()
        try:
            for parcel, content in items:
                place = paths.place(parcel, RULES)
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
        """Size, and for deep claims the SHA-256 of what rclone downloads, hundreds of files at a time."""
        stream = iter(claims)
        while batch := list(itertools.islice(stream, CLAIMS)):
            sizes = self._sizes([each.put.where for each in batch])
            hashes = self._hashes([each.put.where for each in batch if each.deep])
            for claim in batch:
                path = claim.put.where
                yield paths.proof(claim, sizes.get(path), hashes.get(path))

    def close(self) -> None:
        """Remove what is staged."""
        shutil.rmtree(self._staging, ignore_errors=True)

    def _deliver(self, batch: Batch) -> Iterator[tuple[Parcel, Put]]:
        """Compare, make room for twins, copy what is absent; leaves the batch empty."""
        verdicts = self._compare(batch, list(batch.held))
        remnants, taken = self._sorted(batch, verdicts)
        aside = self._compare(batch, [batch.move_aside(path) for path in taken])
        remnants += self._sorted(batch, aside)[0]
        verdicts |= aside
        absent = [path for path in batch.held if verdicts.get(path) == ABSENT]
        trouble = self._copy(batch, absent, "--ignore-existing")
        trouble |= self._copy(batch, remnants, "--ignore-times")
        for path, (parcel, place) in batch.held.items():
            if verdicts.get(path) == SAME:
                yield parcel, Put(PRESENT, path, digest=parcel.sha256)
            elif trouble.get(path) or path not in {*absent, *remnants}:
                why = trouble.get(path, "rclone cannot compare it with what is there.")
                yield (
                    parcel,
                    Put.failed(ItemRefused(f"{parcel.path}: {why}", reason="rclone")),
                )
            else:
                yield parcel, place.stored(parcel.sha256)
        batch.clear()

    def _sorted(self, batch: Batch, verdicts: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Of the paths that hold something else: those with a broken upload of ours, and the others."""
        other = [path for path, verdict in verdicts.items() if verdict == OTHER]
        broken = [p for p in other if self._program.begins(self._address(p), batch.root / p)]
        return broken, [path for path in other if path not in broken]

    def _compare(self, batch: Batch, only: list[str]) -> dict[str, str]:
        """What is at the target of the staged files, by content: a mark for each file that rclone saw."""
        if not only:
            return {}
        check = ["check", "--one-way", "--download", "--combined=-", "--", str(batch.root)]
        answer = self._program.run(*check, self._remote, only=only)
        lines = answer.out.decode("utf-8", "replace").splitlines()
        verdicts = {line[2:]: line[0] for line in lines if line[1:2] == " "}
        if not set(verdicts.values()) & {SAME, OTHER, ABSENT}:
            raise self._trouble(answer, batch.size)
        self._worked = True
        return verdicts

    def _copy(
        self, batch: Batch, only: list[str], how: str, *, again: bool = True
    ) -> dict[str, str]:
        """Copy staged files, the failed ones twice; what became of those that did not arrive, by path.

        rclone's own second try would take the half file of its first one for an existing file.
        """
        if not only:
            return {}
        copy = ["copy", how, "--retries=1", "--", str(batch.root)]
        answer = self._program.run(*copy, self._remote, only=only)
        if answer.code == 0:
            self._fruitless = 0
            return {}
        verdicts = self._compare(batch, only)
        missing = {path: answer.said(path) for path in only if verdicts.get(path) != SAME}
        if again:
            return missing | self._copy_again(batch, {p: verdicts.get(p, "") for p in missing})
        if missing:
            self._weigh(answer, batch, len(only), len(missing))
        return missing

    def _copy_again(self, batch: Batch, verdicts: Mapping[str, str]) -> dict[str, str]:
        """Copy what did not arrive, or only in part; "" for each that then did."""
        absent = [path for path, verdict in verdicts.items() if verdict == ABSENT]
        broken = self._sorted(batch, verdicts)[0]
        trouble = self._copy(batch, absent, "--ignore-existing", again=False)
        trouble |= self._copy(batch, broken, "--ignore-times", again=False)
        return {path: trouble.get(path, "") for path in (*absent, *broken)}

    def _weigh(self, answer: Answer, batch: Batch, wanted: int, missing: int) -> None:
        """Raise when a failed copy is no matter of single items."""
        self._fruitless = self._fruitless + 1 if missing == wanted else 0
        general = answer.code in {TEMPORARY, LIMIT_REACHED} or self._free() < batch.size
        if general or (self._fruitless and wanted > 1) or self._fruitless >= FRUITLESS:
            raise self._trouble(answer, batch.size)

    def _sizes(self, only: list[str]) -> dict[str, int]:
        answer = self._program.run(
            "lsjson", *BRIEF, "-R", "--files-only", "--", self._remote, only=only
        )
        try:
            listed = json.loads(answer.out)
            sizes = {str(each["Path"]): int(each["Size"]) for each in listed}
        except (ValueError, LookupError, TypeError):
            sizes = {}
        if answer.code not in NO_FAULT and not sizes:
            raise self._trouble(answer, 0)
        return sizes

    def _hashes(self, only: list[str]) -> dict[str, str]:
        if not only:
            return {}
        answer = self._program.run("hashsum", "sha256", "--download", "--", self._remote, only=only)
        if answer.code not in NO_FAULT and not answer.out:
            raise self._trouble(answer, 0)
        lines = answer.out.decode("utf-8", "replace").splitlines()
        pairs = (line.partition("  ") for line in lines)
        return {path: digest for digest, _, path in pairs}

    def _address(self, path: str) -> str:
        glue = "" if self._remote.endswith((":", "/")) else "/"
        return f"{self._remote}{glue}{path}"

    def _free(self) -> float:
        """Bytes free; without end where the storage does not say."""
        answer = self._program.run("about", *ONCE, "--json", "--", self._remote)
        try:
            return int(json.loads(answer.out)["free"])
        except (ValueError, LookupError, TypeError):
            return inf

    def _listed(self) -> Answer:
        """List the remote itself; a folder that is not there yet is no fault."""
        return self._program.run("lsjson", *ONCE, *BRIEF, "--max-depth=1", "--", self._remote)

    def _trouble(self, answer: Answer, wanted: int) -> BackupdError:
        """What a failed run means: its exit code says little, so the storage is asked again.

        rclone ends alike for a refused password and for a server that is away; what worked a
        moment ago is taken to be away.
        """
        told = f"rclone cannot work with {self._remote}: {answer.said()}."
        gone = self._worked and self._listed().code not in NO_FAULT
        if gone or answer.code == TEMPORARY:
            return TransientError(
                told, hint="Run the same restore again later: it goes on where it stopped."
            )
        if self._free() < wanted:
            return UserError(
                f"{self._remote} is full.",
                hint="Make room there, then run the same restore again: it goes on where it stopped.",
                reason="quota",
            )
        return UserError(
            told,
            hint=f"Try `rclone lsd {self._remote}` by hand; `rclone config` mends credentials.",
            reason="limit" if answer.code == LIMIT_REACHED else "rclone",
        )
