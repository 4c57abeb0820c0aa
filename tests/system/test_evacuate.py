"""`backupd evacuate`, by hand and by itself: what hurts most first, into every vault, and told."""

from __future__ import annotations

import json
import time

import pytest
from caretaker import AMELIA, Build, letter, running, small, subjects, until
from household import indexed
from servers.receivers import receiver

from backupd.daemon.evacuation import evacuating, lock_of
from backupd.locks import exclusive


def test_an_evacuation_takes_first_what_hurts_most_and_ends_in_every_vault(build: Build) -> None:
    house = build(
        accounts=["amelia@*"],
        services=["mail", "calendar", "contacts", "files"],
        people=1,
        messages=4,
        oddities=False,
    )
    house.tenant.state.deliver("amelia", "archive", letter("old"))
    house.tenant.state.deliver("amelia", "inbox", letter("new"))
    with receiver() as post:
        house.configure(f'[alerts]\nurls = ["{post.url}"]\n')
        said = house.command("evacuate", "--json")
    assert said.returncode == 0, said.stderr
    begun, ended = post.subjects
    assert begun.endswith(f"The evacuation of {AMELIA} has begun")
    assert ended.endswith("is done: a snapshot of everything is in primary")
    told = json.loads(said.stdout)
    assert (told["protected"], told["lacking"]) == ([AMELIA], {})
    assert told["newest_item_age"][AMELIA] < 86_400 * 365 * 50
    order = [stage(each.path) for each in house.tenant.log if stage(each.path)]
    assert [order.index(each) for each in ("mail", "events", "contacts", "drive")] == sorted(
        order.index(each) for each in ("mail", "events", "contacts", "drive")
    )
    tree = house.restic_restore("amelia", house.folder / "out")
    assert {"old", "new"} <= {line.get("subject") for _, line in indexed(tree, "mail")}


def stage(path: str) -> str:
    named = {
        "$value": "mail",
        "/events": "events",
        "/contactFolders": "contacts",
        "/drive": "drive",
    }
    return next((word for part, word in named.items() if part in path), "")


@pytest.mark.slow
def test_an_evacuation_removes_nothing_even_when_the_source_is_empty(build: Build) -> None:
    house = small(build)
    house.tenant.state.deliver("amelia", "inbox", letter("keep me"))
    assert house.command("backup").returncode == 0
    mailbox = house.tenant.state.user("amelia").mailbox
    assert mailbox is not None
    for message in list(mailbox.messages.values()):
        house.tenant.state.delete_message("amelia", message)
    house.command("evacuate")
    assert "keep me" in subjects(house)


@pytest.mark.slow
def test_an_evacuation_of_a_refused_tenant_protects_what_is_held_and_says_why_once(
    build: Build,
) -> None:
    house = small(build)
    assert house.command("sync").returncode == 0
    house.tenant.cut_off("tenant_deleted")
    said = house.command("evacuate", "--json")
    assert said.returncode == 4, said.stderr
    told = json.loads(said.stdout)
    assert told["protected"] == [AMELIA]
    assert list(told["source_errors"]) == ["demo"]
    assert len(told["accounts"][0]["sync"]["errors"]) == 1
    assert "90002" in told["lacking"][f"demo/{AMELIA}"]


@pytest.mark.slow
def test_the_service_evacuates_by_itself_as_soon_as_anything_is_refused(build: Build) -> None:
    house = build(services=["mail"], people=2, messages=3, oddities=False, extras=False)
    with receiver() as post:
        more = f'[cutoff]\nevacuate = "degraded"\n[alerts]\nurls = ["{post.url}"]\n'
        house.configure('[schedule]\nsync = "2s"\nfast = "1s"\nsnapshot = "1d"\n' + more)
        with running(house) as service:
            until(lambda: service.ran("sync", "amelia").get("ok"))
            house.tenant.state.deliver("amelia", "inbox", letter("just in time"))
            until(lambda: "just in time" in subjects(house))
            house.tenant.cut_off("access_policy", "amelia")
            until(lambda: "evacuated, " in service.log)
            until(lambda: any("evacuation" in each and "ended" in each for each in post.subjects))
            house.tenant.restore_service()
            ended = json.loads((house.folder / "state/service.json").read_text())["updated"]
            until(lambda: service.ran("sync", "amelia").get("ended", 0) > ended + 1)
            assert service.log.count("evacuated by itself") == 1, "once a day at most"
            assert service.stop()[0] == 0
    tree = house.restic_restore("amelia", house.folder / "out")
    assert "just in time" in {line.get("subject") for _, line in indexed(tree, "mail")}


@pytest.mark.slow
def test_the_service_stands_aside_while_somebody_evacuates(build: Build) -> None:
    house = small(build)
    with running(house) as service:
        until(lambda: service.ran("sync", "amelia").get("ok"))
        with exclusive(lock_of(house.folder / "state"), "an evacuation"):
            assert evacuating(house.folder / "state")
            until(lambda: "everything else waits" in service.log)
            time.sleep(1)
            house.tenant.log.clear()
            time.sleep(2.5)
            assert not [each for each in house.tenant.log if "/users/" in each.path]
        house.tenant.state.deliver("amelia", "inbox", letter("on it goes"))
        until(lambda: "on it goes" in subjects(house))


def test_two_evacuations_at_once_are_one(build: Build) -> None:
    house = small(build)
    (house.folder / "state").mkdir()
    with exclusive(lock_of(house.folder / "state"), "an evacuation"):
        assert house.command("evacuate").returncode == 75
