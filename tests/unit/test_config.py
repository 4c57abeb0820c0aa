"""The example configuration is true: every option once, with the default that it states."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from backupd import config
from backupd.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def options(text: str) -> dict[str, Any]:
    """The file with its commented options taken in, each of which excludes another."""
    lines = [
        line.removeprefix("# ")
        if " = " in line
        and line.startswith("# ")
        and line[2].islower()
        and line[2:].split(" = ")[0].isidentifier()
        else line
        for line in text.splitlines()
    ]
    return tomllib.loads("\n".join(lines))


def test_the_example_is_a_valid_configuration() -> None:
    loaded = config.load(EXAMPLE)
    assert loaded.sources["contoso"].tenant_id
    assert loaded.storage["primary"].repository


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (config.Config, ()),
        (config.Limits, ("limits",)),
        (config.Schedule, ("schedule",)),
        (config.Guard, ("guard",)),
        (config.Alerts, ("alerts",)),
        (config.Metrics, ("metrics",)),
        (config.Microsoft365, ("sources", "contoso")),
        (config.Imap, ("sources", "legacy")),
        (config.Storage, ("storage", "primary")),
        (config.TargetSection, ("targets", "newhome")),
    ],
)
def test_every_option_is_in_the_example_with_its_default(
    model: type[BaseModel], place: tuple[str, ...]
) -> None:
    table = options(EXAMPLE.read_text())
    for part in place:
        table = table[part]
    named = set(model.model_fields) - {"name"}
    assert named <= set(table)
    made = config.load(EXAMPLE)
    plain: Any = made
    for part in place:
        plain = plain[part] if isinstance(plain, dict) else getattr(plain, part)
    for key, field in model.model_fields.items():
        if field.default is None or field.is_required() or key == "name" or field.default_factory:
            continue
        if not isinstance(field.default, BaseModel):
            assert getattr(plain, key) == field.default, key


def test_secrets_come_from_a_systemd_credential_when_no_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = EXAMPLE.read_text().replace(
        'client_secret_file = "/etc/backupd/secrets/client_secret"\n', ""
    )
    (tmp_path / "config.toml").write_text(text)
    (tmp_path / "sources.contoso.client_secret").write_text("from systemd\n")
    source = config.load(tmp_path / "config.toml").sources["contoso"]
    with pytest.raises(ConfigError, match="no client secret"):
        _ = source.client_secret
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert source.client_secret == "from systemd"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('graph_url = "http://graph.example"', "must begin with https://"),
        ('services = ["mial"]', "services"),
        ('auth = "magic"', "auth"),
        ('key_file = "/x"', "certificate_file and key_file go together"),
    ],
)
def test_values_that_cannot_work_are_refused(tmp_path: Path, line: str, complaint: str) -> None:
    (tmp_path / "config.toml").write_text(
        '[sources.a]\ntype = "microsoft365"\ntenant_id = "t"\nclient_id = "c"\n' + line + "\n"
    )
    with pytest.raises(ConfigError, match=complaint):
        config.load(tmp_path / "config.toml")


def test_a_section_name_that_could_leave_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('[storage."../x"]\nrepository = "/r"\n')
    with pytest.raises(ConfigError, match="section name"):
        config.load(tmp_path / "config.toml")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("1d", 86400)]
)
def test_a_duration_reads_as_people_write_it(text: str, seconds: float) -> None:
    assert config.Schedule(sync=text).sync == seconds  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "5", "5 minutes", "-5m", "0s", "m", "1h 5", "nan"])
def test_a_duration_that_says_nothing_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="sync"):
        config.Schedule(sync=text)  # type: ignore[arg-type]


def test_quiet_hours_may_pass_midnight() -> None:
    night = config.Schedule(quiet_hours="22:00-06:00")
    assert [night.is_quiet(hour * 60) for hour in (21, 22, 0, 5, 6)] == [
        False,
        True,
        True,
        True,
        False,
    ]
    assert not config.Schedule().is_quiet(0)
    with pytest.raises(ValueError, match="quiet hours"):
        config.Schedule(quiet_hours="22-6")


def test_channels_come_from_the_file_and_the_credential_and_are_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alerts.urls").write_text("# mine\njson://u:hush@127.0.0.1/\n\nntfy://topic\n")
    made = config.Alerts(urls=("ntfy://topic", "json://v:hush@h/"), ping_url="https://h/hush/")
    assert made.channels() == ("ntfy://topic", "json://v:hush@h/")
    assert "hush" not in repr(made)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert config.Alerts().channels() == ("json://u:hush@127.0.0.1/", "ntfy://topic")
    named = config.Alerts(urls_file=tmp_path / "none")
    with pytest.raises(ConfigError, match="channels of"):
        named.channels()
