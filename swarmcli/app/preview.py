"""`--dry-run`: what would run, without a call and without a key."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from swarmcli.app.deliver import json_text
from swarmcli.app.forecast import Forecast, Share, forecast
from swarmcli.app.prepare import Prepared
from swarmcli.app.session import briefing_of
from swarmcli.core.blocks import DataBlocks
from swarmcli.core.plan import Task, final_tasks
from swarmcli.core.routing import Roles
from swarmcli.core.spend import Amount
from swarmcli.recipe.template import TemplateError, render, roots
from swarmcli.recipe.values import ROLES, ModelSpec
from swarmcli.ui.clean import one_line
from swarmcli.ui.say import out, write_out

MOST_ROWS = 40
_NO_MODEL = ModelSpec(id="(no model)")
"""Stands for a model where none can be used yet; nobody knows its price."""


def preview(
    prepared: Prepared, blocks: DataBlocks, cwd: Path, *, done: Collection[str] = ()
) -> int:
    """Print the agents that are known, and what the run will probably take; exit code 0.

    Args:
        prepared: the run.
        blocks: wrap outside text.
        cwd: the root of file names.
        done: agents that an earlier session has finished; they are not asked again.
    """
    roles = prepared.roles or no_roles(prepared)
    briefing = briefing_of(prepared, roles, blocks, cwd, lambda _message: None)
    foreseen = forecast(prepared, briefing, done=done)
    facts = {
        **_facts(prepared, foreseen),
        "done": [t.id for t in prepared.tasks or () if t.id in done],
    }
    if prepared.options.format not in {None, "text"}:
        write_out(json_text(facts).encode())
        return 0
    out("\n".join(_lines(prepared, facts, foreseen)))
    return 0


def estimate_words(amount: Amount) -> str:
    """`about 12,345 tokens, about $0.0123`; an unknown price is said, never taken for 0."""
    cost = "cost unknown" if amount.cost_usd is None else f"about ${amount.cost_usd:.4f}"
    return f"about {amount.tokens:,} tokens, {cost if amount.cost_usd != 0 else 'free'}"


def prompt_before_run(prepared: Prepared, task: Task) -> str:
    """A task's prompt as far as it is known without any output: `{{ inputs.x }}` is named.

    Where it needs more of an output than its name, it is the template.
    """
    if not task.template:
        return task.prompt
    variables = {**prepared.intake.variables, "inputs": _Names()}
    if task.item_name is not None:
        variables[task.item_name] = task.item
    try:
        return render(task.prompt, variables).strip()
    except TemplateError:
        if "inputs" in roots(task.prompt):
            return task.prompt.strip()  # such as the third line of an output
        raise


class _Names:
    """Stands for outputs that do not exist yet."""

    def __getitem__(self, name: str) -> str:
        return f"(the output of {name})"


def no_roles(prepared: Prepared) -> Roles:
    """Every role of a run that has no model yet."""
    return Roles(models=dict.fromkeys((*ROLES, *prepared.recipe.models), _NO_MODEL), reason="")


def _facts(prepared: Prepared, foreseen: Forecast) -> dict[str, Any]:
    tasks, roles = prepared.tasks, prepared.roles
    return {
        "recipe": prepared.recipe.name,
        "mode": prepared.mode.mode,
        "reason": prepared.mode.reason,
        "models": {role: spec.id for role, spec in roles.models.items()} if roles else {},
        "parallel": prepared.parallel,
        "agents": [_agent(task, prepared) for task in tasks] if tasks is not None else None,
        "calls": foreseen.calls if tasks is not None else None,
        "estimate": _estimate(foreseen),
        "warnings": _warnings(prepared, foreseen),
    }


def _agent(task: Task, prepared: Prepared) -> dict[str, Any]:
    profile = prepared.recipe.agents.get(task.profile or "")
    return {
        "agent": task.id,
        "depends_on": [d.name for d in task.depends_on],
        "model": task.model or (profile.model if profile else None) or "small",
        "profile": task.profile,
    }


def _estimate(foreseen: Forecast) -> dict[str, Any]:
    return {
        "input_tokens": foreseen.input_tokens,
        "output_tokens": foreseen.output_tokens,
        "cost_usd": foreseen.total.cost_usd,
        "complete": foreseen.complete,
        "by_model": [asdict(share) for share in foreseen.shares],
    }


def _warnings(prepared: Prepared, foreseen: Forecast) -> list[str]:
    allowed = prepared.options.allow_unpriced or prepared.roles is None
    return foreseen.warnings(prepared.limits, allow_unpriced=allowed)


def _lines(prepared: Prepared, facts: dict[str, Any], foreseen: Forecast) -> list[str]:
    models = ", ".join(dict.fromkeys(facts["models"].values())) or "none yet (swarm doctor)"
    tasks = prepared.tasks
    lines = [
        f"recipe   {prepared.recipe.name}",
        f"mode     {facts['mode']} ({facts['reason']})",
        f"models   {models}",
    ]
    if tasks is not None:
        before = f", {len(facts['done'])} done before" if facts["done"] else ""
        lines.append(f"agents   {len(tasks)}, {prepared.parallel} at once{before}")
    lines += _calls(foreseen)
    lines += [f"warning  {one_line(warning)}" for warning in facts["warnings"]]
    if tasks is None:
        return [*lines, "nothing was sent"]
    return [
        *lines,
        "",
        *_rows(prepared, tasks),
        "",
        "* is merged into the result; nothing was sent",
    ]


def _calls(foreseen: Forecast) -> list[str]:
    """How many calls, and what they take; one line a model where there are several."""
    if not foreseen.complete:
        more = ", then as many agents as it plans"
        return [f"calls    1 planner call ({estimate_words(foreseen.total)}){more}"]
    noun = "call" if foreseen.calls == 1 else "calls"
    lines = [f"calls    {foreseen.calls:,} {noun}, {estimate_words(foreseen.total)}"]
    if len(foreseen.shares) > 1:
        lines += [f"         {_share(share)}" for share in foreseen.shares]
    return lines


def _share(share: Share) -> str:
    amount = Amount(tokens=share.input_tokens + share.output_tokens, cost_usd=share.cost_usd)
    return f"{share.calls:,} {share.purpose} x {one_line(share.model)}: {estimate_words(amount)}"


def _rows(prepared: Prepared, tasks: tuple[Task, ...]) -> list[str]:
    final = {task.id for task in final_tasks(tasks)}
    rows: list[str] = []
    for task in tasks[:MOST_ROWS]:
        after = f"  after {', '.join(d.name for d in task.depends_on)}" if task.depends_on else ""
        mark = "*" if task.id in final else " "
        rows.append(
            f"  {mark} {task.id:<16} {one_line(prompt_before_run(prepared, task))[:70]}{after}"
        )
    if len(tasks) > MOST_ROWS:
        rows.append(f"    ... and {len(tasks) - MOST_ROWS} more")
    return rows
