"""Users, organisation and subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from backupd.demo.calls import Answer, Call, Handler, Json, not_found
from backupd.demo.directory import USERS, User
from backupd.demo.ids import guid_of
from backupd.demo.odata import Feed, collection, delta, entity

if TYPE_CHECKING:
    from backupd.demo.changes import Change

_DEFAULT_USER = (
    "businessPhones",
    "displayName",
    "givenName",
    "id",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
)
_USERS_PAGE = 100


def _plain(call: Call, user: User) -> Json:
    """Without `$select` Graph shows only some properties of a user."""
    row = user.json()
    return row if "$select" in call.query else {name: row[name] for name in _DEFAULT_USER}


def list_users(call: Call) -> Answer:
    """Every user that is not deleted."""
    rows = [_plain(call, user) for user in call.state.directory.living()]
    return collection(call, rows, default=_USERS_PAGE, most=999)


def get_user(call: Call) -> Answer:
    """One user."""
    return entity(call, _plain(call, call.user()))


def users_delta(call: Call) -> Answer:
    """What changes among the users; a deleted one can be restored, so its reason is `changed`."""
    directory = call.state.directory
    by_uid = {user.uid: user for user in directory.users}

    def rows(change: Change) -> list[Json]:
        user = by_uid[change.subject]
        if change.gone:
            return [{"id": user.id, "@removed": {"reason": change.reason}}]
        return [user.json()] if user.deleted is None else []

    def listing(after: int, limit: int) -> list[tuple[int, Json]]:
        found = [(user.uid, user.json()) for user in directory.living() if user.uid > after]
        return found[:limit]

    return delta(call, Feed("user:", directory.log, USERS, listing, rows, "users/delta", most=200))


def mailbox_settings(call: Call) -> Answer:
    """Time zone, language and what the mailbox is for."""
    user = call.user()
    row: Json = {
        "archiveFolder": user.mailbox.folder_id(1),
        "timeZone": user.zone,
        "dateFormat": "dd/MM/yyyy",
        "timeFormat": "HH:mm",
        "delegateMeetingMessageDeliveryOptions": "sendToDelegateOnly",
        "language": {"locale": user.language, "displayName": user.language},
        "userPurpose": user.purpose,
    }
    return entity(call, row)


def organization(call: Call) -> Answer:
    """The tenant itself."""
    state = call.state
    domain = {"name": state.domain, "isDefault": True, "isInitial": False, "type": "Managed"}
    row: Json = {
        "id": state.tenant_id,
        "displayName": state.name,
        "countryLetterCode": "BE",
        "verifiedDomains": [domain],
    }
    return collection(call, [row])


def subscribed_skus(call: Call) -> Answer:
    """The subscriptions; their status is the early warning of a lapse."""
    state = call.state
    users = len(state.directory.living())
    alive = state.sku_status == "Enabled"
    row: Json = {
        "id": f"{state.tenant_id}_{guid_of('sku')}",
        "skuId": guid_of("sku"),
        "skuPartNumber": "O365_BUSINESS_ESSENTIALS",
        "capabilityStatus": state.sku_status,
        "consumedUnits": users,
        "appliesTo": "User",
        "prepaidUnits": {
            "enabled": users if alive else 0,
            "suspended": 0 if alive else users,
            "warning": 0,
        },
    }
    return collection(call, [row])


def deleted_item(call: Call) -> Answer:
    """A user in the recycle bin."""
    for user in call.state.directory.users:
        if user.deleted is not None and call.params["id"] in {user.id, user.upn}:
            return entity(call, {"@odata.type": "#microsoft.graph.user"} | user.json())
    raise not_found("Request_ResourceNotFound", f"Resource '{call.params['id']}' does not exist.")


def deleted_users(call: Call) -> Answer:
    """The users in the recycle bin."""
    gone = [user.json() for user in call.state.directory.users if user.deleted is not None]
    return collection(call, gone, default=_USERS_PAGE)


ROUTES: dict[str, Handler] = {
    "GET users": list_users,
    "GET users/delta": users_delta,
    "GET users/{user}": get_user,
    "GET users/{user}/mailboxSettings": mailbox_settings,
    "GET organization": organization,
    "GET subscribedSkus": subscribed_skus,
    "GET directory/deletedItems/microsoft.graph.user": deleted_users,
    "GET directory/deletedItems/user": deleted_users,
    "GET directory/deletedItems/{id}": deleted_item,
}
