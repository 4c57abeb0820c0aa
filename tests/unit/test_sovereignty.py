"""Who runs a place is known, said with its source, and refused where the law is one that cuts off."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from backupd.config import Config, TargetSection
from backupd.errors import ConfigError
from backupd.jobs.restores import destination
from backupd.law import sovereignty
from backupd.law.acceptance import (
    as_told,
    of_target,
    require,
    require_storages,
    standings,
    told,
)
from backupd.law.sovereignty import Operator, known_operators
from targets.presets import presets

KNOWN = known_operators()

NAMED = {
    "s3:https://s3.gra.io.cloud.ovh.net/bucket": "ovhcloud",
    "s3:https://oos.eu-west-2.outscale.com/bucket": "outscale",
    "s3:https://ns.s3.fr1.cloud-temple.com/bucket": "cloud-temple",
    "s3:s3.fr-par.scw.cloud/bucket": "scaleway",
    "s3:https://storage.s3nsapis.fr/bucket": "s3ns",
    "s3:https://objectstorage.eu-west-2.numspot.com/bucket": "numspot",
    "s3:https://oss.eu-west-0.prod-cloud-ocb.orange-business.com/b": "orange-business",
    "s3:https://bucket.fsn1.your-objectstorage.com": "hetzner",
    "sftp:u123@u123.your-storagebox.de:/home": "hetzner",
    "sftp://u123@u123.your-storagebox.de:23/home": "hetzner",
    "rest:https://user:secret@x.repo.borgbase.com:443/": "borgbase",
    "s3:https://s3.us-east-1.amazonaws.com/bucket": "aws",
    "s3:https://s3.eusc-de-east-1.amazonaws.eu/bucket": "aws",
    "s3:https://s3.cn-north-1.amazonaws.com.cn/bucket": "aws-china",
    "s3:https://abc.r2.cloudflarestorage.com/bucket": "cloudflare",
    "s3:https://s3.eu-central-1.wasabisys.com/bucket": "wasabi",
    "s3:https://k8p3.fra.idrivee2-32.com/bucket": "idrive",
    "s3:https://oss-eu-central-1.aliyuncs.com/bucket": "alibaba",
    "b2:bucket:path": "backblaze",
    "azure:container:/": "microsoft",
    "gs:bucket:/": "google",
}


def section(**more: object) -> TargetSection:
    return TargetSection.model_validate({"name": "new", **more})


def configuration(tmp_path: Path, storages: dict[str, dict[str, object]], **more: object) -> Config:
    stored = {name: {"password_file": tmp_path / "pw", **each} for name, each in storages.items()}
    return Config.model_validate({"storage": stored, **more})


@pytest.mark.parametrize(("location", "operator"), NAMED.items())
def test_an_endpoint_names_its_operator(location: str, operator: str) -> None:
    place = KNOWN.of_location(location)
    assert place.operator is not None
    assert place.operator.id == operator
    assert "secret" not in told(place)


@pytest.mark.parametrize(
    ("location", "kind"),
    [
        ("/srv/backupd", "here"),
        ("local:/srv/backupd", "here"),
        ("rest:http://127.0.0.1:8000/x", "here"),
        ("s3:http://[::1]:9000/bucket", "here"),
        ("rest:https://192.168.1.20:8000/x", "private"),
        ("sftp:backup@nas:/x", "private"),
        ("rest:https://backup.example.org/x", "unknown"),
        ("s3:https://notovh.net.example.org/x", "unknown"),
        ("s3:https://evilamazonaws.com/x", "unknown"),
        ("rclone:mydrive:restored", "untold"),
        ("swift:container:/", "untold"),
        ("s3:https://[broken/x", "untold"),
    ],
)
def test_what_an_address_does_not_tell_is_never_called_fine(location: str, kind: str) -> None:
    assert KNOWN.of_location(location).kind == kind


def test_every_claim_has_a_source_and_a_date() -> None:
    operators = sovereignty._known()
    assert len({each.id for each in operators}) == len(operators)
    for operator in operators:
        for fact in (operator, *operator.exposures, operator.secnumcloud):
            assert fact is None or (fact.source and fact.as_of)
        assert operator.hosts or operator.schemes
        if operator.home == "FR" and operator.providers == ():
            assert operator.secnumcloud, operator.id


def test_the_providers_that_backupd_knows_have_an_operator() -> None:
    open_to_all = {"imap", "caldav", "carddav", "dav", "webdav", "rclone", "folder", "custom"}
    own = {"nextcloud", "stalwart", "sogo", "zimbra", "radicale", "cyrus", "open-xchange", "opendesk"}  # fmt: skip
    for word in set(presets()) - open_to_all - own:
        assert of_target(section(type=word), KNOWN).places, word


@pytest.mark.parametrize("named", [{"type": "microsoft365"}, {"type": "imap", "host": "imap.gmail.com"}])  # fmt: skip
def test_a_restore_under_american_law_needs_a_word(named: dict[str, str]) -> None:
    standing = of_target(section(**named), KNOWN)
    with pytest.raises(ConfigError) as raised:
        require(standing, "--set accept_jurisdiction=")
    assert "--set accept_jurisdiction=US" in raised.value.hint
    require(of_target(section(**named, accept_jurisdiction="US"), KNOWN), "")


def test_microsofts_technology_in_europe_is_refused_and_googles_is_told() -> None:
    for host in ("mail.bleucloud.fr", "mail.deloscloud.de"):
        standing = of_target(section(type="imap", host=host), KNOWN)
        with pytest.raises(ConfigError, match="Microsoft's technology"):
            require(standing, "")
    assert not KNOWN.of_location("s3:https://storage.s3nsapis.fr/x").laws
    assert "Google" in told(KNOWN.of_location("s3:https://storage.s3nsapis.fr/x"))


def test_an_american_region_of_a_european_operator_is_refused() -> None:
    assert KNOWN.of_location("s3:https://s3.us-central-1.ionoscloud.com/x").laws == {"US"}
    assert not KNOWN.of_location("s3:https://s3.eu-central-3.ionoscloud.com/x").laws
    assert KNOWN.of_location("s3:https://s3.us-east-va.io.cloud.ovh.us/x").laws == {"US"}


def test_one_part_under_american_law_is_enough_to_refuse() -> None:
    mixed = section(
        type="proton", files={"type": "webdav", "url": "https://x.blob.core.windows.net/y"}
    )
    assert [each.operator.id for each in of_target(mixed, KNOWN).refused if each.operator] == [
        "microsoft"
    ]
    custom = section(type="custom", mail={"type": "microsoft365-mail"})
    assert of_target(custom, KNOWN).refused


def test_everything_that_is_refused_is_listed_at_once(tmp_path: Path) -> None:
    config = configuration(
        tmp_path,
        {
            "one": {"repository": "s3:https://s3.amazonaws.com/x"},
            "two": {"repository": "b2:x"},
            "three": {"repository": "azure:x", "accept_jurisdiction": ["US"]},
            "four": {"repository": "/srv"},
        },
        targets={"gone": {"type": "imap", "host": "outlook.office365.com"}},
    )
    with pytest.raises(ConfigError) as raised:
        require_storages(config)
    said = str(raised.value)
    assert all(word in said for word in ("storage.one", "storage.two", "targets.gone"))
    assert "storage.three" not in said
    assert "storage.four" not in said


def test_a_refused_target_does_not_stop_the_backup(tmp_path: Path) -> None:
    config = configuration(
        tmp_path, {"one": {"repository": "/srv"}}, targets={"g": {"type": "imap", "host": "imap.gmail.com"}}
    )  # fmt: skip
    require_storages(config)
    with pytest.raises(ConfigError, match=r"targets\.g"):
        destination(config, "g", {})
    assert destination(config, "g", {"accept_jurisdiction": "US"})[1] == "g"


def test_acceptance_is_for_one_law_only(tmp_path: Path) -> None:
    config = configuration(
        tmp_path, {"one": {"repository": "s3:https://oss.aliyuncs.com/x", "accept_jurisdiction": ["US"]}}
    )  # fmt: skip
    with pytest.raises(ConfigError, match="China"):
        require_storages(config)


def test_an_own_file_extends_the_list_and_wins(tmp_path: Path) -> None:
    own = tmp_path / "operators.toml"
    own.write_text(
        """
[[operator]]
id = "rack"
name = "Our rack"
entity = "Example SAS"
home = "FR"
hosts = ["backup.example.org"]
remotes = ["mydrive"]
confidence = "source"
source = "contract"
as_of = 2026-03-01
[[operator]]
id = "ovhcloud"
name = "OVH, as our lawyers see it"
entity = "OVH SAS"
home = "FR"
hosts = ["cloud.ovh.net"]
confidence = "source"
source = "opinion of 2026-03-01"
as_of = 2026-03-01
"""
    )
    config = configuration(
        tmp_path,
        {
            "rack": {"repository": "rest:https://backup.example.org/x"},
            "drive": {"repository": "rclone:mydrive:x"},
            "ovh": {"repository": "s3:https://s3.gra.io.cloud.ovh.net/x"},
        },
        operators_file=own,
    )
    names = [place.operator for held in standings(config) for place in as_told(held)]
    assert names == ["Our rack", "Our rack", "OVH, as our lawyers see it"]


@pytest.mark.parametrize(
    "text", ["", "nonsense", "operator = 3", '[[operator]]\nid = "x"', "[[operator]]\nhome = 'fr'"]
)
def test_an_own_file_that_cannot_be_used_is_told(tmp_path: Path, text: str) -> None:
    own = tmp_path / "operators.toml"
    own.write_text(text)
    with pytest.raises(ConfigError, match="operators_file"):
        known_operators(own)
    with pytest.raises(ConfigError, match="operators_file"):
        known_operators(tmp_path / "absent.toml")


def test_facts_are_frozen() -> None:
    text = Path(sovereignty.__file__).with_name("operators.toml").read_text(encoding="utf-8")
    first = Operator.model_validate(tomllib.loads(text)["operator"][0])
    with pytest.raises(ValueError, match="frozen"):
        first.home = "XX"
