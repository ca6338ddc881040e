"""Which models a run uses, and whether they can be reached: decided and said before anything is sent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import partial

from swarmcli.adapters import providers
from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.provider_names import check_provider
from swarmcli.adapters.weights import embedded_installed, locate, not_installed
from swarmcli.app.workspace import Surroundings
from swarmcli.core.plan import Task
from swarmcli.core.routing import Roles, parse_override, resolve_roles
from swarmcli.errors import NoModelError, SwarmError, UsageError
from swarmcli.recipe.values import MergeStrategy, ModelSpec, Rate, Recipe, Verify, Vote

EMBEDDED = "embedded/smollm2"
TINY_NOTE = "135M parameters: good for trying swarm, not for answers"
DEFAULT_PARALLEL = 100
LOCAL_PARALLEL = 4


def choose_roles(recipe: Recipe, overrides: Iterable[str], around: Surroundings) -> Roles | None:
    """The run's models by role: `-m` > recipe > `SWARM_MODEL` > config > key > Ollama > embedded; None without any.

    Raises:
        UsageError: a model id without a provider or with one that does not exist, or an unknown role.
    """
    pairs = [parse_override(text) for text in overrides]
    needs_default = not recipe.models and not any(role is None for role, _ in pairs)
    default = choose_default(around) if needs_default else None
    roles = resolve_roles(recipe.models, pairs, default)
    if roles is None:
        return None
    for spec in roles.models.values():
        check_provider(spec, around.env)
    complete = partial(_completed, env=around.env)
    models = {role: complete(spec) for role, spec in roles.models.items()}
    return replace(roles, models=models, complete=complete)


def choose_default(around: Surroundings) -> tuple[ModelSpec, str] | None:
    """The model of a run that names none, and why; None when there is none."""
    if around.default_model:
        _, model = parse_override(around.default_model)
        return ModelSpec(id=model), around.default_reason
    found = providers.first_available(around.env) or providers.running_ollama(around.env)
    if found is not None:
        return ModelSpec(id=found[0]), found[1]
    if embedded_installed():
        try:
            locate("smollm2", around.cache_dir)
        except SwarmError:
            return None
        return ModelSpec(id=EMBEDDED), f"no key is set and no Ollama runs; {TINY_NOTE}"
    return None


def _completed(spec: ModelSpec, env: Mapping[str, str]) -> ModelSpec:
    """The model with its endpoint and window filled in, so that cache keys and bounds know them."""
    return replace(
        spec,
        api_base=spec.api_base or providers.api_base_of(spec.id, env),
        context_window=facts_of(spec).context_window,
    )


def models_in_use(
    recipe: Recipe, roles: Roles, tasks: Iterable[Task] | None, merge: MergeStrategy
) -> list[ModelSpec]:
    """The models that a run may call, without duplicates; fallbacks are left out, they are asked only in need."""
    if tasks is None:
        names = ["planner", "small", "large", "writer"]
        names += [profile.model for profile in recipe.agents.values() if profile.model]
        names += asked_by(recipe.vote, "small")
    else:
        models = {name: profile.model for name, profile in recipe.agents.items()}
        names = [
            name
            for task in tasks
            for name in asked_by(task.vote, task.model or models.get(task.profile or "") or "small")
        ]
        names += ["writer"] if merge == "write" else []
    names += judges(recipe.verify)
    return list({spec.id: spec for spec in map(roles.resolve, dict.fromkeys(names))}.values())


def asked_by(vote: Vote | None, own: str) -> list[str]:
    """Everybody whom an agent may ask, as roles or LiteLLM ids: its own model, or those who vote, and who decides."""
    if vote is None:
        return [own]
    return [*(vote.models or (own,)), *([vote.escalate] if vote.escalate is not None else [])]


def judges(verify: Verify | None) -> list[str]:
    """Who may be asked to judge, as roles or LiteLLM ids: the critic, and who stands in where that is the author."""
    if verify is None or not (verify.conflicts or verify.critic):
        return []
    return [*([verify.critic] if verify.critic else []), "judge", "large", "small"]


def with_fallbacks(models: Iterable[ModelSpec], roles: Roles) -> list[ModelSpec]:
    """The models and those that are asked where they fail, without duplicates."""
    everyone = list(models)
    everyone += [roles.resolve(name) for spec in tuple(everyone) for name in spec.fallbacks]
    return list({spec.id: spec for spec in everyone}.values())


def preflight(models: Iterable[ModelSpec], around: Surroundings) -> None:
    """Refuse to start when a model has no usable key or no weights.

    Raises:
        NoModelError: what is missing and how to get it.
        UsageError: a task names a provider that does not exist.
    """
    for spec in models:
        if spec.id.startswith("embedded/"):
            if not embedded_installed():
                raise not_installed()
            locate(spec.id.removeprefix("embedded/"), around.cache_dir)
            continue
        check_provider(spec, around.env)
        problem = providers.key_problem(spec, around.env)
        if problem is not None:
            raise problem


def no_model(env: Mapping[str, str]) -> NoModelError:
    """The error that names everything that would help."""
    return providers.no_model_error(env)


def check_prices(
    models: Iterable[ModelSpec], max_cost_usd: float | None, *, allow_unpriced: bool
) -> None:
    """A cap in dollars cannot hold for a model whose price nobody knows.

    Raises:
        UsageError: such a model, unless unpriced models are allowed.
    """
    if max_cost_usd is None or allow_unpriced:
        return
    unpriced = [spec.id for spec in models if facts_of(spec).price is None]
    if unpriced:
        raise UsageError(
            f"no price for {', '.join(unpriced)}, so a cap of ${max_cost_usd:g} cannot hold",
            hint="--allow-unpriced, or give the model a `price` in the recipe",
        )


def is_local(spec: ModelSpec) -> bool:
    """True where the model shares this machine with us."""
    return (
        spec.id.startswith("embedded/")
        or providers.is_local(spec.api_base)
        or spec.id.startswith("ollama")
    )


def parallel_of(explicit: int | None, models: Sequence[ModelSpec], rates: Sequence[Rate]) -> int:
    """Agents at work at once: what was asked for or declared, else 100, else 4 where all models are local."""
    if explicit is not None:
        return explicit
    declared = [
        rate.parallel
        for rate in rates
        if rate.parallel is not None and any(fnmatchcase(m.id, rate.pattern) for m in models)
    ]
    if declared:
        return max(*declared, LOCAL_PARALLEL)
    return LOCAL_PARALLEL if all(map(is_local, models)) else DEFAULT_PARALLEL
