"""Prices and context windows from the table that LiteLLM ships, read without importing LiteLLM (20 ms, not 3 s)."""

import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from swarmcli.adapters.providers import is_free
from swarmcli.recipe.values import ModelSpec, Price

_FREE = Price(input_per_mtok=0.0, output_per_mtok=0.0)
_FILE = "model_prices_and_context_window_backup.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What is known of a model; None where it is not."""

    price: Price | None = None
    context_window: int | None = None


def facts_of(model: ModelSpec) -> ModelFacts:
    """What the recipe says of a model, and what LiteLLM's table adds. Models of this machine are free."""
    entry = _entry(model.id)
    free = _FREE if model.id.startswith("embedded/") or is_free(model.id) else None
    return ModelFacts(
        price=model.price or free or _price(entry),
        context_window=model.context_window or _whole(entry.get("max_input_tokens")),
    )


def _entry(model_id: str) -> Mapping[str, Any]:
    """The table lists some models with their provider's prefix and some without."""
    table = _table()
    provider, _, name = model_id.partition("/")
    entry = table.get(model_id)
    if entry is None and str(table.get(name, {}).get("litellm_provider", "")).startswith(provider):
        entry = table.get(name)
    return entry or {}


@functools.cache
def _table() -> Mapping[str, Mapping[str, Any]]:
    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        return {}
    try:
        value: object = json.loads((Path(found.origin).parent / _FILE).read_bytes())
    except (OSError, ValueError):
        return {}
    return cast("Mapping[str, Mapping[str, Any]]", value) if isinstance(value, dict) else {}


def _price(entry: Mapping[str, Any]) -> Price | None:
    """The table has 0 where a price is not known, also for models that cost money: that is no price."""
    rates = (entry.get("input_cost_per_token"), entry.get("output_cost_per_token"))
    if not all(isinstance(rate, int | float) for rate in rates):
        return None
    prompt, answer = cast("tuple[float, float]", rates)
    if not prompt and not answer:
        return None
    return Price(input_per_mtok=prompt * 1e6, output_per_mtok=answer * 1e6)


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and value > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatModel(ModelFacts):
    """One row of `swarm models list`."""

    id: str


def chat_models(provider: str | None) -> list[ChatModel]:
    """The chat models of a provider; None: of the large providers that swarm knows keys of, without date variants."""
    rows: dict[str, ChatModel] = {}
    for name, entry in _table().items():
        owner = str(entry.get("litellm_provider", ""))
        wanted = owner == provider if provider else owner in _LARGE and not _DATED.search(name)
        if entry.get("mode") != "chat" or not wanted:
            continue
        model_id = name if name.startswith(f"{owner}/") else f"{owner}/{name}"
        rows[model_id] = ChatModel(
            id=model_id, price=_price(entry), context_window=_whole(entry.get("max_input_tokens"))
        )
    return [rows[model_id] for model_id in sorted(rows)]


_LARGE = frozenset({"openai", "anthropic", "gemini", "mistral", "groq", "deepseek", "xai"})
_DATED = re.compile(r"\d{4}-?\d{2}-?\d{2}|-\d{4}$|ft:")
