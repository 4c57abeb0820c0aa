"""Drives: everyday files, hostile names, and what a drive cannot hand out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from backupd.demo.chance import Chance
from backupd.demo.drive import BytesContent
from backupd.demo.letters import pdf, png
from backupd.demo.moments import ago

if TYPE_CHECKING:
    from backupd.demo.drive import Drive

_EVERYDAY = (
    "Cases/Novak/Statement of claim.pdf",
    "Cases/Novak/Evidence/photo 1.png",
    "Cases/Novak/Evidence/photo 2.png",
    "Cases/Harbour workers/Löhne 2025.csv",
    "Cases/Harbour workers/Zeznanie świadka.txt",
    "Cases/Harbour workers/Μάρτυρες.txt",
    "Office/Rent/2026/11/receipt.pdf",
    "Office/Templates/Vollmacht.txt",
    "notes.txt",
)

HOSTILE_NAMES = (
    "ends with a dot.",
    "ends with a space ",
    "Twin.txt",
    "twin.TXT",
    "CON",
    "aux.txt",
    "100%25 done %2F.txt",
    "right\u202etxt.exe",
    "caf\u00e9.txt",
    "cafe\u0301.txt",
    ".hidden",
    "~$lock.docx",
    "-rf",
    "new\nline.txt",
    "bell\x07.txt",
    "back\\slash.txt",
    "قضية ١٢.txt",
    "x" * 251 + ".txt",
)
"""File names that a mirror must survive. A slash alone is impossible in a drive."""

_DEEP = 24


def write_drive(drive: Drive, *, thorough: bool) -> None:
    """Fill a drive; with `thorough`, one of everything that gives trouble."""
    for number, path in enumerate(_EVERYDAY):
        changed = ago(days=number, hours=number * 3)
        item = drive.put_file(path, BytesContent(_bytes(drive, path)), modified=changed)
        item.created = changed - timedelta(days=30)
    if thorough:
        _hostile(drive)
        _troubled(drive)


def _bytes(drive: Drive, path: str) -> bytes:
    chance = Chance(drive.id, path)
    if path.endswith(".pdf"):
        return pdf(path)
    if path.endswith(".png"):
        red, green, blue = chance.octets(3)
        return png(200 + chance.below(200), 150, (red, green, blue))
    return (f"{path}\r\n" + "Σημειώσεις, zażółć, Größe\r\n" * (1 + chance.below(400))).encode()


def _hostile(drive: Drive) -> None:
    place = drive.make_folders("Odd names")
    for name in HOSTILE_NAMES:
        drive.add(name, place, content=BytesContent(name.encode()))
    for name in ("Folder.", "FOLDER.", ".. "):
        drive.add("inside.txt", drive.add(name, place), content=BytesContent(b"inside\n"))
    deep = "/".join(f"Level {level:02} of a deep path" for level in range(_DEEP))
    drive.put_file(f"{deep}/bottom.txt", BytesContent(b"the bottom\n"))
    drive.make_folders("Empty folder")


def _troubled(drive: Drive) -> None:
    drive.put_file("empty.txt", BytesContent(b""))
    drive.put_file("Scans/scan.tif", BytesContent(Chance(drive.id, "tif").octets(3_000_000)))
    promised = BytesContent(b"PK\x03\x04" + Chance("docx").octets(12_000))
    rewritten = BytesContent(promised.data + b"<custom properties added by SharePoint/>")
    drive.put_file("Brief (rewritten).docx", promised, delivered=rewritten)
    drive.put_file("invoice.exe", BytesContent(b"MZ not really a virus"), malware=True)
    drive.add("Team notebook", drive.item("root"), facets={"package": {"type": "oneNote"}})
    drive.add("Shared with me", drive.item("root"), facets={"remoteItem": _remote(drive)})
    history = drive.put_file("History.txt", BytesContent(b"first\n"))
    for text in (b"first\nsecond\n", b"first\nsecond\nthird\n"):
        drive.put_file("History.txt", BytesContent(text))
    history.modified = ago(days=2)


def _remote(drive: Drive) -> dict[str, object]:
    where = {"driveId": "b!someone-elses-drive", "id": "01REMOTE", "driveType": "business"}
    return {
        "id": "01REMOTEITEM",
        "name": "Shared with me",
        "folder": {"childCount": 3},
        "parentReference": where,
        "webUrl": f"https://{drive.host}/shared",
    }
