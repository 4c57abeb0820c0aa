"""What Exchange calls the folders that every mailbox has, by language."""

# ruff: noqa: RUF001 - the people here write in six languages

from __future__ import annotations

_NAMES = {
    "inbox": "Inbox|Boîte de réception|Posteingang|Skrzynka odbiorcza|Εισερχόμενα|علبة الوارد",
    "drafts": "Drafts|Brouillons|Entwürfe|Wersje robocze|Πρόχειρα|المسودات",
    "sentitems": "Sent Items|Éléments envoyés|Gesendete Elemente|Elementy wysłane|Απεσταλμένα|العناصر المرسلة",
    "deleteditems": "Deleted Items|Éléments supprimés|Gelöschte Elemente|Elementy usunięte"
    "|Διαγραμμένα|العناصر المحذوفة",
    "archive": "Archive|Archive|Archiv|Archiwum|Αρχειοθέτηση|الأرشيف",
    "junkemail": "Junk Email|Courrier indésirable|Junk-E-Mail|Wiadomości-śmieci"
    "|Ανεπιθύμητα|البريد غير الهام",
    "outbox": "Outbox|Boîte d’envoi|Postausgang|Skrzynka nadawcza|Εξερχόμενα|علبة الصادر",
    "conversationhistory": "Conversation History|Historique des conversations"
    "|Aufgezeichnete Unterhaltungen|Historia konwersacji|Ιστορικό συνομιλιών|محفوظات المحادثات",
}
_LANGUAGES = ("en", "fr", "de", "pl", "el", "ar")

OUTSIDE = ("recoverableitemsdeletions", "searchfolders")
"""Folders that lie beside the tree that people see, reached by their well-known names alone."""


def standard_folders(language: str) -> dict[str, str]:
    """Well-known name to display name; English for a language that is not known."""
    short = language.partition("-")[0]
    place = _LANGUAGES.index(short) if short in _LANGUAGES else 0
    return {well_known: names.split("|")[place] for well_known, names in _NAMES.items()}
