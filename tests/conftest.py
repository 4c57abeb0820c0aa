"""What every test may use, and the settings that keep generated tests the same on every run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile(
    "backupd", derandomize=True, max_examples=60, deadline=None, database=None
)
settings.load_profile("backupd")


LONGEST = (
    "test_repair", "test_restore", "test_damage", "test_bad_input", "test_faults", "test_storages", "test_verify",
    "test_main_job", "test_cutoffs", "test_opinions", "test_service", "test_target_microsoft365", "test_keys",
    "test_imap_service", "test_target_caldav", "test_incidents", "test_unpacking",
)  # fmt: skip
"""The files that take longest: they begin first, so that no worker goes on alone at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order files, not the tests in them."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real mails, calendars, vCards and Graph answers: $BACKUPD_CORPUS, else ../shared/corpus."""
    folder = Path(os.environ.get("BACKUPD_CORPUS") or ROOT.parent / "shared" / "corpus")
    if not folder.is_dir():
        pytest.skip("the corpus is not here (BACKUPD_CORPUS names it)")
    return folder
