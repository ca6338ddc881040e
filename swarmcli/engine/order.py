"""What one run is to do, and what came of it: the values that go into `Run` and come out of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from swarmcli.core.events import RunEnd, RunStarted
from swarmcli.core.merge import Merged
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Task
from swarmcli.core.replay import History
from swarmcli.core.routing import ModeChoice
from swarmcli.errors import SwarmError
from swarmcli.recipe.values import Json, MergeStrategy, Verify, Vote

Merge = Callable[[Sequence[Outcome]], Merged]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOrder:
    """What one run is to do, fully resolved.

    `tasks` is a fixed graph or a plan that exists already (a plan file, an earlier session); None asks the planner in
    mode swarm. `merge_in_code` replaces the strategies (the line output of `map`).
    """

    mode: ModeChoice
    tasks: tuple[Task, ...] | None
    started: RunStarted
    parallel: int
    max_tasks: int = 60
    replans: int = 0
    """How often the planner may still change its plan after the tasks have ended."""
    merge: MergeStrategy = "auto"
    in_code: MergeStrategy = "concat"
    """What `auto` does with several answers of a fixed graph."""
    planner_made: bool = False
    merge_in_code: Merge | None = None
    fail_fast: bool = False
    min_success: float = 1.0
    timeout_s: float | None = None
    task_timeout_s: float | None = None
    reserve: float = 0.15
    """Share of the time kept for a merge that calls a model."""
    verify: Verify | None = None
    """What is checked beside the conflicts that are always looked for."""
    vote: Vote | None = None
    """What leaf agents do that are not known yet; those in `tasks` have theirs."""
    schema: Mapping[str, Json] | None = None
    """What the result must fit, where a model writes it."""
    history: History = field(default_factory=History)
    """What earlier sessions of this run left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """How the run ended: its last event, the result and every agent's outcome."""

    end: RunEnd
    mode: str
    outcomes: tuple[Outcome, ...]
    merged: Merged | None = None
    error: SwarmError | None = None
