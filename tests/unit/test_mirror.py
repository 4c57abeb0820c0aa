"""The mirror on a real disk: whole files under their names, whichever way they are made durable."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from backupd.catalog import Catalog
from backupd.errors import IntegrityError, TransientError
from backupd.mirror.durable import MANY, Disk, whole_flush
from backupd.mirror.files import GATHERED, SMALL, Mirror
from backupd.mirror.tree import Tree
from backupd.model import Collection, Folder, Service


@pytest.fixture(params=["disk", "memory"])
def mirror(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mirror]:
    """On a disk that may be flushed as a whole, and on a file system where nobody relies on that."""
    if request.param == "disk":
        yield Mirror(tmp_path / "mirror", tmp_path / "drafts")
        return
    memory = "/dev/shm"  # noqa: S108 - a file system in memory is what is wanted
    if not os.access(memory, os.W_OK):
        pytest.skip("there is no /dev/shm")
    with TemporaryDirectory(dir=memory) as folder:
        assert not Disk(folder).flushes_whole
        yield Mirror(Path(folder) / "mirror", Path(folder) / "drafts")


@pytest.mark.parametrize("count", [1, MANY, 3 * MANY])
def test_each_draft_becomes_the_file_it_was_meant_to_be(mirror: Mirror, count: int) -> None:
    drafts = []
    for number in range(count):
        draft = mirror.draft()
        draft.write(b"%d" % number)
        drafts.append(
            (draft, f"mail/Inbox/2026-{number % 12 + 1:02}/{number}.eml", 1_000.0 + number)
        )
    mirror.place(drafts)
    for number, (draft, path, mtime) in enumerate(drafts):
        assert mirror.absolute(path).read_bytes() == b"%d" % number
        assert mirror.absolute(path).stat().st_mtime == mtime
        assert mirror.sha256(path) == draft.sha256
    assert not list((mirror.root.parent / "drafts").iterdir())


@pytest.mark.parametrize("count", [1, 2 * MANY])
def test_a_file_that_replaces_another_is_all_new(mirror: Mirror, count: int) -> None:
    for text in (b"old and long", b"new"):
        drafts = []
        for number in range(count):
            draft = mirror.draft()
            draft.write(text)
            drafts.append((draft, f"contacts/{number}.vcf", None))
        mirror.place(drafts)
    found = {path.read_bytes() for path in mirror.root.rglob("*.vcf")}
    assert found == {b"new"}


def test_what_is_written_in_pieces_of_any_size_is_one_file_and_one_hash(mirror: Mirror) -> None:
    sizes = [1, SMALL - 1, SMALL, 3, GATHERED, GATHERED + 1, 0, 7, SMALL, SMALL, 1]
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    draft = mirror.draft()
    for each in pieces:
        draft.write(each)
    mirror.place([(draft, "files/Drive/a", None)])
    whole = b"".join(pieces)
    assert mirror.absolute("files/Drive/a").read_bytes() == whole
    assert draft.size == len(whole)
    assert draft.sha256 == hashlib.sha256(whole).hexdigest()


def test_a_draft_that_begins_again_forgets_what_was_in_it(mirror: Mirror) -> None:
    draft = mirror.draft()
    draft.write(b"a" * (GATHERED + 5))
    draft.restart()
    draft.write(b"b")
    mirror.place([(draft, "files/Drive/b", None)])
    assert mirror.absolute("files/Drive/b").read_bytes() == b"b"
    gone = mirror.draft()
    gone.write(b"c" * GATHERED)
    gone.discard()
    gone.discard()
    assert not list((mirror.root.parent / "drafts").iterdir())


def test_an_empty_draft_is_an_empty_file(mirror: Mirror) -> None:
    mirror.place([(mirror.draft(), "files/Drive/empty", None)])
    assert mirror.absolute("files/Drive/empty").read_bytes() == b""


@pytest.mark.parametrize(
    "path", ["../a", "mail/../../a", "", "/a", "mail//a", "a\0b", "mail/.", "."]
)
def test_no_path_leads_outside(mirror: Mirror, path: str) -> None:
    draft = mirror.draft()
    draft.write(b"x")
    with pytest.raises(IntegrityError):
        mirror.place([(draft, path, None)])
    assert not list(mirror.root.rglob("*"))


def test_what_the_disk_cannot_do_is_an_error(tmp_path: Path) -> None:
    with (tmp_path / "f").open("wb") as file:
        flush = whole_flush(file.fileno())
        if flush is None:
            pytest.skip("this file system is not flushed as a whole")
        flush(file.fileno())
    with pytest.raises(OSError, match="Bad file descriptor"):
        flush(file.fileno() if not file.closed else 1_000_000)


def test_index_lines_are_written_whole_and_no_lines_are_no_file(mirror: Mirror) -> None:
    lines = [f"{number} ü\ud800" for number in range(1_000)]
    mirror.write("mail/index.jsonl", lines)
    said = mirror.absolute("mail/index.jsonl").read_bytes().decode("utf-8", "surrogatepass")
    assert said == "".join(f"{line}\n" for line in lines)
    mirror.write("mail/index.jsonl", [])
    assert not mirror.exists("mail/index.jsonl")


def test_a_mirror_that_is_closed_holds_no_file_open_whoever_still_knows_it(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    kept = [Mirror(tmp_path / "mirror", tmp_path / "drafts") for _ in range(50)]
    for each in kept:
        each.close()
        each.close()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_a_folder_that_is_said_to_lie_inside_itself_stays_where_it_is(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path / "mirror", tmp_path / "drafts")
    with Catalog(tmp_path / "catalog.db") as catalog:
        tree = Tree(catalog, mirror)
        outer = Collection(Service.MAIL, "outer", None, "Outer")
        tree.collections(Service.MAIL, [outer, Collection(Service.MAIL, "inner", "outer", "Inner")])
        for parent in ("outer", "inner"):
            with pytest.raises(TransientError):
                tree.collection(Collection(Service.MAIL, "outer", parent, "Outer"))
        assert [row.path for row in catalog.collections()] == ["mail/Outer", "mail/Outer/Inner"]
    assert mirror.exists("mail/Outer/Inner")


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Callable[..., list[str]]]:
    """Tells a drive of folders, each call a page of (id, parent); answers with the paths in it."""
    mirror = Mirror(tmp_path / "mirror", tmp_path / "drafts")
    with Catalog(tmp_path / "catalog.db") as catalog:
        tree = Tree(catalog, mirror)
        (root,) = tree.collections(Service.FILES, [Collection(Service.FILES, "d", None, "Drive")])

        def tell(*page: tuple[str, str | None]) -> list[str]:
            tree.folders(root, [Folder(id_, parent, id_.upper()) for id_, parent in page])
            paths = [row.path.removeprefix("files/Drive/") for row in catalog.below(root.path)]
            assert all(mirror.exists(row.path) for row in catalog.below(root.path))
            return sorted(paths[1:])

        yield tell


@pytest.mark.parametrize("beside", [(), (("c", "b"),), (("b", "c"), ("c", None))])
def test_a_folder_goes_below_one_that_lay_in_it_wherever_the_page_ends(
    drive: Callable[..., list[str]], beside: tuple[tuple[str, str | None], ...]
) -> None:
    drive(("a", None), ("b", "a"), ("c", "a"))
    drive(("a", "b"), *beside)  # that b has left a is told on the next page
    assert drive(("b", None), ("c", None)) == ["B", "B/A", "C"]


def test_folders_that_are_said_to_lie_in_each_other_end_the_page_all_the_same(
    drive: Callable[..., list[str]],
) -> None:
    drive(("a", None), ("b", "a"))
    assert drive(("a", "b"), ("b", "a")) == ["B", "B/A"]
    for _ in range(2):
        with pytest.raises(TransientError):
            drive(("new", "new"))
