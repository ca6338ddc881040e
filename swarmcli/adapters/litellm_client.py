# pyright: basic, reportPrivateImportUsage=false
"""The one edge to model providers: LiteLLM, loaded late, called cheaply, and never believed on its word alone.

Rules:
1. Nothing of LiteLLM is imported before the first call; then once per process, in a worker thread.
2. One request per attempt. Every retry in LiteLLM, its SDKs and its HTTP handlers is off; `RetryingClient` owns them.
3. One deadline per call, ours: LiteLLM's `timeout` is per socket read.
4. What is unknown stays None: usage, cost. Whether an answer is whole is judged in `chat`.
5. Every message that leaves went through the `Redactor`, and no exception of LiteLLM hangs on ours: they hold the key.
"""

import asyncio
import concurrent.futures
import contextlib
import difflib
import gc
import importlib
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

from swarmcli.adapters import providers
from swarmcli.adapters.chat import (
    Answer,
    SinkFailed,
    Unusable,
    arguments_of,
    hand_over,
    streamed_answer,
    whole_answer,
)
from swarmcli.adapters.model_errors import model_error, worded
from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.redact import Redactor, secrets_of
from swarmcli.core.ports import ModelClient, ModelReply, ModelRequest, TextSink
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Price

_MAX_OPEN_FILES = 65_536
_STREAM: Mapping[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}
_FREE = Price(input_per_mtok=0.0, output_per_mtok=0.0)

_ENVIRONMENT: Mapping[str, str] = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download at import, no thread that retries it
    "LITELLM_MODE": "PRODUCTION",  # no hidden load_dotenv: a repository's .env could redirect our key
    "LITELLM_LOG": "ERROR",
}
_CONNECTIONS: Mapping[str, str] = {
    "AIOHTTP_CONNECTOR_LIMIT": "10000",  # our limits decide; 0 would mean aiohttp's own 100
    "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": "10000",
}
_FIRST_CALL_MODULES = (
    "litellm.proxy._types",
    "litellm.litellm_core_utils.default_encoding",
    "litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation",
    "litellm.llms.litellm_proxy.chat.transformation",
    "litellm.llms.hosted_vllm.chat.transformation",
    "litellm.llms.openai_like.dynamic_config",
    "litellm.llms.custom_httpx.http_handler",
    "litellm._service_logger",
    "litellm.types.litellm_core_utils.streaming_chunk_builder_utils",
    "anyio._backends._asyncio",
)
"""What LiteLLM would import on the event loop while the first calls wait."""
_SDK = "openai.resources.chat"

_OWN_HANDLER = frozenset(
    {
        "anthropic", "cohere", "cohere_chat", "deepseek", "fireworks_ai", "gemini", "groq", "hosted_vllm", "mistral",
        "ollama", "ollama_chat", "openrouter", "together_ai", "xai",
    }
)  # fmt: skip
"""Providers whose requests go through the handler passed as `client`, and so leave once (tried, each of them)."""
_PROVEN = _OWN_HANDLER - {"cohere", "cohere_chat", "gemini"} | {"azure", "lm_studio", "openai"}
"""Providers whose streams keep their end mark in LiteLLM (tried with whole and cut streams); Gemini's do not."""


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
        self._log_file = log_file
        self._targets: dict[ModelSpec, _Target] = {}
        self._preparing = asyncio.Lock()
        self._handler: Any = None

    @staticmethod
    def start_loading() -> None:
        """Begin to import LiteLLM in the background: for a run that is sure to need it soon. Returns at once."""
        _LIBRARY.start()

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
                answer = await _answer(target, request, arguments, stream_to)
            return _reply(target, answer, time.perf_counter() - started)
        except SinkFailed as caught:
            raise caught.error from None
        except Unusable as fault:
            failure = worded(fault.kind, target.model, redact=self._redact, detail=fault.detail)
        except Exception as error:  # noqa: BLE001 - LiteLLM raises whatever its providers raise
            failure = model_error(error, target.model, redact=self._redact)
            if failure.kind == "timeout":
                failure = worded(
                    "timeout", target.model, redact=self._redact, detail=f"{request.timeout_s:g} s"
                )
        if failure.kind == "unknown_model":
            failure.hint = _did_you_mean(target, failure.hint)
        # Outside of the handler: the original holds the key in its text, and must not hang on ours as context.
        raise failure

    async def ready(self, model: ModelSpec) -> None:
        """Load what a call to `model` needs, so that no call's time pays for it."""
        if model not in self._targets:
            await self._prepare(model)

    async def close(self) -> None:
        """Close every connection that calls of this loop have left open."""
        litellm = _LIBRARY.loaded
        handler, self._handler = self._handler, None
        self._targets.clear()
        if litellm is None:
            return
        if handler is not None:
            await handler.close()
        await _close_litellm(litellm)

    def context_window(self, model: ModelSpec) -> int | None:
        """Tokens of prompt and answer together: the recipe's word, else LiteLLM's table, else None."""
        return facts_of(model).context_window

    # --- before the call

    def _check_key(self, model: ModelSpec) -> None:
        problem = providers.key_problem(model, self._env)
        if problem is not None:
            raise ModelError(problem.message, kind="no_key", model=model.id, hint=problem.hint)

    async def _library(self, model: ModelSpec) -> ModuleType:
        if _LIBRARY.loaded is not None:
            return _LIBRARY.loaded
        try:
            # Shielded: one caller that gives up must not take the import from the others.
            litellm = await asyncio.shield(asyncio.wrap_future(_LIBRARY.start()))
        except Exception as error:  # noqa: BLE001 - a broken installation fails in any way it likes
            fault = f"LiteLLM cannot be loaded: {type(error).__name__}: {error}"
        else:
            _send_logs_to(self._log_file)
            return litellm
        raise ModelError(
            self._redact(fault)[:500],
            kind="internal",
            model=model.id,
            hint="reinstall swarmcli; swarm doctor",
        )

    async def _prepare(self, model: ModelSpec) -> "_Target":
        """Decide once per model how it is called."""
        self._check_key(model)
        litellm = await self._library(model)
        async with self._preparing:
            if model not in self._targets:
                if self._handler is None:
                    self._handler = await asyncio.to_thread(_one_shot_handler)
                self._targets[model] = await asyncio.to_thread(self._target, litellm, model)
            return self._targets[model]

    def _target(self, litellm: ModuleType, model: ModelSpec) -> "_Target":
        provider, called = providers.provider_of(model.id), model.id
        key = providers.api_key(model, self._env)
        base = model.api_base or providers.api_base_of(model.id, self._env)
        if key != providers.UNUSED_KEY:
            self._redact.add(key)
        entry = _table_entry(litellm, model.id)
        if provider == "openai" and entry is None and _is_custom(base) and _fast_http(self._env):
            # LiteLLM's own HTTP handler instead of the OpenAI SDK: the same request and answers, a third less
            # processor time. Models that LiteLLM knows stay with the SDK: it rewrites their parameters.
            provider, called = "hosted_vllm", f"hosted_vllm/{model.id.partition('/')[2]}"
        if entry is None and provider in providers.PROVIDERS:
            _register(litellm, called, provider)
        arguments: dict[str, Any] = {"model": called, "max_retries": 0, "num_retries": 0}
        if key:
            arguments["api_key"] = key
        if base:
            arguments["api_base"] = base
        if provider in _OWN_HANDLER:
            arguments["client"] = self._handler
        else:
            with contextlib.suppress(ImportError):
                importlib.import_module(
                    _SDK
                )  # 0.3 s, else spent on the event loop by the first call
        return _Target(
            litellm=litellm,
            model=replace(model, api_base=base),
            arguments=arguments,
            price=model.price or (_FREE if providers.is_free(model.id) else None),
            priced=entry is not None and any(name.startswith("input_cost_per") for name in entry),
            proves_end=provider in _PROVEN or provider in litellm.openai_compatible_providers,
            takes_schema=entry is None or bool(entry.get("supports_response_schema")),
        )


class _Target(NamedTuple):
    """One model, ready to be called."""

    litellm: ModuleType
    model: ModelSpec
    """With its address, for messages."""
    arguments: Mapping[str, Any]
    price: Price | None
    """What we compute with; None: LiteLLM's table, where it knows one."""
    priced: bool
    """Whether LiteLLM's table knows a price."""
    proves_end: bool
    """Whether LiteLLM lets a stream's own end mark through."""
    takes_schema: bool


async def _answer(
    target: _Target,
    request: ModelRequest,
    arguments: Mapping[str, Any],
    stream_to: TextSink | None,
) -> Answer:
    """One request. It streams where somebody listens and a cut stream can be told from a whole one."""
    acompletion = target.litellm.acompletion
    # A plan shows its own end: its JSON is closed or it is not.
    if stream_to is not None and (target.proves_end or request.purpose == "planner"):
        stream = await acompletion(**arguments, **_STREAM)
        return await streamed_answer(stream, stream_to, proves_end=target.proves_end)
    answer = whole_answer(await acompletion(**arguments))
    if stream_to is not None:
        hand_over(answer.text, stream_to)
    return answer


def _reply(target: _Target, answer: Answer, seconds: float) -> ModelReply:
    return ModelReply(
        text=answer.text,
        model=target.model.id,
        usage=answer.usage,
        cost_usd=_cost_usd(target, answer),
        seconds=seconds,
    )


def _cost_usd(target: _Target, answer: Answer) -> float | None:
    usage, price = answer.usage, target.price
    if usage is None:
        return None
    if price is not None:
        dollars = usage.input_tokens * price.input_per_mtok
        return (dollars + usage.output_tokens * price.output_per_mtok) / 1e6
    if not target.priced:
        # OpenRouter says what it charged. LiteLLM fills the same field for others, with what it made up.
        billed = getattr(answer.raw_usage, "cost", None)
        return billed if billed and target.model.id.startswith("openrouter/") else None
    if answer.cost_usd is not None:
        return answer.cost_usd
    return _table_cost(target.litellm, target.arguments["model"], answer.raw_usage)


# --- LiteLLM itself


def _is_custom(base: str | None) -> bool:
    try:
        host = urlsplit(base or "").hostname
    except ValueError:
        return False
    return host is not None and host != "api.openai.com" and not host.endswith(".api.openai.com")


def _fast_http(env: Mapping[str, str]) -> bool:
    """`SWARM_FAST_HTTP=0`: every openai/ model through the OpenAI SDK."""
    return env.get("SWARM_FAST_HTTP", "1").lower() not in {"0", "false", "no", "off"}


def _table_cost(litellm: ModuleType, called: str, raw_usage: object) -> float | None:
    try:
        return sum(litellm.cost_per_token(model=called, usage_object=raw_usage))
    except Exception:  # noqa: BLE001 - a price that cannot be computed is unknown, whatever the reason
        return None


def _table_entry(litellm: ModuleType, model_id: str) -> Mapping[str, Any] | None:
    """The row of LiteLLM's table that is this very model; None when it has none. Its own look-up also guesses."""
    if model_id in _REGISTERED:
        return None
    table: Mapping[str, Mapping[str, Any]] = litellm.model_cost
    provider, _, name = model_id.partition("/")
    if (entry := table.get(model_id)) is not None:
        return entry
    for candidate in (name, ":".join(name.split(":")[:2]) if name.startswith("ft:") else name):
        entry = table.get(candidate)
        if entry is not None and str(entry.get("litellm_provider", "")).startswith(provider):
            return entry
    return None


def _register(litellm: ModuleType, called: str, provider: str) -> None:
    """Tell LiteLLM of a model that its table lacks, at no price (we report none).

    Without this every call ends in a failing look-up, and for Ollama in a blocking HTTP request on the event loop.
    """
    rates = dict.fromkeys(
        (
            "input_cost_per_token",
            "output_cost_per_token",
            "cache_creation_input_token_cost",
            "cache_read_input_token_cost",
        ),
        0.0,
    )
    _REGISTERED.add(called)
    litellm.register_model({called: {"litellm_provider": provider, "mode": "chat", **rates}})


def _did_you_mean(target: _Target, hint: str | None) -> str | None:
    """The provider's own model that is spelt most alike; over all providers the match would be somebody else's."""
    provider, _, name = target.model.id.partition("/")
    names = {
        key.removeprefix(f"{provider}/")
        for key, row in target.litellm.model_cost.items()
        if row.get("litellm_provider") == provider and key not in _REGISTERED
    }
    found = difflib.get_close_matches(name, names, 1, 0.7)
    return f"did you mean {provider}/{found[0]}? {hint or ''}".rstrip() if found else hint


def _one_shot_handler() -> object:
    """LiteLLM's HTTP handler without its habit of sending a request again when the connection broke."""
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    class OneShotHandler(AsyncHTTPHandler):
        async def single_connection_post_request(self, *args: object, **kwargs: object) -> NoReturn:
            # Called inside `except (RemoteProtocolError, ConnectError)`: let that one be the answer.
            raise sys.exception() or ConnectionError("the connection broke")

        def __del__(self) -> None:
            """Not the garbage collector's business: `LitellmClient.close` has closed it, without a stray task."""

    return OneShotHandler()


async def _close_litellm(litellm: ModuleType) -> None:
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
    from litellm.llms.custom_httpx.async_client_cleanup import close_litellm_async_clients

    await close_litellm_async_clients()
    # Closed clients must not be found again by another client of this process.
    litellm.in_memory_llm_clients_cache.flush_cache()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.0):
            await GLOBAL_LOGGING_WORKER.flush()
    await GLOBAL_LOGGING_WORKER.stop()
    # Two rounds of the loop: transports report their end in callbacks.
    await asyncio.sleep(0)
    await asyncio.sleep(0)


def _send_logs_to(log_file: Path | None) -> None:
    """LiteLLM logs to stderr by itself; the screen is not its."""
    handler = (
        logging.NullHandler() if log_file is None else logging.FileHandler(log_file, delay=True)
    )
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False


def _raise_open_files() -> None:
    """Hundreds of connections are hundreds of file descriptors; the usual soft limit is 1,024."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = _MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_OPEN_FILES)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _import_litellm() -> ModuleType:
    """Import and tame LiteLLM. Runs in a worker thread, once."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _CONNECTIONS.items():
        os.environ.setdefault(name, value)
    _raise_open_files()
    collecting = gc.isenabled()
    gc.disable()  # 2,700 modules: the collector would walk them again and again
    try:
        import litellm

        for module in _FIRST_CALL_MODULES:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    finally:
        if collecting:
            gc.enable()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    litellm.suppress_debug_info = True  # else every error prints an advertisement to stdout
    litellm.drop_params = False  # a parameter that is dropped in silence changes the answer
    litellm.redact_messages_in_exceptions = True
    litellm.disable_hf_tokenizer_download = (
        True  # else it downloads tokenizers for Llama names, on the event loop
    )
    litellm.REPEATED_STREAMING_CHUNK_LIMIT = (
        sys.maxsize
    )  # 100 equal pieces are no fault of a plan's indentation
    return litellm


class _Library:
    """LiteLLM, imported at most once in this process however many ask for it at the same time."""

    def __init__(self) -> None:
        self.loaded: ModuleType | None = None
        self._lock = threading.Lock()
        self._future: concurrent.futures.Future[ModuleType] | None = None

    def start(self) -> concurrent.futures.Future[ModuleType]:
        """The import, begun now unless it is under way or done; one that failed is tried again."""
        with self._lock:
            if self._future is None or (self._future.done() and self._future.exception()):
                # No daemon thread: one that is killed while it loads extension modules may take the process with it.
                with_one_thread = concurrent.futures.ThreadPoolExecutor(1, "litellm-import")
                self._future = with_one_thread.submit(self._load)
                with_one_thread.shutdown(wait=False)
            return self._future

    def _load(self) -> ModuleType:
        self.loaded = _import_litellm()
        return self.loaded


_LIBRARY = _Library()
_REGISTERED: set[str] = set()
"""Ids that stand in LiteLLM's table only because we put them there."""


if TYPE_CHECKING:
    _: type[ModelClient] = LitellmClient
