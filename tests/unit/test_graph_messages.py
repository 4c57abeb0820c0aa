"""What is seen of a message: its version, its wholeness, and pages that one message breaks."""

from __future__ import annotations

import base64
import email
import email.policy
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from graph_desk import MemoryDraft, bytes_of, open_desk
from hypothesis import given
from hypothesis import strategies as st
from small_server import small_server

from backupd.config import AccountFilter, Microsoft365
from backupd.demo.tenant import SimulatedTenant
from backupd.model import (
    Account,
    AccountKind,
    Change,
    Collection,
    Gap,
    Gone,
    Item,
    Page,
    Service,
)
from sources.graph.directory import site_address
from sources.graph.letter import HEAD, Letter
from sources.graph.listing import LARGEST_PAGE, Cursor, in_pages
from sources.graph.messages import version
from sources.graph.rebuild import _Base64Draft
from sources.graph.source import GraphSource

ALICE = Account("u", "alice@example.org", "Alice", AccountKind.USER, "x", frozenset(Service))
INBOX = Collection(Service.MAIL, "box", None, "Inbox")

FACTS = {
    "subject": "s",
    "internetMessageId": "<1@x>",
    "sentDateTime": "2026-01-01T00:00:00Z",
    "receivedDateTime": "2026-01-01T00:00:01Z",
    "hasAttachments": False,
    "isDraft": False,
    "isRead": False,
    "changeKey": "a",
}


class TestVersion:
    @pytest.mark.parametrize(
        "mark", ["isRead", "changeKey", "flag", "categories", "importance", "lastModifiedDateTime"]
    )
    def test_marks_do_not_count(self, mark: str) -> None:
        assert version(FACTS | {mark: "other"}) == version(FACTS)

    @pytest.mark.parametrize(
        "field", ["subject", "sentDateTime", "receivedDateTime", "hasAttachments"]
    )
    def test_content_does(self, field: str) -> None:
        assert version(FACTS | {field: "other"}) != version(FACTS)

    def test_a_draft_changes_with_its_key(self) -> None:
        draft = FACTS | {"isDraft": True}

        assert version(draft | {"changeKey": "b"}) != version(draft)
        assert version(draft) != version(FACTS)

    @given(st.dictionaries(st.text(), st.none() | st.text() | st.integers() | st.booleans()))
    def test_whatever_is_said_has_a_version(self, facts: dict[str, Any]) -> None:
        assert version(facts) == version(dict(facts))


def seen(data: bytes, step: int = 1 << 16, *, has_attachments: bool = False) -> Letter:
    letter = Letter(has_attachments=has_attachments)
    for start in range(0, len(data), step):
        letter.see(data[start : start + step])
    return letter


MULTIPART = (
    b'Subject: x\r\nContent-Type: multipart/mixed;\r\n boundary="b 1"\r\n\r\n--b 1\r\n\r\n'
    + b"line\r\n" * 2000
    + b"--b 1--\r\n"
)


class TestLetter:
    @pytest.mark.parametrize("step", [1, 7, 100_000])
    def test_a_multipart_message_ends_with_its_boundary(self, step: int) -> None:
        assert seen(MULTIPART, step).whole
        assert not seen(MULTIPART[: len(MULTIPART) // 2], step).whole
        assert seen(MULTIPART.replace(b"\r\n", b"\n"), step).whole

    def test_other_messages_count_as_whole(self) -> None:
        assert seen(b"Subject: multipart/x\r\n\r\ntext").whole
        assert seen(b"").whole

    def test_another_attempt_begins_anew(self) -> None:
        letter = seen(MULTIPART[:500], has_attachments=True)
        letter.begin()
        letter.see(b"Subject: x\r\n\r\n")

        assert letter.whole
        assert letter.suspicious

    @pytest.mark.parametrize("step", [3, 64, 100_000])
    def test_only_a_message_that_may_lack_something_is_suspicious(self, step: int) -> None:
        plain, attached = (
            b"Subject: x\r\n\r\n" + b"y" * 99,
            b"\r\nContent-DISPOSITION: Attachment;\r\n",
        )
        link = b'<a href="https://contoso-my.SharePoint.com/:w:/g/x">'

        assert not seen(plain, step).suspicious
        assert seen(plain, step, has_attachments=True).suspicious
        assert not seen(plain + attached + plain, step, has_attachments=True).suspicious
        assert seen(plain + attached + link + plain, step, has_attachments=True).suspicious

    def test_a_hostile_header_costs_no_time(self) -> None:
        head = b"Content-Type: multipart/mixed; " + b"boundary=;" * HEAD
        assert seen(head * 2).whole in {True, False}

    def test_real_mail_is_asked_for_twice_only_where_its_end_is_missing(self, corpus: Path) -> None:
        """The judge is a full parser, which is too slow and too fragile to run on every message."""
        mails = [path.read_bytes() for path in sorted((corpus / "mail").rglob("*.eml"))]

        assert len(mails) > 100
        for data in mails:
            boundary = email.message_from_bytes(data).get_boundary()
            ends = boundary is None or f"--{boundary}--".encode() in data
            assert seen(data).whole or not ends, data[:60]
        assert sum(not seen(data).whole for data in mails) > 10, "truncated ones are seen"


class Folder:
    """A folder of 40 messages, some of which break every page that they are on."""

    def __init__(self, corrupt: set[int], nameless: set[int], status: int = 500) -> None:
        self.corrupt = corrupt
        self.nameless = nameless
        self.status = status
        self.requests = 0

    async def serve(self, request: web.Request) -> web.Response:
        if request.path.endswith("/token"):
            return web.json_response({"access_token": "opaque", "expires_in": 3600})
        self.requests += 1
        if "delta" in request.path:
            return self.refusal()
        query = request.query
        skip, top = int(query.get("$skip", "0")), int(query["$top"])
        asked = set(range(skip, min(skip + top, 40)))
        if self.nameless & asked or (self.corrupt & asked and "subject" in query["$select"]):
            return self.refusal()
        rows = [{"id": f"m{n}", "subject": str(n)} for n in sorted(asked)]
        more = {}
        if skip + top < 40:
            link = request.url.update_query({"$skip": str(skip + top)})
            more = {"@odata.nextLink": str(link)}
        return web.json_response({"value": rows, **more})

    def refusal(self) -> web.Response:
        error = {"code": "ErrorContentConversionFailed", "message": "corrupt"}
        return web.json_response({"error": error}, status=self.status)


@pytest.fixture
def listed(tmp_path: Path) -> Any:
    def listing(folder: Folder, cursor: str | None = None) -> list[Page]:
        (tmp_path / "secret").write_text("s")
        with small_server(folder.serve) as url:
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
            try:
                return list(source.pages(ALICE, INBOX, cursor))
            finally:
                source.close()

    return listing


class TestCorruptPages:
    def test_the_others_are_listed_and_the_corrupt_ones_named(self, listed: Any) -> None:
        folder = Folder(corrupt={7, 23}, nameless={31})

        pages = listed(folder)

        changes = [change for page in pages for change in page.changes]
        healthy = {c.id for c in changes if isinstance(c, Item) and "subject" in c.facts}
        unlisted = {c.id for c in changes if isinstance(c, Item) and "unlisted" in c.facts}
        gaps = [c for c in changes if isinstance(c, Gap)]
        assert healthy == {f"m{n}" for n in range(40)} - {"m7", "m23", "m31"}
        assert unlisted == {"m7", "m23"}
        assert [(g.id, g.kind) for g in gaps] == [("box#31", "unreadable")]
        assert [pages[0].restart, pages[-1].last] == [True, True]
        assert folder.requests < 90

    def test_a_healthy_folder_behind_a_broken_delta_is_listed_plainly(self, listed: Any) -> None:
        folder = Folder(corrupt=set(), nameless=set())

        pages = listed(folder)

        assert sum(len(page.changes) for page in pages) == 40
        assert folder.requests <= 4


class TestRebuilding:
    def test_a_signed_message_keeps_its_payload(self, tmp_path: Path) -> None:
        with (
            SimulatedTenant(seed=7, people=1, messages=4) as tenant,
            open_desk(tenant, tmp_path) as desk,
        ):
            amelia = desk.account("amelia")
            box = tenant.state.user("amelia").mailbox
            rebuilt = [
                (
                    result,
                    next(m for m in box.messages.values() if box.message_id(m) == result.item.id),
                )
                for folder in desk.source.collections(amelia, Service.MAIL)
                if isinstance(folder, Collection)
                for result in desk.fetch(amelia, folder)
                if getattr(result, "note", "") == "rebuilt-from-json"
            ]

        assert rebuilt
        for result, truth in rebuilt:
            made = email.message_from_bytes(bytes_of(result), policy=email.policy.compat32)
            sent = email.message_from_bytes(truth.content.mime(), policy=email.policy.compat32)
            assert made["Subject"] == sent["Subject"]
            assert made["Message-ID"] == sent["Message-ID"]
            assert not made.defects
            if "pkcs7-mime" in sent.get_content_type():
                assert made.get_content_type() == "application/pkcs7-mime"
                assert made.get_payload(decode=True) == sent.get_payload(decode=True)

    def test_base64_is_the_same_however_it_arrives(self) -> None:
        data = bytes(range(256)) * 9
        whole = MemoryDraft()
        for step in (1, 56, 57, 58, 4000):
            whole.restart()
            coder = _Base64Draft(whole)
            for start in range(0, len(data), step):
                coder.write(data[start : start + step])
            coder.finish()

            assert base64.b64decode(bytes(whole.data)) == data
            assert max(len(line) for line in bytes(whole.data).split(b"\r\n")) <= 76


class TestPages:
    def test_an_oversized_page_is_cut_and_a_crash_between_repeats_work(self) -> None:
        changes: list[Change] = [Gone(str(n)) for n in range(2 * LARGEST_PAGE + 5)]
        before, after = Cursor("before"), Cursor("after")

        pages = list(in_pages(changes, before, after, restart=True, last=True))

        assert [len(page.changes) for page in pages] == [LARGEST_PAGE, LARGEST_PAGE, 5]
        assert [page.cursor for page in pages] == [before.pack(), before.pack(), after.pack()]
        assert [page.restart for page in pages] == [True, False, False]
        assert [page.last for page in pages] == [False, False, True]

    def test_an_empty_page_is_still_a_page(self) -> None:
        (page,) = in_pages([], Cursor("a"), Cursor("b"), restart=True, last=True)

        assert page == Page((), Cursor("b").pack(), restart=True, last=True)

    @given(
        st.builds(Cursor, st.text(), st.text(), st.integers(), st.integers(), st.text(), st.text())
    )
    def test_a_cursor_survives_the_catalog(self, cursor: Cursor) -> None:
        assert Cursor.unpack(cursor.pack()) == cursor

    @given(st.text())
    def test_no_text_breaks_the_cursor(self, text: str) -> None:
        Cursor.unpack(text)


class TestSelection:
    @pytest.mark.parametrize(
        ("patterns", "name", "taken"),
        [
            (("*",), "a@x.org", True),
            (("*@x.org",), "a@y.org", False),
            (("*", "!b*"), "b@x.org", False),
            (("!b*",), "a@x.org", True),
            (("!b*", "b@x.org"), "b@x.org", False),
            (("A@X.org",), "a@x.org", True),
            (("*",), "contoso.sharepoint.com/sites/team", True),
        ],
    )
    def test_excludes_win(self, patterns: tuple[str, ...], name: str, taken: bool) -> None:
        assert AccountFilter(patterns).takes(name) is taken

    def test_a_site_goes_by_host_and_path(self) -> None:
        assert site_address("https://Contoso.SharePoint.com/sites/Team/") == (
            "contoso.sharepoint.com/sites/team"
        )
        assert site_address("http://[") == ""
