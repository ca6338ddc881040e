"""The client that asks for nothing twice: answers come from the store, and identical questions in flight are one.

Rules: only complete answers of the model that was asked are kept; an answer from here costs nothing and is no
attempt; a twin that is cancelled or fails never takes the others with it.
"""

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from swarmcli.adapters.cache_entry import decode, encode
from swarmcli.adapters.cache_key import cache_key
from swarmcli.adapters.hedge import Substitute
from swarmcli.core.events import CallCompleted
from swarmcli.core.ports import Emit, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.errors import ModelError
from swarmcli.recipe.values import CacheMode

_CERTAIN_TO_REPEAT: frozenset[str] = frozenset(
    {"auth", "quota", "no_key", "unknown_model", "bad_request", "context_overflow", "budget"}
)
"""Whoever asks the same gets the same failure: it is not asked again for each twin."""


class Store(Protocol):
    """Where answers lie. It has no errors: what cannot be read is not there."""

    async def get(self, key: str) -> bytes | None:
        """The value, or None."""
        ...

    def put(self, key: str, value: bytes, ttl_s: float | None = None) -> None:
        """Keep `value`; returns at once, and `get` finds it from then on."""
        ...

    async def close(self) -> None:
        """Return when everything is written."""
        ...


class CachedClient:
    """Answers from the store what was answered before, and asks twice for nothing.

    Identical requests in flight at the same time are one call: the first one leads, the others get
    its answer. When the leader fails or is cancelled, the next one asks itself, unless the failure
    is certain to repeat itself.

    Args:
        inner: asked for what is not in the store.
        store: read and written as `mode` says.
        mode: use: read, else ask and write. refresh: ask and write. only: read, a miss is
            `ModelError` of kind `cache_miss`. off: ask, each time.
        ttl_s: answers that are older are misses; None: they never age.
        emit: gets `CallCompleted(cached=True)` for an answer that cost nothing.
        now: seconds since the epoch.
    """

    def __init__(
        self,
        inner: ModelClient,
        store: Store,
        *,
        mode: CacheMode,
        emit: Emit,
        ttl_s: float | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._inner = inner
        self._store = store
        self._mode: CacheMode = mode
        self._ttl_s = ttl_s
        self._emit = emit
        self._now = now
        self._groups: dict[str, _Group] = {}
        self._refreshed: set[str] = set()

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        if self._mode == "off":
            return await self._inner.complete(request, stream_to)
        try:
            key = cache_key(request)
        except ValueError:  # it has no canonical form, so it has no name
            return await self._inner.complete(request, stream_to)
        if self._mode == "only":
            known = await self._read(key)
            if known is None:
                raise ModelError(
                    f"{request.model.id}: this answer is not in the cache, and `--cache only` "
                    "makes no calls",
                    kind="cache_miss",
                    model=request.model.id,
                    hint="run it once with `--cache use`",
                )
            return self._given(request, known, stream_to)
        return await self._led_or_shared(key, request, stream_to)

    async def close(self) -> None:
        try:
            await self._inner.close()
        finally:
            await self._store.close()

    async def _led_or_shared(
        self, key: str, request: ModelRequest, stream_to: TextSink | None
    ) -> ModelReply:
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(functools.partial(self._groups.__delitem__, key))
        elif (reply := await group.wait()) is not None:
            return self._given(request, reply, stream_to)
        # From here on we lead: whatever happens, the others must hear of it.
        try:
            known = None
            if self._mode == "use" or key in self._refreshed:
                known = await self._read(key)
            reply = known or await self._inner.complete(request, stream_to)
        except BaseException as exc:
            if isinstance(exc, ModelError) and exc.kind in _CERTAIN_TO_REPEAT:
                group.fail(exc)
            else:
                group.hand_over()
            raise
        if known is None and not isinstance(reply, Substitute):
            self._store.put(key, encode(reply, self._now()), self._ttl_s)
            self._refreshed.add(key)
        group.share(reply)
        return reply if known is None else self._given(request, known, stream_to)

    async def _read(self, key: str) -> ModelReply | None:
        entry = decode(await self._store.get(key))
        if entry is None:
            return None
        if self._ttl_s is not None and self._now() - entry.created > self._ttl_s:
            return None
        return entry.reply

    def _given(
        self, request: ModelRequest, reply: ModelReply, stream_to: TextSink | None
    ) -> ModelReply:
        """Hand out an answer that another call paid for."""
        if stream_to is not None:
            stream_to.feed(reply.text)
        self._emit(
            CallCompleted(
                model=reply.model,
                purpose=request.purpose,
                seconds=0.0,
                tokens=reply.usage,
                cost_usd=0.0,
                cached=True,
                agent=request.agent,
            )
        )
        return replace(reply, cached=True, cost_usd=0.0, attempts=0, seconds=0.0)


class _Group:
    """Those who wait for a call that another one makes.

    Args:
        ended: called when nobody leads any more.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._waiting: deque[asyncio.Future[ModelReply | None]] = deque()

    async def wait(self) -> ModelReply | None:
        """The leader's answer; None when it is now the caller who leads.

        Raises:
            ModelError: the leader failed in a way that is certain to repeat itself.
        """
        turn: asyncio.Future[ModelReply | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            given = turn.done() and not turn.cancelled() and turn.exception() is None
            if given and turn.result() is None:  # it was our turn to lead, and we cannot
                self.hand_over()
            raise

    def share(self, reply: ModelReply) -> None:
        """The answer is there."""
        self._ended()
        for turn in self._still_waiting():
            turn.set_result(reply)

    def fail(self, error: ModelError) -> None:
        """There will be no answer, whoever asks."""
        self._ended()
        for turn in self._still_waiting():
            turn.set_exception(error.copy())

    def hand_over(self) -> None:
        """The leader stops without an answer: let the next one lead."""
        for turn in self._still_waiting():
            turn.set_result(None)
            return
        self._ended()

    def _still_waiting(self) -> Iterator[asyncio.Future[ModelReply | None]]:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                yield turn


if TYPE_CHECKING:
    _client: type[ModelClient] = CachedClient
