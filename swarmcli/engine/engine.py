"""The engine: carries the scheduler's decisions out in one TaskGroup and feeds the facts back.

Rule: no decision is made here about which agent runs; an agent's end is a fact for the scheduler only after it is
durable, so whatever a dependant or a display sees survives a crash.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace

from swarmcli.core.breaker import Breaker
from swarmcli.core.events import AgentCancelled, AgentSkipped, Failure, Warned
from swarmcli.core.outcomes import Outcome, OutcomeState
from swarmcli.core.plan import Task
from swarmcli.core.ports import Clock, Recorder
from swarmcli.core.scheduler import ENDED, Cancel, Decision, Scheduler, Skip, Start
from swarmcli.core.verdict import StopCause
from swarmcli.engine.briefing import Inputs
from swarmcli.engine.records import end_event, plan_task
from swarmcli.errors import NO_ACCESS_KINDS, StorageError

MIN_MEASURED = 3
"""So many finished agents say how long one takes."""

Execute = Callable[[Task, Inputs], Awaitable[Outcome]]
"""Runs one agent; returns how it ended."""


class Engine:
    """Runs a graph of agents that may grow while it runs.

    Args:
        execute: runs one agent.
        recorder: the journal and the displays.
        clock: its zero is the start of the run.
        parallel: most agents at work at once.
        fail_fast: stop at the first failure.
        models_of: the models that an agent asks first.
    """

    def __init__(
        self,
        *,
        execute: Execute,
        recorder: Recorder,
        clock: Clock,
        parallel: int,
        fail_fast: bool = False,
        models_of: Callable[[Task], Collection[str]] = lambda task: (task.model or "",),
    ) -> None:
        self._execute = execute
        self._recorder = recorder
        self._clock = clock
        self._models_of = models_of
        self._breaker = Breaker()
        self._scheduler = Scheduler(parallel=parallel, fail_fast=fail_fast)
        self._outcomes: dict[str, Outcome] = {}
        self._handles: dict[str, asyncio.Task[None]] = {}
        self._begun: set[str] = set()
        self._cancelled: dict[asyncio.Task[None], str] = {}
        self._moved = asyncio.Event()
        """Set when an agent may have been the last to end."""
        self._places: dict[str, int] = {}
        """Where tasks stand in the plan, when that is not the order in which they became known."""
        self._group: asyncio.TaskGroup | None = None
        self._source: asyncio.Task[None] | None = None
        self.dropped: list[Outcome] = []
        """What was finished before the corrected plan left it out: no part of the result, but paid."""
        self.stopped_by: StopCause | None = None
        self.storage_error: StorageError | None = None

    @property
    def outcomes(self) -> list[Outcome]:
        """How every known agent ended, in plan order."""
        known = [agent for agent in self._scheduler.tasks if agent in self._outcomes]
        last = len(self._places)
        known.sort(key=lambda agent: self._places.get(agent, last))
        return [self._outcomes[agent] for agent in known]

    @property
    def running(self) -> int:
        """Agents at work now."""
        return len(self._handles)

    async def run(self, source: Callable[[], Awaitable[None]]) -> None:
        """Run `source`, which adds tasks, and everything that it adds, until all of it has ended.

        `source` is cancelled when the run is stopped.
        """
        async with asyncio.TaskGroup() as group:
            self._group = group
            if self._scheduler.stopped is None:
                self._source = group.create_task(_quietly(source))

    def add(self, tasks: Sequence[Task]) -> None:
        """These tasks became known."""
        for task in tasks:
            self._recorder.emit(plan_task(task))
        self._carry_out(self._scheduler.added(tasks))

    async def settled(self) -> None:
        """Return when every agent that is known has ended, for a source that then decides whether to add more."""
        while not self._is_settled():
            self._moved.clear()
            await self._moved.wait()

    def _is_settled(self) -> bool:
        return not self._handles and all(s in ENDED for s in self._scheduler.states.values())

    def reconcile(
        self, tasks: Sequence[Task], because: str = "the corrected plan does not hold it"
    ) -> None:
        """The whole plan is known anew: add what is new and drop what is not in it any more.

        Whatever builds on a dropped task is dropped too, and begins again where the plan still holds it.

        Args:
            tasks: the plan, dependencies first; its order is from now on that of `outcomes`.
            because: what is told of the tasks that are dropped.
        """
        wanted = {task.id: task for task in tasks}
        gone: dict[str, None] = {}
        for agent, task in self._scheduler.tasks.items():
            needs = (needed for d in task.depends_on for needed in d.agents)
            if wanted.get(agent) != task or any(needed in gone for needed in needs):
                gone[agent] = None
        for agent in gone:
            begun = agent in self._begun
            self._recorder.emit(
                (AgentCancelled if begun else AgentSkipped)(agent=agent, because=because)
            )
            if agent in self._outcomes:
                self.dropped.append(self._outcomes.pop(agent))
        self._places = {task.id: place for place, task in enumerate(tasks)}
        self._carry_out(self._scheduler.dropped(gone))
        self._begun.difference_update(gone)
        self.add([task for task in tasks if task.id not in self._scheduler.tasks])

    def stop(self, cause: StopCause, because: str, *, cancel_running: bool) -> None:
        """Nothing new starts; what runs goes on, or is cancelled. The first cause is the one that counts."""
        self.stopped_by = self.stopped_by or cause
        if self._source is not None:
            self._source.cancel()
        self._carry_out(self._scheduler.stop(because, cancel_running=cancel_running))

    @property
    def median_s(self) -> float | None:
        """Median busy seconds of the agents that called and finished; None while they are too few to say."""
        done = (o for o in self._outcomes.values() if o.state == "done")
        busy = sorted(o.busy_s for o in done if o.busy_s > 0 and not (o.cached or o.reused))
        return busy[len(busy) // 2] if len(busy) >= MIN_MEASURED else None

    def wind_down(self, because: str, has_asked: Callable[[str], bool]) -> bool:
        """There is no time for another agent: nothing starts, and who has not asked yet does not ask.

        Returns:
            False when there is nobody whom that holds back: nothing has changed then.
        """
        late = [agent for agent in self._handles if not has_asked(agent)]
        comes = any(state in {"waiting", "ready"} for state in self._scheduler.states.values())
        if not late and not comes:
            return False
        self.stop("timeout", because, cancel_running=False)
        for agent in late:
            self._cancel(agent, because)
        return True

    def _carry_out(self, decisions: Iterable[Decision]) -> None:
        for decision in decisions:
            match decision:
                case Start(agent):
                    self._start(self._scheduler.tasks[agent])
                case Skip(agent, because):
                    task = self._scheduler.tasks[agent]
                    self._outcomes[agent] = self._uncalled(task, "skipped", because)
                    self._recorder.emit(AgentSkipped(agent=agent, because=because))
                case Cancel(agent, because):
                    self._cancel(agent, because)
        self._moved.set()

    def _start(self, task: Task) -> None:
        if self._group is None:
            raise RuntimeError("the engine is not running")
        self._handles[task.id] = self._group.create_task(self._run_one(task), name=task.id)

    def _cancel(self, agent: str, because: str) -> None:
        handle = self._handles.pop(agent, None)
        if handle is None:
            return
        task = self._scheduler.tasks.get(agent)
        if task is not None and agent not in self._begun and self._group is not None:
            # It was started in this very turn of the loop: its coroutine will never see the cancellation.
            self._group.create_task(self._finish(task, self._uncalled(task, "cancelled", because)))
        else:
            self._cancelled[handle] = because
        handle.cancel()

    async def _run_one(self, task: Task) -> None:
        self._begun.add(task.id)
        started_s = self._clock.monotonic()
        handle = asyncio.current_task()
        try:
            outcome = await self._execute(task, self._inputs_of(task))
        except asyncio.CancelledError:
            because = self._cancelled.pop(handle, None) if handle else None
            if because is None or handle is None:
                raise
            handle.uncancel()
            outcome = replace(self._uncalled(task, "cancelled", because), started_s=started_s)
        except Exception as error:  # noqa: BLE001  the one boundary at which a bug becomes an agent's failure
            failure = Failure(kind="internal", message=f"{type(error).__name__}: {error}"[:500])
            ended_s = self._clock.monotonic()
            outcome = Outcome(
                task=task, state="failed", failure=failure, started_s=started_s, ended_s=ended_s
            )
        if self._handles.get(task.id) is handle:
            del self._handles[task.id]
        await self._finish(task, self._unasked(outcome))

    def _uncalled(self, task: Task, state: OutcomeState, because: str) -> Outcome:
        """The end, now, of an agent that was not to go on."""
        failure, now_s = Failure(kind="uncalled", message=because), self._clock.monotonic()
        return Outcome(task=task, state=state, failure=failure, started_s=now_s, ended_s=now_s)

    def _unasked(self, outcome: Outcome) -> Outcome:
        """Behind the first one that a spent budget turns away, who has not asked yet has not failed: it was stopped."""
        failure = outcome.failure
        turned_away = failure is not None and failure.kind == "budget" and not outcome.attempts
        if outcome.state != "failed" or not turned_away or self.stopped_by != "budget":
            return outcome
        return replace(outcome, state="cancelled")

    async def _finish(self, task: Task, outcome: Outcome) -> None:
        if self._was_dropped(task, outcome):
            return
        try:
            await self._recorder.commit(end_event(outcome))
        except StorageError as error:
            self.storage_failed(error)
            failure = Failure(kind="internal", message=error.message)
            outcome = replace(outcome, state="failed", output=None, failure=failure)
        if self._was_dropped(task, outcome):  # while it was written
            return
        self._outcomes[outcome.agent] = outcome
        if outcome.state == "done":
            if not (outcome.cached or outcome.reused):
                self._breaker.answered(outcome.model)
            self._carry_out(self._scheduler.done(outcome.agent))
        elif outcome.state == "cancelled":
            self._carry_out(self._scheduler.cancelled(outcome.agent))
        else:
            self._judge_failure(outcome)
            self._carry_out(self._scheduler.failed(outcome.agent))

    def _was_dropped(self, task: Task, outcome: Outcome) -> bool:
        """True when the corrected plan does not hold this task, or holds another one under its id."""
        if self._scheduler.tasks.get(task.id) is task:
            return False
        self.dropped.append(outcome)
        return True

    def _judge_failure(self, outcome: Outcome) -> None:
        """Some failures concern the whole run: no access to a model, a spent budget, a model that is down."""
        failure = outcome.failure
        if failure is None or self.stopped_by is not None:
            return
        if failure.kind in NO_ACCESS_KINDS:
            self.stop("fatal", f"{outcome.agent} failed: {failure.message}", cancel_running=True)
        elif failure.kind == "budget":
            self.stop("budget", failure.message, cancel_running=False)
        else:
            self._stop_in_vain(outcome, failure)

    def _stop_in_vain(self, outcome: Outcome, failure: Failure) -> None:
        """Agent after agent fails the same way: go on only where another model has work."""
        trip = self._breaker.failed(outcome.agent, outcome.model, failure, outcome.attempts)
        if trip is None or self._has_work_for_another(trip.model):
            return
        self._recorder.emit(Warned(message=trip.message))
        self.stop("outage", trip.because, cancel_running=True)

    def _has_work_for_another(self, model: str) -> bool:
        """True while an agent of another model runs or could; whoever still waits for inputs does not count."""
        tasks, states = self._scheduler.tasks, self._scheduler.states
        at_work = (agent for agent, state in states.items() if state in {"ready", "running"})
        return any(
            model not in self._models_of(tasks[agent])
            for agent in at_work
            if agent not in self._outcomes
        )

    def storage_failed(self, error: StorageError) -> None:
        """Nothing can be kept any more, so nothing more is started or paid for."""
        self.storage_error = self.storage_error or error
        self.stop("storage", error.message, cancel_running=True)

    def _inputs_of(self, task: Task) -> Inputs:
        return [(d, tuple(self._outcomes[agent] for agent in d.agents)) for d in task.depends_on]


async def _quietly(source: Callable[[], Awaitable[None]]) -> None:
    """A source that is cancelled by `stop` ends like one that is done."""
    try:
        await source()
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None:
            task.uncancel()
