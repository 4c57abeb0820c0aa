"""One HTTP client for one server: credentials that go nowhere else, patience, and errors in our words."""

from __future__ import annotations

import base64
import email.utils
import ipaddress
import os
import ssl
import threading
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import IO
from urllib.parse import quote

import httpx
import stamina

from backupd import tls
from backupd.errors import (
    AuthError,
    BackupdError,
    ConfigError,
    ItemRefused,
    Throttled,
    TransientError,
    UserError,
)
from backupd.mirror.files import BUFFER
from targets.dav.xml import DAV, Entry, asked, element, multistatus, written
from targets.endpoint import Endpoint

Body = bytes | IO[bytes]
"""What can be sent again when it has to be: bytes, or a file that can be rewound."""

ANSWER = 96 << 20
"""Bytes of an answer that are read into memory; no server of good will says more at once."""
ATTEMPTS, LONGEST_PAUSE = 5, 60.0
_TIMEOUTS = httpx.Timeout(20.0, read=120.0, write=120.0)
_REDIRECTS, _FEWEST_REDIRECTS = frozenset({301, 302, 307, 308}), 5
_LATER = frozenset({429, 502, 503, 504})
_MULTISTATUS, _UNAUTHORIZED, _TOO_LARGE, _FULL = 207, 401, 413, 507
_PORTS = {"https": 443, "http": 80}


class _Auth(httpx.Auth):
    """Reads the secret when it is first needed, and speaks Basic, or Digest where it must be."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._header = ""
        self._wants_digest = False
        self._digests = threading.local()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if not self._wants_digest:
            request.headers["Authorization"] = self._basic()
            response = yield request
            asked = response.headers.get("www-authenticate", "").lower()
            if response.status_code != _UNAUTHORIZED or not asked.startswith("digest"):
                return
            self._wants_digest = True
            del request.headers["Authorization"]
        yield from self._digest().auth_flow(request)

    def _user(self) -> str:
        return self._endpoint.username or self._endpoint.account

    def _basic(self) -> str:
        if not self._header:
            secret = self._endpoint.secret()
            pair = base64.b64encode(f"{self._user()}:{secret}".encode()).decode()
            bearer = self._endpoint.auth in {"bearer", "xoauth2", "oauth"}
            self._header = f"Bearer {secret}" if bearer else f"Basic {pair}"
        return self._header

    def _digest(self) -> httpx.DigestAuth:
        """One for each thread: it counts what it has signed."""
        if not hasattr(self._digests, "made"):
            self._digests.made = httpx.DigestAuth(self._user(), self._endpoint.secret())
        made: httpx.DigestAuth = self._digests.made
        return made


class _File:
    """A file as a body that can be sent more than once."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        return iter(lambda: self._file.read(BUFFER), b"")


class Http:
    """Requests to the server of an endpoint, from any thread.

    Every method raises AuthError for refused credentials, UserError with reason `quota` for a full
    target or `certificate` for a server that is not who it should be, ItemRefused for a body that
    is too large, TransientError when the server cannot be reached after some tries.
    """

    def __init__(self, endpoint: Endpoint, *, read_timeout: float | None = None) -> None:
        self.base = _base(endpoint)
        self.host = self.base.host
        self._name = endpoint.name
        verify: ssl.SSLContext | bool = False
        if self.base.scheme == "https":
            verify = tls.guarded(endpoint.ca_file, endpoint.fingerprint, self.host)
        timeouts = _TIMEOUTS if read_timeout is None else httpx.Timeout(20.0, read=read_timeout)
        self._client = httpx.Client(
            auth=_Auth(endpoint),
            verify=verify,
            timeout=timeouts,
            follow_redirects=False,
            headers={"User-Agent": "backupd", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=max(4, 2 * endpoint.connections)),
        )

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Body | None = None,
    ) -> httpx.Response:
        """Send a request, again where that may help; answers with any status that is not an error above.

        Redirects within the server are followed with method and body. `content` must be bytes or a
        file that can be rewound: a stream that is read once cannot be sent twice.
        """
        for attempt in self._attempts():
            with attempt, self._open(method, url, headers, content) as response:
                return self._whole(response)
        raise AssertionError  # the loop ends by itself

    @contextmanager
    def stream(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """A response whose body the caller reads (`iter_bytes`), for files of any size."""
        with ExitStack() as stack:
            response: httpx.Response | None = None
            for attempt in self._attempts():
                with attempt:
                    response = stack.enter_context(self._open(method, url, headers, None))
            if response is not None:  # always: the loop ends with one, or raises
                yield response

    def propfind(self, url: str, names: Sequence[str], depth: int) -> list[Entry]:
        """Properties of a resource (depth 0) and of what lies in it (1); [] when it is not there."""
        body = written(element(f"{DAV}propfind", asked(names)))
        return self._multistatus("PROPFIND", url, body, depth)

    def report(self, url: str, body: bytes, depth: int = 1) -> list[Entry]:
        """The answer to a REPORT; [] when the server does not know it or the resource."""
        return self._multistatus("REPORT", url, body, depth)

    def resolve(self, base: str, href: str) -> str | None:
        """An href that the server wrote as an address at this server; None for any other."""
        try:
            url = httpx.URL(base).join(href)
        except (httpx.InvalidURL, ValueError):
            return None
        return str(url.copy_with(fragment=None)) if self._ours(url) else None

    def _ours(self, url: httpx.URL) -> bool:
        return _origin(url) == _origin(self.base) and not url.userinfo

    def _multistatus(self, method: str, url: str, body: bytes, depth: int) -> list[Entry]:
        headers = {"Depth": str(depth), "Content-Type": "application/xml; charset=utf-8"}
        response = self.request(method, url, headers=headers, content=body)
        return multistatus(response.content) if response.status_code == _MULTISTATUS else []

    def _attempts(self) -> Iterator[AbstractContextManager[object]]:
        return iter(
            stamina.retry_context(
                _worth_a_retry, attempts=ATTEMPTS, timeout=600.0, wait_initial=0.3, wait_max=20.0
            )
        )

    @contextmanager
    def _open(
        self, method: str, url: str, headers: Mapping[str, str] | None, content: Body | None
    ) -> Iterator[httpx.Response]:
        """One try: an open response that is no error, closed in the end."""
        response: httpx.Response | None = None
        try:
            response = self._followed(method, url, headers, content)
            self._check(response)
            yield response
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise self._meaning(error) from error
        finally:
            if response is not None:
                response.close()

    def _whole(self, response: httpx.Response) -> httpx.Response:
        """The same response with its body in memory."""
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > ANSWER:
                raise ItemRefused(
                    f"{self.host} answers with more than {ANSWER >> 20} MiB.", reason="too-large"
                )
        return httpx.Response(
            response.status_code,
            headers=[(k, v) for k, v in response.headers.multi_items() if k not in _FRAMING],
            content=bytes(data),
            request=response.request,
        )

    def _followed(
        self, method: str, url: str, headers: Mapping[str, str] | None, content: Body | None
    ) -> httpx.Response:
        where = self.base.join(url)
        for _ in range(_FEWEST_REDIRECTS):
            if not self._ours(where):
                raise self._elsewhere(where)
            request = self._client.build_request(
                method, where, headers=_sized(headers, content), content=_body(content)
            )
            response = self._client.send(request, stream=True)
            if response.status_code not in _REDIRECTS or "location" not in response.headers:
                return response
            response.close()
            where = where.join(response.headers["location"])
        raise UserError(
            f"{self.host} redirects in circles.",
            hint="Check the address in the configuration.",
            reason="redirect",
        )

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == _UNAUTHORIZED:
            raise AuthError(
                f"{self.host} refuses the credentials of target {self._name}.",
                hint="Check user name and password; many providers want an app password here.",
                reason="credential",
            )
        if status == _FULL:
            raise full(self.host)
        if status == _TOO_LARGE:
            raise ItemRefused(f"{self.host} takes nothing of this size.", reason="too-large")
        if status in _LATER:
            pause = _pause(response.headers.get("retry-after", ""))
            raise Throttled(f"{self.host} answers {status}: later.", retry_after=pause)

    def _elsewhere(self, where: httpx.URL) -> UserError:
        return UserError(
            f"{self.host} leads to {where.scheme}://{where.host}, where the password is not sent.",
            hint="If that is the right place, write its address into the configuration as `url`.",
            reason="redirect",
        )

    def _meaning(self, error: Exception) -> BackupdError:
        if isinstance(error, httpx.InvalidURL):
            return UserError(f"{self.host} names an address that is none.", reason="redirect")
        if isinstance(error, httpx.TimeoutException):
            return TransientError(f"{self.host} does not answer in time.", reason="timeout")
        if _is_certificate(error):
            return UserError(
                f"The certificate of {self.host} is not trusted.",
                hint="Name the authority's certificate as `ca_file`, or pin the server's own "
                "certificate with `fingerprint`.",
                reason="certificate",
            )
        return TransientError(
            f"{self.host} cannot be reached ({type(error).__name__}).",
            hint="Check host and port, and whether the server runs.",
            reason="unreachable",
        )


def full(host: str) -> UserError:
    """The error of a target without room."""
    return UserError(
        f"{host} has no room left for this account.",
        hint="Make room or raise the quota, then run the restore again: it goes on where it stopped.",
        reason="quota",
    )


def child(folder: str, name: str) -> str:
    """The address of `name` inside a folder, whatever characters it is made of."""
    if name in {"", ".", ".."}:
        raise ItemRefused(f"{name!r} cannot be the name of a resource.", reason="name")
    return f"{folder.rstrip('/')}/{quote(name.encode('utf-8', 'surrogateescape'), safe='')}"


_FRAMING = frozenset({"content-encoding", "content-length", "transfer-encoding"})


def _base(endpoint: Endpoint) -> httpx.URL:
    """Where the endpoint is. Raises ConfigError for no address, and for one that would show the password."""
    scheme = "http" if endpoint.security == "plain" else "https"
    port = f":{endpoint.port}" if endpoint.port else ""
    try:
        url = httpx.URL(endpoint.url or f"{scheme}://{endpoint.host}{port}/")
    except httpx.InvalidURL as error:
        raise _no_address(endpoint) from error
    if url.scheme not in _PORTS or not url.host:
        raise _no_address(endpoint)
    if url.scheme == "http" and not _is_loopback(url.host):
        raise ConfigError(
            f"Target {endpoint.name}: {url.host} would get the password unencrypted.",
            hint="Use https://; http:// is for this machine only.",
        )
    return url.copy_with(username=None, password=None, fragment=None)


def _no_address(endpoint: Endpoint) -> ConfigError:
    return ConfigError(
        f"Target {endpoint.name} has no usable address.",
        hint="Set `host`, or `url` to the address that the provider names for CalDAV, CardDAV or WebDAV.",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host.lower(), url.port or _PORTS.get(url.scheme)


def _is_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _worth_a_retry(error: Exception) -> bool | float:
    """Whether to try again, and where the server named a pause, after how many seconds."""
    if isinstance(error, Throttled):
        return min(error.retry_after, LONGEST_PAUSE) if error.retry_after > 0 else True
    return isinstance(error, TransientError) and error.reason != "timeout"


def _pause(written: str) -> float:
    """Seconds that a Retry-After asks for, in either of its forms; 0 for none."""
    if written.isdecimal():
        return float(written[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(written).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _sized(headers: Mapping[str, str] | None, content: Body | None) -> dict[str, str]:
    """The headers with the length of a file: some servers do not take bodies of unknown length."""
    made = dict(headers or {})
    if content is not None and not isinstance(content, bytes):
        made["Content-Length"] = str(content.seek(0, os.SEEK_END))
    return made


def _body(content: Body | None) -> bytes | _File | None:
    return content if content is None or isinstance(content, bytes) else _File(content)
