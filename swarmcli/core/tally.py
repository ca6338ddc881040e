"""What votes came to: kept with each agent, added up for the run."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from swarmcli.core.plan import Task, final_tasks
from swarmcli.recipe.values import Json, Vote


@dataclass(frozen=True, slots=True, kw_only=True)
class VoteResult:
    """What a vote came to, and what it took: kept with the agent's outcome. Money is US dollars."""

    value: str | None = None
    """The leading value as text; None when nobody gave one."""
    counts: Mapping[str, int] = field(default_factory=dict[str, int], hash=False)
    """Value -> votes, most votes first."""
    asked: int = 0
    """Votes that were asked for in the beginning; 0 when nobody was asked because routing had stopped."""
    agreed: bool = False
    """The rule was fulfilled."""
    escalated: bool = False
    """The escalation model's answer stands, because the votes disagreed or are not trusted."""
    audited: bool = False
    """They agreed, and the escalation model has checked that."""
    differs: bool = False
    """It came to another value."""
    stopped: bool = False
    """Routing had stopped when this agent ended."""
    jury: str = ""
    """Who voted and who decided; whether other models are to be trusted it does not say."""
    small_calls: int = 0
    """Votes that were answered, those included that were not trusted any more later on."""
    large_calls: int = 0
    """Answers of the escalation model, audits included."""
    small_usd: float | None = 0.0
    """None: unknown, or from the cache, which says nothing about the price."""
    large_usd: float | None = 0.0

    @property
    def surely_wrong(self) -> float | None:
        """The share of the votes that is wrong whichever value is right; None where fewer than two have voted."""
        votes = sum(self.counts.values())
        return None if votes < 2 else 1 - max(self.counts.values()) / votes

    def record(self) -> dict[str, Json]:
        """As JSON, for the journal."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def vote_result_of(record: Json) -> VoteResult | None:
    """The inverse of `VoteResult.record`; None for anything else. Unknown fields are ignored."""
    if not isinstance(record, dict) or not record:
        return None
    known: dict[str, Any] = {f.name: record[f.name] for f in fields(VoteResult) if f.name in record}
    return VoteResult(**known)


def vote_totals(results: Iterable[VoteResult]) -> dict[str, Json]:
    """The votes of a run, in the shape of `--json`.

    `tasks` is the agents that voted and have an answer: `agreed`, those whose votes stand, plus `escalated`. `divided`
    is how many of `agreed` took the leading value without agreement, because the recipe names nobody to ask.
    """
    votes = tuple(results)
    escalated = sum(vote.escalated for vote in votes)
    return {
        "tasks": len(votes),
        "agreed": len(votes) - escalated,
        "escalated": escalated,
        "divided": sum(not (vote.agreed or vote.escalated) for vote in votes),
        "audited": sum(vote.audited for vote in votes),
        "routing_stopped": any(vote.stopped for vote in votes),
        "cost": _cost_identity(votes),
    }


def _cost_identity(votes: Sequence[VoteResult]) -> Json:
    """`cost / large = k*r + e`: what the votes cost by what asking the large model alone would have cost.

    k: mean small calls an item; r: price of a small call by that of a large one; e: large calls an item. None where
    a price is unknown, an answer came from the cache, or the large model was never asked. The identity of
    FrugalGPT-like cascades; see there (arXiv 2305.05176) for why only r well below 1/k saves anything.
    """
    small, large = (
        sum(vote.small_calls for vote in votes),
        sum(vote.large_calls for vote in votes),
    )
    small_usd, large_usd = 0.0, 0.0
    for vote in votes:
        if vote.small_usd is None or vote.large_usd is None:
            return None
        small_usd += vote.small_usd
        large_usd += vote.large_usd
    if not small or not large or large_usd <= 0:
        return None
    k, e = small / len(votes), large / len(votes)
    r = (small_usd / small) / (large_usd / large)
    return {"k": round(k, 3), "r": round(r, 4), "e": round(e, 4), "of_large": round(k * r + e, 4)}


def with_vote(tasks: Iterable[Task], vote: Vote | None) -> tuple[Task, ...]:
    """The tasks, with `vote` as the default of the leaf agents."""
    everything = tuple(tasks)
    if vote is None:
        return everything
    leaves = {task.id for task in final_tasks(everything)}
    return tuple(
        replace(task, vote=vote) if task.id in leaves and task.vote is None else task
        for task in everything
    )
