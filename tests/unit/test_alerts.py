"""Alerts reach a person once, over whatever channel works, and never hold anything up."""

from __future__ import annotations

import json
import logging
import socket
import time
from pathlib import Path

import pytest
from servers.receivers import hanging, receiver
from servers.smtp import letterbox

from backupd.alerts.channels import channels, depends_on_microsoft, is_microsoft
from backupd.alerts.sending import Alerts, Message
from backupd.config import Alerts as Section

NEWS = Message(
    "case:alice", "alice may have been cut off", "What happened\n  Refused.\n", "failure"
)


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def alerts(folder: Path, *urls: str, patience: float = 10.0, **more: object) -> Alerts:
    section = Section.model_validate({"urls": urls, **more})
    return Alerts(section, folder, patience=patience, clock=Clock())


def refusing() -> str:
    """A channel where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"json://user:hush-hush@127.0.0.1:{probe.getsockname()[1]}/hidden-path"


def test_a_message_arrives_with_its_subject_and_body(tmp_path: Path) -> None:
    with receiver() as post:
        assert alerts(tmp_path, post.url).tell(NEWS)
    (told,) = post.told
    assert told["title"] == NEWS.subject
    assert "Refused." in told["message"]
    assert told["type"] == "failure"


def test_a_message_arrives_by_mail(tmp_path: Path) -> None:
    with letterbox() as box:
        url = f"mailto://127.0.0.1:{box.port}?to=me@example.net&from=backupd@example.net&smtp=127.0.0.1&mode=insecure"
        assert alerts(tmp_path, url).tell(NEWS)
    (letter,) = box.letters
    assert letter["Subject"] == NEWS.subject
    assert box.recipients == ["me@example.net"]
    assert "Refused." in letter.get_body(("plain", "html")).get_content()  # type: ignore[union-attr]


def test_a_mail_server_that_refuses_is_told_apart(tmp_path: Path) -> None:
    with letterbox(refuse=True) as box:
        url = f"mailto://127.0.0.1:{box.port}?to=me@example.net&from=backupd@example.net&smtp=127.0.0.1&mode=insecure"
        (answer,) = alerts(tmp_path, url).test()
    assert not answer.taken
    assert answer.channel == "1 (mailto)"


def test_a_channel_that_hangs_keeps_neither_the_others_nor_us(tmp_path: Path) -> None:
    with hanging() as stuck, receiver() as post:
        began = time.monotonic()
        answers = alerts(tmp_path, stuck, post.url, refusing(), patience=1.5).test()
        assert time.monotonic() - began < 4
    assert [each.taken for each in answers] == [False, True, False]
    assert "in time" in answers[0].why
    assert post.subjects[0].endswith("this is a test")


def test_nobody_waits_long_again_for_a_channel_that_hung(tmp_path: Path) -> None:
    with hanging() as stuck, receiver() as post:
        made = alerts(tmp_path, stuck, post.url, patience=3)
        made.tell(NEWS)
        began = time.monotonic()
        assert made.tell(Message("other", "other", "other"))
        assert time.monotonic() - began < 2.9


def test_the_same_matter_is_told_once_whatever_is_restarted(tmp_path: Path) -> None:
    with receiver() as post:
        assert alerts(tmp_path, post.url).tell(NEWS)
        assert not alerts(tmp_path, post.url).tell(NEWS)
        again = alerts(tmp_path, post.url, repeat="6h")
        again._clock.now += 6 * 3600 + 1  # type: ignore[attr-defined]
        assert again.tell(NEWS)
    assert len(post.told) == 2


def test_what_nobody_took_is_tried_again(tmp_path: Path) -> None:
    with receiver() as post:
        post.status = 503
        assert not alerts(tmp_path, post.url).tell(NEWS)
        post.status = 200
        assert alerts(tmp_path, post.url).tell(NEWS)


def test_what_is_over_is_told_at_once_when_it_comes_back(tmp_path: Path) -> None:
    with receiver() as post:
        made = alerts(tmp_path, post.url)
        made.tell(NEWS)
        made.over("case:")
        assert made.tell(NEWS)


def test_a_memory_that_is_damaged_or_cannot_be_kept_silences_nothing(tmp_path: Path) -> None:
    (tmp_path / "alerts.json").write_text("{broken")
    with receiver() as post:
        assert alerts(tmp_path, post.url).tell(NEWS)
        (tmp_path / "file").write_text("")
        assert alerts(tmp_path / "file" / "nowhere", post.url).tell(NEWS)
    assert json.loads((tmp_path / "alerts.json").read_text())["told"][NEWS.matter]["subject"]
    assert (tmp_path / "alerts.json").stat().st_mode & 0o077 == 0


def test_no_address_of_a_channel_is_ever_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    with hanging() as stuck, receiver() as post:
        made = alerts(
            tmp_path, stuck, post.url, refusing(), "nonsense://hush-hush", "hush-hush",
            patience=1.0, ping_url=f"http://127.0.0.1:{post.port}/hush-hush",
        )  # fmt: skip
        made.tell(NEWS)
        made.test()
        post.status = 500
        made.ping(good=True)
        assert "hush-hush" not in repr(made.channels())
    told = caplog.text + "".join(capfd.readouterr())
    assert "did not take" in told
    assert "HTTP 500" in told
    assert "hush-hush" not in told
    assert "hidden-path" not in told
    assert "hush-hush" not in (tmp_path / "alerts.json").read_text()


def test_the_dead_mans_switch_hears_of_good_and_of_bad_cycles(tmp_path: Path) -> None:
    with receiver() as post:
        made = alerts(tmp_path, ping_url=f"http://127.0.0.1:{post.port}/ping/uuid/")
        assert made.ping(good=True)
        assert made.ping(good=False)
    assert post.pings == ["/ping/uuid", "/ping/uuid/fail"]
    assert not made.ping(good=True)
    assert not alerts(tmp_path).ping(good=True)


def test_hostile_text_cannot_break_out_of_a_subject(tmp_path: Path) -> None:
    with letterbox() as box:
        url = f"mailto://127.0.0.1:{box.port}?to=me@example.net&from=backupd@example.net&smtp=127.0.0.1&mode=insecure"
        nasty = Message("m", "alice\r\nBcc: eve@example.org\x1b[31m" + "x" * 500, "\x00body <b>")
        assert alerts(tmp_path, url).tell(nasty)
    assert box.recipients == ["me@example.net"]
    assert box.letters[0]["Bcc"] is None


MICROSOFT = [
    "mailtos://user:pass@outlook.com",
    "mailto://user:pass@example.net?to=me@hotmail.fr",
    "mailto://user:pass@example.net?to=me@contoso.example",
    "mailtos://user:pass@example.net?to=me@example.org&smtp=smtp.office365.com",
    "mailtos://user:pass@contoso.example?to=me@example.org",
    "msteams://team/a@b/c/d",
    "workflow://prod-1.westeurope.logic.azure.com:443/workflow/signature",
    "https://example.webhook.office.com/webhookb2/a@b/IncomingWebhook/c/d",
    "https://prod-58.westeurope.logic.azure.com:443/workflows/643e/triggers/manual/paths/invoke?sig=KODu",
    "jsons://app.azurewebsites.net/hook",
    "o365://tenant:acct@b.com/12345678-1234-1234-1234-123456789012/secret/to@x.com",
    "windows://",
]
ELSEWHERE = [
    "ntfys://ntfy.example.org/backup",
    "mailtos://user:pass@example.net?to=me@example.net",
    "mailtos://user:pass@example.net?to=me@example.net,you@contoso.example",
    "json://contoso.example/hook",
    "jsons://live.example.org/hook",
    "matrixs://user:pass@matrix.example.org/#room",
]


@pytest.mark.parametrize("url", MICROSOFT)
def test_channels_that_die_with_microsoft_are_known(url: str) -> None:
    assert is_microsoft(url, {"Contoso.example"})
    (finding,) = depends_on_microsoft([url], {"contoso.example"})
    assert finding.level == "warning"
    assert "every channel depends on Microsoft" in finding.message


@pytest.mark.parametrize("url", ELSEWHERE)
def test_one_channel_elsewhere_is_enough(url: str) -> None:
    assert not is_microsoft(url, {"contoso.example"})
    assert [each.level for each in depends_on_microsoft([url, *MICROSOFT], {"contoso.example"})] == ["ok"]  # fmt: skip


def test_no_channel_and_unknown_ones_are_findings_without_their_address() -> None:
    (nobody,) = depends_on_microsoft([])
    assert nobody.level == "warning"
    assert "nobody is told" in nobody.message
    unknown, _ = depends_on_microsoft(["nonsense://hush-hush"])
    assert unknown.level == "error"
    assert "hush" not in f"{unknown}"
    assert [each.label for each in channels(["ntfy://a", "hush-hush"])] == ["1 (ntfy)", "2 (unknown)"]  # fmt: skip
