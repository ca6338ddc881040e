"""The model path of a run: LiteLLM at the edge, and our middleware around it, outermost first."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from swarmcli.adapters.allowance import Allowance, Caps, LocalAllowance
from swarmcli.adapters.bucket import Bucket, bucket_of
from swarmcli.adapters.budget import WARN_AT, BudgetedClient
from swarmcli.adapters.cache import ANSWERS, DiskStore
from swarmcli.adapters.cached_client import CachedClient
from swarmcli.adapters.embedded_client import PREFIX, EmbeddedClient
from swarmcli.adapters.fallback import FallbackClient
from swarmcli.adapters.folders import block_key
from swarmcli.adapters.hedge import HedgedClient
from swarmcli.adapters.limits import LimitedClient, rate_for
from swarmcli.adapters.litellm_client import LitellmClient
from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.ready_client import ReadyClient
from swarmcli.adapters.retry import RetryingClient
from swarmcli.adapters.shared_allowance import LIMITS, SharedAllowances
from swarmcli.app.models import is_local
from swarmcli.core.budget import Budget
from swarmcli.core.ports import Clock, Emit, ModelClient
from swarmcli.recipe.values import CacheRules, Hedge, ModelSpec, Price, Rate


@dataclass(frozen=True, slots=True, kw_only=True)
class PathOrder:
    """What the model path needs to know."""

    resolve: Callable[[str], ModelSpec]
    """Role or LiteLLM id -> model, for fallbacks."""
    local_parallel: int | None
    """Requests at once to a model on this machine; None: as many as the run has agents."""
    rates: tuple[Rate, ...]
    shared: SharedAllowances
    """Counts what all swarm processes of this user send; closed by whoever made it."""
    attempts: int
    hedge: Hedge | None
    """None: nothing is asked twice."""
    cache: CacheRules
    budget: Budget
    cache_dir: Path
    log: Path | None
    """Takes the warnings of LiteLLM and of the embedded model."""


def compose(order: PathOrder, *, clock: Clock, emit: Emit) -> ModelClient:
    """Fallback > cache > hedging > loading > retries > budget > limits > embedded > LiteLLM.

    A cached answer costs nothing and takes no slot; each retry and each duplicate is reserved and waits for its slot
    anew; a fallback's answer is cached under its own model.
    """
    if order.cache.effective_mode in {"off", "refresh"} or not (order.cache_dir / ANSWERS).exists():
        LitellmClient.start_loading()  # no answer can be there, so it will be needed
    edge = EmbeddedClient(
        LitellmClient(log_file=order.log), cache_dir=order.cache_dir, log=order.log
    )
    limited = LimitedClient(
        edge,
        rates=order.rates,
        clock=clock,
        emit=emit,
        attempts=order.attempts,
        default_parallel=lambda model: order.local_parallel if is_local(model) else None,
        bucket_of=lambda model: bucket_of(model, os.environ),
        allowance_of=lambda bucket, caps: _allowance(order, bucket, caps, clock),
    )
    budgeted = BudgetedClient(limited, order.budget, clock=clock, emit=emit, price_of=_price_of)
    retrying = RetryingClient(
        budgeted, attempts=order.attempts, clock=clock, rng=random.Random(), emit=emit
    )
    path: ModelClient = ReadyClient(retrying, edge.ready)
    if order.hedge is not None:
        path = HedgedClient(
            path,
            order.hedge,
            resolve=order.resolve,
            clock=clock,
            emit=emit,
            spare=lambda: order.budget.used < WARN_AT,  # near a cap the rest is for first calls
        )
    cached = CachedClient(
        path,
        DiskStore(order.cache_dir / ANSWERS, emit=emit),
        mode=order.cache.effective_mode,
        emit=emit,
        ttl_s=order.cache.ttl_s,
    )
    return FallbackClient(cached, resolve=order.resolve, emit=emit)


def share_limits(state: Path, *, clock: Clock, emit: Emit) -> SharedAllowances:
    """This process's part in the limits that all swarm processes of a user keep; to be closed.

    Args:
        state: the user's state folder.
        clock: time.
        emit: gets a `Warned` when they cannot be shared.
    """
    return SharedAllowances(state / LIMITS, secret=lambda: block_key(state), clock=clock, emit=emit)


def _allowance(order: PathOrder, bucket: Bucket, caps: Caps, clock: Clock) -> Allowance:
    if bucket.model.startswith(PREFIX):  # each process runs an embedded model of its own
        return LocalAllowance(caps, clock)
    declared = rate_for(bucket.model, order.rates) is not None
    return order.shared.allowance(bucket, caps, declared=declared)


def _price_of(model: ModelSpec) -> Price | None:
    return facts_of(model).price
