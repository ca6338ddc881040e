"""`--dry-run`: what would run, without a call and without a key."""

from typing import Any

from swarmcli.adapters.model_table import facts_of
from swarmcli.app.deliver import json_text
from swarmcli.app.prepare import Prepared
from swarmcli.core.budget import cost_of
from swarmcli.core.plan import Task, final_tasks
from swarmcli.core.tokens import estimate_tokens
from swarmcli.recipe.template import render
from swarmcli.ui.clean import one_line
from swarmcli.ui.say import out, write_out

GUESSED_OUTPUT_TOKENS = 400
INSTRUCTION_TOKENS = 120
"""What our own instructions add to a prompt."""
MOST_ROWS = 40


def preview(prepared: Prepared) -> int:
    """Print the agents that are known, and an estimate; exit code 0."""
    facts = _facts(prepared)
    if prepared.options.format != "text":
        write_out(json_text(facts).encode())
        return 0
    out("\n".join(_lines(prepared, facts)))
    return 0


def prompt_before_run(prepared: Prepared, task: Task) -> str:
    """A task's prompt as far as it is known without any output: `{{ inputs.x }}` is named."""
    if not task.template:
        return task.prompt
    variables = {**prepared.intake.variables, "inputs": _Names()}
    if task.item_name is not None:
        variables[task.item_name] = task.item
    return render(task.prompt, variables).strip()


class _Names:
    """Stands for outputs that do not exist yet."""

    def __getitem__(self, name: str) -> str:
        return f"(the output of {name})"


def _facts(prepared: Prepared) -> dict[str, Any]:
    tasks = prepared.tasks
    roles = prepared.roles
    merge_calls = 1 if prepared.merge == "write" and prepared.merge_in_code is None else 0
    return {
        "recipe": prepared.recipe.name,
        "mode": prepared.mode.mode,
        "reason": prepared.mode.reason,
        "models": {role: spec.id for role, spec in roles.models.items()} if roles else {},
        "parallel": prepared.parallel,
        "agents": [_agent(task) for task in tasks] if tasks is not None else None,
        "calls": len(tasks) + merge_calls if tasks is not None else None,
        "estimate": _estimate(prepared, tasks) if tasks is not None else None,
    }


def _agent(task: Task) -> dict[str, Any]:
    return {
        "agent": task.id,
        "depends_on": [d.name for d in task.depends_on],
        "model": task.model or "small",
        "profile": task.profile,
    }


def _estimate(prepared: Prepared, tasks: tuple[Task, ...]) -> dict[str, Any]:
    input_tokens = sum(
        estimate_tokens(prompt_before_run(prepared, task)) + INSTRUCTION_TOKENS for task in tasks
    )
    output_tokens = GUESSED_OUTPUT_TOKENS * len(tasks)
    small = prepared.roles.resolve("small") if prepared.roles else None
    price = facts_of(small).price if small else None
    return {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cost_usd": cost_of(price, input_tokens, output_tokens),
    }


def _lines(prepared: Prepared, facts: dict[str, Any]) -> list[str]:
    models = ", ".join(dict.fromkeys(facts["models"].values())) or "none yet (swarm doctor)"
    lines = [
        f"recipe   {prepared.recipe.name}",
        f"mode     {facts['mode']} ({facts['reason']})",
        f"models   {models}",
    ]
    tasks = prepared.tasks
    if tasks is None:
        calls = (
            "1 call"
            if facts["mode"] != "swarm"
            else "1 planner call, then as many agents as it plans"
        )
        return [*lines, f"calls    {calls}", "nothing was sent"]
    estimate = facts["estimate"]
    cost = "cost unknown" if estimate["cost_usd"] is None else f"about ${estimate['cost_usd']:.4f}"
    lines += [
        f"agents   {len(tasks)}, {prepared.parallel} at once",
        f"calls    {facts['calls']}, about {estimate['input_tokens'] + estimate['output_tokens']:,} tokens, {cost}",
        "",
    ]
    final = {task.id for task in final_tasks(tasks)}
    for task in tasks[:MOST_ROWS]:
        after = f"  after {', '.join(d.name for d in task.depends_on)}" if task.depends_on else ""
        mark = "*" if task.id in final else " "
        lines.append(
            f"  {mark} {task.id:<16} {one_line(prompt_before_run(prepared, task))[:70]}{after}"
        )
    if len(tasks) > MOST_ROWS:
        lines.append(f"    ... and {len(tasks) - MOST_ROWS} more")
    return [*lines, "", "* is merged into the result; nothing was sent"]
