"""From recipe, flags and settings to a run that is fully decided: models, mode, tasks, limits."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

from swarmcli import __version__
from swarmcli.adapters.folders import block_key
from swarmcli.app.intake import Intake, read_plan_file
from swarmcli.app.models import (
    LOCAL_PARALLEL,
    asked_by,
    check_prices,
    choose_roles,
    is_local,
    judges,
    models_in_use,
    no_model,
    parallel_of,
    with_fallbacks,
)
from swarmcli.app.options import RunOptions
from swarmcli.app.workspace import Workspace
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.events import RunStarted
from swarmcli.core.plan import Plan, PlanBuilder, Task, final_tasks
from swarmcli.core.planform import document_of
from swarmcli.core.replay import History
from swarmcli.core.routing import ModeChoice, Roles, choose_mode, single_mode
from swarmcli.core.tally import with_vote
from swarmcli.engine.order import Merge, RunOrder
from swarmcli.errors import PlanError, StorageError
from swarmcli.recipe.values import CacheRules, Limits, MergeStrategy, ModelSpec, Recipe
from swarmcli.ui.clean import clean
from swarmcli.ui.say import err

ANY_NUMBER = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A decided run: what is asked, of whom, and under which limits."""

    intake: Intake
    options: RunOptions
    roles: Roles | None
    """None when no model can be used; allowed for a dry run only."""
    mode: ModeChoice
    tasks: tuple[Task, ...] | None
    planner_made: bool
    limits: Limits
    cache: CacheRules
    parallel: int
    merge_in_code: Merge | None = None

    @property
    def recipe(self) -> Recipe:
        """The recipe as loaded."""
        return self.intake.recipe

    @property
    def local_parallel(self) -> int | None:
        """Requests at once to a model on this machine, where nobody said how many agents may work."""
        return LOCAL_PARALLEL if self.limits.parallel is None else None

    @property
    def merge(self) -> MergeStrategy:
        """The strategy as far as it is known before the plan is."""
        strategy = self.recipe.merge
        if strategy != "auto" or self.tasks is None:
            return strategy
        if self.planner_made and len(final_tasks(self.tasks)) > 1:
            return "write"
        return strategy

    @property
    def wants_claims(self) -> bool:
        """Whether agents are asked for keyed claims: where a planner split one job, or the recipe has them compared."""
        verify = self.recipe.verify
        return self.planner_made or self.tasks is None or (verify is not None and verify.conflicts)

    def models(self) -> list[ModelSpec]:
        """The models that may be called."""
        if self.roles is None:
            return []
        if self.tasks is None and self.mode.mode != "swarm":
            role = "small" if self.mode.mode == "instant" else "large"
            names = [*asked_by(self.recipe.vote, role), *judges(self.recipe.verify)]
            return list({spec.id: spec for spec in map(self.roles.resolve, names)}.values())
        return models_in_use(self.recipe, self.roles, self.tasks, self.merge)


def prepare(
    ws: Workspace,
    intake: Intake,
    options: RunOptions,
    *,
    history: History | None = None,
    tasks: tuple[Task, ...] | None = None,
    merge_in_code: Merge | None = None,
) -> Prepared:
    """Decide everything that can be decided before a model is reached.

    Args:
        ws: settings and folders.
        intake: the recipe with its parameters and material.
        options: the flags.
        history: what earlier sessions of this run left.
        tasks: a graph that replaces the recipe's (`map`).
        merge_in_code: replaces the merge strategy (`map`).

    Raises:
        UsageError: a flag or a plan file cannot be used.
    """
    recipe = intake.recipe
    roles = choose_roles(recipe, options.models, ws.surroundings())
    fixed = tasks if tasks is not None else intake.tasks
    mode = choose_mode(
        recipe,
        intake.job_outline,
        options.mode,
        has_material=bool(intake.materials or intake.files),
    )
    plan = _existing_plan(recipe, roles, options, history)
    if plan is not None:
        fixed = plan.tasks or None
        declined = single_mode(plan.mode)
        mode = ModeChoice(mode="swarm" if fixed else declined, reason="the plan exists already")
    elif fixed is not None:
        mode = ModeChoice(mode="swarm", reason="the tasks are fixed")
    if fixed is not None:
        fixed = with_vote(fixed, recipe.vote)
    _tell_foreign_endpoints(recipe)
    prepared = Prepared(
        intake=intake,
        options=options,
        roles=roles,
        mode=mode,
        tasks=fixed,
        planner_made=plan is not None,
        limits=_limits(ws, recipe, options),
        cache=_cache(ws, recipe, options),
        parallel=0,
        merge_in_code=merge_in_code,
    )
    return replace(
        prepared, parallel=parallel_of(prepared.limits.parallel, prepared.models(), recipe.rate)
    )


def _tell_foreign_endpoints(recipe: Recipe) -> None:
    """A recipe may send prompts and a key anywhere, but never silently, also with `-q`."""
    for spec in recipe.models.values():
        if (
            isinstance(spec, ModelSpec)
            and spec.api_base
            and (spec.api_key_env or not is_local(spec))
        ):
            key = f" with the key in {spec.api_key_env}" if spec.api_key_env else ""
            where = clean(spec.api_base)
            err(f"note: the recipe sends requests for {clean(spec.id)}{key} to {where}")


def require_models(prepared: Prepared, ws: Workspace) -> Roles:
    """The run's models, with prices known where a cap needs them.

    Raises:
        NoModelError: there is no model; UsageError: a cap in dollars cannot hold.
    """
    if prepared.roles is None:
        raise no_model(ws.surroundings().env)
    check_prices(
        with_fallbacks(prepared.models(), prepared.roles),
        prepared.limits.max_cost_usd,
        allow_unpriced=prepared.options.allow_unpriced,
    )
    return prepared.roles


def order_of(prepared: Prepared, roles: Roles, history: History | None) -> RunOrder:
    """The engine's order."""
    recipe, options, limits = prepared.recipe, prepared.options, prepared.limits
    form = recipe.output.format
    return RunOrder(
        mode=prepared.mode,
        tasks=prepared.tasks,
        started=RunStarted(
            recipe=recipe.name,
            models={role: spec.id for role, spec in roles.models.items()},
            model_reason=roles.reason,
            resumed=history is not None,
            max_cost_usd=limits.max_cost_usd,
            parallel=prepared.parallel,
            version=__version__,
        ),
        parallel=prepared.parallel,
        max_tasks=options.max_agents or recipe.plan.max_tasks,
        replans=_replans(prepared, history),
        merge=recipe.merge,
        in_code=form if form in ("json", "jsonl") else "concat",
        planner_made=prepared.planner_made,
        merge_in_code=prepared.merge_in_code,
        fail_fast=options.fail_fast or recipe.on_error == "fail_fast",
        min_success=recipe.min_success if options.min_success is None else options.min_success,
        timeout_s=limits.timeout_s,
        task_timeout_s=limits.task_timeout_s,
        reserve=limits.reserve,
        verify=recipe.verify,
        vote=recipe.vote,
        schema=recipe.output.schema,
        history=history or History(),
    )


def _replans(prepared: Prepared, history: History | None) -> int:
    """A plan that a person wrote or read stays as it is."""
    fixed = prepared.tasks is not None and not prepared.planner_made
    if fixed or prepared.options.plan_file is not None:
        return 0
    return max(0, prepared.recipe.plan.replans - (history.replans if history else 0))


def blocks_of(ws: Workspace) -> DataBlocks:
    """Data blocks under this machine's key; where the state folder cannot be written, under a key of this run."""
    try:
        return DataBlocks(block_key(ws.folders.state))
    except StorageError:
        return DataBlocks(os.urandom(32))


def _existing_plan(
    recipe: Recipe, roles: Roles | None, options: RunOptions, history: History | None
) -> Plan | None:
    """The plan of an earlier session of this run, else the one that the user gives."""
    models: Mapping[str, ModelSpec] = roles.models if roles is not None else {}
    if history is None or history.plan is None:
        if options.plan_file is None:
            return None
        return read_plan_file(
            options.plan_file, recipe, models=models, max_tasks=options.max_agents or ANY_NUMBER
        )
    builder = PlanBuilder(max_tasks=ANY_NUMBER, profiles=recipe.agents, models=models)
    try:
        document = document_of(history.plan)
        for draft in document.drafts:
            builder.add(draft)
        return builder.finish(document.mode)
    except PlanError:
        return None


def _limits(ws: Workspace, recipe: Recipe, options: RunOptions) -> Limits:
    """Flag over recipe over environment over config files."""
    below, limits = ws.settings.merged, recipe.limits
    return replace(
        limits,
        parallel=options.jobs or limits.parallel or (below.jobs.value if below.jobs else None),
        timeout_s=options.timeout_s or limits.timeout_s,
        task_timeout_s=options.task_timeout_s or limits.task_timeout_s,
        max_cost_usd=options.max_cost_usd
        or limits.max_cost_usd
        or (below.max_cost.value if below.max_cost else None),
        max_tokens=options.max_tokens or limits.max_tokens,
    )


def _cache(ws: Workspace, recipe: Recipe, options: RunOptions) -> CacheRules:
    """Flag over recipe over environment over config files."""
    below = ws.settings.merged.cache
    mode = options.cache or recipe.cache.mode or (below.value if below else None)
    return replace(recipe.cache, mode=mode)
