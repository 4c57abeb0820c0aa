"""What the service writes into the journal names nobody, whatever the accounts are called and whatever breaks."""

from __future__ import annotations

import re

import pytest
from caretaker import QUICK, Build, letter, running, until
from servers.receivers import receiver

from backupd.demo.faults import Fault
from backupd.home import home_of
from backupd.marks import mark_of, word

DOMAIN = "harbourlight.example"
PEOPLE = {
    "o'brien+tag": "Sinéad O'Brien",
    "mal%s.lory": "Mallory\nFORGED forged line",
    "dee.%(message)s": "Dee {0} %n",
}
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|WARNING|ERROR) \S")


@pytest.mark.parametrize("reason", ["a\nb", "alice@example.org", "x" * 99, "", "<b>", "%s%n"])
def test_a_reason_that_a_server_chose_is_no_way_into_the_log(reason: str) -> None:
    assert word(reason) == "unnamed"
    assert word("http-503") == "http-503"


def test_the_log_names_nobody_however_bad_the_day(build: Build) -> None:
    house = build(
        accounts=["*"], services=["mail"], people=2, messages=2, oddities=False, extras=False
    )
    state = house.tenant.state
    for alias, name in PEOPLE.items():
        state.add_user(alias, name)
        state.deliver(alias, "inbox", letter(f"Geheim {alias}"))
    aliases = [user.upn.partition("@")[0] for user in state.directory.users]
    with receiver() as post:
        post.status = 500
        house.configure(
            f'{QUICK}[alerts]\nurls = ["{post.url}"]\nping_url = "http://127.0.0.1:{post.port}/hush"\n'
            f'[metrics]\ntextfile = "{house.folder}/backupd.prom"\n'
        )
        with running(house) as service:
            until(lambda: all(service.ran("snapshot", each).get("ok") for each in aliases))
            house.tenant.cut_off("access_policy", aliases[0])
            house.tenant.cut_off("licence_removed", "o'brien+tag")
            house.tenant.cut_off("user_deleted", "mal%s.lory")
            damaged = home_of(house.folder / "state", "demo", f"{aliases[1]}@{DOMAIN}")
            damaged.catalog_path.write_bytes(b"no database" * 1000)
            house.tenant.faults.add(Fault("broken_json", rate=0.2, times=20))
            until(lambda: "did not take what is to be told" in service.log)
            until(lambda: service.log.count("suspected") >= 2)
            marked = mark_of("demo", damaged.address)
            until(lambda: f"account {marked}: sync failed" in service.log)
            assert service.stop()[0] == 0
            log = service.log
    words = [DOMAIN, "geheim", "hush", "forged", "@", *aliases]
    words += [part for name in PEOPLE.values() for part in name.split() if len(part) > 3]
    said = [each for each in words if each.lower() in log.lower()]
    assert not said, [line for line in log.splitlines() if any(each in line for each in said)][:5]
    assert all(LINE.match(line) for line in log.splitlines()), "one line an event, none forged"
    found = house.command("status", marked)
    assert damaged.address in found.stdout, "whose mark it is can be asked"
