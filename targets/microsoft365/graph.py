"""Microsoft Graph for what writes: a few requests at once, patience, and refusals in our words."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

import httpx
import stamina

import backupd
from backupd import tls
from backupd.errors import (
    AuthError,
    BackupdError,
    ItemRefused,
    Throttled,
    TransientError,
    UserError,
)
from backupd.ports import Finding
from targets.endpoint import Endpoint
from targets.microsoft365.access import Access, application
from targets.microsoft365.answers import (
    body_of,
    codes_of,
    pause_of,
    words_of,
    worth_a_retry,
)

Json = Mapping[str, Any]

AT_ONCE = 4
"""Requests that Microsoft lets an application have under way for one mailbox."""
ATTEMPTS = 6
ANSWER = 64 << 20
"""Bytes of an answer that are read into memory; a page of a list has some hundred KiB."""
PAGES = 100_000
"""Pages after which a list is taken for one without end."""
_TIMEOUTS = httpx.Timeout(20.0, read=120.0, write=120.0)
_LATER = frozenset({429, 500, 502, 503, 504})
_FRAMING = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_DONE = frozenset({200, 201, 202, 204})
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _FULL = 401, 403, 404, 413, 507
_QUOTA = frozenset({
    "quotalimitreached", "insufficientstorage", "errorquotaexceeded", "errormailboxstoreunavailable",
    "errorcannotsavecontent",
})  # fmt: skip
_NOBODY = frozenset({
    "errorinvaliduser", "mailboxnotenabledforrestapi", "mailboxnotsupportedforrestapi",
    "resourcenotfound", "request_resourcenotfound", "errornonexistentmailbox",
})  # fmt: skip
GRAPH = "https://graph.microsoft.com"
SERVER = "server"
"""The reason of a failure that is the server's own."""


class Graph:
    """Requests about one account, from any thread; at most four at once.

    Every method raises AuthError for refused credentials and missing permissions, UserError with
    reason `quota` for a full target, ItemRefused for a body that is too large, and TransientError
    when it did not work after some tries.

    Args:
        permission: what the application needs, for messages: `Calendars.ReadWrite`, say.
    """

    def __init__(self, endpoint: Endpoint, permission: str) -> None:
        app = application(endpoint)
        self.account = endpoint.account
        self.user = f"users/{segment(endpoint.account)}"
        self._name, self._permission = endpoint.name, permission
        self._base = app.graph_url
        where = urlsplit(app.graph_url)
        resource = f"https://{where.netloc}" if where.scheme == "https" else GRAPH
        self._access = Access(app, resource)
        verify: ssl.SSLContext | bool = False
        if where.scheme == "https":
            verify = tls.guarded(endpoint.ca_file, endpoint.fingerprint, where.hostname or "")
        agent = f"NONISV|self-hosted|backupd/{backupd.__version__}"
        headers = {"User-Agent": agent, "Accept-Encoding": "identity"}
        limits = httpx.Limits(max_connections=AT_ONCE)
        self._client = httpx.Client(
            verify=verify, timeout=_TIMEOUTS, headers=headers, limits=limits
        )
        # Addresses that are a permission by themselves: no token goes there, whatever the host.
        self._open = httpx.Client(timeout=_TIMEOUTS, headers=headers, limits=limits)
        self._turns = threading.BoundedSemaphore(AT_ONCE)
        self._not_before = 0.0
        self._welcome = False

    def close(self) -> None:
        """Close all connections."""
        self._client.close()
        self._open.close()

    def get(self, path: str) -> Json:
        """One object. Raises ItemRefused when the answer is a refusal."""
        answer = self.ask("GET", path)
        if answer.status_code not in _DONE:
            self.refuse(answer)
        return body_of(answer)

    def may_write(self) -> Iterator[Finding]:
        """Whether the token says that the application has its permission; for people, not for decisions."""
        roles = self._access.roles()
        if roles and self._permission not in roles:
            yield Finding(
                "error", "permission", f"the application has no {self._permission}",
                "Grant it in Entra as an application permission, with admin consent.",
            )  # fmt: skip

    def pages(self, path: str) -> Iterator[Json]:
        """Every object of a list, page by page."""
        link: Any = path
        for _ in range(PAGES):
            page = self.get(link)
            yield from objects(page.get("value"))
            link = page.get("@odata.nextLink")
            if not isinstance(link, str) or not link:
                return
        raise TransientError("Graph hands out a list without end.", reason="pages")

    def ask(
        self, method: str, path: str, body: Json | None = None, *, once: bool = False
    ) -> httpx.Response:
        """Send JSON; answers with any status that is not an error of the class.

        Args:
            path: below the base, or an absolute link that Graph gave.
            once: the request must not be repeated when it is unknown whether it was carried out;
                a pause that the server asks for is no such doubt.
        """
        content = None if body is None else json.dumps(body).encode("utf-8", "replace")
        return self.send(method, path, content, "application/json", once=once)

    def send(
        self, method: str, path: str, content: bytes | None, kind: str, *, once: bool = False
    ) -> httpx.Response:
        """Send bytes of a media type; see `ask`."""
        url = self._resolved(path)
        headers = {"Content-Type": kind} if content is not None else {}
        for attempt in stamina.retry_context(
            _clear if once else worth_a_retry,
            attempts=ATTEMPTS, timeout=900.0, wait_initial=0.5, wait_max=60.0,
        ):  # fmt: skip
            with attempt, self._turn(), self._reached():
                answer = self._authorised(method, url, headers, content)
                self._check(answer)
                return answer
        raise AssertionError  # the loop ends by itself

    def send_openly(
        self, method: str, url: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Response:
        """One try at an address that is its own permission; no token goes along."""
        with self._turn(), self._reached():
            answer = _whole(self._open, method, _safe(url), headers, content)
            if answer.status_code in _LATER:
                self._later(answer)
            if answer.status_code == _FULL or codes_of(answer) & _QUOTA:
                self._full()
            return answer

    @contextmanager
    def download(self, path: str) -> Iterator[Iterator[bytes]]:
        """The bytes of a file, from the address that Graph leads to."""
        answer = self.ask("GET", path)
        if answer.status_code != httpx.codes.FOUND:
            self.refuse(answer)
        with (
            self._turn(),
            self._reached(),
            self._open.stream("GET", _safe(answer.headers.get("location", ""))) as found,
        ):
            if found.status_code != httpx.codes.OK:
                raise TransientError(f"A download answers {found.status_code}.", reason="download")
            yield found.iter_bytes()

    @contextmanager
    def sparing_the_run(self, harmless: str) -> Iterator[None]:
        """Turn a failure of the server over one item into an ItemRefused, if all else works.

        Args:
            harmless: the path of something that can always be read.
        """
        try:
            yield
        except TransientError as error:
            if error.reason != SERVER:
                raise
            answer = self.ask("GET", harmless)
            if answer.status_code not in _DONE:
                raise
            raise ItemRefused(
                f"Microsoft 365 fails over it, again and again: {error}", reason=SERVER
            ) from error

    def refuse(self, answer: httpx.Response) -> NoReturn:
        """Raise what a status means that the caller did not expect."""
        if answer.status_code == _NOT_FOUND and codes_of(answer) & _NOBODY:
            raise UserError(
                f"Microsoft 365 has nothing for {self.account} ({words_of(answer)}).",
                hint="Check the address (--as), and that the account has a licence and was used once.",
                reason="no-account",
            )
        raise ItemRefused(
            f"Microsoft 365 refuses it ({words_of(answer)}).", reason=f"http-{answer.status_code}"
        )

    def _authorised(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None
    ) -> httpx.Response:
        """Send with the token, and once more with a fresh one: a token can be revoked early."""
        token = self._access.token()
        sent = {**headers, "Authorization": f"Bearer {token}"}
        answer = _whole(self._client, method, url, sent, content)
        if answer.status_code == _UNAUTHORIZED:
            sent["Authorization"] = f"Bearer {self._access.token(stale=token)}"
            answer = _whole(self._client, method, url, sent, content)
        return answer

    def _resolved(self, path: str) -> str:
        """The address of a path; a link that leads elsewhere would carry the token away."""
        if not path.startswith(("https://", "http://")):
            return f"{self._base}/{path}"
        if urlsplit(path)[:2] != urlsplit(self._base)[:2]:
            raise UserError(
                f"Graph leads to {urlsplit(path).netloc}, where the token is not sent.",
                hint="Check graph_url in the configuration.",
                reason="redirect",
            )
        return path

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """One of the requests that may be under way, not before the end of a pause."""
        with self._turns:
            pause = self._not_before - time.monotonic()
            if pause > 0:
                time.sleep(pause)
            yield

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise _meaning(error) from error

    def _check(self, answer: httpx.Response) -> None:
        status = answer.status_code
        if status == _UNAUTHORIZED:
            raise AuthError(
                f"Graph refuses the token of target {self._name}.",
                hint="Check tenant_id, client_id and graph_url.",
                reason="credential",
            )
        if status == _FULL or (status not in _DONE and codes_of(answer) & _QUOTA):
            self._full()
        if status == _FORBIDDEN:
            self._forbidden(answer)
        if status == _TOO_LARGE:
            raise ItemRefused("Microsoft 365 takes nothing of this size.", reason="too-large")
        if status in _LATER:
            self._later(answer)
        if status in _DONE and answer.request.method != "GET":
            self._welcome = True

    def _forbidden(self, answer: httpx.Response) -> NoReturn:
        """A refusal of all that we write, or of one thing where others went well."""
        if self._welcome:
            raise ItemRefused(f"Microsoft 365 forbids it ({words_of(answer)}).", reason="forbidden")
        raise AuthError(
            f"The application of target {self._name} may not do this ({words_of(answer)}).",
            hint=f"Grant it the application permission {self._permission} and give admin consent.",
            reason="consent",
        )

    def _later(self, answer: httpx.Response) -> NoReturn:
        """Begin the pause that the server asks for; all requests keep it."""
        pause = pause_of(answer)
        if answer.status_code not in {429, 503}:
            raise TransientError(f"Graph answers {words_of(answer)}.", reason=SERVER)
        if pause:
            self._not_before = max(self._not_before, time.monotonic() + min(pause, 300.0))
        raise Throttled(f"Graph answers {words_of(answer)}: later.", retry_after=pause)

    def _full(self) -> NoReturn:
        raise UserError(
            f"Microsoft 365 has no room left for {self.account}.",
            hint="Make room or raise the quota, then run the restore again: it goes on where it stopped.",
            reason="quota",
        )


def _whole(
    client: httpx.Client, method: str, url: str, headers: Mapping[str, str], content: bytes | None
) -> httpx.Response:
    """An answer with its body in memory, if that has any sensible size."""
    with client.stream(method, url, headers=headers, content=content) as answer:
        data = bytearray()
        for chunk in answer.iter_bytes():
            data += chunk
            if len(data) > ANSWER:
                raise ItemRefused(
                    f"Graph answers with more than {ANSWER >> 20} MiB.", reason="too-large"
                )
        kept = [(k, v) for k, v in answer.headers.multi_items() if k not in _FRAMING]
        return httpx.Response(
            answer.status_code, headers=kept, content=bytes(data), request=answer.request
        )


def objects(value: Any) -> Iterator[Json]:
    """The objects in what should be a list of them."""
    return (
        (each for each in value if isinstance(each, dict)) if isinstance(value, list) else iter(())
    )


def segment(text: str) -> str:
    """An id or a name as one step of a path."""
    return quote(text.encode("utf-8", "surrogateescape"), safe="")


def _clear(error: Exception) -> bool | float:
    """Whether a request that must not be repeated was certainly not carried out."""
    return isinstance(error, Throttled) and worth_a_retry(error)


def _safe(url: str) -> str:
    """An address that Graph gave: encrypted, or on this machine."""
    where = urlsplit(url)
    if where.scheme == "https" or (where.scheme == "http" and _is_loopback(where.hostname or "")):
        return url
    raise UserError("Graph gives an address without encryption.", reason="redirect")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _meaning(error: Exception) -> BackupdError:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return UserError(
                "The certificate of Microsoft Graph is not trusted.",
                hint="Somebody may be in between. For another server, name its authority as ca_file.",
                reason="certificate",
            )
        cause = cause.__cause__ or cause.__context__
    word = "timeout" if isinstance(error, httpx.TimeoutException) else "unreachable"
    return TransientError(f"Graph does not answer ({type(error).__name__}).", reason=word)
