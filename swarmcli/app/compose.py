"""The model path of a run: LiteLLM at the edge, and our middleware around it, outermost first."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarmcli.adapters.budget import BudgetedClient
from swarmcli.adapters.cache import ANSWERS, DiskStore
from swarmcli.adapters.cached_client import CachedClient
from swarmcli.adapters.embedded_client import EmbeddedClient
from swarmcli.adapters.fallback import FallbackClient
from swarmcli.adapters.limits import LimitedClient
from swarmcli.adapters.litellm_client import LitellmClient
from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.ready_client import ReadyClient
from swarmcli.adapters.retry import RetryingClient
from swarmcli.app.models import is_local
from swarmcli.core.budget import Budget
from swarmcli.core.ports import Clock, Emit, ModelClient
from swarmcli.recipe.values import CacheRules, ModelSpec, Price, Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOrder:
    """What the model path needs to know."""

    resolve: Callable[[str], ModelSpec]
    """Role or LiteLLM id -> model, for fallbacks."""
    local_parallel: int | None
    """Requests at once to a model on this machine; None: as many as the run has agents."""
    rates: tuple[Rate, ...]
    attempts: int
    cache: CacheRules
    budget: Budget
    cache_dir: Path
    log: Path | None
    """Takes the warnings of LiteLLM and of the embedded model."""


def compose(order: PathOrder, *, clock: Clock, emit: Emit) -> ModelClient:
    """Fallback > cache > loading > retries > budget > limits > embedded > LiteLLM.

    A cached answer costs nothing and takes no slot; each retry is reserved and waits for its slot anew; a fallback's
    answer is cached under its own model.
    """
    if order.cache.mode in {"off", "refresh"} or not (order.cache_dir / ANSWERS).exists():
        LitellmClient.start_loading()  # no answer can be there, so it will be needed
    edge = EmbeddedClient(
        LitellmClient(log_file=order.log), cache_dir=order.cache_dir, log=order.log
    )
    limited = LimitedClient(
        edge,
        rates=order.rates,
        clock=clock,
        emit=emit,
        default_parallel=lambda model: order.local_parallel if is_local(model) else None,
    )
    budgeted = BudgetedClient(limited, order.budget, clock=clock, emit=emit, price_of=_price_of)
    retrying = RetryingClient(
        budgeted, attempts=order.attempts, clock=clock, rng=random.Random(), emit=emit
    )
    ready = ReadyClient(retrying, edge.ready)
    cached = CachedClient(
        ready,
        DiskStore(order.cache_dir / ANSWERS, emit=emit),
        mode=order.cache.mode,
        emit=emit,
        ttl_s=order.cache.ttl_s,
    )
    return FallbackClient(cached, resolve=order.resolve, emit=emit)


def _price_of(model: ModelSpec) -> Price | None:
    return facts_of(model).price
