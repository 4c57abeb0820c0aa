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


@pytest.fixture(scope="session")
def corpus() -> Path:
    """Real mails, calendars, vCards and Graph answers: $BACKUPD_CORPUS, else ../shared/corpus."""
    folder = Path(os.environ.get("BACKUPD_CORPUS") or ROOT.parent / "shared" / "corpus")
    if not folder.is_dir():
        pytest.skip("the corpus is not here (BACKUPD_CORPUS names it)")
    return folder
