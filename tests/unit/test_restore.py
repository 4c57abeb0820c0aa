"""The verb restore: order, ledger, proof, quarantine. The target is a directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from mirrors import ADDRESS, MirrorMaker

from backupd.errors import ItemRefused, TransientError, UserError
from backupd.mirror.names import parse_time
from backupd.model import Service
from backupd.ports import Parcel, Put, Reader, Shelf, Target
from backupd.restore.account import Restore
from backupd.restore.contents import MirrorContents, Selection
from backupd.restore.ledger import Ledger
from backupd.restore.plan import plan
from backupd.restore.result import RestoreResult
from targets.composite import Composite
from targets.endpoint import Endpoint
from targets.folder import Folder


def mail(number: int) -> bytes:
    return b"Subject: number %d\r\n\r\nbody\r\n" % number


@pytest.fixture
def maker(tmp_path: Path) -> MirrorMaker:
    maker = MirrorMaker(tmp_path / "mirror")
    archive = maker.shelf("mail", "Archive")
    inbox = maker.shelf("mail", "Inbox", special="inbox")
    nested = maker.shelf("mail", "Inbox", "Clients")
    for number in range(6):
        maker.mail(inbox, mail(number), f"2025-{number + 1:02}-03T10:00:00Z", seen=True)
    maker.mail(archive, mail(10), "2026-01-01T00:00:00Z")
    maker.mail(nested, mail(11), "2024-01-01T00:00:00Z")
    maker.item(
        maker.shelf("calendar", "Calendar"), "a.ics", b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"
    )
    maker.item(maker.shelf("contacts", "Contacts"), "a.vcf", b"BEGIN:VCARD\r\nEND:VCARD\r\n")
    maker.file(maker.shelf("files", "OneDrive"), "Plans/2026/budget.txt", b"1,2,3", modified="2025-05-05T00:00:00Z")  # fmt: skip
    maker.finish()
    return maker


class House:
    """One restore that can be run again and again."""

    def __init__(self, maker: MirrorMaker, tmp_path: Path) -> None:
        self.maker, self.out = maker, tmp_path / "out"
        self.ledger, self.quarantine = tmp_path / "ledger.sqlite", tmp_path / "quarantine"
        self.target: Target = Folder(Endpoint("folder", "folder", path=self.out))
        self.order: list[str] = []

    def run(self, selection: Selection | None = None, *, again: bool = False, stop: int = 10**9) -> RestoreResult:  # fmt: skip
        def heard(parcel: Parcel, _: RestoreResult) -> None:
            self.order.append(parcel.path)
            if len(self.order) == stop:
                raise TransientError("the line is cut")

        held = MirrorContents(self.maker.finish())
        with Ledger(self.ledger, "folder") as ledger:
            return Restore(held, self.target, ledger, selection or Selection(), self.quarantine, again, heard).run()  # fmt: skip

    def files(self) -> list[Path]:
        return sorted(path for path in self.out.rglob("*") if path.is_file())


@pytest.fixture
def house(maker: MirrorMaker, tmp_path: Path) -> House:
    return House(maker, tmp_path)


def test_every_item_is_accounted_for_and_proven(house: House) -> None:
    result = house.run()
    assert result.exit_code == 0
    assert sum(result.expected.values()) == 11 == result.proven == result.states["restored"]
    assert {each.name: each.proofs["same"] for each in result.collections}["Inbox"] == 6


def test_current_mail_comes_first_and_newest_first(house: House) -> None:
    house.run()
    inbox = [each for each in house.order if each.startswith("mail/Inbox/2025")]
    assert inbox == house.order[:6] == sorted(inbox, reverse=True)
    services = [each.partition("/")[0] for each in house.order[6:]]
    assert services == ["calendar", "contacts", "mail", "mail", "files"]


def test_a_second_run_puts_nothing(house: House) -> None:
    house.run()
    before = house.files()
    result = house.run()
    assert result.states == {"present": 11}
    assert (house.files(), result.exit_code, result.proven) == (before, 0, 11)


def test_a_run_that_is_cut_off_is_gone_on_with(house: House) -> None:
    assert house.run(stop=4).exit_code == 75
    result = house.run()
    assert result.exit_code == 0
    assert result.states["present"] >= 3
    assert (len(house.files()), result.proven) == (11, 11)


def test_a_newer_snapshot_adds_only_what_is_new(house: House) -> None:
    house.run()
    house.maker.mail("mail/Inbox", mail(99), "2026-02-02T00:00:00Z")
    result = house.run()
    assert result.states == {"present": 11, "restored": 1}
    assert result.proven == 12


def test_what_somebody_removed_since_stays_removed_unless_asked(house: House) -> None:
    house.run()
    removed = next(path for path in house.files() if "Inbox/cur" in str(path))
    removed.unlink()
    result = house.run()
    assert (result.gone, result.exit_code) == (1, 3)
    assert not removed.exists()
    assert any(problem.state == "gone" for problem in result.problems)
    again = house.run(again=True)
    assert (again.states["restored"], again.exit_code) == (1, 0)
    assert removed.exists()


def test_a_collection_that_was_emptied_is_filled_again(house: House) -> None:
    house.run()
    for path in house.files():
        if "Inbox/cur" in str(path):
            path.unlink()
    result = house.run()
    assert (result.states["restored"], result.exit_code) == (6, 0)


def test_damaged_bytes_are_never_put(house: House) -> None:
    path = house.maker.item("contacts/Contacts", "b.vcf", b"BEGIN:VCARD\r\nEND:VCARD\r\n")
    (house.maker.root / path).write_bytes(b"BEGIN:VCARD\r\nEVIL:VCARD\r\n")
    result = house.run()
    assert (result.states["damaged"], result.exit_code) == (1, 5)
    assert not (house.out / path).exists()


def test_a_file_lost_from_the_mirror_costs_only_itself(house: House) -> None:
    path = house.maker.item("contacts/Contacts", "c.vcf", b"BEGIN:VCARD\r\nEND:VCARD\r\n")
    (house.maker.root / path).unlink()
    result = house.run()
    assert (result.states["damaged"], result.states["restored"], result.exit_code) == (1, 11, 5)


class Picky(Folder):
    """Refuses one item, as servers do."""

    def put(
        self, shelf: Shelf, items: Iterable[tuple[Parcel, Reader]], *, look: bool
    ) -> Iterator[tuple[Parcel, Put]]:
        for parcel, content in items:
            if parcel.path.endswith(".vcf"):
                yield parcel, Put.failed(ItemRefused("this card is not welcome"))
            else:
                yield from super().put(shelf, [(parcel, content)], look=look)


def test_what_the_target_refuses_is_laid_down_as_a_file_with_its_reason(house: House) -> None:
    house.target = Picky(Endpoint("folder", "folder", path=house.out))
    result = house.run()
    assert (result.states["quarantined"], result.exit_code) == (1, 3)
    kept = house.quarantine / "contacts/Contacts/a.vcf"
    assert kept.read_bytes() == b"BEGIN:VCARD\r\nEND:VCARD\r\n"
    (reason,) = kept.parent.glob("*.why.txt")
    assert "not welcome" in reason.read_text()
    assert any(problem.why == "this card is not welcome" for problem in result.problems)


def test_services_that_a_target_does_not_take_are_told_and_not_forgotten(house: House) -> None:
    house.target = Composite("mailonly", {Service.MAIL: house.target})
    result = house.run()
    assert result.unsupported == {Service.CALENDAR: 1, Service.CONTACTS: 1, Service.FILES: 1}
    assert (result.exit_code, result.proven) == (3, 8)


def test_only_mail_and_files_since_a_day(house: House) -> None:
    result = house.run(Selection(since=parse_time("2025-05-01T00:00:00Z")))
    assert result.states["restored"] == result.proven == 2 + 1 + 2 + 1
    assert result.exit_code == 0
    assert house.run().states == {"present": 6, "restored": 5}


def test_a_plan_counts_and_writes_nothing(house: House) -> None:
    held = MirrorContents(house.maker.finish())
    with Ledger(house.ledger, "folder") as ledger:
        planned = plan(held, house.target, ledger, Selection())
    assert (planned.items, planned.present, planned.address) == (11, 0, ADDRESS)
    assert planned.size == sum(each.size for each in planned.collections) > 0
    assert not house.out.exists()
    house.run()
    with Ledger(house.ledger, "folder") as ledger:
        assert plan(held, house.target, ledger, Selection()).present == 11


def test_a_ledger_of_a_newer_version_is_left_alone(house: House) -> None:
    house.run()
    with sqlite3.connect(house.ledger) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UserError, match="newer backupd"):
        house.run()
