"""Judges and servers that the contract tests share."""

from __future__ import annotations

import graph_contract
import pytest


@pytest.fixture(scope="session")
def graph_contract_judge() -> graph_contract.Contract:
    """Microsoft's description of Graph; skips where it is not installed."""
    place = graph_contract.folder()
    if place is None:
        pytest.skip("Microsoft's description of Graph is not here (BACKUPD_GRAPH_CONTRACT)")
    return graph_contract.Contract(place)
