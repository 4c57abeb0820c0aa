"""Providers are data: every one of them can be reached with what its lines ask for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import targets
from backupd.config import Part, TargetSection
from backupd.errors import ConfigError
from backupd.model import Service
from targets.presets import STATUS, Request, endpoints, presets

PROVIDERS = sorted(word for word, preset in presets().items() if preset.parts)
REQUEST = Request("alice@example.org", Path("/nowhere"))


def section(word: str, **more: object) -> TargetSection:
    wanted = {"sync_user_id": "AB12345", "drive_id": "77", "dav_host": "dav.example.org", "files_host": "files.example.org"}  # fmt: skip
    given = {"name": "new", "type": word, "values": wanted, "host": "example.org", **more}
    return TargetSection.model_validate(given)


@pytest.mark.parametrize("word", PROVIDERS)
def test_every_preset_becomes_complete_endpoints(word: str) -> None:
    url = (
        {"url": "https://dav.example.org/"}
        if word in {"caldav", "carddav", "dav", "webdav"}
        else {}
    )
    for service, endpoint in endpoints(section(word, **url), REQUEST).items():
        text = f"{endpoint.host} {endpoint.url} {endpoint.username}"
        assert "{" not in text
        assert endpoint.type in targets.TAKES[service]
        if endpoint.type in {"caldav", "carddav", "webdav", "nextcloud"}:
            assert endpoint.url.startswith("https://")
        if endpoint.type == "imap":
            assert endpoint.host
            assert endpoint.port


def test_every_part_says_how_sure_it_is_and_calendars_say_how_they_keep_quiet() -> None:
    for preset in presets().values():
        for service, part in preset.parts.items():
            assert part["status"] in STATUS, preset.id
            if service is Service.CALENDAR and part["type"] != "folder":
                assert part["scheduling"] in {"none", "sabre", "nextcloud", "agent", "cyrus", "strip", "file"}  # fmt: skip


def test_unknown_provider_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="no provider") as caught:
        endpoints(section("hotmail"), REQUEST)
    assert "infomaniak" in caught.value.hint


def test_what_a_provider_needs_beyond_is_asked_for_by_name() -> None:
    with pytest.raises(ConfigError, match="sync_user_id") as caught:
        endpoints(section("infomaniak", values={"drive_id": "1"}), REQUEST)
    assert 'values = { sync_user_id = "…" }' in caught.value.hint


def test_a_provider_without_any_way_in_says_what_to_do_instead() -> None:
    with pytest.raises(ConfigError) as caught:
        endpoints(section("tuta"), REQUEST)
    assert "mbox" in caught.value.hint


def test_the_part_wins_over_the_section_and_that_over_the_preset(tmp_path: Path) -> None:
    (tmp_path / "whole").write_text("general")
    (tmp_path / "dav").write_text("for dav")
    found = endpoints(
        section(
            "mailbox-org",
            password_file=tmp_path / "whole",
            connections=5,
            calendar=Part(password_file=tmp_path / "dav", scheduling="agent"),
        ),
        REQUEST,
    )
    assert found[Service.MAIL].secret() == "general"
    assert found[Service.CALENDAR].secret() == "for dav"
    assert (found[Service.CALENDAR].scheduling, found[Service.CALENDAR].connections) == ("agent", 5)
    assert found[Service.MAIL].host == "imap.mailbox.org"


def test_an_account_never_breaks_out_of_an_address() -> None:
    found = endpoints(section("nextcloud"), Request("a/../b?c#d@example.org", Path("/nowhere")))
    url = found[Service.FILES].url
    assert re.fullmatch(r"https://example\.org/remote\.php/dav/files/[^/?#]+/", url)


def test_no_password_anywhere_is_told_when_it_is_needed() -> None:
    with pytest.raises(ConfigError, match="no password for mail") as caught:
        endpoints(section("migadu"), REQUEST)[Service.MAIL].secret()
    assert "password_file" in caught.value.hint


def test_a_provider_says_which_of_its_parts_are_confirmed() -> None:
    told = {each.subject: each for each in targets.about(section("infomaniak"))}
    assert told["Infomaniak kSuite mail"].level == "ok"
    assert told["Infomaniak kSuite calendar"].level == "warning"
    assert "only" in told["Infomaniak kSuite calendar"].message


def test_parts_make_a_provider_that_nobody_knows() -> None:
    made = section(
        "custom",
        mail=Part(type="imap", host="mail.example.net", port=143, security="starttls"),
        files=Part(type="folder", path=Path("/srv/{account}")),
    )
    found = endpoints(made, REQUEST)
    assert set(found) == {Service.MAIL, Service.FILES}
    assert (found[Service.MAIL].host, found[Service.MAIL].port) == ("mail.example.net", 143)
    assert found[Service.FILES].path == Path("/srv/alice@example.org")
    with pytest.raises(ConfigError, match="cannot take"):
        targets.connect(section("custom", mail=Part(type="webdav", url="https://x/")), REQUEST)
