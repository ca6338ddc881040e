"""What our code tells the writer about the results.

Rule: kinds, states and ids only, because messages may quote outside text.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from swarmcli.core.claims import Settled
from swarmcli.core.factsheet import conflict_lines
from swarmcli.core.outcomes import Outcome
from swarmcli.core.tokens import estimate_tokens


def remarks_on(
    leaves: Sequence[Outcome],
    conflicts: Sequence[Settled],
    *,
    wrap: Callable[[str, str], str],
    budget: int,
) -> str:
    """All that the writer is told beside the results, in about `budget` tokens: who failed, doubts, conflicts.

    Args:
        leaves: how the final agents ended.
        conflicts: what agents contradict each other in; the words are theirs and stand in a block.
        wrap: makes data blocks.
        budget: tokens; headings come on top.
    """
    disputed = _conflict_block(conflicts, budget // 2, wrap)
    left = budget - estimate_tokens(disputed)
    doubtful = doubtful_lines(leaves, left // 2)
    failed = failed_lines(leaves, left - estimate_tokens(doubtful))
    return "\n\n".join(part for part in (failed, doubtful, disputed) if part)


def failed_lines(leaves: Sequence[Outcome], budget: int) -> str:
    """The agents without a result, one a line; by kind and in ranges where that takes more than `budget` tokens."""
    failed = [(leaf, _kind(leaf)) for leaf in leaves if leaf.output is None]
    if not failed:
        return ""
    head = "FAILED (no result):"
    each = "\n".join([head, *(f"- {leaf.agent}: {kind}" for leaf, kind in failed)])
    if estimate_tokens(each) <= budget:
        return each
    kinds: defaultdict[str, list[Outcome]] = defaultdict(list)
    for leaf, kind in failed:
        kinds[kind].append(leaf)
    named = _named(kinds, budget)
    return "\n".join([head, *(f"- {kind}: {who}" for kind, who in named.items())])


def doubtful_lines(leaves: Sequence[Outcome], budget: int) -> str:
    """Who has a result that something speaks against; in about `budget` tokens."""
    doubtful: defaultdict[str, list[Outcome]] = defaultdict(list)
    for leaf in leaves:
        if leaf.caveat:
            doubtful[leaf.caveat].append(leaf)
    lines = [f"- {who}: {caveat}" for caveat, who in _named(doubtful, budget).items()]
    return "\n".join(["DOUBTFUL (not a full result):", *lines]) if lines else ""


def _conflict_block(
    conflicts: Sequence[Settled], budget: int, wrap: Callable[[str, str], str]
) -> str:
    lines = conflict_lines(conflicts)
    if not lines:
        return ""
    kept = within(lines, budget)
    more = f" The first {len(kept)} of {len(lines)}." if len(kept) < len(lines) else ""
    block = wrap("conflicts", "\n".join(kept))
    return f"CONFLICTS (agents state different values for the same key).{more}\n{block}"


def within(lines: Sequence[str], budget: int) -> list[str]:
    """The first lines that take at most `budget` tokens together."""
    kept: list[str] = []
    for line in lines:
        budget -= estimate_tokens(line + "\n")
        if budget < 0:
            break
        kept.append(line)
    return kept


def _named(groups: Mapping[str, Sequence[Outcome]], budget: int) -> dict[str, str]:
    """For each group its agents, in an equal share of `budget` tokens."""
    return {name: _ranges(group, budget // len(groups)) for name, group in groups.items()}


def _ranges(outcomes: Sequence[Outcome], budget: int) -> str:
    """Ids, with neighbours of one fan-out as `scan[3] to scan[9]`; those that take too many tokens are counted."""
    runs: list[list[Outcome]] = []
    for outcome in outcomes:
        task, before = outcome.task, runs[-1][-1].task if runs else None
        follows = (
            before is not None
            and before.group == task.group
            and before.index is not None
            and task.index == before.index + 1
        )
        if follows:
            runs[-1].append(outcome)
        else:
            runs.append([outcome])
    names = [
        run[0].agent if len(run) == 1 else f"{run[0].agent} to {run[-1].agent}" for run in runs
    ]
    kept = within(names, budget)
    unnamed = sum(len(run) for run in runs[len(kept) :])
    more = [f"{unnamed} {'more' if kept else 'agents'}"] if unnamed else []
    return ", ".join([*kept, *more])


def _kind(leaf: Outcome) -> str:
    return leaf.failure.kind if leaf.failure else leaf.state
