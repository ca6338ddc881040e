"""Where a run's tasks come from: a fixed graph, a planner's stream, or the job itself, and who is asked again."""

from collections.abc import Sequence
from dataclasses import replace

from swarmcli.core.events import ModeChosen, PlanReady, Warned
from swarmcli.core.plan import SINGLE_MODES, Plan, Task, to_document
from swarmcli.core.planshape import shape_warnings
from swarmcli.core.ports import Clock, Emit, ModelClient
from swarmcli.core.routing import single_mode
from swarmcli.core.tally import with_vote
from swarmcli.engine.agent import DEFAULT_CALL_TIMEOUT_S, AgentRunner
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.engine import Engine
from swarmcli.engine.order import RunOrder
from swarmcli.engine.planner import Planner
from swarmcli.engine.replanner import Replanner
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError, SwarmError

ANSWER = "answer"
"""The agent of the modes that make one call."""


class TaskSource:
    """Adds a run's tasks to its engine.

    Args:
        order: what to do.
        briefing: what the agents share.
        client: the composed model path.
        emit: takes the events of mode and plan, and warnings.
        clock: its zero is the start of the run.
        engine: runs the tasks.
        runner: of the engine's agents; learns the mode, and knows whose votes are not trusted any more.
    """

    def __init__(
        self,
        *,
        order: RunOrder,
        briefing: Briefing,
        client: ModelClient,
        emit: Emit,
        clock: Clock,
        engine: Engine,
        runner: AgentRunner,
    ) -> None:
        self._order = order
        self._briefing = briefing
        self._client = client
        self._emit = emit
        self._clock = clock
        self._engine = engine
        self._runner = runner
        self.mode = order.mode.mode
        """How the run is carried out: the one that was chosen, until a planner declines to split."""
        self.planning = Work()
        """What the planner's calls took."""
        self.planner_made = order.planner_made
        """Whether the plan, if there is one, comes from a planner."""
        self.error: SwarmError | None = None
        """Why there is no plan."""

    @property
    def kept_time(self) -> float:
        """Share of the run's time that the agents leave for the merge, 0 to 1."""
        return self._order.reserve if self._strategy_calls_model() else 0.0

    async def supply(self) -> None:
        """Add the tasks, known ones at once, planned ones as the planner streams them; return when all have ended."""
        tasks = self._order.tasks
        if tasks is not None:
            self._engine.add(tasks)
            # A plan from a file is kept: the file may be gone, or another one, when the run is resumed.
            plan = to_document("swarm", tasks) if self._order.planner_made else None
            self._emit(PlanReady(tasks=len(tasks), plan=plan))
        elif self.mode == "swarm":
            await self._plan()
        else:
            self._answer_directly()
        await self._engine.settled()
        await self._ask_distrusted()
        await self._revise()
        await self._ask_distrusted()

    async def _ask_distrusted(self) -> None:
        """Votes that were believed before routing stopped are asked again, and whatever was built on them."""
        outcomes, engine = self._engine.outcomes, self._engine
        distrusted = {o.agent for o in outcomes if self._runner.distrusts(o)}
        if not distrusted or engine.stopped_by is not None:
            return
        tasks = [o.task for o in outcomes]
        again = [replace(t, distrusted=True) if t.id in distrusted else t for t in tasks]
        engine.reconcile(again, "its vote is not trusted any more")
        await engine.settled()

    async def _plan(self) -> None:
        planner = Planner(
            client=self._client,
            briefing=self._briefing,
            emit=self._emit,
            clock=self._clock,
            max_tasks=self._order.max_tasks,
            # Which tasks are leaves, and so are voted on, is known only when the plan is whole.
            on_tasks=self._engine.add if self._order.vote is None else _later,
            timeout_s=self._order.task_timeout_s or DEFAULT_CALL_TIMEOUT_S,
        )
        self.planning = planner.work
        try:
            plan = await planner.plan()
        except SwarmError as error:
            self.error = error
            spent = isinstance(error, ModelError) and error.kind == "budget"
            self._engine.stop("budget" if spent else "fatal", error.message, cancel_running=True)
            return
        self.planner_made = True
        self._adopt(plan)

    def _adopt(self, plan: Plan) -> None:
        self._engine.reconcile(with_vote(plan.tasks, self._order.vote))
        for warning in shape_warnings(plan.tasks):
            self._emit(Warned(message=warning))
        if len(plan.tasks) > 1:
            return
        if plan.tasks:
            self._emit(ModeChosen(mode="swarm", reason="the planner sees one task"))
            return
        self.mode = self._runner.mode = single_mode(plan.mode)
        self._emit(ModeChosen(mode=self.mode, reason="the planner declined to split"))
        self._answer_directly()

    async def _revise(self) -> None:
        """Let the planner change its plan where tasks have failed, lack something or contradict each other."""
        if not (self._order.replans and self.planner_made and self.mode == "swarm"):
            return
        replanner = Replanner(
            client=self._client,
            briefing=self._briefing,
            emit=self._emit,
            clock=self._clock,
            order=self._order,
            engine=self._engine,
            work=self.planning,
        )
        await replanner.revise(keep=self.kept_time)

    def _answer_directly(self) -> None:
        """One agent for the whole job; files are named, so that their content is put in."""
        briefing, prompt = self._briefing, self._briefing.job
        if briefing.files:
            names = briefing.blocks.wrap("files", "\n".join(briefing.files))
            prompt = f"{prompt}\n\nFiles:\n{names}"
        model = "small" if self.mode == "instant" else "large"
        task = Task(
            id=ANSWER,
            prompt=prompt,
            group=ANSWER,
            model=model,
            output_schema=self._order.schema,
            vote=self._order.vote,
        )
        self._engine.add([task])

    def _strategy_calls_model(self) -> bool:
        order = self._order
        if order.merge_in_code is not None or self.mode in SINGLE_MODES:
            return False
        return order.merge == "write" or (
            order.merge == "auto" and (order.planner_made or order.tasks is None)
        )


def _later(_tasks: Sequence[Task]) -> None:
    """Tasks that are added when the whole plan is known."""
