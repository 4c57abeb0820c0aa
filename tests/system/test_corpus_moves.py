"""Real mail goes from the vault into real servers, and arrives byte for byte or with what was repaired told."""

from __future__ import annotations

import hashlib
import imaplib
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from household import Household
from servers.cyrus import cyrus
from servers.dovecot import dovecot

Build = Callable[..., Household]

TARGETS = """
[targets.dovecot]
type = "imap"
host = "127.0.0.1"
port = {dovecot}
security = "plain"
username = "alice"
password_file = "{folder}/mail_password"
[targets.cyrus]
type = "imap"
host = "127.0.0.1"
port = {cyrus}
security = "plain"
username = "u1"
password_file = "{folder}/mail_password"
"""


def stored(port: int, user: str) -> Counter[str]:
    """SHA-256 of every message at a server, by Python's own client."""
    found: Counter[str] = Counter()
    client = imaplib.IMAP4("127.0.0.1", port)
    client.login(user, "pw")
    for line in client.list()[1]:
        name = re.search(rb'"[./]" (.*)$', line)[1].decode()  # type: ignore[index, arg-type]
        state, count = client.select(name, readonly=True)
        if state != "OK" or count == [b"0"]:
            continue
        for part in client.fetch("1:*", "(BODY.PEEK[])")[1]:
            if isinstance(part, tuple):
                found[hashlib.sha256(part[1]).hexdigest()] += 1
    client.logout()
    return found


def test_every_real_mail_moves_to_real_servers(build: Build, corpus: Path) -> None:
    house = build(accounts=["amelia@*"], services=["mail"], people=1, messages=0, oddities=False)
    folders = ("inbox", "archive", "sentitems")
    for number, path in enumerate(sorted(path for path in (corpus / "mail").rglob("*") if path.is_file())):  # fmt: skip
        raw = path.read_bytes()
        for form in {raw, raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")}:
            house.tenant.state.deliver("amelia", folders[number % 3], form, isRead=number % 2 == 0)
    assert house.backup().exit_code == 0
    (house.folder / "mail_password").write_text("pw")
    with dovecot() as first, cyrus() as second:
        house.configure(TARGETS.format(folder=house.folder, dovecot=first.imap, cyrus=second.imap))
        for name, port, user in (("dovecot", first.imap, "alice"), ("cyrus", second.imap, "u1")):
            said = house.command("restore", "--to", name, "--from", "vault", "--json")
            result = json.loads(said.stdout)["restore"]
            states = Counter(result["states"])
            assert said.returncode == (3 if states["quarantined"] else 0), said.stdout[-3000:]
            assert states.total() == result["expected"]["mail"]
            assert result["proven"] == states["restored"] + states["repaired"]
            assert states["quarantined"] <= 4, "what Cyrus has no header to accept for"
            there = stored(port, user)
            assert there.total() == result["proven"]
            items = Path(result["report"]).parent / "items.jsonl"
            lines = [json.loads(line) for line in items.read_text().splitlines()]
            untouched = Counter(line["sha256"] for line in lines if line["state"] == "restored")
            assert not untouched - there, "byte for byte"
            assert all(line["why"] for line in lines if line["state"] != "restored")
            again = house.command("restore", "--to", name, "--from", "vault", "--json")
            assert json.loads(again.stdout)["restore"]["states"].get("present") == result["proven"]
