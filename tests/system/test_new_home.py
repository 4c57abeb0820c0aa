"""The reason for it all: an account moves to other providers, by the command line, and arrives whole.

Mail goes to Dovecot, calendars and contacts to Radicale, files to WsgiDAV; what arrived is looked
at with clients that know nothing of backupd.
"""

from __future__ import annotations

import hashlib
import imaplib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from household import Household, indexed
from lxml import etree
from servers import radicale, wsgidav
from servers.dovecot import Dovecot, dovecot
from servers.radicale import Radicale
from servers.wsgidav import WsgiDav

from backupd.demo.tenant import SimulatedTenant

AMELIA = "amelia@harbourlight.example"

TARGET = """
[targets.new]
type = "custom"
password_file = "{folder}/new_password"
mail = {{ type = "imap", host = "127.0.0.1", port = {imap}, ca_file = "{cert}", username = "{user}" }}
calendar = {{ type = "caldav", url = "{dav}", username = "u1", scheduling = "none" }}
contacts = {{ type = "carddav", url = "{dav}", username = "u1" }}
files = {{ type = "webdav", url = "{files}", username = "u1" }}
"""


@dataclass(frozen=True)
class Town:
    """A household that was backed up and whose tenant is gone, and the servers it moves to."""

    house: Household
    mail: Dovecot
    dav: Radicale
    files: WsgiDav

    def aim(self, user: str) -> None:
        """Configure the target, with a fresh mailbox."""
        (self.house.folder / "new_password").write_text("pw")
        self.house.configure(
            TARGET.format(
                folder=self.house.folder,
                imap=self.mail.imaps,
                cert=self.mail.cert,
                user=user,
                dav=self.dav.url,
                files=self.files.url,
            )
        )

    def restore(self, *more: str, code: int = 0) -> dict[str, Any]:
        said = self.house.command("restore", "--to", "new", "--account", AMELIA, "--json", *more)
        assert said.returncode == code, said.stdout[-3000:] + said.stderr[-3000:]
        answer: dict[str, Any] = json.loads(said.stdout)
        return answer["restore"]  # type: ignore[no-any-return]

    def messages(self, user: str) -> Counter[str]:
        """SHA-256 of every message in every folder, by Python's own IMAP client."""
        found: Counter[str] = Counter()
        client = imaplib.IMAP4("127.0.0.1", self.mail.imap)
        client.login(user, "pw")
        for line in client.list()[1]:
            name = re.search(rb'"/" (.*)$', line)[1]  # type: ignore[index, arg-type]
            if b"\\Noselect" in line or int(client.select(name.decode(), readonly=True)[1][0]) == 0:  # type: ignore[arg-type]
                continue
            for part in client.fetch("1:*", "(BODY.PEEK[])")[1]:
                if isinstance(part, tuple):
                    found[hashlib.sha256(part[1]).hexdigest()] += 1
        client.logout()
        return found

    def resources(self) -> Counter[str]:
        """How many resources lie in each collection of the CalDAV and CardDAV server, by its type."""
        found: Counter[str] = Counter()
        with httpx.Client(auth=("u1", "pw"), timeout=30) as client:
            for home in self._children(client, f"{self.dav.url}u1/"):
                for child in self._children(client, home):
                    found[child.rpartition(".")[2]] += 1
        return found

    def demolish(self) -> None:
        """No calendar, no address book, no file, and nothing known of an earlier restore."""
        with httpx.Client(auth=("u1", "pw"), timeout=30) as client:
            for home in self._children(client, f"{self.dav.url}u1/"):
                client.delete(home).raise_for_status()
        for path in self.files.files.iterdir():
            shutil.rmtree(path)
        shutil.rmtree(self.house.folder / "state/restores")

    def _children(self, client: httpx.Client, url: str) -> list[str]:
        answer = client.request("PROPFIND", url, headers={"Depth": "1"})
        hrefs = etree.fromstring(answer.content).findall(".//{DAV:}response/{DAV:}href")
        own = httpx.URL(url).path
        return [f"{self.dav.url.rstrip('/')}{each.text}" for each in hrefs if each.text != own]


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    folder = tmp_path_factory.mktemp("town")
    with ExitStack() as stack:
        tenant = stack.enter_context(SimulatedTenant(7, people=1, messages=60))
        house = Household(folder / "house", tenant, accounts=["amelia@*"])
        assert house.backup().exit_code == 0
        tenant.cut_off("tenant_deleted")
        mail = stack.enter_context(dovecot())
        dav = stack.enter_context(radicale.running())
        yield Town(house, mail, dav, stack.enter_context(wsgidav.running()))


def held(town: Town, service: str) -> list[dict[str, Any]]:
    lines = indexed(town.house.home(AMELIA).mirror_path, service)
    return [line for _, line in lines if "sha256" in line]


def test_an_account_arrives_whole_at_other_providers(town: Town) -> None:
    town.aim("whole")
    result = town.restore()
    total = sum(len(held(town, service)) for service in ("mail", "calendar", "contacts", "files"))
    assert result["proven"] == sum(result["expected"].values()) == total
    assert set(result["states"]) <= {"restored", "repaired"}
    mail = Counter(line["sha256"] for line in held(town, "mail"))
    arrived = town.messages("whole")
    assert arrived.total() == mail.total()
    repaired = sum(each["states"].get("repaired", 0) for each in result["collections"] if each["service"] == "mail")  # fmt: skip
    assert (mail - arrived).total() <= repaired
    assert town.resources() == {"ics": len(held(town, "calendar")), "vcf": len(held(town, "contacts"))}  # fmt: skip
    stored = {hashlib.sha256(path.read_bytes()).hexdigest() for path in town.files.files.rglob("*") if path.is_file()}  # fmt: skip
    assert stored == {line["sha256"] for line in held(town, "files")}

    again = town.restore()
    assert again["states"] == {"present": total}
    assert town.messages("whole") == arrived


def test_a_lost_ledger_duplicates_nothing(town: Town) -> None:
    town.aim("ledgerless")
    town.restore("--only", "mail")
    arrived = town.messages("ledgerless")
    for ledger in (town.house.folder / "state/restores").rglob("ledger.sqlite*"):
        ledger.unlink()
    again = town.restore("--only", "mail")
    assert again["states"] == {"present": arrived.total()}
    assert town.messages("ledgerless") == arrived


def test_a_restore_from_the_vault_goes_on_where_one_from_the_mirror_stopped(town: Town) -> None:
    town.aim("mixed")
    for ledger in (town.house.folder / "state/restores").rglob("ledger.sqlite*"):
        ledger.unlink()
    town.restore("--only", "mail", "--folder", "Inbox", "--from", "mirror")
    result = town.restore("--only", "mail", "--from", "vault")
    inbox = sum(each["states"].get("present", 0) for each in result["collections"])
    assert inbox > 0
    assert result["states"]["present"] == inbox
    assert town.messages("mixed").total() == len(held(town, "mail"))


def killed_after(town: Town, seconds: float) -> bool:
    """Start a restore and kill it with all it started; True when it was still running."""
    command = [sys.executable, "-m", "backupd", "--config", str(town.house.config), "restore"]
    process = subprocess.Popen(
        [*command, "--to", "new", "--account", AMELIA],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    return False


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_at_random_moments_nothing_is_lost_or_there_twice(town: Town, times: int) -> None:
    user = f"killed{times}"
    town.aim(user)
    town.demolish()
    dice, hit = random.Random(times), 0
    for _ in range(times):
        hit += killed_after(town, dice.uniform(0.8, 3.0))
    assert hit > times // 3, "too many runs were over before they could be killed"
    town.restore()
    mail = Counter(line["sha256"] for line in held(town, "mail"))
    arrived = town.messages(user)
    assert arrived.total() == mail.total()
    assert town.resources() == {"ics": len(held(town, "calendar")), "vcf": len(held(town, "contacts"))}  # fmt: skip
    parts = [path for path in town.files.files.rglob("*") if ".part" in path.name]
    assert not parts
