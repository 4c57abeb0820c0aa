"""Every system test gets a tenant and a household of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from household import Household

from backupd.demo.tenant import SimulatedTenant

needs_restic = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")

Build = Callable[..., Household]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    """Makes a tenant with the given contents and a household beside it."""
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    tenants: list[SimulatedTenant] = []

    def make(
        *, accounts: list[str] | None = None, services: list[str] | None = None, **amount: Any
    ) -> Household:
        tenant = SimulatedTenant(7, **amount)
        tenant.start()
        tenants.append(tenant)
        more: dict[str, Any] = {}
        if accounts:
            more["accounts"] = accounts
        if services:
            more["services"] = services
        return Household(tmp_path / f"house{len(tenants)}", tenant, **more)

    yield make
    for tenant in tenants:
        tenant.stop()
