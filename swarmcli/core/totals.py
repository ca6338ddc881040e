"""The numbers of a run, in the shape of `--json`."""

from collections.abc import Iterable, Sequence
from typing import cast

from swarmcli.core.events import Usage
from swarmcli.core.outcomes import Outcome
from swarmcli.core.receipt import Receipt
from swarmcli.recipe.values import Json


def totals(
    outcomes: Sequence[Outcome],
    *,
    receipt: Receipt,
    other_usage: Iterable[Usage | None],
    other_costs: Iterable[float | None],
    calls: int,
    duration_s: float,
) -> dict[str, Json]:
    """Count and add up.

    Args:
        outcomes: every agent of the plan.
        receipt: speed-up and critical path.
        other_usage: tokens of planner and writer.
        other_costs: their costs; None among them, or among the agents' costs, makes the sum unknown.
        calls: requests sent to providers, failed ones included.
        duration_s: wall time of the run.
    """
    usage = Usage()
    for one in [*(o.usage for o in outcomes if not o.cached), *other_usage]:
        usage = usage + one if one is not None else usage
    states = [o.state for o in outcomes]
    failures = [
        {"agent": o.agent, "kind": o.failure.kind, "message": o.failure.message}
        for o in outcomes
        if o.state == "failed" and o.failure is not None
    ]
    return {
        "cost_usd": _sum([*(o.cost_usd for o in outcomes), *other_costs]),
        "usage": {
            "input_tokens": usage.input_tokens,
            "output_tokens": usage.output_tokens,
            "cached_tokens": usage.cached_tokens,
            "calls": calls,
        },
        "duration_s": round(duration_s, 3),
        "agents": {
            "total": len(states),
            "done": states.count("done"),
            "failed": states.count("failed"),
            "skipped": states.count("skipped"),
            "cancelled": states.count("cancelled"),
            "cached": sum(o.cached for o in outcomes),
            "hedged": sum(o.hedged for o in outcomes),
        },
        "votes": {"tasks": 0, "agreed": 0, "escalated": 0},
        "conflicts": [],
        "critical_path": {
            "seconds": receipt.critical_path_s,
            "agents": list(receipt.critical_path),
        },
        "speedup": receipt.speedup,
        "failures": cast("list[Json]", failures),
    }


def _sum(costs: Sequence[float | None]) -> float | None:
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 6) if len(known) == len(costs) else None
