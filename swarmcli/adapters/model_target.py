"""How one model is called: decided once per model from the recipe, the environment and LiteLLM's table.

LiteLLM is handed in as a module; nothing here imports it.
"""

import contextlib
import difflib
import importlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

from swarmcli.adapters import providers
from swarmcli.adapters.chat import Answer
from swarmcli.core.budget import cost_of
from swarmcli.recipe.values import ModelSpec, Price

_FREE = Price(input_per_mtok=0.0, output_per_mtok=0.0)
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

_registered: set[str] = set()
"""Ids that stand in LiteLLM's table only because we put them there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One model, ready to be called."""

    litellm: ModuleType
    model: ModelSpec
    """With its address, for messages."""
    arguments: Mapping[str, Any]
    """Of `acompletion`: everything that does not depend on the question."""
    price: Price | None
    """What we compute with; None: LiteLLM's table, where it knows one."""
    priced: bool
    """Whether LiteLLM's table knows a price."""
    proves_end: bool
    """Whether LiteLLM lets a stream's own end mark through."""
    takes_schema: bool
    """Whether the model has structured output; unknown models are believed to."""

    def cost_usd(self, answer: Answer) -> float | None:
        """What an answer cost; None when its tokens or the model's price are unknown.

        LiteLLM's table has prices of their own for cache reads, cache writes and reasoning tokens. A recipe's `price`
        has one for cache reads, where it says so; reasoning tokens are output tokens.
        """
        usage, price = answer.usage, self.price
        if price == _FREE:
            return 0.0
        if usage is None:
            return None
        if price is not None:
            return cost_of(price, usage.input_tokens, usage.output_tokens, usage.cached_tokens)
        if not self.priced:
            # OpenRouter says what it charged. LiteLLM fills the same field for others, with what it made up.
            billed = getattr(answer.raw_usage, "cost", None)
            return _dollars(billed) if billed and self.model.id.startswith("openrouter/") else None
        if answer.cost_usd is not None:
            return _dollars(answer.cost_usd)
        try:
            called = self.arguments["model"]
            parts = self.litellm.cost_per_token(model=called, usage_object=answer.raw_usage)
            return _dollars(sum(parts))
        except Exception:  # noqa: BLE001 - a price that cannot be computed is unknown, whatever the reason
            return None

    def did_you_mean(self) -> str | None:
        """The provider's own model that is spelt most alike; over all providers the match would be somebody else's."""
        provider, _, name = self.model.id.partition("/")
        names = {
            key.removeprefix(f"{provider}/")
            for key, row in self.litellm.model_cost.items()
            if row.get("litellm_provider") == provider and key not in _registered
        }
        found = difflib.get_close_matches(name, names, 1, 0.7)
        return f"{provider}/{found[0]}" if found else None


def target_of(
    model: ModelSpec, *, litellm: ModuleType, env: Mapping[str, str], handler: object
) -> Target:
    """Decide. May import modules and take some tenths of a second: call it in a worker thread.

    Args:
        model: what the recipe or a flag says.
        litellm: the loaded library; models that its table lacks are registered with it.
        env: keys and addresses.
        handler: the HTTP handler that sends each request once.
    """
    provider, called = providers.provider_of(model.id), model.id
    key = providers.api_key(model, env)
    base = model.api_base or providers.api_base_of(model.id, env)
    entry = _table_entry(litellm, model.id)
    if provider == "openai" and entry is None and _is_custom(base) and _fast_http(env):
        # LiteLLM's own HTTP handler instead of the OpenAI SDK: the same request and answers, a third less processor
        # time. Models that LiteLLM knows stay with the SDK: it rewrites their parameters.
        provider, called = "hosted_vllm", f"hosted_vllm/{model.id.partition('/')[2]}"
    if entry is None and provider in providers.PROVIDERS:
        _register(litellm, called, provider)
    arguments: dict[str, Any] = {"model": called, "max_retries": 0, "num_retries": 0}
    if key:
        arguments["api_key"] = key
    if base:
        arguments["api_base"] = base
    if provider in _OWN_HANDLER:
        arguments["client"] = handler
    else:
        with contextlib.suppress(ImportError):
            # 0.3 s, which the first call would else spend on the event loop
            importlib.import_module(_SDK)
    return Target(
        litellm=litellm,
        model=replace(model, api_base=base),
        arguments=arguments,
        price=model.price or (_FREE if providers.is_free(model.id) else None),
        priced=entry is not None and _states_a_price(entry),
        proves_end=provider in _PROVEN or provider in litellm.openai_compatible_providers,
        takes_schema=entry is None or bool(entry.get("supports_response_schema")),
    )


def _dollars(value: object) -> float | None:
    """An amount that can be one; whatever else stands there says nothing."""
    if isinstance(value, int | float) and math.isfinite(value) and value >= 0:
        return float(value)
    return None


def _states_a_price(entry: Mapping[str, Any]) -> bool:
    """LiteLLM's table has 0 where a price is not known, also for models that cost money."""
    return any(
        isinstance(rate, int | float) and rate > 0
        for name, rate in entry.items()
        if name.startswith(("input_cost_per", "output_cost_per"))
    )


def _is_custom(base: str | None) -> bool:
    try:
        host = urlsplit(base or "").hostname
    except ValueError:
        return False
    return host is not None and host != "api.openai.com" and not host.endswith(".api.openai.com")


def _fast_http(env: Mapping[str, str]) -> bool:
    """`SWARM_FAST_HTTP=0`: every openai/ model through the OpenAI SDK."""
    return env.get("SWARM_FAST_HTTP", "1").lower() not in {"0", "false", "no", "off"}


def _table_entry(litellm: ModuleType, model_id: str) -> Mapping[str, Any] | None:
    """The row of LiteLLM's table that is this very model; None when it has none. Its own look-up also guesses."""
    if model_id in _registered:
        return None
    table: Mapping[str, Mapping[str, Any]] = litellm.model_cost
    provider, _, name = model_id.partition("/")
    if (entry := table.get(model_id)) is not None:
        return entry
    tuned_from = ":".join(name.split(":")[:2]) if name.startswith("ft:") else name
    for candidate in (name, tuned_from):
        entry = table.get(candidate)
        if entry is not None and str(entry.get("litellm_provider", "")).startswith(provider):
            return entry
    return None


def _register(litellm: ModuleType, called: str, provider: str) -> None:
    """Tell LiteLLM of a model that its table lacks, at no price (we report none).

    Without this every call ends in a failing look-up, and for Ollama in a blocking HTTP request on the event loop.
    """
    names = ("input_cost_per_token", "output_cost_per_token")
    cached = ("cache_creation_input_token_cost", "cache_read_input_token_cost")
    rates = dict.fromkeys((*names, *cached), 0.0)
    _registered.add(called)
    litellm.register_model({called: {"litellm_provider": provider, "mode": "chat", **rates}})
