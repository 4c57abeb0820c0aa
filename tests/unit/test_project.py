"""The project as a whole: what is shipped, and how it speaks."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PACKAGES = ("backupd", "sources", "targets")
SEEN_ONLY_HERE = Path(__file__).name
UNFINISHED = r"\b(?:TODO|FIXME|XXX|NotImplementedError)\b"
BOUND_TO_A_MACHINE = rf"{re.escape(str(ROOT))}\b|--(?:extra-)?index-url[= ]|--find-links[= ]"
NEVER = re.compile(f"{UNFINISHED}|{BOUND_TO_A_MACHINE}")
UNREAD = {".png", ".gz", ".eml", ".lock"}


def tracked() -> list[Path]:
    """The files under version control."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [each for each in files if each.is_file()]


def modules() -> list[Path]:
    return [each for package in PACKAGES for each in sorted((ROOT / package).rglob("*.py"))]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return ZipFile(built)


def test_the_wheel_holds_three_packages_and_nothing_else(wheel: ZipFile) -> None:
    tops = {name.partition("/")[0] for name in wheel.namelist()}
    assert {each for each in tops if not each.endswith(".dist-info")} == set(PACKAGES)


def test_the_wheel_holds_every_file_that_the_packages_read(wheel: ZipFile) -> None:
    wanted = {
        str(each.relative_to(ROOT))
        for each in tracked()
        if each.relative_to(ROOT).parts[0] in PACKAGES
    }
    assert wanted <= set(wheel.namelist())


def test_the_wheel_carries_its_licence(wheel: ZipFile) -> None:
    (name,) = [each for each in wheel.namelist() if each.endswith("/LICENSE")]
    assert b"EUROPEAN UNION PUBLIC LICENCE v. 1.2" in wheel.read(name)


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0].strip("[]") == PROJECT["version"]


def test_no_file_is_unfinished_or_speaks_of_one_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path in tracked()
        if path.suffix not in UNREAD and path.name != SEEN_ONLY_HERE
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for match in NEVER.finditer(line)
    ]
    assert found == []


def test_locks_pin_every_package_with_its_hash_and_name_no_host() -> None:
    for name in ("requirements.lock", "requirements-dev.lock"):
        text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
        pins = [each for each in text.splitlines() if each.strip()]
        assert all(re.match(r"[\w.-]+==\S+ .*--hash=sha256:", each) for each in pins)
        assert "://" not in text


def test_the_runtime_lock_is_part_of_the_development_lock() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^[\w.-]+==[^\s;]+", (ROOT / name).read_text("utf-8"), re.MULTILINE))

    assert pins("requirements.lock") < pins("requirements-dev.lock")


@pytest.mark.parametrize("path", modules(), ids=lambda each: str(each.relative_to(ROOT)))
def test_a_module_says_what_it_is_for(path: Path) -> None:
    text = path.read_text("utf-8")
    assert not text.strip() or ast.get_docstring(ast.parse(text))


def test_every_library_that_is_imported_is_declared() -> None:
    """What comes along with another library today may be gone tomorrow."""
    declared = [re.split(r"[><=~!;\[ ]", each)[0] for each in PROJECT["dependencies"]]
    known = set(PACKAGES).union(sys.stdlib_module_names, *map(_provided, declared))
    undeclared = {
        f"{path.relative_to(ROOT)}: {name}" for path in modules() for name in _imports(path) - known
    }
    assert sorted(undeclared) == []


def _provided(library: str) -> set[str]:
    """The names that can be imported once `library` is installed."""
    paths = (distribution(library).read_text("RECORD") or "").splitlines()
    return {re.split(r"[/,]", each)[0].removesuffix(".py") for each in paths}


def _imports(path: Path) -> set[str]:
    nodes = list(ast.walk(ast.parse(path.read_text("utf-8"))))
    plain = {name.name for each in nodes if isinstance(each, ast.Import) for name in each.names}
    from_ = {each.module or "" for each in nodes if isinstance(each, ast.ImportFrom)}
    return {each.partition(".")[0] for each in plain | from_}


def test_tests_never_shadow_the_packages_they_test() -> None:
    assert not [each for each in PACKAGES if (ROOT / "tests" / each).exists()]
    assert not list((ROOT / "tests").rglob("__init__.py"))
