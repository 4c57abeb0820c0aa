"""Delta queries of the simulated tenant behave as Graph's do, awkward parts included."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tenant_client import TenantClient, q

from backupd.demo.changes import Refusal
from backupd.demo.tenant import SimulatedTenant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.demo.mailbox import Message

WHO = "amelia"
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


@pytest.fixture
def client() -> Iterator[TenantClient]:
    with (
        SimulatedTenant(people=1, messages=30, extras=False, oddities=False) as tenant,
        TenantClient(tenant) as connected,
    ):
        yield connected


def base(client: TenantClient) -> str:
    return f"users/{client.tenant.state.user(WHO).id}"


def inbox(client: TenantClient, options: str = "") -> str:
    return f"{base(client)}/mailFolders/inbox/messages/delta{options}"


def messages(client: TenantClient, folder: str = "inbox") -> list[Message]:
    return list(client.tenant.state.folder(WHO, folder).messages.values())


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows if "@removed" not in row]


def removed(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows if "@removed" in row]


def name(client: TenantClient, message: Message) -> str:
    return client.tenant.state.user(WHO).mailbox.message_id(message)


def test_a_round_reports_every_message_with_empty_pages_and_replays(client: TenantClient) -> None:
    for number in range(40):
        client.tenant.state.deliver(WHO, "inbox", f"Subject: {number}\r\n\r\n".encode())
    pages = list(client.pages(inbox(client, "?$select=subject")))
    rows = [row for page in pages for row in page["value"]]
    assert set(ids(rows)) == {name(client, message) for message in messages(client)}
    assert any(not page["value"] and "@odata.nextLink" in page for page in pages)
    assert len(ids(rows)) > len(set(ids(rows)))
    assert max(len(page["value"]) for page in pages) <= 11


def test_the_page_size_must_be_asked_for_on_every_request(client: TenantClient) -> None:
    first = client.get(inbox(client), Prefer="odata.maxpagesize=3")
    assert first.headers["Preference-Applied"] == "odata.maxpagesize=3"
    assert len(first.json()["value"]) == 3
    assert len(client.get(first.json()["@odata.nextLink"]).json()["value"]) == 7


def test_links_are_written_as_the_service_writes_them(client: TenantClient) -> None:
    link = client.get(inbox(client), Prefer="odata.maxpagesize=1").json()["@odata.nextLink"]
    user = client.tenant.state.user(WHO)
    folder = q(user.mailbox.folder_id(user.mailbox.folder("inbox").uid))
    assert link.startswith(
        f"{client.tenant.graph_url}/users('{user.id}')/mailFolders('{folder}')/messages/delta?$skiptoken="
    )


def test_every_spelling_of_a_path_is_understood(client: TenantClient) -> None:
    user = client.tenant.state.user(WHO)
    for spelling in ("delta", "delta()", "microsoft.graph.delta()"):
        for path in (
            f"users('{user.id}')/mailFolders('inbox')",
            f"Users/{user.upn}/MAILFOLDERS/inbox",
        ):
            assert client.get(f"{path}/messages/{spelling}").status_code == 200


def test_the_selection_is_remembered_by_the_cursor(client: TenantClient) -> None:
    page = client.get(inbox(client, "?$select=subject")).json()
    client.tenant.state.deliver(WHO, "inbox", b"Subject: late\r\n\r\nlate\r\n")
    rows, _ = client.round(page["@odata.deltaLink"])
    assert [set(row) for row in rows] == [{"@odata.type", "@odata.etag", "id", "subject"}]


def test_what_was_expanded_is_remembered_by_the_cursor(client: TenantClient) -> None:
    expand = "$expand=singleValueExtendedProperties($filter=id eq 'Integer 0x0E08')"
    rows = client.rows(inbox(client, f"?$select=id&{expand}"), Prefer="odata.maxpagesize=2")
    assert len(rows) > 2
    sizes = {row["singleValueExtendedProperties"][0]["id"] for row in rows}
    assert sizes == {"Integer 0xe08"}


def test_an_option_that_would_be_ignored_is_refused(client: TenantClient) -> None:
    answer = client.get(inbox(client, "?$orderby=receivedDateTime"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "ErrorInvalidUrlQuery")


def test_lists_are_newest_first_unless_told_otherwise(client: TenantClient) -> None:
    path = inbox(client).removesuffix("/delta") + "?$select=receivedDateTime&$top=50"
    usual = [row["receivedDateTime"] for row in client.rows(path)]
    oldest = [row["receivedDateTime"] for row in client.rows(f"{path}&$orderby=receivedDateTime")]
    assert usual == sorted(usual, reverse=True)
    assert oldest == usual[::-1]
    assert client.get(f"{path}&$orderby=subject").status_code == 400


def test_pages_can_be_too_long_to_bear(client: TenantClient) -> None:
    client.tenant.switches.page_limit = 50
    path = inbox(client, "?$select=id")
    refused = client.get(path, Prefer="odata.maxpagesize=500")
    assert (refused.status_code, refused.content) == (503, b"")
    assert client.get(path, Prefer="odata.maxpagesize=50").status_code == 200
    assert client.get(f"{path.replace('/delta', '')}&$top=51").status_code == 503


def test_an_update_is_sparse_and_a_deletion_is_removed(client: TenantClient) -> None:
    _, link = client.round(inbox(client))
    first, second, *_ = messages(client)
    client.tenant.state.flag(WHO, first, isRead=True)
    client.tenant.state.delete_message(WHO, second)
    rows, link = client.round(link)
    assert rows[0] == {
        "@odata.type": "#microsoft.graph.message",
        "id": name(client, first),
        "isRead": True,
    }
    assert rows[1]["@removed"] == {"reason": "deleted"}
    assert client.round(link)[0] == []
    client.tenant.switches.sparse_updates = False
    client.tenant.state.flag(WHO, first, categories=["Red"])
    assert "subject" in client.round(link)[0][0]


def test_a_move_is_a_removal_here_and_a_new_id_there(client: TenantClient) -> None:
    archive = inbox(client).replace("inbox", "archive")
    (_, here), (_, there) = client.round(inbox(client)), client.round(archive)
    message = messages(client)[0]
    before = name(client, message)
    client.tenant.state.move_message(WHO, message, "archive")
    after = name(client, message)
    assert removed(client.round(here)[0]) == [before]
    assert ids(client.round(there)[0]) == [after]
    assert before != after
    assert client.get(f"{base(client)}/messages/{q(before)}").status_code == 404
    assert client.get(f"{base(client)}/messages/{q(after)}").status_code == 200


def translate(
    client: TenantClient, names: list[str], to: str = "restImmutableEntryId"
) -> list[str]:
    body = {"inputIds": names, "sourceIdType": "restId", "targetIdType": to}
    answer = client.send("POST", f"{base(client)}/translateExchangeIds", json=body)
    return [row["targetId"] for row in answer.json()["value"]]


def test_the_immutable_id_survives_a_move_and_finds_the_message(client: TenantClient) -> None:
    message = messages(client)[0]
    stable = translate(client, [name(client, message)])
    client.tenant.state.move_message(WHO, message, "archive")
    assert translate(client, [name(client, message)]) == stable
    assert translate(client, stable, "restId") == [name(client, message)]
    found = client.get(
        f"{base(client)}/messages/{q(stable[0])}?$select=parentFolderId", **IMMUTABLE
    )
    assert found.json()["id"] == stable[0]
    assert found.headers["Preference-Applied"] == 'IdType="ImmutableId"'


def test_the_defect_of_immutable_ids_loses_the_arrival(client: TenantClient) -> None:
    client.tenant.switches.immutable_id_defect = True
    archive = inbox(client).replace("inbox", "archive")
    (_, here), (_, there) = (
        client.round(inbox(client), **IMMUTABLE),
        client.round(archive, **IMMUTABLE),
    )
    client.tenant.state.move_message(WHO, messages(client)[0], "archive")
    assert len(removed(client.round(here, **IMMUTABLE)[0])) == 1
    assert client.round(there, **IMMUTABLE)[0] == []


def test_a_cursor_does_not_change_its_id_type(client: TenantClient) -> None:
    _, link = client.round(inbox(client))
    refused = client.get(link, **IMMUTABLE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "SyncStateInvalid")


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(),
        Refusal(code="syncStateNotFound", location=True),
        Refusal(410, "resyncRequired"),
        Refusal(400, "SyncStateInvalid"),
    ],
)
def test_cursors_expire_in_every_variant_next_links_included(
    client: TenantClient, refusal: Refusal
) -> None:
    middle = client.get(inbox(client), Prefer="odata.maxpagesize=1").json()["@odata.nextLink"]
    _, link = client.round(inbox(client))
    client.tenant.state.expire_cursors(WHO, refusal=refusal)
    for refused in (client.get(middle), client.get(link)):
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            refusal.status,
            refusal.code,
        )
        assert ("Location" in refused.headers) is refusal.location
    assert client.round(inbox(client))[0]


def test_the_location_of_an_expired_drive_cursor_begins_a_new_round(client: TenantClient) -> None:
    drive = client.tenant.state.drive(WHO).id
    rows, link = client.round(f"drives/{drive}/root/delta")
    client.tenant.state.expire_cursors(drive=drive)
    refused = client.get(link)
    assert refused.json()["error"]["code"] == "resyncRequired"
    assert refused.json()["error"]["innerError"]["code"] == "resyncChangesApplyDifferences"
    assert ids(client.round(refused.headers["Location"])[0]) == ids(rows)


def test_one_folder_can_expire_alone(client: TenantClient) -> None:
    (_, here), (_, there) = (
        client.round(inbox(client)),
        client.round(inbox(client).replace("inbox", "archive")),
    )
    folder = client.tenant.state.folder(WHO, "inbox")
    client.tenant.state.expire_cursors(WHO, stream=("messages", folder.uid))
    assert client.get(here).status_code == 410
    assert client.get(there).status_code == 200


def test_a_foreign_or_edited_cursor_is_refused(client: TenantClient) -> None:
    _, link = client.round(inbox(client))
    head, _, token = link.partition("$deltatoken=")
    elsewhere = f"{base(client)}/mailFolders/archive/messages/delta?$deltatoken={token}"
    for url in (elsewhere, f"{head}$deltatoken={token[:-4]}AAAA", f"{head}$deltatoken=rubbish"):
        assert client.get(url).json()["error"]["code"] == "SyncStateInvalid"


def test_a_full_mailbox_refuses_delta_and_still_lists(client: TenantClient) -> None:
    client.tenant.cut_off("mailbox_full", WHO)
    assert client.get(inbox(client)).json()["error"]["code"] == "ErrorQuotaExceeded"
    assert client.get(inbox(client).removesuffix("/delta")).status_code == 200


def test_what_changes_during_a_round_is_reported_after_it(client: TenantClient) -> None:
    first = client.get(inbox(client), Prefer="odata.maxpagesize=2").json()
    client.tenant.state.delete_message(WHO, messages(client)[0])
    client.tenant.state.flag(WHO, messages(client)[0], isRead=True)
    _, link = client.round(first["@odata.nextLink"])
    assert len(client.round(link)[0]) == 2


def test_folders_are_followed_flat_with_renames_moves_and_deletions(client: TenantClient) -> None:
    state = client.tenant.state
    rows, link = client.round(f"{base(client)}/mailFolders/delta")
    assert "2024" in {row["displayName"] for row in rows}
    made = state.create_folder(WHO, "New", "Clients")
    state.rename_folder(WHO, "Clients/Novak", "Novák")
    state.move_folder(WHO, made, "inbox")
    state.delete_folder(WHO, "Clients/Closed")
    changes, _ = client.round(link)
    assert [row.get("displayName") for row in changes[:2]] == ["New", "Novák"]
    assert len(removed(changes)) == 2


def test_contacts_and_users_are_followed_too(client: TenantClient) -> None:
    state = client.tenant.state
    rows, link = client.round(f"{base(client)}/contacts/delta?$select=displayName")
    contact = state.put_contact(WHO, {"displayName": "New"})
    state.put_contact(WHO, {"displayName": "Renamed"}, contact)
    assert [row["displayName"] for row in client.round(link)[0]] == ["Renamed", "Renamed"]
    state.delete_contact(WHO, contact)
    assert len(removed(client.round(client.round(link)[1])[0])) == 0
    assert len(removed(client.round(link)[0])) == 1
    assert rows
    _, link = client.round("users/delta?$select=accountEnabled")
    state.update_user(WHO, enabled=False)
    assert client.round(link)[0][0]["accountEnabled"] is False
    state.delete_user(WHO)
    assert client.round(link)[0][-1]["@removed"] == {"reason": "changed"}
