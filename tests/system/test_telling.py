"""What an operator types to be told, and what a plain run tells by itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from household import Household
from servers.receivers import hanging, receiver

from backupd import cli

Build = Callable[..., Household]
SABINE = "sabine@harbourlight.example"


def small(build: Build) -> Household:
    return build(accounts=["sabine@*"], services=["mail"], people=3, messages=3, oddities=False)


def test_a_plain_backup_tells_of_a_cut_off_and_status_answers_first(
    build: Build, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    house = small(build)

    def typed(*arguments: str) -> str:
        capsys.readouterr()
        cli.app(args=["--config", str(house.config), *arguments], standalone_mode=False)
        return capsys.readouterr().out

    textfile = tmp_path / "backupd.prom"
    with receiver() as post:
        house.configure(
            f'[alerts]\nurls = ["{post.url}"]\nping_url = "http://127.0.0.1:{post.port}/ping"\n'
            f'[metrics]\ntextfile = "{textfile}"\n'
        )
        assert house.command("backup").returncode == 0
        assert (post.told, post.pings) == ([], ["/ping"])
        assert "backupd_protected_age_seconds" in textfile.read_text()
        house.tenant.cut_off("tenant_deleted")
        house.command("backup")
        assert post.pings[1:] == ["/ping/fail"]
    said = "\n".join(post.subjects)
    assert "may have been cut off" in said
    assert post.told[-1]["type"] == "failure"
    assert f"{SABINE}: mail up to" in post.told[-1]["message"]

    status = typed("status")
    lines = status.splitlines()
    assert lines[0] == "If you were cut off now"
    assert "is in a vault" in lines[1]
    assert "backupd restore --account" in status
    answer = json.loads(typed("status", "--json"))
    assert answer["cut_off_now"]["frozen"]
    assert answer["accounts"][0]["address"] == SABINE
    assert answer["accounts"][0]["frozen"]

    page = tmp_path / "report.html"
    assert house.command("report", "--format", "html", "--output", str(page)).returncode == 0
    assert "If you were cut off now" in page.read_text()
    assert page.stat().st_mode & 0o077 == 0
    document = json.loads(typed("report", "--format", "json"))
    assert document["level"] == "bad"
    assert typed("report").splitlines()[0] == "If you were cut off now"


def test_a_channel_that_hangs_or_refuses_changes_nothing_about_a_backup(build: Build) -> None:
    house = small(build)
    with hanging() as stuck:
        house.configure(
            f'[alerts]\nurls = ["{stuck.replace("=60", "=2")}", "json://hush-hush@127.0.0.1:1/"]\nfailures = 1\n'
        )
        assert house.command("backup").returncode == 0
        house.tenant.cut_off("secret_expired")
        failed = house.command("backup")
    assert failed.returncode == 1
    assert "did not take" in failed.stderr
    assert "hush-hush" not in failed.stderr + failed.stdout


def test_alerts_test_says_of_each_channel_whether_it_was_taken(build: Build) -> None:
    house = small(build)
    none = house.command("alerts", "test")
    assert none.returncode == 2
    assert "names no channel" in none.stderr
    with receiver() as post:
        secrets = house.folder / "channels"
        secrets.write_text(f"# where I am\n{post.url}\njson://hush-hush@127.0.0.1:1/\nnonsense\n")
        house.configure(f'[alerts]\nurls_file = "{secrets}"\n')
        tried = house.command("alerts", "test")
        assert tried.returncode == 1
        assert tried.stdout.splitlines()[:3] == [
            "channel 1 (json): taken",
            "channel 2 (json): NOT taken: it refused, or cannot be reached",
            "channel 3 (unknown): NOT taken: Apprise does not understand this address",
        ]
        assert "hush-hush" not in tried.stdout + tried.stderr
        answer = json.loads(house.command("alerts", "test", "--json").stdout)
        assert answer["taken"] == 1
    assert len(post.told) == 2
    found = json.loads(house.command("doctor", "--json").stdout)["findings"]
    (mine,) = [each for each in found if each["subject"] == "alerts"]
    assert mine["level"] == "ok"
    assert any(each["subject"] == str(secrets) for each in found)
