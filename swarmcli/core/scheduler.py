"""The scheduler: facts in, decisions out.

Rule 1: everything that decides which agent runs next lives in this file; nothing here does anything.
Rule 2: every public method is a fact (`added`, `done`, `failed`, ...) and returns the decisions that follow from it.

Theory of operation. A task waits until each of its dependencies is resolved (all agents of it ended). If every one
is also satisfied (enough of them succeeded) the task becomes ready, and ready tasks start while fewer than `parallel`
run: first those that go on with finished work, then new ones in plan order, so that a pipeline per item really flows
when there are more items than slots. If one is not, the task is skipped, which resolves the dependencies that name it
in turn. There are no stages: a task starts the moment its own inputs are there. The graph may grow at any time.

    waiting ──> ready ──> running ──> done
       │          │          ├──────> failed
       └──────────┴─> skipped └─────> cancelled

The seam is that of dask.distributed's worker state machine. Within both queues it is first in, first out, because
with dataflow starts that makes no measurable difference to critical-path priority.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from swarmcli.core.plan import Dependency, Task

State = Literal["waiting", "ready", "running", "done", "failed", "skipped", "cancelled"]
ENDED: frozenset[State] = frozenset({"done", "failed", "skipped", "cancelled"})


@dataclass(frozen=True, slots=True)
class Start:
    """Run this agent now."""

    agent: str


@dataclass(frozen=True, slots=True)
class Skip:
    """This agent will never start."""

    agent: str
    because: str


@dataclass(frozen=True, slots=True)
class Cancel:
    """Stop this running agent; answer with `cancelled` when it has stopped."""

    agent: str
    because: str


Decision = Start | Skip | Cancel


@dataclass(slots=True)
class _Input:
    """Progress of one dependency of one task."""

    dependency: Dependency
    open: int
    done: int = 0

    @property
    def satisfied(self) -> bool:
        return self.done >= self.dependency.min_done


class Scheduler:
    """The state of one run's graph.

    Args:
        parallel: most agents running at once, at least 1.
        fail_fast: stop everything at the first failure of a task that is not optional.
    """

    def __init__(self, *, parallel: int, fail_fast: bool = False) -> None:
        self._parallel = parallel
        self._fail_fast = fail_fast
        self._tasks: dict[str, Task] = {}
        self._states: dict[str, State] = {}
        self._inputs: dict[str, list[_Input]] = {}
        self._open_inputs: dict[str, int] = {}
        self._dependants: dict[str, list[tuple[str, _Input]]] = {}
        self._ready: deque[str] = deque()
        """Without inputs, in plan order."""
        self._continued: deque[str] = deque()
        """With all their inputs there, in the order in which the last one came."""
        self._running = 0
        self._stopped: str | None = None

    @property
    def states(self) -> Mapping[str, State]:
        """Agent -> state, in plan order."""
        return self._states

    @property
    def tasks(self) -> Mapping[str, Task]:
        """Agent -> task, in plan order."""
        return self._tasks

    @property
    def stopped(self) -> str | None:
        """Why nothing new starts, or None."""
        return self._stopped

    def added(self, tasks: Iterable[Task]) -> list[Decision]:
        """These tasks became known; tasks that they depend on are known already or are part of the same call.

        Raises:
            ValueError: an id is known already, or a dependency is not.
        """
        batch = tuple(tasks)
        for task in batch:
            if task.id in self._tasks:
                raise ValueError(f"task {task.id!r} is known already")
            self._tasks[task.id] = task
            self._states[task.id] = "waiting"
        decisions: list[Decision] = []
        for task in batch:
            decisions += self._connect(task)
        return decisions + self._start_ready()

    def done(self, agent: str) -> list[Decision]:
        """A running agent succeeded."""
        self._end_running(agent, "done")
        return [*self._propagate(agent), *self._start_ready()]

    def failed(self, agent: str) -> list[Decision]:
        """A running agent failed."""
        self._end_running(agent, "failed")
        decisions = self._propagate(agent)
        if self._fail_fast and not self._tasks[agent].optional and self._stopped is None:
            decisions += self.stop(
                f"{agent} failed and the run stops at the first failure", cancel_running=True
            )
        return [*decisions, *self._start_ready()]

    def cancelled(self, agent: str) -> list[Decision]:
        """A running agent has stopped without a result."""
        self._end_running(agent, "cancelled")
        return [*self._propagate(agent), *self._start_ready()]

    def stop(self, because: str, *, cancel_running: bool = False) -> list[Decision]:
        """Nothing new may start from now on; what has not started is skipped."""
        if self._stopped is None:
            self._stopped = because
        decisions: list[Decision] = []
        self._ready.clear()
        self._continued.clear()
        for agent, state in self._states.items():
            if state in {"waiting", "ready"}:
                self._states[agent] = "skipped"
                decisions.append(Skip(agent, self._stopped))
            elif state == "running" and cancel_running:
                decisions.append(Cancel(agent, because))
        return decisions

    def dropped(self, agents: Iterable[str]) -> list[Decision]:
        """These tasks are no part of the plan any more (a repaired plan left them out).

        They are forgotten; running ones must be cancelled by the caller, and their end is no fact any more. Whatever
        depends on one of them is among them.
        """
        decisions: list[Decision] = []
        gone = {agent: self._tasks[agent] for agent in agents}
        for agent in gone:
            if self._states[agent] == "running":
                self._running -= 1
                decisions.append(Cancel(agent, "the repaired plan does not hold it"))
            del (
                self._tasks[agent],
                self._states[agent],
                self._inputs[agent],
                self._open_inputs[agent],
            )
        self._ready = deque(agent for agent in self._ready if agent not in gone)
        self._continued = deque(agent for agent in self._continued if agent not in gone)
        needed = {a for task in gone.values() for d in task.depends_on for a in d.agents}
        for agent in needed & self._dependants.keys():
            waiters = self._dependants[agent]
            waiters[:] = [entry for entry in waiters if entry[0] not in gone]
        return [*decisions, *self._start_ready()]

    def _connect(self, task: Task) -> list[Decision]:
        inputs = [_Input(dependency=d, open=len(d.agents)) for d in task.depends_on]
        self._inputs[task.id] = inputs
        self._open_inputs[task.id] = len(inputs)
        for entry in inputs:
            for agent in entry.dependency.agents:
                if agent not in self._states:
                    raise ValueError(f"task {task.id!r} depends on {agent!r}, which is not known")
                if self._states[agent] in ENDED:
                    entry.open -= 1
                    entry.done += self._states[agent] == "done"
                else:
                    self._dependants.setdefault(agent, []).append((task.id, entry))
            self._open_inputs[task.id] -= entry.open == 0
        return self._settle(task.id)

    def _settle(self, agent: str) -> list[Decision]:
        """A new task is ready if nothing is left to wait for, or skipped, which its dependants are told."""
        if self._stopped is not None:
            return self._skip(agent, self._stopped)
        broken = [entry for entry in self._inputs[agent] if entry.open == 0 and not entry.satisfied]
        if broken:
            return self._skip(agent, self._because(broken[0]))
        self._ready_if_resolved(agent)
        return []

    def _ready_if_resolved(self, agent: str) -> None:
        if self._open_inputs[agent] == 0:
            self._states[agent] = "ready"
            (self._continued if self._inputs[agent] else self._ready).append(agent)

    def _because(self, entry: _Input) -> str:
        agents = entry.dependency.agents
        if entry.dependency.fan_out and len(agents) != 1:
            return f"all {len(agents)} agents of {entry.dependency.name} ended without a result"
        state = self._states[agents[0]]
        return f"{agents[0]} {'was ' if state in {'skipped', 'cancelled'} else ''}{state}"

    def _skip(self, agent: str, because: str) -> list[Decision]:
        self._states[agent] = "skipped"
        return [Skip(agent, because), *self._propagate(agent)]

    def _propagate(self, ended: str) -> list[Decision]:
        """Tell the dependants of `ended`; skips travel on, without recursion through long chains."""
        decisions: list[Decision] = []
        queue = deque([ended])
        while queue:
            source = queue.popleft()
            succeeded = self._states[source] == "done"
            for agent, entry in self._dependants.pop(source, []):
                entry.open -= 1
                entry.done += succeeded
                if entry.open == 0:
                    self._open_inputs[agent] -= 1
                    if self._states[agent] != "waiting":
                        continue
                    if self._stopped is None and entry.satisfied:
                        self._ready_if_resolved(agent)
                    else:
                        self._states[agent] = "skipped"
                        decisions.append(Skip(agent, self._stopped or self._because(entry)))
                        queue.append(agent)
        return decisions

    def _start_ready(self) -> list[Decision]:
        decisions: list[Decision] = []
        while (queue := self._continued or self._ready) and self._running < self._parallel:
            agent = queue.popleft()
            self._states[agent] = "running"
            self._running += 1
            decisions.append(Start(agent))
        return decisions

    def _end_running(self, agent: str, state: State) -> None:
        if self._states.get(agent) != "running":
            raise ValueError(
                f"{agent!r} ended as {state}, but it is {self._states.get(agent, 'unknown')}"
            )
        self._states[agent] = state
        self._running -= 1
