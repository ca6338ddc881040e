"""`swarm plan`: ask for a plan and print it, without running any of it."""

import asyncio
import os
from dataclasses import replace

from swarmcli.adapters.clock import SystemClock
from swarmcli.app.compose import PathOrder, compose
from swarmcli.app.deliver import json_text, write_result
from swarmcli.app.models import preflight, resolver
from swarmcli.app.prepare import Prepared, require_models
from swarmcli.app.preview import prompt_before_run
from swarmcli.app.session import briefing_of, budget_of
from swarmcli.app.workspace import Workspace
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.events import CallRetry, Event, Warned
from swarmcli.core.plan import Dependency, Plan, Task, to_document
from swarmcli.core.routing import Roles
from swarmcli.engine.agent import DEFAULT_CALL_TIMEOUT_S
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.planner import Planner


def print_plan(prepared: Prepared, ws: Workspace, blocks: DataBlocks) -> int:
    """Plan v1 to stdout or to `-o FILE`; exit code 0.

    Raises:
        SwarmError: no plan could be made.
    """
    if prepared.tasks is not None:
        document = to_document("swarm", [_flat(task, prepared) for task in prepared.tasks])
    else:
        roles = require_models(prepared, ws)
        preflight([roles.resolve("planner")], ws.surroundings())
        plan = asyncio.run(_plan(prepared, roles, ws, blocks))
        document = to_document(plan.mode, plan.tasks)
    write_result(json_text(document), output=prepared.options.output, is_prose=False)
    tasks = document["tasks"]
    ws.note(f"{len(tasks) if isinstance(tasks, list) else 0} tasks; run it with --plan FILE")
    return 0


def _flat(task: Task, prepared: Prepared) -> Task:
    """A fixed task as plan v1 can say it: rendered, and with an id that a plan may use."""
    needs = tuple(
        Dependency(name=_plain(agent), agents=(_plain(agent),))
        for d in task.depends_on
        for agent in d.agents
    )
    return replace(
        task, id=_plain(task.id), prompt=prompt_before_run(prepared, task), depends_on=needs
    )


def _plain(agent: str) -> str:
    return agent.replace("[", "-").replace("]", "")


async def _plan(prepared: Prepared, roles: Roles, ws: Workspace, blocks: DataBlocks) -> Plan:
    def emit(event: Event) -> None:
        if isinstance(event, Warned):
            ws.note(event.message)
        elif isinstance(event, CallRetry):
            ws.note(
                f"{event.kind}, tries again in {event.delay_s:g} s ({event.attempt}/{event.max})"
            )

    clock = SystemClock()
    order = PathOrder(
        resolve=resolver(roles, os.environ),
        local_parallel=prepared.local_parallel,
        rates=prepared.recipe.rate,
        attempts=prepared.recipe.retry_attempts,
        cache=prepared.cache,
        budget=budget_of(prepared),
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
        return await planner.plan()
    finally:
        await client.close()
