"""Reports: signed, chained, and whatever is done to one of them is found."""

from __future__ import annotations

import json
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from backupd.errors import UserError
from backupd.report.chain import HEAD, Chain, check
from backupd.report.merkle import Tree, leaf, root_of
from backupd.report.signing import KEY_FILE, read_public, signing_key


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    chain = Chain(tmp_path / "reports")
    for number in range(3):
        chain.append({"what": number}, signing_key(tmp_path))
    return chain


def kinds(chain: Chain) -> set[str]:
    return {each.kind for each in chain.check(signing_key(chain.folder.parent).public)}


def resign(chain: Chain, path: Path, state: Path) -> None:
    """What somebody does who has no access to the key."""
    other = signing_key(state)
    document = json.loads(path.read_bytes()) | {"public_key": other.public.hex, "what": "better"}
    data = json.dumps(document).encode()
    path.write_bytes(data)
    path.with_name(f"{path.name}.sig").write_bytes(other.sign(data))


def test_a_chain_that_nobody_touched_is_whole(chain: Chain) -> None:
    assert kinds(chain) == set()
    assert [json.loads(each.read_bytes())["sequence"] for each in chain.files()] == [1, 2, 3]


def test_the_key_is_its_owners_alone_and_stays(tmp_path: Path) -> None:
    first = signing_key(tmp_path).public.hex
    assert stat.S_IMODE((tmp_path / KEY_FILE).stat().st_mode) == 0o600
    assert signing_key(tmp_path).public.hex == first
    (tmp_path / KEY_FILE).write_text("damaged")
    with pytest.raises(UserError, match="cannot be used"):
        signing_key(tmp_path)


Deed = Callable[[Chain, list[Path]], object]

DEEDS: dict[str, tuple[Deed, set[str]]] = {
    "one byte altered": (
        lambda _, files: files[1].write_bytes(files[1].read_bytes().replace(b"1", b"7", 1)),
        {"altered", "chain"},
    ),
    "removed from the beginning": (lambda _, files: files[0].unlink(), {"removed"}),
    "removed from the middle": (lambda _, files: files[1].unlink(), {"removed"}),
    "removed from the end": (lambda _, files: files[2].unlink(), {"removed"}),
    "all removed": (lambda _, files: [each.unlink() for each in files], {"removed"}),
    "signature removed": (
        lambda _, files: files[0].with_name(f"{files[0].name}.sig").unlink(),
        {"unsigned"},
    ),
    "signature of another report": (
        lambda _, files: shutil.copy(f"{files[0]}.sig", f"{files[1]}.sig"),
        {"altered"},
    ),
    "signature cut": (
        lambda _, files: Path(f"{files[1]}.sig").write_bytes(b"x"),
        {"signature"},
    ),
    "signed by another key": (
        lambda chain, files: resign(chain, files[1], chain.folder / "elsewhere"),
        {"other-key", "chain"},
    ),
    "the newest signed by another key": (
        lambda chain, files: resign(chain, files[2], chain.folder / "elsewhere"),
        {"other-key", "altered"},
    ),
    "no JSON any more": (lambda _, files: files[1].write_bytes(b"{"), {"unreadable", "removed"}),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_what_is_done_to_a_report_is_found(chain: Chain, deed: str) -> None:
    do, expected = DEEDS[deed]
    do(chain, chain.files())
    assert kinds(chain) == expected


def test_after_reports_were_removed_the_chain_goes_on_and_shows_the_hole(chain: Chain) -> None:
    state = chain.folder.parent
    chain.files()[2].unlink()
    path = chain.append({}, signing_key(state))
    assert json.loads(path.read_bytes())["sequence"] == 4
    assert kinds(chain) == {"removed"}


def test_without_what_was_noted_the_chain_still_goes_on(chain: Chain) -> None:
    (chain.folder / HEAD).unlink()
    chain.append({}, signing_key(chain.folder.parent))
    assert kinds(chain) == set()


def test_a_third_party_needs_openssl_and_the_key_only(chain: Chain, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    pem = tmp_path / "key.pem"
    pem.write_text(signing_key(tmp_path).public.pem)
    path = chain.files()[1]
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(pem), "-rawin", "-in", str(path), "-sigfile", f"{path}.sig"]  # fmt: skip
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    path.write_bytes(path.read_bytes() + b" ")
    assert subprocess.run(command, capture_output=True, check=False).returncode != 0
    assert {each.kind for each in check([path], read_public(pem))} == {"altered"}


def test_the_root_is_that_of_rfc_6962(tmp_path: Path) -> None:
    """The roots of the test vectors that Certificate Transparency implementations share."""
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]  # fmt: skip
    roots = {
        0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    for number, root in roots.items():
        assert root_of(bytes.fromhex(each) for each in leaves[:number]) == root


def test_the_root_does_not_depend_on_the_order_nor_on_how_much_fits_into_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [leaf("mail/Inbox/2026-11/a.eml", "mail/Inbox", f"k{n}", "0" * 64) for n in range(100)]
    roots = set()
    for run, order in ((1000, lines), (7, lines[::-1])):
        monkeypatch.setattr("backupd.report.merkle.RUN", run)
        with Tree(tmp_path) as tree:
            for line in order:
                tree.add(line)
            roots.add(tree.root())
    assert len(roots) == 1
    with Tree(tmp_path) as tree:
        for line in lines[1:]:
            tree.add(line)
        assert tree.root() not in roots
