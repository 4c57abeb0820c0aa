"""Who works at Harbour Light Legal Aid."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Person:
    """One account: address, name, language and time zone as Exchange writes them."""

    alias: str
    name: str
    language: str
    zone: str
    purpose: str = "user"
    enabled: bool = True


STAFF = (
    Person("amelia", "Amelia Hart", "en-GB", "GMT Standard Time"),
    Person("jean-baptiste", "Jean-Baptiste Lefèvre", "fr-BE", "Romance Standard Time"),
    Person("sabine", "Sabine Köhler", "de-DE", "W. Europe Standard Time"),
    Person("zofia", "Zofia Wiśniewska", "pl-PL", "Central European Standard Time"),
    Person("eleni", "Ελένη Παπαδάκη", "el-GR", "GTB Standard Time"),
    Person("omar", "عمر حداد", "ar-LB", "Middle East Standard Time"),
)
SHARED = (
    Person("intake", "Intake desk", "en-GB", "GMT Standard Time", "shared", enabled=False),
    Person("room.athena", "Room Athena", "en-GB", "GTB Standard Time", "room", enabled=False),
)

OUTSIDERS = (
    ("Margit Szűcs", "m.szucs@refuge-danube.example"),
    ("Registry of the Labour Court", "registry@labour-court.example"),
    ("Ing. Paweł Żak", "pawel.zak@stocznia.example"),
    ("Hôtel de la Gare", "reservation@hoteldelagare.example"),
    ("Landesamt für Asyl", "poststelle@landesamt-asyl.example"),
    ("Νίκος Αντωνίου", "n.antoniou@limani-workers.example"),
    ("ليلى منصور", "layla@cedar-aid.example"),
)
