"""Every system test gets a tenant and a household of its own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from household import Household

from backupd.demo.tenant import SimulatedTenant
from backupd.jobs.verifications import Wish, verify
from backupd.report.integrity import issue
from backupd.verify.findings import Verdict

needs_restic = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")

Build = Callable[..., Household]


SECOND = """
[storage.second]
repository = "{folder}/second"
password_file = "{folder}/password"
"""


@pytest.fixture(scope="session")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Household]:
    """One account in two snapshots in each of two storages, verified and reported twice. Copy it before you change it."""
    if shutil.which("restic") is None:
        pytest.skip("restic is not installed")
    tenant = SimulatedTenant(7, people=1, messages=12, oddities=False)
    tenant.start()
    house = Household(tmp_path_factory.mktemp("proven") / "house", tenant, accounts=["amelia@*"])
    house.configure(SECOND.format(folder=house.folder))
    assert house.backup().exit_code == 0
    tenant.state.deliver("amelia", "inbox", b"Subject: second\r\n\r\nx\r\n")
    assert house.backup().exit_code == 0
    for _ in range(2):
        found = verify(house.app, (), Wish())
        assert all(each.verdict is Verdict.WHOLE for each in found), found
        issue(house.app, (), found)
    yield house
    tenant.stop()


@pytest.fixture
def proven_copy(proven: Household, tmp_path: Path) -> Household:
    """A copy of it that may be damaged."""
    copy = tmp_path / "house"
    subprocess.run(["cp", "-a", str(proven.folder), str(copy)], check=True)
    house = Household(copy, proven.tenant, accounts=["amelia@*"])
    house.configure(SECOND.format(folder=copy))
    return house


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
