"""Looking things up: the sieve in SQLite loses nothing that a plain comparison finds."""

from __future__ import annotations

import fnmatch
import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from backupd.catalog import Catalog
from backupd.catalog.rows import SCHEMA, FolderRow, ItemRow
from backupd.errors import IntegrityError
from backupd.mirror import names
from backupd.model import Service
from backupd.report.lookup import BECOME_ASCII, Hit, Wanted, listing, matching

TITLES = (
    "Invoice 77", "INVOICE 78", "Rechnung Müller", "Rechnung Mu\u0308ller", "STRASSE", "straße", "Straße 100%",
    "a_b", "aXb", "Μάρτυρες", "ΜΆΡΤΥΡΕΣ", "\u212aelvin", "half \ud800 letter", "[draft] one", "", "back\\slash", "ﬁnal", "İstanbul",
)  # fmt: skip
PATTERNS = (
    "invoice", "Invoice 7?", "*inbox*invoice*", "inbox/2026", "MÜLLER", "müller", "strasse", "straße", "100%", "a_b",
    "μάρτυρες", "kelvin", "*[[]draft]*", "*[0-9]", "half", "\\", "final", "i\u0307stanbul", "mail/", "*", "nothing like it", "[",
)  # fmt: skip


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lookup") / "catalog.sqlite"
    with Catalog(path) as catalog, catalog.transaction() as session:
        for folder in ("Inbox", "Archiv Müller"):
            row = FolderRow(service=Service.MAIL, source_id=folder, name=folder, local=folder, fold=names.fold(folder), path=f"mail/{folder}")  # fmt: skip
            session.add(row)
            session.flush()
            assert row.id
            for number, title in enumerate(TITLES):
                session.add(_item(row.id, number, title))
    return path


def _item(folder: int, number: int, title: str) -> ItemRow:
    name = f"2026-11/{number:02}_{names.escape(title, ours=False)}.eml"
    about = json.dumps({"subject": title}) if number % 2 else json.dumps({"name": title})
    return ItemRow(
        service=Service.MAIL, collection=folder, folder=folder, source_id=f"{folder}-{number}", key=f"{folder}-{number}", version="1",
        name=name, fold=names.fold(name), size=number, sha256="0" * 64, facts="{}", about=about,
    )  # fmt: skip


def _plainly(catalog: Path, pattern: str) -> list[Hit]:
    """The same without a sieve: every item of every folder is compared."""
    hits = [hit for folder in ("mail/Archiv Müller", "mail/Inbox") for hit in listing(catalog, folder)[1]]  # fmt: skip
    wanted = names.fold(pattern)
    if not set("*?[") & set(pattern):
        wanted = f"*{wanted}*"
    return [hit for hit in hits if any(fnmatch.fnmatchcase(names.fold(each), wanted) for each in (hit.path, hit.title))]  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_sieve_loses_nothing(catalog: Path, pattern: str) -> None:
    found = list(matching(catalog, Wanted(pattern)))
    assert sorted(found, key=str) == sorted(_plainly(catalog, pattern), key=str)
    assert found or pattern in {"nothing like it", "["}


def test_every_letter_that_folds_into_ascii_is_known() -> None:
    outside = (chr(code) for code in range(0x80, sys.maxunicode + 1))
    known = {letter for letter in outside if any(each.isascii() for each in names.fold(letter))}
    assert known == set(BECOME_ASCII)


def test_a_catalog_of_an_older_version_can_be_searched_and_moves_up(catalog: Path, tmp_path: Path) -> None:  # fmt: skip
    old = tmp_path / "catalog.sqlite"
    old.write_bytes(catalog.read_bytes())
    with closing(sqlite3.connect(old)) as database:
        database.executescript(
            "DROP INDEX item_folder; DROP TRIGGER item_insert; DROP TRIGGER item_update;"
            "ALTER TABLE itemrow DROP COLUMN title;"
            "CREATE INDEX item_folder ON itemrow (folder, fold); PRAGMA user_version = 3;"
        )
    before = list(matching(old, Wanted("invoice")))
    with Catalog(old) as opened:
        assert opened.totals()[0] == 2 * len(TITLES)
    assert before == list(matching(old, Wanted("invoice"))) != []
    with closing(sqlite3.connect(old)) as database:
        assert database.execute("PRAGMA user_version").fetchone() == (SCHEMA,)


def test_a_title_follows_what_is_told_about_an_item(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    with Catalog(path) as opened:
        with opened.transaction() as session:
            session.add(FolderRow(service=Service.MAIL, source_id="a", name="a", local="a", fold="a", path="mail/a"))  # fmt: skip
            session.flush()
            session.add(_item(1, 1, "before"))
        with opened.transaction() as session:
            row = next(opened.items())
            row.about = json.dumps({"subject": "now"})
            session.merge(row)
    assert [hit.title for hit in matching(path, Wanted("*"))] == ["now"]


def test_a_search_reads_nothing_but_the_index(catalog: Path) -> None:
    query = "EXPLAIN QUERY PLAN SELECT id FROM itemrow WHERE folder = 1 AND (instr(fold, 'x') OR title LIKE '%x%')"
    with closing(sqlite3.connect(catalog)) as database:
        assert "COVERING INDEX item_folder" in database.execute(query).fetchone()[3]


def test_a_damaged_catalog_is_named(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(IntegrityError, match=str(path)):
        list(matching(path, Wanted("x")))


def test_looking_up_waits_for_nothing_slow() -> None:
    script = "import sys, backupd.cli.looking, backupd.config; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)  # fmt: skip
    slow = {"sqlalchemy", "sqlmodel", "jinja2", "rich.console", "backupd.app", "httpx"}
    assert not slow & set(done.stdout.split())
