"""The kit: complete without us, without a secret unless asked, and unharmed by whatever names and zones hold."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from holdings import held
from servers.names import name_server

from backupd import config
from backupd.app import App
from backupd.config.text import as_toml
from backupd.keys import keybook, kit, shares
from backupd.keys.keybook import Keybook
from backupd.keys.zone import Record, Zone, zones
from backupd.report.readiness import as_text, readiness

ALICE, ODD = "alice@contoso.example", "a <b>;$(reboot)'@contoso.example"

CONFIG = """
state_dir = "{folder}"
[sources.contoso]
type = "microsoft365"
tenant_id = "t"
client_id = "c"
client_secret_file = "{folder}/client"
[storage.primary]
repository = "rest:https://user:hunter2-in-url@127.0.0.1:1/x"
password_file = "{folder}/password"
environment_file = "{folder}/environment"
[alerts]
urls = ["ntfys://secret-topic@ntfy.example.org/x"]
ping_url = "https://hc.example.org/secret-ping"
[targets.new]
type = "imap"
host = "imap.example.org"
"""

SECRETS = ("hunter2", "correct horse", "AKIA-SECRET", "secret-topic", "secret-ping")


@pytest.fixture
def app(tmp_path: Path) -> App:
    (tmp_path / "password").write_text("correct horse")
    (tmp_path / "environment").write_text("AWS_SECRET_ACCESS_KEY=AKIA-SECRET\n")
    for address in (ALICE, ODD):
        held(tmp_path, address)
    (tmp_path / "config.toml").write_text(CONFIG.format(folder=tmp_path))
    return App(config.load(tmp_path / "config.toml"))


def written(app: App, folder: Path, *, secrets: bool = False) -> dict[str, str]:
    made = kit.gather(app, folder / "config.toml", secrets=secrets)
    return {each.name: each.read_text() for each in kit.write(made, folder / "kit")}


def test_no_secret_is_in_a_kit_unless_asked_for(app: App, tmp_path: Path) -> None:
    plain = written(app, tmp_path)
    for name, text in plain.items():
        assert not any(word in text for word in SECRETS), name
        assert stat.S_IMODE((tmp_path / "kit" / name).stat().st_mode) == 0o600
    assert "AWS_SECRET_ACCESS_KEY" in plain["kit.html"]
    full = written(app, tmp_path, secrets=True)
    for name in ("kit.html", "kit.txt"):
        assert "correct horse" in full[name]
        assert "AKIA-SECRET" in full[name]
        assert "secrets in clear" in full[name].lower()


def test_a_kit_says_how_to_get_at_every_vault_without_us(app: App, tmp_path: Path) -> None:
    keybook.save(tmp_path, Keybook("0badcafe", 2, 3, 1.0))
    made = written(app, tmp_path)
    listed = json.loads(made["kit.json"])
    assert [each["account"] for each in listed["vaults"]] == sorted([ALICE, ODD])
    for each in listed["vaults"]:
        assert each["location"] in made["kit.txt"]
        assert each["name"] in made["kit.txt"]
    assert "2 of 3 shares (set 0badcafe" in made["kit.txt"]
    assert tomllib.loads(made["config.toml"])["sources"]["contoso"]["tenant_id"] == "t"
    assert made["kit.html"].count("<svg") == 1
    for word in ("open-vault.py", "restore latest", "SHA-256", "this machine"):
        assert word in made["kit.txt"], word


def test_status_knows_of_the_kit_and_when_it_has_grown_old(app: App, tmp_path: Path) -> None:
    assert "recovery kit: none was made" in as_text(readiness(app))
    kit.remember(app, kit.gather(app, tmp_path / "config.toml"))
    assert "recovery kit: made on" in as_text(readiness(app))
    held(tmp_path, "new@contoso.example")
    assert "lacks 1 vault" in as_text(readiness(app))


def test_hostile_names_stay_text(app: App, tmp_path: Path) -> None:
    made = written(app, tmp_path)
    assert "<b>" not in made["kit.html"]
    assert "$(reboot)" not in "".join(
        line for line in made["kit.txt"].splitlines() if "restic -r" in line or "RESTIC_PASSWORD" in line
    )  # fmt: skip
    zone = Zone("x.example", (Record("x.example", "TXT", 1, "<script>alert(1)</script>\x1b[2J"),))
    whole = kit.gather(app, tmp_path / "config.toml")
    odd = kit.Kit(**{**{name: getattr(whole, name) for name in whole.__slots__}, "zones": (zone,)})
    assert "<script>" not in kit.as_page(odd)
    assert "\x1b" not in kit.as_text(odd)


def test_a_configuration_is_written_out_so_that_it_loads_again(tmp_path: Path) -> None:
    example = config.load(Path(__file__).parents[2] / "config.example.toml")
    (tmp_path / "again.toml").write_text(as_toml(example))
    assert config.load(tmp_path / "again.toml") == example


def test_the_script_of_the_kit_derives_what_we_do(tmp_path: Path) -> None:
    secret = shares.new_secret()
    cut = shares.split(secret, 2, 3)
    script = tmp_path / "open-vault.py"
    script.write_text(kit.SCRIPT)
    said = subprocess.run([sys.executable, script, "contoso/alice@a.example"], input="\n".join(cut[1:]), capture_output=True, text=True, check=True)  # fmt: skip
    assert said.stdout.strip() == secret.password("contoso/alice@a.example")


def test_the_checksum_of_backupd_can_be_made_by_hand() -> None:
    root = Path(kit.__file__).parents[2]
    command = (
        "find backupd sources targets -name '*.py' | LC_ALL=C sort | xargs sha256sum | sha256sum"
    )
    said = subprocess.run(["sh", "-c", command], cwd=root, capture_output=True, text=True, check=True)  # fmt: skip
    assert said.stdout.split()[0] == kit.tree_sha256(root)


def test_the_zone_is_kept_as_it_stands_and_silence_is_told() -> None:
    with name_server() as server:
        server.mail["contoso.example"] = ["0 contoso-example.mail.protection.outlook.com."]
        found = zones(["contoso.example"], [server.place])[0]
        assert [each.value for each in found.of("MX")] == ["0 contoso-example.mail.protection.outlook.com."]  # fmt: skip
        assert not found.silent
        server.broken = True
        assert "@ MX" in zones(["contoso.example"], [server.place])[0].silent
    assert zones(["contoso.example"])[0].silent == ("nobody knows such names",)
