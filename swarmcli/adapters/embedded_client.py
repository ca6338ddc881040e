"""The embedded model as one more model: its server is started when the first request for it comes."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from swarmcli.adapters.embedded import EmbeddedServer, Endpoint
from swarmcli.adapters.weights import locate
from swarmcli.core.ports import ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.recipe.values import ModelSpec, Price

PREFIX = "embedded/"
_KEY_VARIABLE = "SWARM_EMBEDDED_KEY"
_FREE = Price(input_per_mtok=0.0, output_per_mtok=0.0)


class _Nobody:
    """Receives the pieces of an answer that is wanted whole."""

    def feed(self, text: str) -> None:
        pass

    def restart(self) -> None:
        pass


class Edge(ModelClient, Protocol):
    """A model client that can be made ready before its first call."""

    async def ready(self, model: ModelSpec) -> None:
        """Return when a call to `model` needs nothing more to be loaded."""
        ...


class EmbeddedClient:
    """Turns requests for `embedded/...` into requests to a server of ours on the loopback; passes on all others.

    Args:
        inner: the LiteLLM edge.
        cache_dir: where pulled weights are.
        log: takes llama.cpp's own warnings.
    """

    def __init__(self, inner: Edge, *, cache_dir: Path, log: Path | None = None) -> None:
        self._inner = inner
        self._cache_dir = cache_dir
        self._log = log
        self._lock = asyncio.Lock()
        self._servers: dict[str, tuple[EmbeddedServer, Endpoint]] = {}

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        """Answer; `ModelReply.model` keeps the `embedded/` id."""
        if not request.model.id.startswith(PREFIX):
            return await self._inner.complete(request, stream_to)
        model = await self._served(request.model)
        # Always streamed: the server stops computing for a caller that leaves only while it sends.
        reply = await self._inner.complete(replace(request, model=model), stream_to or _Nobody())
        return replace(reply, model=request.model.id)

    async def ready(self, model: ModelSpec) -> None:
        """Load LiteLLM, and the weights where `model` is an embedded one."""
        await self._inner.ready(await self._served(model) if model.id.startswith(PREFIX) else model)

    async def close(self) -> None:
        """Close the edge first, then end the servers."""
        await self._inner.close()
        for server, _ in self._servers.values():
            server.close()

    async def _served(self, model: ModelSpec) -> ModelSpec:
        """The model as LiteLLM reaches it on the loopback."""
        endpoint = await self._endpoint(model.id.removeprefix(PREFIX))
        return replace(
            model,
            id=f"openai/{endpoint.model}",
            api_base=endpoint.base_url,
            api_key_env=_KEY_VARIABLE,
            context_window=endpoint.context_window,
            price=_FREE,
        )

    async def _endpoint(self, name: str) -> Endpoint:
        async with self._lock:
            if name not in self._servers:
                server = EmbeddedServer(locate(name, self._cache_dir), log=self._log)
                endpoint = await server.start()
                os.environ[_KEY_VARIABLE] = endpoint.api_key
                self._servers[name] = (server, endpoint)
            return self._servers[name][1]


if TYPE_CHECKING:
    _: type[Edge] = EmbeddedClient
