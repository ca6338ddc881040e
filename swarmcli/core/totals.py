"""The numbers of a run, in the shape of `--json`."""

from collections.abc import Sequence
from typing import cast

from swarmcli.core.outcomes import Outcome
from swarmcli.core.receipt import Receipt
from swarmcli.core.spend import Amount, Spent
from swarmcli.recipe.values import Json


def totals(
    outcomes: Sequence[Outcome], *, receipt: Receipt, spent: Spent, duration_s: float
) -> dict[str, Json]:
    """Count and add up.

    Money, tokens and calls are those of every request of the run, over all of its sessions: agents, planner, writer,
    retries, and calls that failed or were cut off. `usage` and `cost_usd` hold what providers have said, and the cost
    is null where one call's is unknown. `estimate` is what had been set aside for these calls before they were sent;
    `booked` is what the caps count, with the estimate in place of what nobody has said. Cached answers cost nothing.

    Args:
        outcomes: every agent of the plan.
        receipt: speed-up and critical path.
        spent: the run's ledger.
        duration_s: wall time of this session.
    """
    states = [o.state for o in outcomes]
    failures = [
        {"agent": o.agent, "kind": o.failure.kind, "message": o.failure.message}
        for o in outcomes
        if o.state == "failed" and o.failure is not None
    ]
    return {
        "cost_usd": _rounded(spent.cost_usd) if spent.cost_known else None,
        "usage": {
            "input_tokens": spent.usage.input_tokens,
            "output_tokens": spent.usage.output_tokens,
            "cached_tokens": spent.usage.cached_tokens,
            "calls": spent.calls,
        },
        "estimate": _amount(spent.estimate),
        "booked": _amount(spent.booked),
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


def _amount(amount: Amount) -> Json:
    return {"cost_usd": _rounded(amount.cost_usd), "tokens": amount.tokens}


def _rounded(cost_usd: float | None) -> float | None:
    return None if cost_usd is None else round(cost_usd, 6)
