"""Real mail, real calendars and real cards go through the whole job."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from household import Household, indexed, sha

Build = Callable[..., Household]
AMELIA = "amelia@harbourlight.example"


def test_every_real_mail_arrives_byte_for_byte(build: Build, corpus: Path) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=0, oddities=False)
    wanted, delivered = set(), 0
    for path in sorted(path for path in (corpus / "mail").rglob("*") if path.is_file()):
        raw = path.read_bytes()
        for form in {raw, raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}:
            house.tenant.state.deliver("amelia", "inbox", form)
            wanted.add(sha(form))
            delivered += 1
    run = house.backup()
    assert run.exit_code == 0
    lines = dict(indexed(house.home(AMELIA).mirror_path, "mail"))
    assert len(wanted) > 200
    assert len(lines) == delivered
    held = {sha(path.read_bytes()) for path, line in lines.items() if "note" not in line}
    assert held <= wanted
    rebuilt = [line for line in lines.values() if "note" in line]
    assert len(wanted - held) <= len(rebuilt) < 10, (
        "only S/MIME, which Graph never hands out as it is"
    )


def test_every_real_file_comes_back_from_the_vault(
    build: Build, corpus: Path, tmp_path: Path
) -> None:
    house = build(accounts=["amelia@*"], services=["files"], people=1, messages=0, oddities=False)
    wanted = set()
    for path in sorted(path for path in corpus.rglob("*") if path.is_file()):
        house.tenant.state.put_file(
            "amelia", f"corpus/{path.relative_to(corpus)}", path.read_bytes()
        )
        wanted.add(sha(path.read_bytes()))
    assert house.backup().exit_code == 0
    said = house.command("restore", "--to", f"folder:{tmp_path}/out", "--from", "vault", "--json")
    assert said.returncode == 0, said.stderr
    result = json.loads(said.stdout)["restore"]
    assert result["proven"] == sum(result["states"].values())
    held = {sha(path.read_bytes()) for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert wanted <= held
