"""A plain client for the simulated tenant: it does what it is told and retries nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backupd.demo.tenant import SimulatedTenant

SCOPE = "https://graph.microsoft.com/.default"


class TenantClient:
    """Logged in as the application. Use it with `with`."""

    def __init__(self, tenant: SimulatedTenant) -> None:
        self.tenant = tenant
        self.http = httpx.Client(timeout=10)
        self.token = ""

    def __enter__(self) -> TenantClient:
        self.token = self.login().json()["access_token"]
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def login(self, **changes: str) -> httpx.Response:
        """Ask for a token with the client secret; `changes` replace or add fields."""
        form = {
            "grant_type": "client_credentials",
            "client_id": self.tenant.client_id,
            "client_secret": self.tenant.client_secret,
            "scope": SCOPE,
        }
        return self.post_form("token", form | changes)

    def post_form(self, door: str, form: dict[str, str]) -> httpx.Response:
        """POST to the token endpoint's `token` or `devicecode`."""
        url = f"{self.tenant.login_url}/{self.tenant.tenant_id}/oauth2/v2.0/{door}"
        return self.http.post(url, data=form)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET a path below /v1.0, or a whole URL."""
        return self.send("GET", path, headers=headers)

    def send(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Send any request with the token."""
        url = path if path.startswith("http") else f"{self.tenant.graph_url}/{path}"
        login = {"Authorization": f"Bearer {self.token}"}
        return self.http.request(method, url, headers=login | more.pop("headers", {}), **more)

    def pages(self, path: str, **headers: str) -> Iterator[dict[str, Any]]:
        """The pages of a list or of a delta round, to the end."""
        url: str | None = path
        while url:
            answer = self.get(url, **headers)
            assert answer.status_code == 200, answer.text
            page = answer.json(strict=False)
            yield page
            url = page.get("@odata.nextLink")

    def rows(self, path: str, **headers: str) -> list[dict[str, Any]]:
        """All rows of a list or round."""
        return [row for page in self.pages(path, **headers) for row in page["value"]]

    def round(self, path: str, **headers: str) -> tuple[list[dict[str, Any]], str]:
        """All rows of a delta round, and the link for the next."""
        pages = list(self.pages(path, **headers))
        return [row for page in pages for row in page["value"]], pages[-1]["@odata.deltaLink"]


def q(name: str) -> str:
    """An id as it must stand in a path."""
    return quote(name, safe="")
