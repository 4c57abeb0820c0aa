"""Address books."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.demo.content_people import OUTSIDERS
from backupd.demo.letters import png

if TYPE_CHECKING:
    from backupd.demo.calls import Json
    from backupd.demo.directory import User

EMPTY: Json = {
    "birthday": None,
    "fileAs": "",
    "displayName": "",
    "givenName": None,
    "initials": None,
    "middleName": None,
    "nickName": None,
    "surname": None,
    "title": None,
    "yomiGivenName": None,
    "yomiSurname": None,
    "yomiCompanyName": None,
    "generation": None,
    "imAddresses": [],
    "jobTitle": None,
    "companyName": None,
    "department": None,
    "officeLocation": None,
    "profession": None,
    "businessHomePage": None,
    "assistantName": None,
    "manager": None,
    "homePhones": [],
    "mobilePhone": None,
    "businessPhones": [],
    "spouseName": None,
    "personalNotes": "",
    "children": [],
    "categories": [],
    "emailAddresses": [],
    "homeAddress": {},
    "businessAddress": {},
    "otherAddress": {},
}


def write_contacts(user: User, *, thorough: bool) -> None:
    """Fill the address book of a person; with `thorough`, one of every shape."""
    for name, address in OUTSIDERS:
        given, _, family = name.partition(" ")
        _put(
            user,
            displayName=name,
            givenName=given,
            surname=family,
            emailAddresses=[{"name": name, "address": address}],
        )
    if thorough:
        _full(user)
        _odd(user)
        _foldered(user)


def _put(user: User, folder: str | None = None, photo: bytes = b"", **data: object) -> None:
    user.contacts.put(user.contacts.folder(folder), EMPTY | data, photo=photo)


def _full(user: User) -> None:
    """Every property that a contact can have."""
    street = {
        "street": "Rue de la Loi 16\r\nBoîte 4",
        "city": "Bruxelles",
        "state": "",
        "postalCode": "1000",
        "countryOrRegion": "Belgique",
    }
    _put(
        user,
        photo=png(48, 48, (160, 60, 30)),
        birthday="1971-04-30T11:59:00Z",
        fileAs="Dupont-Ōtani, Hélène",
        displayName="Me Hélène Dupont-Ōtani",
        givenName="Hélène",
        middleName="Marie; Claire",
        nickName="Leni",
        surname="Dupont-Ōtani",
        title="Me",
        generation="II",
        initials="H.D.",
        yomiGivenName="エレーヌ",
        yomiSurname="オオタニ",
        imAddresses=["sip:helene@barreau.example"],
        jobTitle="Bâtonnière",
        companyName="Barreau de Bruxelles, section sociale",
        department="Droit du travail",
        officeLocation="3e étage",
        profession="Avocate",
        businessHomePage="https://barreau.example/",
        assistantName="Luc",
        manager="Comité",
        homePhones=["+32 2 555 01 01"],
        mobilePhone="+32 470 55 01 02",
        businessPhones=["+32 2 555 01 03", "+32 2 555 01 04"],
        spouseName="Kenji",
        personalNotes='Allergic to peanuts.\r\nPrefers letters, "not" e-mail; see file 12,3.',
        children=["Aya", "Noé"],
        categories=["Court", "Grün"],
        emailAddresses=[
            {"name": "Hélène (bureau)", "address": "helene@barreau.example"},
            {"name": "Hélène", "address": "h.otani@maison.example"},
            {"name": "Exchange", "address": "/o=ExchangeLabs/ou=Group/cn=Recipients/cn=helene"},
        ],
        homeAddress=street,
        businessAddress=street | {"street": "Place Poelaert 1"},
        otherAddress={"city": "Knokke"},
    )


def _odd(user: User) -> None:
    _put(user, displayName="Born without a year", birthday="1604-02-29T11:59:00Z")
    _put(user, companyName="Only a company SA")
    _put(user, emailAddresses=[{"address": "only@address.example"}])
    _put(user)
    _put(user, displayName="Ω\u202eright to left\u202c", surname="العربية", givenName="نور")


def _foldered(user: User) -> None:
    witnesses = user.contacts.create_folder("Witnesses: harbour / 2026")
    user.contacts.create_folder("Empty")
    below = user.contacts.create_folder("Interpreters", witnesses.uid)
    _put(user, witnesses.name, displayName="Crane operator A", mobilePhone="+48 58 555 0101")
    _put(user, below.name, displayName="Tłumaczka przysięgła", photo=png(48, 48, (20, 90, 40)))
