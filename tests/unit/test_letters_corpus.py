"""Every real mail can be made acceptable, and stays so."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from parcels import parcel, shelf

from backupd.model import Service
from targets.letters import BRIDGE, PLAIN, Rules, prepare

ABOUT = {"received": "2024-03-05T06:07:08Z"}


@pytest.mark.parametrize("rules", [PLAIN, BRIDGE], ids=["plain", "bridge"])
@pytest.mark.parametrize("crlf", [False, True], ids=["raw", "crlf"])
def test_every_real_mail_passes(corpus: Path, rules: Rules, crlf: bool) -> None:
    where = shelf(Service.MAIL, "Inbox")
    for path in sorted((corpus / "mail").iterdir()):
        data = path.read_bytes()
        if crlf:
            data = data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        with prepare(
            parcel(where, path.name, data, about=ABOUT), io.BytesIO(data), rules
        ) as letter:
            got = letter.content.read()
        if not letter.repairs:
            assert got == data
        with prepare(parcel(where, path.name, got, about=ABOUT), io.BytesIO(got), rules) as again:
            assert again.repairs == (), path.name
