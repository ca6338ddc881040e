"""What our code tells the writer about the results.

Rule: kinds, states and ids only, because messages may quote outside text.
"""

from collections import defaultdict
from collections.abc import Sequence

from swarmcli.core.outcomes import Outcome
from swarmcli.core.tokens import estimate_tokens


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
    lines = [f"- {kind}: {_ranges(outcomes)}" for kind, outcomes in kinds.items()]
    return "\n".join([head, *lines])


def doubtful_lines(leaves: Sequence[Outcome]) -> str:
    """Who has a result that something speaks against."""
    doubtful: defaultdict[str, list[Outcome]] = defaultdict(list)
    for leaf in leaves:
        if leaf.caveat:
            doubtful[leaf.caveat].append(leaf)
    lines = [f"- {_ranges(outcomes)}: {caveat}" for caveat, outcomes in doubtful.items()]
    return "\n".join(["DOUBTFUL (not a full result):", *lines]) if lines else ""


def within(lines: Sequence[str], budget: int) -> list[str]:
    """The first lines that take at most `budget` tokens together."""
    kept: list[str] = []
    for line in lines:
        budget -= estimate_tokens(line + "\n")
        if budget < 0:
            break
        kept.append(line)
    return kept


def _ranges(outcomes: Sequence[Outcome]) -> str:
    """Ids, with neighbours of one fan-out as `scan[3] to scan[9]`."""
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
    return ", ".join(
        run[0].agent if len(run) == 1 else f"{run[0].agent} to {run[-1].agent}" for run in runs
    )


def _kind(leaf: Outcome) -> str:
    return leaf.failure.kind if leaf.failure else leaf.state
