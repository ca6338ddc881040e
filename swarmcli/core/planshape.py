"""What the shape of a plan says about it: two habits of planners that cost time or money without a gain.

*Serial collapse*, a chain where parallel work was asked for, and *spurious parallelism*, agents without work of their
own, are the two failures that Kimi K2.5's training rewards fight (arXiv 2602.02276). Here they are only told.
"""

import re
from collections.abc import Sequence

from swarmcli.core.plan import Task

CHAIN_TASKS = 4
"""From so many tasks on a chain is worth a warning."""
_CHAIN_WIDTH = 1.25
"""Tasks per level of the graph; below this it is a chain, with a side branch at most every four steps."""
_SHOWN = 3
_WORD = re.compile(r"\w+")
_FILLERS = frozenset(
    _WORD.findall(
        "a an and are as at be by do for from give in into is it its list of on or please provide tell that the "
        "their them then this to us what which with write you your me about briefly shortly"
    )
)
"""Words without which a prompt asks the same."""


def shape_warnings(tasks: Sequence[Task]) -> list[str]:
    """What a user should know about this plan; `tasks` come with dependencies first."""
    return [*_serial_collapse(tasks), *_spurious_parallelism(tasks)]


def longest_chain(tasks: Sequence[Task]) -> int:
    """Tasks that must run one after the other, at least."""
    depth: dict[str, int] = {}
    for task in tasks:
        needs = (depth.get(agent, 0) for d in task.depends_on for agent in d.agents)
        depth[task.id] = 1 + max(needs, default=0)
    return max(depth.values(), default=0)


def _serial_collapse(tasks: Sequence[Task]) -> list[str]:
    steps = longest_chain(tasks)
    if len(tasks) < CHAIN_TASKS or len(tasks) / steps >= _CHAIN_WIDTH:
        return []
    return [
        f"the plan is a chain: {steps} of its {len(tasks)} tasks run one after the other, so that more agents make "
        "nothing faster (--mode agent does it in one)"
    ]


def _spurious_parallelism(tasks: Sequence[Task]) -> list[str]:
    """Tasks that ask for the same in other words. One word of content that differs makes another task of it."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for task in tasks:
        words = frozenset(_WORD.findall(task.prompt.casefold())) - _FILLERS
        needs = frozenset(agent for d in task.depends_on for agent in d.agents)
        if words:
            groups.setdefault((words, needs, task.profile), []).append(task.id)
    same = [" and ".join(ids[:_SHOWN]) for ids in groups.values() if len(ids) > 1]
    if not same:
        return []
    more = f", and {len(same) - _SHOWN} more groups" if len(same) > _SHOWN else ""
    return [f"tasks of the plan ask for the same: {', '.join(same[:_SHOWN])}{more}"]
