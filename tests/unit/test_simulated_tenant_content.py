"""The written content: realistic, the same for the same seed, with one of everything that hurts."""

from __future__ import annotations

import email
import email.policy
import hashlib
import json
import unicodedata
from typing import TYPE_CHECKING, Any

import pytest
from tenant_client import TenantClient, q

from backupd.demo import mime_facts
from backupd.demo.tenant import SimulatedTenant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WHO = "amelia"
BASE = f"users/{WHO}@harbourlight.example"


@pytest.fixture(scope="module")
def client() -> Iterator[TenantClient]:
    with SimulatedTenant() as tenant, TenantClient(tenant) as connected:
        yield connected


def message(client: TenantClient, subject: str) -> dict[str, Any]:
    rows = client.rows(f"{BASE}/messages?$top=500&$select=subject,hasAttachments,isDraft")
    return next(row for row in rows if subject in (row["subject"] or ""))


def mime(client: TenantClient, row: dict[str, Any]) -> Any:
    return client.get(f"{BASE}/messages/{q(row['id'])}/$value")


def attachments(client: TenantClient, row: dict[str, Any]) -> list[dict[str, Any]]:
    return client.rows(f"{BASE}/messages/{q(row['id'])}/attachments")


def fingerprint(seed: int) -> str:
    tenant = SimulatedTenant(seed, people=2, messages=3, oddities=False)
    digest = hashlib.sha256(tenant.tenant_id.encode())
    for user in tenant.state.directory.users:
        for found in user.mailbox.messages.values():
            digest.update(user.mailbox.message_id(found).encode() + found.content.mime())
        digest.update(json.dumps([e.data for e in user.agenda.events.values()]).encode())
        digest.update(json.dumps([c.data for c in user.contacts.contacts.values()]).encode())
    return digest.hexdigest()


def test_the_same_seed_is_the_same_tenant() -> None:
    assert fingerprint(7) == fingerprint(7)
    assert fingerprint(7) != fingerprint(8)


def test_people_rooms_and_shared_mailboxes_say_what_they_are(client: TenantClient) -> None:
    purposes = {
        row["userPrincipalName"].partition("@")[0]: client.get(
            f"users/{row['id']}/mailboxSettings"
        ).json()
        for row in client.rows("users")
    }
    assert purposes["intake"]["userPurpose"] == "shared"
    assert purposes["room.athena"]["userPurpose"] == "room"
    assert {settings["language"]["locale"][:2] for settings in purposes.values()} == {
        "en",
        "fr",
        "de",
        "pl",
        "el",
        "ar",
    }
    assert purposes["sabine"]["timeZone"] == "W. Europe Standard Time"


def test_folder_names_are_hostile_and_distinct_only_byte_by_byte(client: TenantClient) -> None:
    odd = client.tenant.state.folder(WHO, "Odd names")
    folder = client.tenant.state.user(WHO).mailbox.folder_id(odd.uid)
    rows = client.rows(f"{BASE}/mailFolders/{q(folder)}/childFolders")
    names = [row["displayName"] for row in rows]
    folded = {unicodedata.normalize("NFC", name).casefold() for name in names}
    assert len(folded) < len(set(names)) == len(names)
    assert any("/" in name for name in names)
    assert any("\x07" in name for name in names)


def test_hidden_folders_show_only_when_asked_for_and_others_only_by_name(
    client: TenantClient,
) -> None:
    plain = {row["displayName"] for row in client.rows(f"{BASE}/mailFolders")}
    all_ = {
        row["displayName"] for row in client.rows(f"{BASE}/mailFolders?includeHiddenFolders=true")
    }
    assert all_ - plain == {"Quick Step Settings"}
    bin_ = client.get(f"{BASE}/mailFolders/recoverableitemsdeletions").json()
    assert bin_["totalItemCount"] == 2
    assert bin_["displayName"] not in all_
    assert client.get(f"{BASE}/mailFolders/clutter").status_code == 404


def test_a_search_folder_is_a_view(client: TenantClient) -> None:
    rows = client.rows(f"{BASE}/mailFolders")
    view = next(
        row for row in rows if row.get("@odata.type") == "#microsoft.graph.mailSearchFolder"
    )
    inbox = client.get(f"{BASE}/mailFolders/inbox").json()
    assert view["totalItemCount"] == inbox["totalItemCount"]
    assert view["sourceFolderIds"] == [inbox["id"]]


def test_counts_are_those_of_the_listing(client: TenantClient) -> None:
    for folder in client.rows(f"{BASE}/mailFolders?$top=100"):
        listed = client.rows(
            f"{BASE}/mailFolders/{q(folder['id'])}/messages?$select=isRead&$top=100"
        )
        assert folder["totalItemCount"] == len(listed)
        assert folder["unreadItemCount"] == sum(not row["isRead"] for row in listed)


def test_every_message_is_crlf_mail_that_says_what_the_listing_says(client: TenantClient) -> None:
    refused = 0
    for row in client.rows(f"{BASE}/messages?$top=500&$select=subject,internetMessageId"):
        answer = mime(client, row)
        if answer.status_code == 500:
            refused += 1
            continue
        content = answer.content
        assert content.count(b"\n") == content.count(b"\r\n")
        found = email.message_from_bytes(content, policy=email.policy.compat32)
        assert (found["Message-ID"] or None) == row["internetMessageId"]
    assert refused == 2


def test_an_encrypted_message_has_no_mime_but_its_envelope_can_be_had(client: TenantClient) -> None:
    row = message(client, "Encrypted statement")
    for _ in range(2):
        answer = mime(client, row)
        assert answer.status_code == 500
        assert answer.json()["error"]["code"] == "ErrorMimeContentConversionFailed"
    found = attachments(client, row)
    assert [part["name"] for part in found] == ["smime.p7m"]
    raw = client.get(f"{BASE}/messages/{q(row['id'])}/attachments/{q(found[0]['id'])}/$value")
    assert raw.content.startswith(b"0\x82")
    expand = "$expand=singleValueExtendedProperties($filter=id eq 'String 0x001A')"
    classes = client.get(f"{BASE}/messages/{q(row['id'])}?$select=subject&{expand}").json()
    assert classes["singleValueExtendedProperties"][0]["value"] == "IPM.Note.SMIME"


def test_a_damaged_message_is_listed_and_can_never_be_had(client: TenantClient) -> None:
    answer = mime(client, message(client, "(damaged)"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "ErrorCorruptData")


def test_one_message_can_spoil_a_page(client: TenantClient) -> None:
    state = client.tenant.state
    spoilt = state.deliver(WHO, "junkemail", b"Subject: spoilt\r\n\r\n")
    state.deliver(WHO, "junkemail", b"Subject: good\r\n\r\n")
    state.spoil(WHO, spoilt, "page")
    path = f"{BASE}/mailFolders/junkemail/messages"
    assert client.get(path).json()["error"]["code"] == "ErrorContentConversionFailed"
    assert client.get(f"{path}?$top=1").json()["value"][0]["subject"] == "good"
    assert client.get(f"{path}?$top=1&$skip=1").status_code == 500
    state.delete_message(WHO, spoilt)


def test_attachments_of_every_kind(client: TenantClient) -> None:
    scans = attachments(client, message(client, "The scans"))
    assert [part["size"] > 3_000_000 for part in scans] == [True, False]
    picture = message(client, "Newsletter with a picture")
    assert picture["hasAttachments"] is False
    assert [part["isInline"] for part in attachments(client, picture)] == [True]
    forwarded = message(client, "complaint attached")
    item = attachments(client, forwarded)[0]
    assert item["@odata.type"] == "#microsoft.graph.itemAttachment"
    path = f"{BASE}/messages/{q(forwarded['id'])}/attachments/{q(item['id'])}"
    assert b"Subject: The original complaint" in client.get(f"{path}/$value").content
    expanded = client.get(f"{path}?$expand=microsoft.graph.itemattachment/item").json()
    assert expanded["item"]["subject"] == "The original complaint"
    link = attachments(client, message(client, "Shared: Brief"))[0]
    assert link["@odata.type"] == "#microsoft.graph.referenceAttachment"
    assert "contentBytes" not in link


def test_a_meeting_request_carries_its_calendar_part(client: TenantClient) -> None:
    row = message(client, "Invitation: Mediation")
    assert row["@odata.type"] == "#microsoft.graph.eventMessageRequest"
    assert b'method="REQUEST"' in mime(client, row).content


def test_bodies_and_headers_come_when_asked_for(client: TenantClient) -> None:
    row = message(client, "Newsletter with a picture")
    path = f"{BASE}/messages/{q(row['id'])}?$select=body,bodyPreview,internetMessageHeaders"
    found = client.get(path).json()
    assert found["body"]["contentType"] == "html"
    assert found["bodyPreview"] == "With our logo."
    assert {"name": "Subject", "value": "Newsletter with a picture"} in found[
        "internetMessageHeaders"
    ]
    text = client.get(path, Prefer='outlook.body-content-type="text"')
    assert text.json()["body"] == {"contentType": "text", "content": "With our logo.\r\n"}


def test_boundaries_can_differ_from_fetch_to_fetch(client: TenantClient) -> None:
    row = message(client, "The scans")
    assert mime(client, row).content == mime(client, row).content
    client.tenant.switches.unstable_mime = True
    first, second = mime(client, row).content, mime(client, row).content
    client.tenant.switches.unstable_mime = False
    assert first != second
    assert [p.content for p in mime_facts.parts(first)] == [
        p.content for p in mime_facts.parts(second)
    ]


def test_a_message_that_is_too_big_times_out(client: TenantClient) -> None:
    client.tenant.switches.mime_limit = 1_000_000
    answer = mime(client, message(client, "The scans"))
    client.tenant.switches.mime_limit = 25 * 1024 * 1024
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "UnknownError")


def test_bytes_of_a_message_have_one_address_only(client: TenantClient) -> None:
    row = message(client, "The scans")
    path = f"{BASE}/mailFolders/inbox/messages/{q(row['id'])}"
    assert client.get(path).status_code == 200
    assert client.get(f"{path}/$value").status_code == 405


def test_some_ids_hold_a_slash_and_all_depend_on_case(client: TenantClient) -> None:
    ids = [row["id"] for row in client.rows(f"{BASE}/messages?$top=500&$select=id")]
    assert any("/" in name for name in ids)
    assert all(name.startswith("AAMk") for name in ids)
    slashed = next(name for name in ids if "/" in name)
    assert client.get(f"{BASE}/messages/{q(slashed)}").status_code == 200
    assert client.get(f"{BASE}/messages/{q(ids[0].swapcase())}").status_code == 404


def test_contacts_of_every_shape(client: TenantClient) -> None:
    rows = client.rows(f"{BASE}/contacts")
    birthdays = [row["birthday"] for row in rows if row["birthday"]]
    assert any(day.startswith("1604-") for day in birthdays)
    full = next(row for row in rows if row["nickName"] == "Leni")
    photo = client.get(f"{BASE}/contacts/{q(full['id'])}/photo/$value")
    assert photo.content.startswith(b"\x89PNG")
    plain = next(row for row in rows if row["displayName"] == "Margit Szűcs")
    assert client.get(f"{BASE}/contacts/{q(plain['id'])}/photo/$value").status_code == 404
    folders = client.rows(f"{BASE}/contactFolders")
    assert "Contacts" not in {folder["displayName"] for folder in folders}
    child = client.rows(f"{BASE}/contactFolders/{q(folders[0]['id'])}/childFolders")
    assert [folder["displayName"] for folder in child] == ["Interpreters"]


def test_real_mail_of_others_is_described_without_failing(corpus: Path) -> None:
    found = sorted(path for path in (corpus / "mail").rglob("*") if path.is_file())
    tenant = SimulatedTenant(people=1, messages=0, extras=False, oddities=False)
    for path in found:
        delivered = tenant.state.deliver(WHO, "inbox", path.read_bytes())
        facts = delivered.content.facts()
        json.dumps(facts | {"body": mime_facts.body_of(delivered.content.mime())})
        assert isinstance(delivered.content.parts(), list)
    assert len(found) > 100
