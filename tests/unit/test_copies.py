"""What copies there are of many accounts is known without opening a vault."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from holdings import HOUR, held
from servers import process

CONFIG = """
state_dir = "{state}"
[storage.primary]
repository = "/nowhere"
password_file = "{state}/password"
[storage.second]
repository = "/nowhere"
password_file = "{state}/password"
"""


def asked(state: Path, *words: str) -> subprocess.CompletedProcess[str]:
    (state / "password").write_text("a test\n")
    config = state / "config.toml"
    config.write_text(CONFIG.format(state=state))
    command = [sys.executable, "-m", "backupd", "--config", str(config), "snapshots", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_newest_copies_of_many_are_told_while_no_storage_can_be_reached(tmp_path: Path) -> None:
    held(tmp_path, "ada@contoso.example", copies={"primary": 90, "second": HOUR})
    held(tmp_path, "bo@contoso.example", copies={"primary": 5 * HOUR}, behind=True)
    done = asked(tmp_path, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert said["newest_only"] is True
    known = {(each["account"], each["storage"], each["state"]) for each in said["snapshots"]}
    assert known == {
        ("ada@contoso.example", "primary", ""),
        ("ada@contoso.example", "second", ""),
        ("bo@contoso.example", "primary", "the mirror is newer"),
    }


def test_vaults_that_cannot_be_opened_are_named_and_fail_the_command(tmp_path: Path) -> None:
    process.need("restic")
    held(tmp_path, "ada@contoso.example")
    held(tmp_path, "bo@contoso.example")
    done = asked(tmp_path, "--all")
    assert done.returncode not in {0, 3}
    for vault in ("ada@contoso.example in primary", "bo@contoso.example in second"):
        assert f"error: {vault}" in done.stderr
