# pyright: basic, reportPrivateImportUsage=false
"""LiteLLM as a library: imported late, once per process, in a worker thread, and tamed before anybody calls it."""

import asyncio
import concurrent.futures
import contextlib
import gc
import importlib
import logging
import os
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from swarmcli.adapters import response_cap
from swarmcli.adapters.redact import Redactor

_MAX_OPEN_FILES = 65_536

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


_TRANSPORT = "litellm.llms.custom_httpx.aiohttp_transport"


def one_shot_handler() -> object:
    """LiteLLM's HTTP handler without its habit of sending a request again when the connection broke."""
    from litellm.llms.custom_httpx.http_handler import AsyncHTTPHandler

    class OneShotHandler(AsyncHTTPHandler):
        async def single_connection_post_request(self, *args: object, **kwargs: object) -> NoReturn:
            # Called inside `except (RemoteProtocolError, ConnectError)`: let that one be the answer.
            raise sys.exception() or ConnectionError("the connection broke")

        def __del__(self) -> None:
            """Not the garbage collector's business: `LitellmClient.close` has closed it, without a stray task."""

    # A question goes where the user said, and nowhere else.
    return OneShotHandler(follow_redirects=False)


async def close_litellm(litellm: ModuleType) -> None:
    """Close the connections that LiteLLM keeps, and end its tasks, on the running loop."""
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


class _CleanFormatter(logging.Formatter):
    """Log lines without keys."""

    def __init__(self, redact: Redactor) -> None:
        super().__init__("%(asctime)s %(name)s %(levelname)s %(message)s")
        self._redact = redact

    def format(self, record: logging.LogRecord) -> str:
        return self._redact.strict(super().format(record))


def send_logs_to(log_file: Path | None, redact: Redactor) -> None:
    """LiteLLM logs to stderr by itself; the screen is not its. The newest client's file wins."""
    handler = logging.NullHandler()
    if log_file is not None:
        handler = logging.FileHandler(log_file, delay=True)
        handler.setFormatter(_CleanFormatter(redact))
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


def _bypass_proxies_on_loopback() -> None:
    """A proxy cannot reach this machine's own servers; tools that forget this break the embedded model."""
    if urllib.request.getproxies():
        known = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
        hosts = dict.fromkeys([*filter(None, known.split(",")), "localhost", "127.0.0.1", "::1"])
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(hosts)


def _import_litellm() -> ModuleType:
    """Import and tame LiteLLM. Runs in a worker thread, once."""
    os.environ.update(_ENVIRONMENT)
    for name, value in _CONNECTIONS.items():
        os.environ.setdefault(name, value)
    _bypass_proxies_on_loopback()
    _raise_open_files()
    collecting = gc.isenabled()
    gc.disable()  # 2,700 modules: the collector would walk them again and again
    try:
        import litellm

        for module in _FIRST_CALL_MODULES:
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
        response_cap.install(importlib.import_module(_TRANSPORT))
    finally:
        if collecting:
            gc.enable()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    send_logs_to(None, Redactor())
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


LIBRARY = _Library()
"""The one of this process."""
