"""`swarm plan`: ask for a plan and print it, without running any of it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from swarmcli.adapters.clock import SystemClock
from swarmcli.app.compose import PathOrder, compose, share_limits
from swarmcli.app.deliver import json_text, write_result
from swarmcli.app.forecast import forecast
from swarmcli.app.models import preflight
from swarmcli.app.prepare import Prepared, require_models
from swarmcli.app.preview import estimate_words, no_roles, prompt_before_run
from swarmcli.app.session import briefing_of, budget_of
from swarmcli.app.workspace import Workspace
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.budget import Budget
from swarmcli.core.events import CallRetry, Event, Warned
from swarmcli.core.plan import TASK_ID, Dependency, Plan, Task, to_document
from swarmcli.core.planshape import shape_warnings
from swarmcli.core.routing import ModeChoice, Roles, single_mode
from swarmcli.engine.agent import DEFAULT_CALL_TIMEOUT_S
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.planner import Planner


def print_plan(prepared: Prepared, ws: Workspace, blocks: DataBlocks) -> int:
    """Plan v1 to stdout or to `-o FILE`; exit code 0.

    Raises:
        SwarmError: no plan could be made.
    """
    if prepared.tasks is not None:
        planned = prepared
        ids = _plan_ids([task.id for task in prepared.tasks])
        document = to_document("swarm", [_flat(task, prepared, ids) for task in prepared.tasks])
    else:
        roles = require_models(prepared, ws)
        preflight([roles.resolve("planner")], ws.surroundings())
        plan, budget = asyncio.run(_plan(prepared, roles, ws, blocks))
        planned = _with_plan(prepared, plan)
        for warning in shape_warnings(plan.tasks):
            ws.note(f"warning: {warning}")
        document = to_document(plan.mode, plan.tasks)
        ws.note(f"planning took {_taken(budget)}")
    write_result(json_text(document), output=prepared.options.output, is_prose=False)
    _tell_estimate(planned, ws, blocks)
    return 0


def _with_plan(prepared: Prepared, plan: Plan) -> Prepared:
    """The run that this plan makes; one without tasks is a single call."""
    if plan.tasks:
        return replace(prepared, tasks=plan.tasks, planner_made=True)
    declined = ModeChoice(mode=single_mode(plan.mode), reason="the planner declined to split")
    return replace(prepared, mode=declined)


def _taken(budget: Budget) -> str:
    spent = budget.spent
    cost = f"${spent.cost_usd:.4f}" if spent.cost_known else "unknown cost"
    return f"{spent.tokens:,} tokens, {cost}"


def _tell_estimate(planned: Prepared, ws: Workspace, blocks: DataBlocks) -> None:
    """What running the plan will probably take, on stderr: stdout is the plan."""
    number = len(planned.tasks or ())
    roles = planned.roles or no_roles(planned)
    foreseen = forecast(planned, briefing_of(planned, roles, blocks, ws.cwd, ws.note))
    ws.note(
        f"{number} {'task' if number == 1 else 'tasks'}, {foreseen.calls} calls, "
        f"{estimate_words(foreseen.total)}; run it with --plan FILE"
    )
    for warning in foreseen.warnings(planned.limits, allow_unpriced=planned.options.allow_unpriced):
        ws.note(f"warning: {warning}")


def _flat(task: Task, prepared: Prepared, ids: Mapping[str, str]) -> Task:
    """A fixed task as plan v1 can say it: rendered, and with an id that a plan may use."""
    needs = tuple(
        Dependency(name=ids[agent], agents=(ids[agent],))
        for d in task.depends_on
        for agent in d.agents
    )
    return replace(
        task, id=ids[task.id], prompt=prompt_before_run(prepared, task), depends_on=needs
    )


def _plan_ids(agents: Sequence[str]) -> dict[str, str]:
    """Agent -> an id of its own that a plan may use: `scan[3]` is `scan-3`, where no other task is called that."""
    ids = {agent: agent for agent in agents if TASK_ID.fullmatch(agent)}
    taken = set(ids)
    for place, agent in enumerate(agents, start=1):
        name = agent.replace("[", "-").replace("]", "")
        if name in taken or not TASK_ID.fullmatch(name):
            name = f"t{place}"
        while agent not in ids and name in taken:
            name += "_"
        taken.add(ids.setdefault(agent, name))
    return ids


async def _plan(
    prepared: Prepared, roles: Roles, ws: Workspace, blocks: DataBlocks
) -> tuple[Plan, Budget]:
    def emit(event: Event) -> None:
        if isinstance(event, Warned):
            ws.note(event.message)
        elif isinstance(event, CallRetry):
            ws.note(
                f"{event.kind}, tries again in {event.delay_s:g} s ({event.attempt}/{event.max})"
            )

    clock, budget = SystemClock(), budget_of(prepared)
    shared = share_limits(ws.folders.state, clock=clock, emit=emit)
    order = PathOrder(
        resolve=roles.resolve,
        local_parallel=prepared.local_parallel,
        rates=prepared.recipe.rate,
        shared=shared,
        attempts=prepared.recipe.retry_attempts,
        hedge=None,
        cache=prepared.cache,
        budget=budget,
        cache_dir=ws.folders.cache,
        log=None,
    )
    client = compose(order, clock=clock, emit=emit)
    briefing: Briefing = briefing_of(prepared, roles, blocks, ws.cwd, ws.note)
    planner = Planner(
        client=client,
        briefing=briefing,
        emit=emit,
        clock=clock,
        max_tasks=prepared.options.max_agents or prepared.recipe.plan.max_tasks,
        on_tasks=lambda _tasks: None,
        timeout_s=prepared.limits.task_timeout_s or DEFAULT_CALL_TIMEOUT_S,
    )
    try:
        return await planner.plan(), budget
    finally:
        await client.close()
        shared.close()
