"""Requests built by Microsoft's SDK, sent through our own pool, answered with plain bytes.

The SDK knows every path and query of Graph; that is what it is used for. Its models are not: they
parse 20 messages a second and drop what they do not know. Nor is its retry middleware, because it
knows no fence that all requests to a mailbox share. It is loaded by name when the first request is
built: it costs half a second and 32 MiB, and 16,741 files that no type checker should have to read.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from typing import Any, cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from sources.graph.addresses import quoted
from sources.graph.answers import SILENCE

ANY_ID = "0any0id0"


class Sdk:
    """The SDK's builders and adapter over one aiohttp session."""

    def __init__(self, base_url: str, session: aiohttp.ClientSession) -> None:
        self._base_url = base_url
        self._session = session
        self._building = threading.Lock()  # callers build in threads of their own

    @cached_property
    def http(self) -> httpx.AsyncClient:
        """The face of httpx over the pool of aiohttp."""
        return httpx.AsyncClient(
            transport=AiohttpTransport(client=self._session),
            headers=list(self._session.headers.items()),  # else httpx says that it is httpx
            timeout=httpx.Timeout(SILENCE),
            trust_env=False,
        )

    @cached_property
    def adapter(self) -> Any:
        """Turns the SDK's request descriptions into httpx requests; adds no credentials."""
        adapters = import_module("kiota_http.httpx_request_adapter")
        authentication = import_module("kiota_abstractions.authentication")
        adapter = adapters.HttpxRequestAdapter(
            authentication.AnonymousAuthenticationProvider(), http_client=self.http
        )
        adapter.base_url = self._base_url
        return adapter

    @property
    def root(self) -> Any:
        """The builder that every path begins with: `root.users.by_user_id(…).mail_folders`."""
        # Builders import one another when they are used, and each warns about itself once.
        warnings.filterwarnings(
            "ignore", category=DeprecationWarning, module=r"(msgraph|kiota_\w+)\."
        )
        with self._building:
            return self._root

    @cached_property
    def _root(self) -> Any:
        service = import_module("msgraph.generated.base_graph_service_client")
        return service.BaseGraphServiceClient(self.adapter)

    def get(self, builder: Any, **query: Any) -> Any:
        """A GET of what `builder` points at; `query` in the names of the SDK: select, top, expand."""
        configuration = import_module("kiota_abstractions.base_request_configuration")
        parameters = getattr(type(builder), f"{type(builder).__name__}GetQueryParameters", None)
        chosen = parameters(**query) if parameters and query else None
        information = builder.to_get_request_information(
            configuration.RequestConfiguration(query_parameters=chosen)
        )
        self.adapter.set_base_url_for_request_information(information)
        return information

    def url(self, builder: Any, **query: Any) -> str:
        """The address that `get` would ask: the first link of a listing."""
        return cast("str", self.get(builder, **query).url)

    def template(self, build: Callable[[str], Any], **query: Any) -> Callable[[str], str]:
        """From an id to its address: what `build(id)` would ask, built once for many ids."""
        before, after = self.url(build(ANY_ID), **query).split(ANY_ID)
        return lambda id_: f"{before}{quoted(id_)}{after}"

    async def convert(self, information: Any) -> httpx.Request:
        """A request description as an httpx request."""
        return cast("httpx.Request", await self.adapter.convert_to_native_async(information))

    async def close(self) -> None:
        """Release httpx's face; the pool below is not ours."""
        if "http" in self.__dict__:
            await self.http.aclose()
