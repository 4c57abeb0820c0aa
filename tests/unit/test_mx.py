"""Where a domain's mail goes: what is learnt of it, what is remembered, and that silence says nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers.names import NameServer, name_server

from backupd.cutoff.mx import FRESH, Routes, domain_of, place

AT_MICROSOFT = "0 contoso-example.mail.protection.outlook.com."


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now

    def later(self) -> None:
        self.now += FRESH + 1


@pytest.fixture
def server() -> Iterator[NameServer]:
    with name_server() as server:
        yield server


def test_who_takes_the_mail_the_preferred_host_first(server: NameServer, tmp_path: Path) -> None:
    server.mail = {"contoso.example": ["20 b.example.net.", "10 A.example.net."]}
    (route,) = Routes(tmp_path, [server.place]).look(["contoso.example"])
    assert (route.exists, route.hosts) == (True, ("a.example.net", "b.example.net"))
    assert not route.moved
    assert not route.lost
    assert Routes(tmp_path).known("contoso.example") == route, "another process knows it too"


@pytest.mark.parametrize(
    ("mail", "addresses", "exists", "hosts"),
    [
        ({}, set(), False, ()),
        ({"it.example": []}, set(), True, ()),
        ({"it.example": ["0 ."]}, set(), True, ()),
        ({}, {"it.example"}, True, ("it.example",)),
        ({"it.example": [f"{n} mx{n}.example.net." for n in range(25)]}, set(), True,
         tuple(f"mx{n}.example.net" for n in range(20))),
    ],
    ids=["no such domain", "no mail at all", "null MX", "an address takes the mail", "too many"],
)  # fmt: skip
def test_what_a_domain_may_be(
    server: NameServer, tmp_path: Path, mail: dict[str, list[str]], addresses: set[str], exists: bool, hosts: tuple[str, ...],
) -> None:  # fmt: skip
    server.mail, server.addresses = mail, addresses
    (route,) = Routes(tmp_path, [server.place]).look(["it.example"])
    assert (route.exists, route.hosts, route.silent) == (exists, hosts, "")


def test_mail_that_goes_elsewhere_and_a_domain_that_is_gone_are_noticed(
    server: NameServer, tmp_path: Path
) -> None:
    clock = Clock()
    routes = Routes(tmp_path, [server.place], clock)
    server.mail = {"contoso.example": [AT_MICROSOFT]}
    routes.look(["contoso.example"])
    clock.later()
    first = clock.now
    server.mail = {"contoso.example": ["10 mx.example.net."]}
    (route,) = routes.look(["contoso.example"])
    assert (route.moved, route.since) == (True, first)
    assert route.before == ("contoso-example.mail.protection.outlook.com",)
    clock.later()
    assert routes.look(["contoso.example"])[0].since == first, "seen so since then"
    clock.later()
    server.mail = {}
    (route,) = routes.look(["contoso.example"])
    assert (route.lost, route.before) == (True, ("mx.example.net",))


@pytest.mark.parametrize("trouble", ["silent", "broken"])
def test_a_name_server_in_trouble_says_nothing_and_takes_nothing_away(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    monkeypatch.setattr("backupd.cutoff.mx.ONE", 0.4)
    clock = Clock()
    routes = Routes(tmp_path, [server.place], clock)
    server.mail = {"contoso.example": [AT_MICROSOFT]}
    (before,) = routes.look(["contoso.example"])
    clock.later()
    setattr(server, trouble, True)
    (route,) = routes.look(["contoso.example"])
    assert route.silent
    assert (route.exists, route.hosts, route.since) == (True, before.hosts, before.since)
    assert routes.known("contoso.example").hosts == before.hosts
    (unknown,) = routes.look(["never-seen.example"])
    assert (unknown.exists, unknown.lost, unknown.moved) == (None, False, False)


def test_all_questions_together_are_bounded_in_time(
    server: NameServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("backupd.cutoff.mx.ONE", 0.3)
    monkeypatch.setattr("backupd.cutoff.mx.ALL", 0.7)
    server.silent = True
    began = time.monotonic()
    found = Routes(tmp_path, [server.place]).look(f"{n}.example" for n in range(200))
    assert time.monotonic() - began < 3
    assert len(found) == 200
    assert all(each.silent for each in found)


def test_an_answer_and_a_silence_are_not_asked_for_again_for_a_while(
    server: NameServer, tmp_path: Path
) -> None:
    clock = Clock()
    routes = Routes(tmp_path, [server.place], clock)
    server.mail = {"contoso.example": [AT_MICROSOFT]}
    for _ in range(5):
        routes.look(["contoso.example", "gone.example"])
    assert server.asked == ["contoso.example", "gone.example"]
    clock.later()
    routes.look(["contoso.example"])
    assert server.asked[2:] == ["contoso.example"]


@pytest.mark.parametrize(
    "domain", ["x" * 300, "a..b", "\N{SNOWMAN}.example", "-", "..", "\x00.example", "münchen.example", "a b.example", "\\"]
)  # fmt: skip
def test_a_hostile_name_breaks_nothing(server: NameServer, tmp_path: Path, domain: str) -> None:
    (route,) = Routes(tmp_path, [server.place]).look([domain])
    assert not route.lost


def test_names_that_exist_nowhere_are_asked_of_nobody(tmp_path: Path) -> None:
    began = time.monotonic()
    for name in ("contoso.example", "alice.test", "localhost"):
        (route,) = Routes(tmp_path).look([name])
        assert route.exists is None
    assert time.monotonic() - began < 1


def test_a_damaged_memory_begins_anew(server: NameServer, tmp_path: Path) -> None:
    for damage in ("{", "[]", '{"a.example": 3}', '{"a.example": {"wrong": 1}}'):
        (tmp_path / "domains.json").write_text(damage)
        assert Routes(tmp_path).known("a.example").exists is None
    assert Routes(tmp_path, [server.place]).look(["a.example"])[0].exists is False


@pytest.mark.parametrize(
    ("address", "domain"),
    [("Alice@Contoso.Example", "contoso.example"), ("host/sites/x", ""), ("a@b@c.example.", "c.example")],
)  # fmt: skip
def test_the_domain_of_an_address(address: str, domain: str) -> None:
    assert domain_of(address) == domain


@pytest.mark.parametrize(
    ("server", "found"),
    [
        ("192.0.2.1", ("192.0.2.1", 53)),
        ("192.0.2.1:5353", ("192.0.2.1", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_a_name_server_is_an_address_and_perhaps_a_port(
    server: str, found: tuple[str, int]
) -> None:
    assert place(server) == found
    with pytest.raises(ValueError, match="IPv4 or IPv6"):
        place("dns.example.net")
