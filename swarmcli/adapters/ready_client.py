"""Loads what a call needs before its clock starts: importing LiteLLM or reading weights is nobody's busy time."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from swarmcli.core.ports import ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.recipe.values import ModelSpec


class ReadyClient:
    """Waits until a model can be called, then passes the request on. Stands below the cache, above retries and limits.

    Args:
        inner: the rest of the path.
        ready: returns when the model's library or server is loaded; raises `ModelError` or `SwarmError`.
    """

    def __init__(self, inner: ModelClient, ready: Callable[[ModelSpec], Awaitable[None]]) -> None:
        self._inner = inner
        self._ready = ready

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        await self._ready(request.model)
        return await self._inner.complete(request, stream_to)

    async def close(self) -> None:
        await self._inner.close()


if TYPE_CHECKING:
    _: type[ModelClient] = ReadyClient
