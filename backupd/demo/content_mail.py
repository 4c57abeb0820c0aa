"""The everyday mail of the office, and folders to keep it in."""

# ruff: noqa: RUF001 - the people here write in six languages

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from backupd.demo.chance import Chance
from backupd.demo.content_people import OUTSIDERS
from backupd.demo.letters import Enclosure, Letter, pdf, png
from backupd.demo.mailbox import FIRST_FOLDER, StoredContent
from backupd.demo.moments import ago

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from backupd.demo.directory import User
    from backupd.demo.mailbox import Mailbox

_TEXTS = {
    "en": (
        ("Hearing moved to Thursday", "The tribunal moved the hearing to Thursday, 10:30, room 4."),
        ("Harbour workers: statement", "Attached is the statement of the crane operators."),
        ("Minutes of the Monday meeting", "Present: all. We agreed to take the Novak case."),
        ("Invoice 2026-118", "Please find our invoice; payment within thirty days."),
    ),
    "fr": (
        (
            "Audience reportée au 12 novembre",
            "L’audience est reportée ; le greffe confirmera la salle.",
        ),
        ("Recours en annulation — délai", "Le délai de recours expire vendredi à minuit."),
        ("Compte rendu de la réunion", "Voici le compte rendu : trois dossiers sont clos."),
        ("Réservation pour le congrès", "Votre chambre est réservée du 3 au 5 décembre."),
    ),
    "de": (
        ("Widerspruch gegen Bescheid", "Die Frist läuft am Freitag ab; Entwurf anbei."),
        ("Protokoll der Teamsitzung", "Anwesend: alle. Nächste Sitzung am Montag um 9 Uhr."),
        ("Rückfrage zur Vollmacht", "Die Unterschrift fehlt auf Seite zwei – bitte nachreichen."),
        ("Übergabe der Akten", "Die Akten Müller und Groß liegen im Schrank drei."),
    ),
    "pl": (
        ("Zażalenie na postanowienie", "Termin mija w piątek. Projekt w załączniku."),
        ("Świadek w sprawie stoczni", "Pan Żak potwierdził, że zezna w grudniu."),
        ("Notatka ze spotkania", "Ustalono podział zadań; szczegóły niżej."),
        ("Faktura za tłumaczenie", "W załączeniu faktura za tłumaczenie przysięgłe."),
    ),
    "el": (
        ("Αναβολή της δίκης", "Η δίκη αναβλήθηκε για την Πέμπτη στις έντεκα."),
        ("Ένορκη βεβαίωση", "Επισυνάπτεται η ένορκη βεβαίωση των εργαζομένων."),
        ("Πρακτικά συνάντησης", "Παρόντες όλοι. Επόμενη συνάντηση τη Δευτέρα."),
        ("Τιμολόγιο μετάφρασης", "Σας αποστέλλουμε το τιμολόγιο της μετάφρασης."),
    ),
    "ar": (
        ("تأجيل الجلسة", "تم تأجيل الجلسة إلى يوم الخميس الساعة العاشرة."),
        ("إفادة الشهود", "مرفق طيه إفادة عمال الميناء."),
        ("محضر الاجتماع", "الحضور: الجميع. الاجتماع القادم يوم الاثنين."),
        ("فاتورة الترجمة", "نرسل لكم فاتورة الترجمة المحلفة."),
    ),
}
_PLACES = ("inbox", "inbox", "sentitems", "archive", "Clients/Harbour workers", "Clients/Novak")
_CATEGORIES = ("Urgent", "Court", "Waiting for reply", "Grün")


class WrittenContent(StoredContent):
    """Content that is written when it is first looked at, so that a tenant starts at once."""

    def __init__(self, write: Callable[[], bytes]) -> None:
        super().__init__(b"")
        self._write = write

    def mime(self) -> bytes:
        """Write once, then keep."""
        self._mime = self._mime or self._write()
        return self._mime


@dataclass(frozen=True)
class Desk:
    """A mailbox being filled, with its owner and its own chance."""

    user: User
    chance: Chance

    @property
    def mailbox(self) -> Mailbox:
        """The mailbox."""
        return self.user.mailbox

    @property
    def owner(self) -> tuple[str, str]:
        """Display name and address."""
        return (self.user.name, self.user.upn)

    def add(
        self, folder: str, write: Callable[[], bytes], received: datetime, **props: object
    ) -> None:
        """Lay a message into a folder by path or well-known name."""
        place = self.mailbox.folder(folder)
        self.mailbox.add(place, WrittenContent(write), received, **props)


def make_folders(desk: Desk) -> None:
    """The folders that people made, one of them hidden by a program."""
    clients = desk.mailbox.create_folder("Clients")
    for name in ("Harbour workers", "Novak"):
        desk.mailbox.create_folder(name, clients.uid)
    closed = desk.mailbox.create_folder("Closed", clients.uid)
    desk.mailbox.create_folder("2024", closed.uid)
    desk.mailbox.create_folder("Quick Step Settings", hidden=True)


def make_hostile_folders(desk: Desk) -> None:
    """Names that are legal in Exchange and trouble elsewhere."""
    place = desk.mailbox.create_folder("Odd names").uid
    for name in HOSTILE_NAMES:
        desk.mailbox.create_folder(name, place)
    deep = desk.mailbox.create_folder("Deep", place)
    for level in range(12):
        deep = desk.mailbox.create_folder(f"Level {level:02} of the archive", deep.uid)


HOSTILE_NAMES = (
    "Müller / Weber",
    "Back\\slash",
    "Bell \x07 inside",
    "Caf\u00e9",
    "Cafe\u0301",
    "Right\u202eto left",
    "ends with a dot.",
    "ends with a space ",
    "..",
    "CON",
    "twin",
    "TWIN",
    '100% of *?<>|:"',
    "العقود",
    "n" * 240,
)
"""Folder names that a mirror must survive."""


def make_search_folder(desk: Desk) -> None:
    """A view of unread mail: what it shows lies elsewhere."""
    inbox = desk.mailbox.folder("inbox")
    desk.mailbox.create_folder("Unread mail", FIRST_FOLDER, sources=(inbox.uid,))


def write_everyday(desk: Desk, count: int) -> None:
    """Ordinary letters over three years, newest first."""
    for number in range(count):
        place = _PLACES[number % len(_PLACES)]
        received = ago(hours=7 * number + number * number)
        desk.add(place, _writer(desk, number, received, place), received, **_marks(desk, number))


def _writer(desk: Desk, number: int, sent: datetime, place: str) -> Callable[[], bytes]:
    chance = Chance(desk.user.id, "letter", number)
    language = desk.user.language.partition("-")[0]
    subject, text = chance.pick(_TEXTS[language])
    other = chance.pick(OUTSIDERS)
    pair = (desk.owner, other) if place == "sentitems" else (other, desk.owner)
    letter = Letter(
        pair[0],
        [pair[1]],
        f"{subject} ({number})",
        f"{text}\n\n{pair[0][0]}\n",
        sent,
        html=_html(text, pair[0][0]) if number % 3 else "",
        enclosures=_enclosures(subject, number),
    )
    return letter.mime


def _html(text: str, who: str) -> str:
    return f"<html><body><p>{text}</p><p>—<br><b>{who}</b></p></body></html>"


def _enclosures(subject: str, number: int) -> tuple[Enclosure, ...]:
    if number % 5 == 0:
        return (Enclosure(f"{subject}.pdf", pdf(f"Document {number}"), "application/pdf"),)
    return ()


def _marks(desk: Desk, number: int) -> dict[str, object]:
    """Read or not, flagged, categorised."""
    marks: dict[str, object] = {"isRead": number % 4 != 0}
    if number % 6 == 1:
        marks["categories"] = [desk.chance.pick(_CATEGORIES)]
    if number % 7 == 0:
        due = {"dateTime": "2026-11-09T00:00:00.0000000", "timeZone": "UTC"}
        start = {"dateTime": "2026-11-02T00:00:00.0000000", "timeZone": "UTC"}
        marks["flag"] = {"flagStatus": "flagged", "startDateTime": start, "dueDateTime": due}
    return marks


LOGO = png(48, 16, (12, 74, 110))
