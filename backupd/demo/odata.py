"""The OData conventions that Graph follows: key forms, `$select`, pages, delta rounds."""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qsl, unquote, urlencode

from backupd.demo.calls import Answer, Call, Json, Refused, bad_request, key
from backupd.demo.changes import Change, ChangeLog, Refusal, Stream
from backupd.demo.tokens import Cursor

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")

_KEYED = re.compile(r"(?P<name>[A-Za-z$.]+)\('(?P<key>.*)'\)")
_CALLED = re.compile(r"(?:microsoft\.graph\.)?(?P<name>[A-Za-z]+)\((?P<args>[^']*(?:'.*')?)\)")
_ARGUMENT = re.compile(r"(\w+)='([^']*)'")
_SKIP = "$skip"
_OPTIONS = frozenset({"$select", "$expand", "$top", "$skip", "$count", "$skiptoken", "$deltatoken"})
EXTENDED = "singleValueExtendedProperties"
_TAG = re.compile(r"<[^>]*>")


def segments(raw_path: str) -> tuple[list[str], dict[str, str]]:
    """Split a raw path into decoded steps, whichever key form they were written in.

    `users('u')` becomes two steps, `delta()` and `microsoft.graph.delta()` one; arguments of a
    function come back beside the steps.
    """
    steps: list[str] = []
    arguments: dict[str, str] = {}
    for raw in raw_path.strip("/").split("/"):
        step = unquote(raw)
        if keyed := _KEYED.fullmatch(step):
            steps += [keyed["name"], keyed["key"].replace("''", "'")]
        elif called := _CALLED.fullmatch(step):
            steps.append(called["name"])
            arguments |= dict(_ARGUMENT.findall(called["args"]))
        else:
            steps.append(step.removeprefix("microsoft.graph."))
    return steps, arguments


def canonical(route: str, params: dict[str, str]) -> str:
    """A path as the service writes it: `users('u')/mailFolders('f')/messages`, drives with slashes."""
    drive = route.startswith(("drives", "sites"))
    steps: list[str] = []
    for step in route.split("/"):
        if not step.startswith("{"):
            steps.append(step)
        elif drive:
            steps.append(key(params[step[1:-1]]))
        else:
            steps[-1] += f"('{key(params[step[1:-1]])}')"
    return "/".join(steps)


def parse_query(text: str) -> dict[str, str]:
    """A query string as a mapping; a name given twice keeps its last value."""
    return dict(parse_qsl(text, keep_blank_values=True))


def check_options(query: Mapping[str, str], route: str) -> None:
    """Refuse what would be ignored here: a client must not trust an answer to half its question."""
    known = _OPTIONS | ({"$orderby"} if route.endswith("/messages") else set())
    unknown = [name for name in query if name.startswith("$") and name not in known]
    if unknown:
        message = f"The query option {unknown[0]} is not supported by the simulated tenant."
        raise bad_request(message, "ErrorInvalidUrlQuery")


def selection(call: Call) -> tuple[str, ...]:
    """The names in `$select`."""
    return tuple(name.strip() for name in call.query.get("$select", "").split(",") if name.strip())


def project(row: Json, names: Sequence[str], keep: Sequence[str] = ("id",)) -> Json:
    """Only the selected properties, `keep`, and annotations; everything when nothing is selected."""
    if not names:
        return row
    wanted = {*names, *keep}
    return {key: value for key, value in row.items() if key in wanted or _is_annotation(key, names)}


def _is_annotation(key: str, names: Sequence[str]) -> bool:
    if key == "@microsoft.graph.downloadUrl":
        return bool({key, "content.downloadUrl"} & set(names))
    return key.startswith("@")


def in_text(call: Call, row: Json) -> Json:
    """The row with its body as plain text where `Prefer: outlook.body-content-type` asks for it."""
    if (call.preference("outlook.body-content-type") or "").lower() != "text" or "body" not in row:
        return row
    call.applied.append('outlook.body-content-type="text"')
    plain = html.unescape(_TAG.sub("", row["body"]["content"]))
    return row | {"body": {"contentType": "text", "content": plain}}


def context(call: Call, what: str) -> str:
    """The `@odata.context` of an answer."""
    return f"{call.base}/$metadata#{what}"


def collection(call: Call, rows: Sequence[Json], *, default: int = 10, most: int = 1_000) -> Answer:
    """One page of a plain list, selected from the rows as `$top`, `$skip` and `$select` ask."""
    page, body = paged(call, rows, default, most)
    return Answer(body | {"value": [project(row, selection(call)) for row in page]})


def paged(
    call: Call, things: Sequence[T], default: int = 10, most: int = 1_000
) -> tuple[Sequence[T], Json]:
    """The part of `things` that a page shows, and the body that it goes into."""
    start, top = call.number(_SKIP, 0, len(things)), _top(call, default, most)
    body: Json = {"@odata.context": context(call, call.path)}
    if call.query.get("$count", "").lower() == "true":
        body["@odata.count"] = len(things)
    if start + top < len(things):
        body["@odata.nextLink"] = _link(call, call.query | {_SKIP: str(start + top)})
    return things[start : start + top], body


def _top(call: Call, default: int, most: int) -> int:
    top = call.number("$top", 0, most)
    if "$top" in call.query and not top:
        raise bad_request("The value of $top must be positive.", "ErrorInvalidParameter")
    if not top and call.preference("odata.maxpagesize"):
        top = call.max_page_size(most)
    return _bearable(call, top or default)


def entity(call: Call, row: Json, what: str = "") -> Answer:
    """One object."""
    body = {"@odata.context": context(call, f"{what or call.path}/$entity")}
    return Answer(body | project(row, selection(call)))


def _link(call: Call, query: dict[str, str]) -> str:
    """An absolute link to the same place, in the service's own spelling."""
    return f"{call.base}/{call.path}?{urlencode(query, safe='$,')}"


@dataclass(frozen=True)
class Feed:
    """Something that delta can follow.

    Attributes:
        scope: names it; cursors of another scope are refused.
        listing: the rows with numbers greater than the one given, in order.
        rows: how a change looks now; nothing when it no longer concerns this feed.
        path: the path in the links, as the service writes it.
        drive: links and rows follow OneDrive's conventions.
    """

    scope: str
    log: ChangeLog
    stream: Stream
    listing: Callable[[int, int], Sequence[tuple[int, Json]]]
    rows: Callable[[Change], Sequence[Json]]
    path: str
    default: int = 10
    most: int = 1_000
    drive: bool = False

    @property
    def next_name(self) -> str:
        """The query option that carries the cursor of a next link."""
        return "token" if self.drive else "$skiptoken"

    @property
    def delta_name(self) -> str:
        """The query option that carries the cursor of a delta link."""
        return "token" if self.drive else "$deltatoken"


def peek(call: Call) -> str:
    """The span that the cursor of this request carries; "" when there is no cursor."""
    text = _token(call)
    try:
        return call.cursors.cursor(text).span if text else ""
    except (ValueError, TypeError, KeyError):
        raise _malformed() from None


def delta(call: Call, feed: Feed, span: str = "") -> Answer:
    """One page of a delta round; `span` is remembered in its cursors."""
    cursor = _cursor(call, feed)
    if cursor is not None:
        cursor = replace(cursor, span=span)
    if cursor is None:  # token=latest: no rows, only a place to go on from
        return Answer(_page(call, feed, [], _fresh(call, feed, listing=False), last=True))
    size = _size(call, feed)
    every = call.switches.empty_page_every
    if every and cursor.page % every == every - 1:
        return Answer(_page(call, feed, [], replace(cursor, page=cursor.page + 1), last=False))
    found, position, last = _rows(call, feed, cursor, size)
    ahead = replace(cursor, position=position, page=cursor.page + 1)
    return Answer(_page(call, feed, found, ahead, last=last))


def _size(call: Call, feed: Feed) -> int:
    if feed.drive:
        return _bearable(call, call.number("$top", feed.default, feed.most))
    return _bearable(call, call.max_page_size(feed.most))


def _bearable(call: Call, size: int) -> int:
    """The size, unless the service has a day on which it cannot bear pages as long as that."""
    if 0 < call.switches.page_limit < size:
        raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "", "")
    return size


def _rows(call: Call, feed: Feed, cursor: Cursor, size: int) -> tuple[list[Json], int, bool]:
    """The rows behind a cursor, where they end, and whether nothing follows."""
    found, position, more = (
        _listed(feed, cursor, size) if cursor.listing else _changed(call, feed, cursor, size)
    )
    rows = [project(row, cursor.select, _kept(feed, row)) for row in found]
    every = call.switches.replay_every
    if every and more and rows and cursor.page % every == every - 1:
        rows.append(rows[0])
    return rows, position, not more


def _listed(feed: Feed, cursor: Cursor, size: int) -> tuple[list[Json], int, bool]:
    numbered = feed.listing(cursor.position, size + 1)
    page = numbered[:size]
    position = page[-1][0] if page else cursor.position
    return [row for _, row in page], position, len(numbered) > size


def _changed(call: Call, feed: Feed, cursor: Cursor, size: int) -> tuple[list[Json], int, bool]:
    changes = feed.log.after(feed.stream, cursor.position)
    page = changes[:size]
    position = page[-1].seq if page else cursor.position
    rows = [row for change in page for row in _change(call, feed, change)]
    return rows, position, len(changes) > size


def _kept(feed: Feed, row: Json) -> Sequence[str]:
    """OneDrive shows `deleted` only when it is selected; without it a deletion looks like an update."""
    if feed.drive and "deleted" in row:
        return ("id", "parentReference")
    return ("id", EXTENDED)


def _change(call: Call, feed: Feed, change: Change) -> Sequence[Json]:
    rows = feed.rows(change)
    if not change.fields or not call.switches.sparse_updates:
        return rows
    shown = {"@odata.type", "id", *change.fields}
    return [{name: value for name, value in row.items() if name in shown} for row in rows]


def _cursor(call: Call, feed: Feed) -> Cursor | None:
    """The cursor of this request: its own, or that of a new round; None for "from now on"."""
    text = _token(call)
    if not text:
        return _fresh(call, feed, listing=True)
    if text.lower() == "latest":
        return None
    try:
        cursor = call.cursors.cursor(text)
    except (ValueError, TypeError, KeyError):
        raise _malformed() from None
    if cursor.scope != feed.scope:
        raise _malformed()
    if cursor.generation != feed.log.generation(feed.stream):
        raise _expired(call, feed)
    if cursor.immutable != call.immutable and call.switches.strict_id_type:
        raise bad_request("The sync state is invalid for this id type.", "SyncStateInvalid")
    call.query |= {"$select": ",".join(cursor.select), "$expand": cursor.expand}
    return cursor


def _token(call: Call) -> str:
    names = ("$skiptoken", "$deltatoken", "token")
    return next((call.query[name] for name in names if name in call.query), "")


def _fresh(call: Call, feed: Feed, *, listing: bool) -> Cursor:
    head = feed.log.head
    generation = feed.log.generation(feed.stream)
    fresh = Cursor(feed.scope, generation, listing, 0 if listing else head, head, selection(call))
    return replace(fresh, immutable=call.immutable, expand=call.query.get("$expand", ""))


def _malformed() -> Refused:
    return bad_request("Badly formed token.", "SyncStateInvalid")


def _expired(call: Call, feed: Feed) -> Refused:
    usual = Refusal(code="resyncRequired", location=True) if feed.drive else Refusal()
    how = feed.log.refusal or usual
    message = f"The sync state generation is not found; generation=149;[highest={feed.log.head}]"
    headers = {}
    if how.location:
        headers["Location"] = f"{call.base}/{feed.path}?{feed.next_name}="
    inner = "resyncChangesApplyDifferences" if feed.drive else ""
    return Refused(how.status or HTTPStatus.GONE, how.code, message, inner=inner, headers=headers)


def _page(call: Call, feed: Feed, rows: list[Json], cursor: Cursor, *, last: bool) -> Json:
    body: Json = {"@odata.context": context(call, f"Collection({feed.scope.partition(':')[0]})")}
    link = f"{call.base}/{feed.path}?"
    if last:
        done = replace(cursor, listing=False, position=cursor.start, page=0)
        if not cursor.listing:
            done = replace(done, position=cursor.position, start=cursor.position)
        body["@odata.deltaLink"] = link + f"{feed.delta_name}={call.cursors.text(done)}"
    else:
        body["@odata.nextLink"] = link + f"{feed.next_name}={call.cursors.text(cursor)}"
    body["value"] = rows
    return body
