"""Which accounts a tenant has, where its directory is untidy."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from small_server import small_server

from backupd.config import Microsoft365
from backupd.errors import AuthError
from backupd.model import Account, AccountKind, Service
from sources.graph.source import GraphSource

EXCHANGE = {"service": "exchange", "capabilityStatus": "Enabled"}
SHAREPOINT = {"service": "SharePoint", "capabilityStatus": "Enabled"}
MAILBOX = {Service.MAIL, Service.CALENDAR, Service.CONTACTS}


def user(name: str, **more: Any) -> dict[str, Any]:
    plain = {
        "id": name,
        "mail": f"{name}@example.org",
        "userPrincipalName": f"{name}@example.org",
        "displayName": name.title(),
        "userType": "Member",
        "accountEnabled": True,
        "assignedPlans": [EXCHANGE, SHAREPOINT],
    }
    return plain | more


NO_MAILBOX = {"status": 404, "body": {"error": {"code": "MailboxNotEnabledForRESTAPI"}}}
FORBIDDEN = {"status": 403, "body": {"error": {"code": "ErrorAccessDenied"}}}


def purpose(word: str) -> dict[str, Any]:
    return {"status": 200, "body": {"userPurpose": word}}


class Tenant:
    """Users, what their mailboxes are for, and sites (None: refused)."""

    def __init__(
        self,
        users: list[dict[str, Any]],
        purposes: Mapping[str, dict[str, Any]] | None = None,
        sites: list[dict[str, Any]] | None = None,
    ) -> None:
        self.users = users
        self.purposes = purposes or {}
        self.sites = sites
        self.asked: list[str] = []

    async def serve(self, request: web.Request) -> web.Response:
        if request.path.endswith("/token"):
            return web.json_response({"access_token": "opaque", "expires_in": 3600})
        if request.path.endswith("/$batch"):
            return self._batch(await request.json())
        if "/sites" in request.path:
            return self._sites(request)
        start = int(request.query.get("$skip", "0"))
        link = str(request.url.update_query({"$skip": str(start + 2)}))
        more = {"@odata.nextLink": link} if start + 2 < len(self.users) else {}
        return web.json_response({"value": self.users[start : start + 2], **more})

    def _batch(self, body: dict[str, Any]) -> web.Response:
        answers = []
        for part in body["requests"]:
            name = part["url"].split("/")[2]
            self.asked.append(name)
            answers.append({"id": part["id"], **self.purposes.get(name, NO_MAILBOX)})
        assert len(answers) <= 20
        return web.json_response({"responses": answers[::-1]})

    def _sites(self, request: web.Request) -> web.Response:
        if self.sites is None or "getAllSites" in request.path:
            return web.json_response({"error": {"code": "accessDenied"}}, status=403)
        assert request.query["search"] == "*"
        return web.json_response({"value": self.sites})


List = Callable[..., list[Account]]


@pytest.fixture
def listing(tmp_path: Path) -> List:
    (tmp_path / "secret").write_text("s")

    def accounts(tenant: Tenant, **more: Any) -> list[Account]:
        with small_server(tenant.serve) as url:
            values = {
                "name": "small",
                "type": "microsoft365",
                "tenant_id": "t",
                "client_id": "c",
                "client_secret_file": tmp_path / "secret",
                "graph_url": f"{url}/v1.0",
                "login_url": url,
                "accounts": ("*@*",),
            }
            source = GraphSource(Microsoft365.model_validate(values | more))
            try:
                return list(source.accounts())
            finally:
                source.close()

    return accounts


def test_guests_are_nobody_here(listing: List) -> None:
    tenant = Tenant(
        [
            user("ann"),
            user("bob", userType="Guest"),
            user("eve", userPrincipalName="eve_other.org#EXT#@example.org"),
            user("tim"),
        ]
    )

    assert [a.id for a in listing(tenant)] == ["ann", "tim"]


def test_only_unclear_users_are_asked_what_their_mailbox_is_for(listing: List) -> None:
    tenant = Tenant(
        [
            user("ann"),
            user("room", accountEnabled=False),
            user("info", assignedPlans=[]),
            user("cart", accountEnabled=False, assignedPlans=[]),
            user("new", accountEnabled=False),
        ],
        {
            "room": purpose("room"),
            "info": purpose("shared"),
            "cart": purpose("Equipment"),
            "new": purpose("unknownFutureValue"),
        },
    )

    found = {a.id: (a.kind, set(a.services)) for a in listing(tenant)}

    assert found == {
        "ann": (AccountKind.USER, set(Service)),
        "room": (AccountKind.ROOM, set(Service)),
        "info": (AccountKind.SHARED, MAILBOX),
        "cart": (AccountKind.EQUIPMENT, MAILBOX),
        "new": (AccountKind.USER, set(Service)),
    }
    assert sorted(tenant.asked) == ["cart", "info", "new", "room"]


def test_a_user_that_never_had_anything_is_no_account(listing: List) -> None:
    tenant = Tenant([user("admin", assignedPlans=[]), user("disk", assignedPlans=[SHAREPOINT])])

    assert [(a.id, set(a.services)) for a in listing(tenant)] == [("disk", {Service.FILES})]


def test_a_licence_taken_away_leaves_the_services_in_the_list(listing: List) -> None:
    gone = [plan | {"capabilityStatus": "Deleted"} for plan in (EXCHANGE, SHAREPOINT)]
    tenant = Tenant([user("ann", accountEnabled=False, assignedPlans=gone)])

    (ann,) = listing(tenant)

    assert ann.services == set(Service)


def test_a_mailbox_that_we_may_not_ask_is_a_user(listing: List) -> None:
    tenant = Tenant([user("ann", accountEnabled=False)], {"ann": FORBIDDEN})

    (ann,) = listing(tenant)

    assert (ann.kind, ann.services) == (AccountKind.USER, set(Service))


def test_addresses_are_lower_case_and_fall_back_to_the_principal_name(listing: List) -> None:
    tenant = Tenant([user("a", mail="Ann@Example.org"), user("b", mail=None)])

    assert [a.address for a in listing(tenant)] == ["ann@example.org", "b@example.org"]


def test_hundreds_of_rooms_are_asked_twenty_at_a_time(listing: List) -> None:
    rooms = [user(f"r{n}", accountEnabled=False) for n in range(130)]
    tenant = Tenant(rooms, {room["id"]: purpose("room") for room in rooms})

    found = listing(tenant)

    assert [a.id for a in found] == [room["id"] for room in rooms]
    assert {a.kind for a in found} == {AccountKind.ROOM}


def test_sites_are_found_by_search_where_listing_them_is_refused(listing: List) -> None:
    sites = [
        {"id": "s1", "displayName": "Team", "webUrl": "https://X.sharepoint.com/sites/Team"},
        {"id": "s2", "webUrl": "https://x-my.sharepoint.com/personal/ann", "name": "ann"},
        {"id": "s3", "webUrl": "https://x.sharepoint.com/personal/bob", "isPersonalSite": True},
    ]
    tenant = Tenant([user("ann")], sites=sites)

    found = listing(tenant, accounts=("*",))

    assert [(a.id, a.address) for a in found[1:]] == [("s1", "x.sharepoint.com/sites/team")]


def test_refused_sites_are_told_after_the_last_person(listing: List, tmp_path: Path) -> None:
    tenant = Tenant([user("ann"), user("bob"), user("tim")])
    seen: list[str] = []

    with small_server(tenant.serve) as url:
        source = GraphSource(
            Microsoft365(
                name="small",
                type="microsoft365",
                tenant_id="t",
                client_id="c",
                client_secret_file=tmp_path / "secret",
                graph_url=f"{url}/v1.0",
                login_url=url,
            )
        )
        with pytest.raises(AuthError) as caught:
            seen += (account.id for account in source.accounts())
        source.close()

    assert caught.value.reason == "consent"
    assert "Sites.Read.All" in caught.value.hint
    assert seen == ["ann", "bob", "tim"]


def test_a_part_that_a_batch_leaves_out_is_asked_again(listing: List) -> None:
    class Forgetful(Tenant):
        def _batch(self, body: dict[str, Any]) -> web.Response:
            whole = super()._batch(body)
            if len(self.asked) == 3:
                assert whole.text
                answers = json.loads(whole.text)["responses"]
                return web.json_response({"responses": answers[:1]})
            return whole

    rooms = [user(f"r{n}", accountEnabled=False) for n in range(3)]
    tenant = Forgetful(rooms, {room["id"]: purpose("room") for room in rooms})

    assert {a.kind for a in listing(tenant)} == {AccountKind.ROOM}
    assert len(tenant.asked) == 5
