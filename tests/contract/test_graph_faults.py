"""What a Microsoft 365 source does when the service misbehaves, and when it cuts us off."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from graph_desk import Desk, bytes_of, open_desk

from backupd.demo.changes import Refusal
from backupd.demo.faults import Fault
from backupd.demo.tenant import SimulatedTenant
from backupd.errors import AuthError, BackupdError, CutOff, ItemUnreadable, TransientError
from backupd.limits import LOOPBACK, Pace, Rate
from backupd.model import Account, Collection, Item, Service
from backupd.ports import Failed, Fetched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def tenant() -> Iterator[SimulatedTenant]:
    with SimulatedTenant(seed=7, people=2, messages=6) as running:
        yield running


@pytest.fixture
def desk(tenant: SimulatedTenant, tmp_path: Path) -> Iterator[Desk]:
    with open_desk(tenant, tmp_path) as opened:
        yield opened


def letter(name: str) -> bytes:
    return b"Subject: %s\r\n\r\n" % name.encode() + b"x" * 400 + b"\r\n"


def folder_of_letters(tenant: SimulatedTenant, count: int) -> list[bytes]:
    tenant.state.create_folder("amelia", "Letters")
    letters = [letter(f"number {n}") for n in range(count)]
    for each in letters:
        tenant.state.deliver("amelia", "Letters", each)
    return letters


TRANSIENT = [
    "unavailable",
    "bad_gateway",
    "gateway_timeout",
    "reset",
    "cut",
    "short",
    "broken_json",
]


class TestTransientFaults:
    @pytest.mark.parametrize("kind", [*TRANSIENT, "expired_token", "claims_challenge", "throttle"])
    def test_a_listing_survives(self, tenant: SimulatedTenant, desk: Desk, kind: str) -> None:
        folder_of_letters(tenant, 25)
        amelia = desk.account("amelia")
        letters = desk.collection(amelia, Service.MAIL, "Letters")
        tenant.faults.add(Fault(kind, route="*/messages/delta*", times=2, skip=1, retry_after=0))

        assert len(desk.items(amelia, letters)) == 25

    @pytest.mark.parametrize("kind", [*TRANSIENT[:-1], "expired_token", "throttle"])
    def test_a_message_is_whole_or_asked_for_again(
        self, tenant: SimulatedTenant, desk: Desk, kind: str
    ) -> None:
        letters = folder_of_letters(tenant, 6)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        items = desk.items(amelia, where)
        tenant.faults.add(Fault(kind, route="*/$value", times=4, retry_after=0))

        fetched = sorted(bytes_of(each) for each in desk.fetch(amelia, where, items))

        assert fetched == sorted(letters)

    def test_a_batch_with_throttled_parts_is_asked_again(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        whole = desk.source.collections(amelia, Service.MAIL)
        tenant.faults.add(Fault("throttle", route="*childFolders*", times=3, retry_after=0))

        assert desk.source.collections(amelia, Service.MAIL) == whole

    def test_nobody_asks_a_mailbox_behind_its_fence(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        folder_of_letters(tenant, 20)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        items = desk.items(amelia, where)
        tenant.log.clear()
        tenant.faults.add(Fault("throttle", route="*/$value", times=1, skip=8, retry_after=1))

        meter = desk.source._client.lanes.meter
        before = meter.read()
        results = desk.fetch(amelia, where, items)

        (refused,) = [r for r in tenant.log if r.status == 429]
        in_the_pause = [r for r in tenant.log if refused.end + 0.05 < r.start < refused.end + 0.95]
        assert in_the_pause == []
        assert all(isinstance(r, Fetched) for r in results)
        told = meter.read()
        assert told.requests["throttled"] == before.requests.get("throttled", 0) + 1
        assert told.requests["ok"] >= before.requests["ok"] + 20
        assert told.retries > before.retries
        assert 0.9 < told.throttled - before.throttled <= 1.0

    def test_a_storm_does_not_multiply_requests(self, tenant: SimulatedTenant, desk: Desk) -> None:
        folder_of_letters(tenant, 80)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        items = desk.items(amelia, where)
        tenant.log.clear()
        tenant.faults.add(Fault("unavailable", route="*/$value"))

        results = desk.fetch(amelia, where, items)

        assert {type(r.error) for r in results if isinstance(r, Failed)} == {TransientError}
        assert len(tenant.log.where(door="graph")) < 80 + 100 + 20

    def test_a_disk_that_is_full_ends_the_fetch(self, tenant: SimulatedTenant, desk: Desk) -> None:
        folder_of_letters(tenant, 3)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")

        class Full:
            size = 0

            def write(self, data: bytes) -> None:
                raise OSError(28, "No space left on device")

            def restart(self) -> None: ...
            def discard(self) -> None: ...

        with pytest.raises(OSError, match="No space left"):
            list(desk.source.fetch(amelia, where, desk.items(amelia, where), Full))


class TestCursors:
    @pytest.mark.parametrize(
        ("page", "refusal"),
        [
            (0, Refusal()),
            (1, Refusal(code="syncStateNotFound", location=True)),
            (0, Refusal(code="resyncRequired")),
            (1, Refusal(status=400, code="SyncStateInvalid")),
        ],
    )
    def test_a_refused_cursor_begins_a_full_listing(
        self, tenant: SimulatedTenant, desk: Desk, page: int, refusal: Refusal
    ) -> None:
        folder_of_letters(tenant, 600)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        cursor = desk.pages(amelia, where)[page].cursor
        tenant.state.expire_cursors("amelia", refusal=refusal)

        again = desk.pages(amelia, where, cursor)

        assert again[0].restart
        assert len({c.id for p in again for c in p.changes}) == 600

    def test_a_cursor_may_expire_in_the_middle_of_a_listing(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        folder_of_letters(tenant, 600)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        pages = desk.source.pages(amelia, where, None)

        first = next(pages)
        tenant.state.expire_cursors("amelia")
        rest = list(pages)

        assert [first.restart, rest[0].restart] == [True, True]
        assert len({c.id for p in rest for c in p.changes}) == 600

    def test_a_drive_restarts_too(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        drive = desk.collection(amelia, Service.FILES)
        first = desk.pages(amelia, drive)
        tenant.state.expire_cursors(drive=tenant.state.user("amelia").drives[0])

        again = desk.pages(amelia, drive, first[-1].cursor)

        assert again[0].restart
        assert {c.id for p in again for c in p.changes} == {c.id for p in first for c in p.changes}

    @pytest.mark.parametrize("cursor", ["", "nonsense", '{"link": 5}', '{"unknown": 1}', "[1]"])
    def test_a_cursor_that_is_not_ours_is_none(
        self, tenant: SimulatedTenant, desk: Desk, cursor: str
    ) -> None:
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "inbox")

        assert desk.pages(amelia, where, cursor)[0].restart

    def test_a_cursor_that_leads_elsewhere_is_never_followed(self, desk: Desk) -> None:
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "inbox")

        with pytest.raises(TransientError) as caught:
            desk.pages(amelia, where, '{"link": "http://attacker.example/v1.0/delta"}')
        assert caught.value.reason == "foreign-link"

    def test_pages_that_are_too_large_are_asked_for_in_smaller_ones(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        folder_of_letters(tenant, 30)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        tenant.faults.add(Fault("unavailable", route="*/messages/delta*", times=4))

        pages = desk.pages(amelia, where)

        assert len({c.id for p in pages for c in p.changes}) == 30
        sizes = [r.headers.get("prefer", "") for r in tenant.log if "delta" in r.path]
        assert [s.rpartition("=")[2] for s in dict.fromkeys(sizes)] == ["500", "100", "10"]

    def test_a_full_mailbox_is_listed_instead(self, tenant: SimulatedTenant, desk: Desk) -> None:
        letters = folder_of_letters(tenant, 12)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        tenant.cut_off("mailbox_full", "amelia")

        pages = desk.pages(amelia, where)
        again = desk.pages(amelia, where, pages[-1].cursor)

        assert len({c.id for p in pages for c in p.changes}) == len(letters)
        assert [pages[0].restart, again[0].restart] == [True, True]

    def test_one_corrupt_message_does_not_hide_the_others(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        folder_of_letters(tenant, 40)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        tenant.faults.add(
            Fault("error", route="*/messages/delta*", code="ErrorContentConversionFailed")
        )

        found = {c.id for c in desk.changes(amelia, where) if isinstance(c, Item)}

        assert len(found) == 40


class TestDownloads:
    def test_a_cut_download_goes_on_where_it_was(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia, item, drive = self._big(tenant, desk, 3 << 20)
        tenant.log.clear()
        tenant.faults.add(Fault("cut", route="dl", times=2))

        (result,) = desk.fetch(amelia, drive, [item])

        assert len(bytes_of(result)) == 3 << 20
        ranges = [r.headers.get("range") for r in tenant.log.where(door="download")]
        assert ranges[0] is None
        assert all(r and not r.startswith("bytes=0-") for r in ranges[1:])

    @pytest.mark.parametrize("mode", ["whole", "unsatisfiable"])
    def test_a_host_without_ranges_is_read_from_the_start(
        self, tenant: SimulatedTenant, desk: Desk, mode: str
    ) -> None:
        amelia, item, drive = self._big(tenant, desk, 1 << 20)
        tenant.switches.range_mode = mode
        tenant.faults.add(Fault("cut", route="dl", times=1))

        (result,) = desk.fetch(amelia, drive, [item])

        assert len(bytes_of(result)) == 1 << 20
        assert not result.note

    @pytest.mark.parametrize(
        "kind", ["wrong_bytes", "cleanly_short", "empty", "reset", "bad_gateway"]
    )
    def test_wrong_bytes_are_seen_and_asked_for_again(
        self, tenant: SimulatedTenant, desk: Desk, kind: str
    ) -> None:
        amelia, item, drive = self._big(tenant, desk, 300_000)
        tenant.faults.add(Fault(kind, route="dl", times=1))

        (result,) = desk.fetch(amelia, drive, [item])

        assert len(bytes_of(result)) == 300_000
        assert not result.note

    def test_bytes_that_stay_wrong_are_refused(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia, item, drive = self._big(tenant, desk, 5_000)
        tenant.faults.add(Fault("wrong_bytes", route="dl"))

        (result,) = desk.fetch(amelia, drive, [item])

        assert isinstance(result, Failed)
        assert isinstance(result.error, ItemUnreadable)
        assert result.error.reason == "hash-differs"

    def test_malware_is_one_item_and_no_cut_off(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia, item, drive = self._big(tenant, desk, 100)
        tenant.expire_downloads()
        tenant.faults.add(Fault("error", route="*/content", status=403, code="malwareDetected"))

        (result,) = desk.fetch(amelia, drive, [item])

        assert isinstance(result, Failed)
        assert result.error.reason == "malwaredetected"

    def test_one_protected_file_does_not_stop_the_drive(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia, item, drive = self._big(tenant, desk, 100)
        tenant.expire_downloads()
        tenant.faults.add(Fault("error", route="*/content", status=403, code="accessDenied"))

        (result,) = desk.fetch(amelia, drive, [item])

        assert isinstance(result, Failed)
        assert isinstance(result.error, ItemUnreadable)

    def _big(
        self, tenant: SimulatedTenant, desk: Desk, size: int
    ) -> tuple[Account, Item, Collection]:
        drive = tenant.state.user("amelia").drives[0]
        file = tenant.state.put_big_file(drive, "big.bin", size)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.FILES)
        item = next(i for i in desk.items(amelia, where) if i.id == drive.item_id(file.uid))
        return amelia, item, where


CUT_OFF: list[tuple[str, type[BackupdError], str]] = [
    ("tenant_deleted", CutOff, "tenant"),
    ("tenant_fraud_block", CutOff, "tenant"),
    ("subscription_lapsed", CutOff, "tenant"),
    ("app_deleted", AuthError, "app"),
    ("secret_expired", AuthError, "credential"),
    ("consent_revoked", AuthError, "consent"),
    ("regional_outage", TransientError, ""),
]


class TestCutOff:
    @pytest.mark.parametrize(("scenario", "error", "reason"), CUT_OFF)
    def test_the_whole_tenant(
        self,
        tenant: SimulatedTenant,
        desk: Desk,
        scenario: str,
        error: type[BackupdError],
        reason: str,
    ) -> None:
        tenant.cut_off(scenario)

        with pytest.raises(error) as caught:
            list(desk.source.accounts())
        assert not reason or caught.value.reason == reason
        assert caught.value.hint or error is TransientError

    def test_a_disabled_app_is_told_at_either_stage(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        list(desk.source.accounts())
        tenant.cut_off("app_disabled_two_stage")

        with pytest.raises(AuthError) as caught:
            list(desk.source.accounts())
        assert caught.value.reason == "app"

    @pytest.mark.parametrize(
        "service", [Service.MAIL, Service.CALENDAR, Service.CONTACTS, Service.FILES]
    )
    def test_a_removed_licence(self, tenant: SimulatedTenant, desk: Desk, service: Service) -> None:
        amelia = desk.account("amelia")
        tenant.cut_off("licence_removed", "amelia")

        with pytest.raises(CutOff) as caught:
            desk.source.collections(amelia, service)
        assert caught.value.reason == "licence"

    def test_a_removed_licence_keeps_the_services_of_the_account(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        tenant.cut_off("licence_removed", "amelia")

        assert desk.account("amelia").services == set(Service)

    @pytest.mark.parametrize("service", [Service.MAIL, Service.FILES])
    def test_a_deleted_user(self, tenant: SimulatedTenant, desk: Desk, service: Service) -> None:
        amelia = desk.account("amelia")
        where = desk.collection(amelia, service)
        tenant.cut_off("user_deleted", "amelia")

        with pytest.raises(CutOff) as caught:
            desk.source.collections(amelia, service)
        assert caught.value.reason == "account"
        assert where

    def test_a_licence_that_goes_in_the_middle_ends_the_fetch(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        folder_of_letters(tenant, 9)
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "Letters")
        items = desk.items(amelia, where)
        tenant.cut_off("licence_removed", "amelia")

        with pytest.raises(CutOff) as caught:
            desk.fetch(amelia, where, items)
        assert caught.value.reason == "licence"
        assert all(draft.discarded for draft in desk.landing.drafts)

    def test_a_locked_drive(self, tenant: SimulatedTenant, desk: Desk) -> None:
        amelia = desk.account("amelia")
        drive = desk.collection(amelia, Service.FILES)
        tenant.cut_off("onedrive_locked", "amelia")

        with pytest.raises(CutOff) as caught:
            desk.pages(amelia, drive)
        assert caught.value.reason == "licence"

    def test_an_access_policy_is_our_problem_and_no_cut_off(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        tenant.cut_off("access_policy", "amelia")

        with pytest.raises(AuthError) as caught:
            desk.source.collections(amelia, Service.MAIL)
        assert caught.value.reason == "consent"

    def test_revoked_tokens_are_replaced_when_the_account_is_fine(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        list(desk.source.accounts())
        tenant.cut_off("cae_revoked")

        assert list(desk.source.accounts())

    def test_an_unreachable_item_is_never_taken_for_a_deleted_one(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        amelia = desk.account("amelia")
        where = desk.collection(amelia, Service.MAIL, "inbox")
        ids = [i.id for i in desk.items(amelia, where)]
        keys = list(desk.source.keys(amelia, Service.MAIL, ids).values())
        tenant.cut_off("licence_removed", "amelia")

        assert desk.source.locate(amelia, Service.MAIL, keys) == {}


class TestRates:
    def test_a_mailbox_is_asked_no_faster_than_its_rate(
        self, tenant: SimulatedTenant, tmp_path: Path
    ) -> None:
        folder_of_letters(tenant, 30)
        pace = Pace(mailbox=Rate(per_second=40, burst=45), drives=None, first_wait=0.02)
        with open_desk(tenant, tmp_path, pace=pace) as desk:
            amelia = desk.account("amelia")
            where = desk.collection(amelia, Service.MAIL, "Letters")
            items = desk.items(amelia, where)

            began = time.monotonic()
            desk.fetch(amelia, where, items + items)

        assert time.monotonic() - began > (60 - 45) / 40

    def test_rate_limit_headers_slow_the_drives_down_before_they_are_throttled(
        self, tenant: SimulatedTenant, desk: Desk
    ) -> None:
        tenant.switches.resource_units = 60
        drive = tenant.state.user("amelia").drives[0]
        for number in range(20):
            tenant.state.put_file(drive, f"{number}.txt", b"x")
        amelia = desk.account("amelia")

        found: Any = desk.collection(amelia, Service.FILES)

        assert desk.items(amelia, found)
        assert not [r for r in tenant.log if r.status == 429]
        assert LOOPBACK.drives is None
