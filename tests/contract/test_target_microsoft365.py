"""Everything goes back into Microsoft 365, once, and nobody is told: on the simulated tenant and real Dovecot."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import stamina
from parcels import loaded, parcel, shelf

from backupd.demo.addressbook import contact_json
from backupd.demo.drive import ROOT
from backupd.demo.faults import Fault
from backupd.demo.tenant import SimulatedTenant
from backupd.errors import AuthError, ConfigError, TransientError, UserError
from backupd.model import Service
from backupd.ports import Claim, Parcel, Shelf, Target
from sources.graph.vcard import contact_to_vcard
from targets.endpoint import Application, Endpoint
from targets.microsoft365.contacts import Contacts
from targets.microsoft365.files import Files

ROLES = {"Calendars.ReadWrite", "Contacts.ReadWrite", "Files.ReadWrite.All"}
ONEDRIVE = shelf(Service.FILES, "OneDrive")
DATED = {"modified": "2019-03-04T05:06:07Z", "created": "2018-01-02T03:04:05Z"}
BIG = bytes(range(251)) * 90_000  # 22 MB: three pieces


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """As many tries as ever, without the pauses between them."""
    with stamina.set_testing(True, attempts=6, cap=True):
        yield


@pytest.fixture(scope="module")
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(messages=3) as running:
        running.state.app.roles |= ROLES
        running.switches.resource_units = 1_000_000
        yield running


class Mover:
    """A new account of the tenant, and targets for it."""

    made = 0

    def __init__(self, tenant: SimulatedTenant, state: Path) -> None:
        Mover.made += 1
        self.tenant, self.alias = tenant, f"mover{Mover.made}"
        self.user = tenant.state.add_user(self.alias, f"Mover {Mover.made}")
        app = Application(
            tenant.tenant_id, tenant.client_id, lambda: tenant.client_secret, None, None,
            tenant.graph_url, tenant.login_url,
        )  # fmt: skip
        self.endpoint = Endpoint("back", "", account=self.user.upn, username=self.user.upn, app=app, connections=4, state=state)  # fmt: skip
        tenant.faults.clear()
        tenant.log.clear()

    def put(
        self, kind: type, where: Shelf, *items: tuple[Parcel, bytes], look: bool = False
    ) -> list[Claim]:
        target: Target = kind(self.endpoint)
        try:
            target.make_collection(where)
            return [Claim(each, end) for each, end in target.put(where, loaded(items), look=look)]
        finally:
            target.close()

    def proofs(self, kind: type, where: Shelf, *claims: Claim, deep: bool = True) -> list[str]:
        target: Target = kind(self.endpoint)
        try:
            asked = [replace(each, deep=deep) for each in claims]
            return [f"{each.state} {each.what}".strip() for each in target.read_back(where, asked)]
        finally:
            target.close()

    def files(self) -> dict[str, bytes]:
        drive = self.user.drives[0]
        found = {}
        for item in drive.items.values():
            if item.uid != ROOT and item.content is not None:
                found[drive.path(item)] = b"".join(item.content.read(0, item.content.size))
        return found


@pytest.fixture
def mover(tenant: SimulatedTenant, tmp_path: Path) -> Mover:
    return Mover(tenant, tmp_path)


def states(claims: list[Claim]) -> set[str]:
    return {each.put.state for each in claims}


def whys(claims: list[Claim]) -> dict[str, str]:
    return {each.parcel.path: each.put.why for each in claims if each.put.why}


def file(name: str, data: bytes, where: Shelf = ONEDRIVE) -> tuple[Parcel, bytes]:
    inner = tuple(name.split("/"))
    return parcel(where, inner[-1], data, inner=inner, about=DATED), data


def household() -> list[tuple[Parcel, bytes]]:
    names = ("Über größer.txt", "🎉 party.txt", "#1 100% & a+b; c'?.txt", "l" * 200 + ".txt")
    small = [file(f"a/b c/{name}", name.encode()) for name in names]
    return [*small, file("top.txt", b"top"), file("a/empty", b""), file("a/big.bin", BIG)]


class TestFiles:
    def test_files_arrive_with_their_folders_and_dates(self, mover: Mover) -> None:
        claims = mover.put(Files, ONEDRIVE, *household())
        assert states(claims) <= {"restored", "repaired"}
        assert whys(claims).keys() == {"files/OneDrive/a/b c/#1 100% & a+b; c'?.txt"}
        arrived = mover.files()
        assert arrived["a/big.bin"] == BIG
        assert arrived["a/empty"] == b""
        assert len(arrived) == 7
        modified = {item.modified.isoformat() for item in mover.user.drives[0].items.values() if item.content}  # fmt: skip
        assert modified == {"2019-03-04T05:06:07+00:00"}
        assert set(mover.proofs(Files, ONEDRIVE, *claims)) == {"same"}
        assert set(mover.proofs(Files, ONEDRIVE, *claims, deep=False)) == {"same"}

    def test_a_second_restore_puts_nothing(self, mover: Mover) -> None:
        mover.put(Files, ONEDRIVE, *household())
        before = mover.files()
        mover.tenant.log.clear()
        assert states(mover.put(Files, ONEDRIVE, *household(), look=True)) == {"present"}
        assert mover.files() == before
        assert {each.method for each in mover.tenant.log if each.door == "graph"} == {"GET"}

    def test_another_file_of_the_name_stays_and_the_backup_goes_beside_it(
        self, mover: Mover
    ) -> None:
        mover.tenant.state.put_file(mover.user.drives[0], "a/TOP.txt", b"somebody's work")
        twin = file("a/top.txt", b"from the backup")
        (first,) = mover.put(Files, ONEDRIVE, twin)
        assert first.put.state == "repaired"
        assert "another file had its name" in first.put.why
        assert states(mover.put(Files, ONEDRIVE, twin)) == {"present"}
        assert sorted(mover.files().values()) == [b"from the backup", b"somebody's work"]

    def test_a_second_drive_gets_a_folder_of_its_own(self, mover: Mover) -> None:
        library = shelf(Service.FILES, "Case library")
        mover.put(Files, library, file("x.txt", b"x", library))
        assert mover.files() == {"Case library/x.txt": b"x"}

    def test_an_upload_goes_on_where_it_was_cut(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("reset", route="up", skip=1, times=1))
        mover.tenant.faults.add(Fault("cut", route="up", method="PUT", skip=1, times=1))
        (claim,) = mover.put(Files, ONEDRIVE, file("big.bin", BIG))
        assert claim.put.state == "restored"
        assert mover.files() == {"big.bin": BIG}
        taken = [each for each in mover.tenant.log.where(door="upload", method="PUT") if each.status in {201, 202}]  # fmt: skip
        ranges = [each.headers["content-range"] for each in taken]
        assert len(ranges) == len(set(ranges)) == 3, ranges

    def test_an_upload_session_that_ended_begins_again(
        self, mover: Mover, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(mover.tenant.switches, "upload_lifetime", 0.0)
        mover.tenant.faults.add(Fault("error", route="none"))
        with pytest.raises(TransientError, match="sessions end"):
            mover.put(Files, ONEDRIVE, file("big.bin", BIG))
        monkeypatch.undo()
        assert states(mover.put(Files, ONEDRIVE, file("big.bin", BIG), look=True)) == {"restored"}

    def test_a_lost_answer_makes_no_second_file(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("cut", method="PUT", route="drives/*/content", times=1))
        mover.tenant.faults.add(Fault("cut", method="PUT", route="up", skip=2, times=1))
        claims = mover.put(Files, ONEDRIVE, file("small.txt", b"small"), file("big.bin", BIG))
        assert states(claims) <= {"present", "restored"}
        assert mover.files() == {"small.txt": b"small", "big.bin": BIG}
        dates = {item.modified.year for item in mover.user.drives[0].items.values() if item.content}
        assert dates == {2019}

    def test_the_token_never_goes_to_an_upload_address(self, mover: Mover) -> None:
        mover.put(Files, ONEDRIVE, file("big.bin", BIG))
        uploads = mover.tenant.log.where(door="upload")
        assert uploads
        assert all("authorization" not in each.headers for each in uploads)

    def test_a_full_drive_ends_the_run(self, mover: Mover) -> None:
        mover.user.drives[0].quota = 1_000_000
        for big in (b"x" * 2_000_000, BIG):
            with pytest.raises(UserError) as caught:
                mover.put(Files, ONEDRIVE, file("big.bin", big))
            assert caught.value.reason == "quota"

    def test_throttling_is_obeyed(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("throttle", route="drives/*", times=3, retry_after=1))
        mover.tenant.faults.add(Fault("unavailable", route="drives/*", times=2))
        claims = mover.put(Files, ONEDRIVE, *(file(f"{n}.txt", b"%d" % n) for n in range(12)))
        assert states(claims) == {"restored"}
        assert len(mover.files()) == 12

    def test_the_whole_drive_of_a_person_comes_back_or_says_why_not(self, mover: Mover) -> None:
        origin = mover.tenant.state.drive("amelia")
        items = []
        for item in origin.items.values():
            if item.content is None or item.content.size > 5_000_000 or item.malware:
                continue
            data = b"".join(item.content.read(0, item.content.size))
            items.append(file(origin.path(item), data))
        claims = mover.put(Files, ONEDRIVE, *items)
        assert len(claims) == len(items)
        refused = {path.rpartition("/")[2] for path in whys([c for c in claims if c.put.state == "quarantined"])}  # fmt: skip
        assert refused == {"bottom.txt"}  # its path is longer than OneDrive takes
        digests = {hashlib.sha256(each).hexdigest() for each in mover.files().values()}
        stored = [each for each in claims if each.put.state != "quarantined"]
        assert digests == {each.parcel.sha256 for each in stored}
        assert set(mover.proofs(Files, ONEDRIVE, *stored)) == {"same"}
        assert states(mover.put(Files, ONEDRIVE, *items)) == {"present", "quarantined"}

    def test_what_was_changed_or_removed_there_is_told(self, mover: Mover) -> None:
        claims = mover.put(Files, ONEDRIVE, file("a.txt", b"aaaa"), file("b.txt", b"bbbb"))
        state, drive = mover.tenant.state, mover.user.drives[0]
        state.put_file(drive, "a.txt", b"abab")
        state.delete_item(drive, "b.txt")
        said = mover.proofs(Files, ONEDRIVE, *claims)
        assert said == ["changed the content differs", "missing is not there"]


BOOK = shelf(Service.CONTACTS, "Contacts", special="contacts")
WITNESSES = shelf(Service.CONTACTS, "Witnesses: harbour", "Interpreters")


def address_book(tenant: SimulatedTenant) -> list[tuple[Parcel, bytes]]:
    """Everything that the tenant's own address book holds, as the backup keeps it."""
    book = tenant.state.user("amelia").contacts
    found = []
    for contact in book.contacts.values():
        row = contact_json(book, contact)
        data = contact_to_vcard(row, contact.photo, "image/png")
        found.append((parcel(BOOK, f"{contact.uid}.vcf", data, key=row["id"]), data))
    return found


def real(corpus: Path, suffix: str, where: Shelf) -> list[tuple[Parcel, bytes]]:
    files = sorted((corpus / suffix).iterdir())
    return [(parcel(where, each.name, each.read_bytes()), each.read_bytes()) for each in files]


class TestContacts:
    def test_the_whole_address_book_comes_back_and_says_the_same(self, mover: Mover) -> None:
        items = address_book(mover.tenant)
        claims = mover.put(Contacts, BOOK, *items)
        assert states(claims) == {"restored", "repaired"}
        assert list(whys(claims).values()) == [
            "1 detail moved into the notes"
        ]  # an Exchange address
        assert set(mover.proofs(Contacts, BOOK, *claims)) == {"same"}
        full = next(c for c in mover.user.contacts.contacts.values() if c.data["surname"] == "Dupont-Ōtani" and c.photo)  # fmt: skip
        origin = next(c for c in mover.tenant.state.user("amelia").contacts.contacts.values() if c.data["surname"] == "Dupont-Ōtani")  # fmt: skip
        assert full.photo == origin.photo
        for address in ("homeAddress", "businessAddress"):  # where an empty part says nothing
            assert full.data[address].items() <= origin.data[address].items()
        kept = set(origin.data) - {
            "emailAddresses",
            "personalNotes",
            "homeAddress",
            "businessAddress",
        }
        assert {k: full.data[k] for k in kept} == {k: origin.data[k] for k in kept}

    def test_a_second_restore_puts_nothing(self, mover: Mover) -> None:
        items = address_book(mover.tenant)
        mover.put(Contacts, BOOK, *items)
        mover.tenant.log.clear()
        assert states(mover.put(Contacts, BOOK, *items, look=True)) == {"present"}
        assert {each.method for each in mover.tenant.log if each.door == "graph"} == {"GET"}

    def test_into_the_mailbox_that_still_has_them_nothing_is_put(self, mover: Mover) -> None:
        amelia = mover.tenant.state.user("amelia")
        mover.endpoint = replace(mover.endpoint, account=amelia.upn)
        before = len(amelia.contacts.contacts)
        assert states(mover.put(Contacts, BOOK, *address_book(mover.tenant)[:4], look=True)) == {
            "present"
        }
        assert len(amelia.contacts.contacts) == before

    def test_folders_lie_where_they_lay(self, mover: Mover) -> None:
        data = b"BEGIN:VCARD\r\nVERSION:3.0\r\nFN:A\r\nN:;A;;;\r\nUID:a\r\nEND:VCARD\r\n"
        for _ in range(2):
            mover.put(Contacts, WITNESSES, (parcel(WITNESSES, "a.vcf", data), data), look=True)
        folders = {each.name: each for each in mover.user.contacts.folders.values()}
        inner = folders["Interpreters"]
        assert inner.parent == folders["Witnesses: harbour"].uid
        assert len(mover.user.contacts.in_folder(inner)) == 1

    def test_a_lost_answer_makes_no_second_contact(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("cut", method="POST", route="*/contacts", times=2))
        items = address_book(mover.tenant)[:6]
        claims = mover.put(Contacts, BOOK, *items)
        assert states(claims) == {"restored"}
        assert len(mover.user.contacts.contacts) == 6

    def test_a_picture_that_a_killed_run_left_out_is_added(self, mover: Mover) -> None:
        items = [each for each in address_book(mover.tenant) if b"PHOTO" in each[1]]
        fault = mover.tenant.faults.add(Fault("bad_gateway", method="PUT", route="*/photo/*"))
        with pytest.raises(TransientError):
            mover.put(Contacts, BOOK, *items)
        mover.tenant.faults.remove(fault)
        claims = mover.put(Contacts, BOOK, *items, look=True)
        assert {each.put.state for each in claims} <= {"restored", "repaired"}
        assert len(mover.user.contacts.contacts) == len(items)
        assert all(each.photo for each in mover.user.contacts.contacts.values())

    def test_every_real_contact_ends_somewhere(self, mover: Mover, corpus: Path) -> None:
        items = real(corpus, "vcf", BOOK)
        claims = mover.put(Contacts, BOOK, *items)
        assert len(claims) == len(items)
        assert states(claims) <= {"restored", "repaired", "quarantined"}
        stored = [each for each in claims if each.put.state != "quarantined"]
        assert len(stored) > 0.7 * len(items), whys(claims)
        assert {each.partition(" ")[0] for each in mover.proofs(Contacts, BOOK, *stored)} == {
            "same"
        }
        again = mover.put(Contacts, BOOK, *items, look=True)
        assert states(again) <= {"present", "quarantined"}

    def test_what_somebody_changed_there_is_told_and_stays(self, mover: Mover) -> None:
        items = address_book(mover.tenant)[:2]
        claims = mover.put(Contacts, BOOK, *items)
        contact = next(iter(mover.user.contacts.contacts.values()))
        mover.tenant.state.put_contact(mover.user, {"jobTitle": "President"}, contact)
        assert "changed differs in jobTitle" in mover.proofs(Contacts, BOOK, *claims)
        again = mover.put(Contacts, BOOK, *items, look=True)
        assert sorted(each.put.state for each in again) == ["present", "quarantined"]
        assert "jobTitle" in " ".join(whys(again).values())


class TestAccess:
    def test_an_application_that_may_only_read_is_told_what_it_needs(self, mover: Mover) -> None:
        mover.tenant.state.app.roles -= ROLES
        try:
            with pytest.raises(AuthError) as caught:
                mover.put(Files, shelf(Service.FILES, "Other"), file("x", b"x"))
        finally:
            mover.tenant.state.app.roles |= ROLES
        assert "Files.ReadWrite.All" in caught.value.hint

    def test_a_wrong_secret_is_told_at_once(self, mover: Mover) -> None:
        app = replace(mover.endpoint.app, secret=lambda: "wrong")  # type: ignore[type-var]
        target = Files(replace(mover.endpoint, app=app))
        with pytest.raises(AuthError, match="AADSTS7000215"):
            list(target.preflight())
        target.close()

    def test_a_token_that_is_refused_early_is_renewed(self, mover: Mover) -> None:
        mover.tenant.faults.add(Fault("expired_token", route="users/*/drive", times=1))
        assert states(mover.put(Files, ONEDRIVE, file("x", b"x"))) == {"restored"}

    def test_a_section_without_an_application_says_what_is_missing(self, mover: Mover) -> None:
        with pytest.raises(ConfigError) as caught:
            Files(replace(mover.endpoint, app=None))
        assert "tenant_id" in caught.value.hint
