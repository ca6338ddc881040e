# pyright: basic, reportPrivateImportUsage=false
"""The one edge to model providers: LiteLLM, loaded late, called cheaply, and never believed on its word alone.

Rules:
1. Nothing of LiteLLM is imported before the first call: see `litellm_library`.
2. One request per attempt. Every retry in LiteLLM, its SDKs and its HTTP handlers is off; `RetryingClient` owns them.
3. One deadline per call, ours: LiteLLM's `timeout` is per socket read.
4. What is unknown stays None: usage, cost. Whether an answer is whole is judged in `chat`.
5. Every message that leaves went through the `Redactor`, and no exception of LiteLLM hangs on ours: they hold the key.
   No answer holds a key of ours, even if the model wrote it.
6. An answer of any size costs bounded memory: see `response_cap`.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from swarmcli.adapters import providers
from swarmcli.adapters.chat import (
    Answer,
    SinkFailed,
    Unstreamed,
    Unusable,
    arguments_of,
    hand_over,
    streamed_answer,
    whole_answer,
)
from swarmcli.adapters.keyless import KeylessSink, is_secret, keys_in
from swarmcli.adapters.litellm_library import LIBRARY, close_litellm, one_shot_handler, send_logs_to
from swarmcli.adapters.model_errors import model_error, worded
from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.model_target import Target, target_of
from swarmcli.adapters.redact import Redactor, secrets_of
from swarmcli.core.ports import ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.errors import Charge, ModelError
from swarmcli.recipe.values import ModelSpec

_STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}


class LitellmClient:
    """Answers `ModelRequest`s through LiteLLM. Belongs to one event loop; several may exist in one process.

    Args:
        env: keys and addresses; read at call time, so that a key set later is found.
        redact: is told every key that is resolved, and cleans every message that leaves.
        log_file: takes LiteLLM's own warnings; None: they are dropped.
    """

    def __init__(
        self,
        *,
        env: Mapping[str, str] | None = None,
        redact: Redactor | None = None,
        log_file: Path | None = None,
    ) -> None:
        self._env = os.environ if env is None else env
        self._redact = redact or Redactor(secrets_of(self._env))
        self._own_keys = Redactor(keys_in(self._env))
        self._log_file = log_file
        self._targets: dict[ModelSpec, Target] = {}
        self._unstreamed: set[ModelSpec] = set()
        """Whose endpoint answers in one piece also when a stream is asked for: the next attempt asks for none."""
        self._preparing = asyncio.Lock()
        self._handler: Any = None

    @staticmethod
    def start_loading() -> None:
        """Begin to import LiteLLM in the background: for a run that is sure to need it soon. Returns at once."""
        LIBRARY.start()

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        model = request.model
        target = self._targets.get(model) or await self._prepare(model)
        arguments = {
            **target.arguments,
            **arguments_of(request, takes_schema=target.takes_schema),
        }
        started = time.perf_counter()
        failure: ModelError
        try:
            async with asyncio.timeout(request.timeout_s):
                answer = await self._keyless_answer(target, request, arguments, stream_to)
            return _reply(target, answer, time.perf_counter() - started)
        except SinkFailed as caught:
            raise caught.error from None
        except Unusable as fault:
            if isinstance(fault, Unstreamed):
                self._unstreamed.add(model)
            failure = worded(fault.kind, target.model, redact=self._redact, detail=fault.detail)
            failure.charge = _charge(target, fault.answer)
        except Exception as error:  # noqa: BLE001 - LiteLLM raises whatever its providers raise
            failure = model_error(error, target.model, redact=self._redact)
            if failure.kind == "timeout":
                failure = worded(
                    "timeout", target.model, redact=self._redact, detail=f"{request.timeout_s:g} s"
                )
        if failure.kind == "unknown_model":
            meant = target.did_you_mean()
            failure.hint = f"did you mean {meant}? {failure.hint}" if meant else failure.hint
        # Outside of the handler: the original holds the key in its text, and must not hang on ours as context.
        raise failure

    async def ready(self, model: ModelSpec) -> None:
        """Load what a call to `model` needs, so that no call's time pays for it."""
        if model not in self._targets:
            await self._prepare(model)

    async def close(self) -> None:
        """Close every connection that calls of this loop have left open."""
        litellm = LIBRARY.loaded
        handler, self._handler = self._handler, None
        self._targets.clear()
        if litellm is None:
            return
        if handler is not None:
            await handler.close()
        await close_litellm(litellm)

    def context_window(self, model: ModelSpec) -> int | None:
        """Tokens of prompt and answer together: the recipe's word, else LiteLLM's table, else None."""
        return facts_of(model).context_window

    async def _keyless_answer(
        self,
        target: Target,
        request: ModelRequest,
        arguments: Mapping[str, Any],
        stream_to: TextSink | None,
    ) -> Answer:
        """One request; neither its answer nor a piece of it holds a key of ours."""
        sink = None if stream_to is None else KeylessSink(stream_to, self._own_keys)
        streams = request.model not in self._unstreamed
        answer = await _answer(target, request, arguments, sink, streams=streams)
        if sink is not None and stream_to is not None and (rest := sink.rest()):
            hand_over(rest, stream_to)
        return replace(answer, text=self._own_keys.known(answer.text))

    # --- before the call

    def _check_key(self, model: ModelSpec) -> None:
        problem = providers.key_problem(model, self._env)
        if problem is not None:
            raise ModelError(problem.message, kind="no_key", model=model.id, hint=problem.hint)

    async def _library(self, model: ModelSpec) -> ModuleType:
        if LIBRARY.loaded is not None:
            return LIBRARY.loaded
        try:
            # Shielded: one caller that gives up must not take the import from the others.
            return await asyncio.shield(asyncio.wrap_future(LIBRARY.start()))
        except Exception as error:  # noqa: BLE001 - a broken installation fails in any way it likes
            fault = f"LiteLLM cannot be loaded: {type(error).__name__}: {error}"
        raise ModelError(
            self._redact(fault)[:500],
            kind="internal",
            model=model.id,
            hint="reinstall swarmcli; swarm doctor",
        )

    async def _prepare(self, model: ModelSpec) -> Target:
        """Decide once per model how it is called."""
        self._check_key(model)
        key = providers.api_key(model, self._env)
        self._redact.add(key)
        if key is not None and is_secret(key):
            self._own_keys.add(key)
        litellm = await self._library(model)
        async with self._preparing:
            if model not in self._targets:
                if self._handler is None:
                    send_logs_to(self._log_file, self._redact)
                    self._handler = await asyncio.to_thread(one_shot_handler)
                self._targets[model] = await asyncio.to_thread(
                    target_of, model, litellm=litellm, env=self._env, handler=self._handler
                )
            return self._targets[model]


async def _answer(
    target: Target,
    request: ModelRequest,
    arguments: Mapping[str, Any],
    stream_to: TextSink | None,
    *,
    streams: bool,
) -> Answer:
    """One request. It streams where somebody listens and a cut stream can be told from a whole one."""
    acompletion = target.litellm.acompletion
    # A plan shows its own end: its JSON is closed or it is not.
    is_checked = target.proves_end or request.purpose == "planner"
    if stream_to is not None and streams and is_checked:
        stream = await acompletion(**arguments, **_STREAM)
        return await streamed_answer(stream, stream_to, proves_end=target.proves_end)
    answer = whole_answer(await acompletion(**arguments))
    if stream_to is not None:
        hand_over(answer.text, stream_to)
    return answer


def _charge(target: Target, answer: Answer | None) -> Charge | None:
    """What a useless answer took, where the provider has counted."""
    if answer is None or answer.usage is None:
        return None
    return Charge(
        input_tokens=answer.usage.input_tokens,
        output_tokens=answer.usage.output_tokens,
        cached_tokens=answer.usage.cached_tokens,
        cost_usd=target.cost_usd(answer),
    )


def _reply(target: Target, answer: Answer, seconds: float) -> ModelReply:
    return ModelReply(
        text=answer.text,
        model=target.model.id,
        usage=answer.usage,
        cost_usd=target.cost_usd(answer),
        seconds=seconds,
        headroom=answer.headroom,
    )


if TYPE_CHECKING:
    _: type[ModelClient] = LitellmClient
