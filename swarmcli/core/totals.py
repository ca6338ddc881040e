"""The numbers of a run, in the shape of `--json`."""

from collections.abc import Sequence
from typing import cast

from swarmcli.core.accounts import Accounts
from swarmcli.core.claims import Settled, conflict_record
from swarmcli.core.outcomes import Outcome
from swarmcli.core.receipt import Receipt
from swarmcli.core.spend import Amount, Spent
from swarmcli.core.tally import vote_totals
from swarmcli.recipe.values import Json


def totals(
    outcomes: Sequence[Outcome],
    *,
    receipt: Receipt,
    spent: Spent,
    duration_s: float,
    accounts: Accounts | None = None,
    unused: Sequence[str] = (),
    conflicts: Sequence[Settled] = (),
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
        accounts: what the calls were for; None leaves the sums of calls out of the receipt.
        unused: finished agents whose output reached no answer; those that a revised plan took out are in `accounts`.
        conflicts: what agents disagree about, and what came of it.
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
        "votes": vote_totals(o.vote for o in outcomes if o.vote is not None),
        "doubts": {
            "insufficient": [o.agent for o in outcomes if o.status == "insufficient"],
            "conflicting": [
                o.agent for o in outcomes if o.status == "conflict" and o.verdict != "reject"
            ],
            "rejected": [o.agent for o in outcomes if o.verdict == "reject"],
        },
        "conflicts": [conflict_record(one) for one in conflicts],
        "critical_path": {
            "seconds": receipt.critical_path_s,
            "agents": list(receipt.critical_path),
        },
        "speedup": receipt.speedup,
        "receipt": {
            "wall_s": receipt.wall_s,
            "agent_s": receipt.agent_s,
            "serial_s": receipt.serial_s,
            "critical_steps": receipt.critical_steps,
            **calls_of(accounts or Accounts()),
            "unused": _unused(
                [o for o in outcomes if o.agent in set(unused)],
                [] if accounts is None else accounts.discarded,
            ),
        },
        "failures": cast("list[Json]", failures),
    }


def calls_of(accounts: Accounts) -> dict[str, Json]:
    """The part of the receipt that a run without an end has too: who asked and paid, and which calls were spared."""
    return {
        "roles": {
            role: {
                "calls": spent.calls,
                "tokens": spent.usage.input_tokens + spent.usage.output_tokens,
                "cost_usd": _rounded(spent.cost_usd) if spent.cost_known else None,
            }
            for role, spent in accounts.roles.items()
        },
        "lost": {"calls": accounts.lost_calls, **_amount(accounts.lost)},
        "hedged": accounts.hedged,
        "folded": accounts.folded,
        "cached": accounts.cached,
    }


def _unused(
    outcomes: Sequence[Outcome], discarded: Sequence[tuple[str, Amount]]
) -> dict[str, Json]:
    """Whose work reached no answer, and what it took."""
    took = [*discarded, *((o.agent, _paid(o)) for o in outcomes)]
    names = dict.fromkeys(name for name, _ in took)
    whole = sum((amount for _, amount in took), Amount())
    return {"agents": list(names), **_amount(whole)}


def _paid(outcome: Outcome) -> Amount:
    """What an agent took; nothing for a cached answer."""
    usage = outcome.usage
    if usage is None or outcome.cached:
        return Amount(cost_usd=outcome.cost_usd)
    return Amount(tokens=usage.input_tokens + usage.output_tokens, cost_usd=outcome.cost_usd)


def _amount(amount: Amount) -> dict[str, Json]:
    return {"cost_usd": _rounded(amount.cost_usd), "tokens": amount.tokens}


def _rounded(cost_usd: float | None) -> float | None:
    return None if cost_usd is None else round(cost_usd, 6)
