"""Fallbacks: when a model fails, the next one of its list is asked the same."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from swarmcli.adapters.retry import TrackedSink
from swarmcli.core.events import AgentUpdated, Warned
from swarmcli.core.ports import Emit, ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec

_OURS: frozenset[str] = frozenset(
    {"budget", "cache_miss", "schema", "template", "uncalled", "internal"}
)
"""Failures of ours, not of the model: another model would meet them too."""


class FallbackClient:
    """Tries `request.model`, then each of its fallbacks in order. The fallbacks' own lists are not followed.

    Args:
        inner: called once per model.
        resolve: a role or LiteLLM id -> the model.
        emit: hears of each change: `AgentUpdated`, or `Warned` where no agent asks.
    """

    def __init__(
        self, inner: ModelClient, *, resolve: Callable[[str], ModelSpec], emit: Emit
    ) -> None:
        self._inner = inner
        self._resolve = resolve
        self._emit = emit

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        if not request.model.fallbacks:
            return await self._inner.complete(request, stream_to)
        sink = None if stream_to is None else TrackedSink(stream_to)
        failures: list[ModelError] = []
        tried: list[str] = []
        for model in self._candidates(request.model):
            if failures:
                self._announce(request, tried[-1], failures[-1], model.id)
            if sink is not None:
                sink.begin()
            tried.append(model.id)
            asked = request if model is request.model else replace(request, model=model)
            try:
                reply = await self._inner.complete(asked, sink)
            except ModelError as exc:
                if exc.kind in _OURS:
                    raise
                failures.append(exc)
            else:
                before = sum(failure.attempts for failure in failures)
                return replace(reply, attempts=reply.attempts + before)
        raise _all_failed(tried, failures) from failures[-1]

    async def close(self) -> None:
        await self._inner.close()

    def _candidates(self, model: ModelSpec) -> list[ModelSpec]:
        candidates = [model]
        for name in model.fallbacks:
            resolved = self._resolve(name)
            if all(_place(resolved) != _place(known) for known in candidates):
                candidates.append(resolved)
        return candidates

    def _announce(
        self, request: ModelRequest, failed: str, failure: ModelError, following: str
    ) -> None:
        note = f"{failed} failed ({failure.kind}), trying {following}"
        if request.agent is not None:
            self._emit(AgentUpdated(agent=request.agent, note=note))
        else:
            self._emit(Warned(message=f"{request.purpose}: {note}: {failure.message}"))


def _place(model: ModelSpec) -> tuple[str, str | None, str | None]:
    return model.id, model.api_base, model.api_key_env


def _all_failed(tried: list[str], failures: list[ModelError]) -> ModelError:
    last = failures[-1]
    if len(failures) == 1:
        return last
    error = ModelError(
        "; ".join(
            f"{model}: {error.message}" for model, error in zip(tried, failures, strict=True)
        ),
        kind=last.kind,
        model=last.model or tried[-1],
        retry_after_s=last.retry_after_s,
        hint=last.hint,
    )
    error.attempts = sum(failure.attempts for failure in failures)
    error.seconds = sum(failure.seconds for failure in failures)
    return error


if TYPE_CHECKING:
    _client: type[ModelClient] = FallbackClient
