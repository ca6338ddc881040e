"""One run from mode to merged result. Whatever happens ends in a `RunReport`, with one last durable event."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from swarmcli.core.accounts import Accounts
from swarmcli.core.events import (
    ModeChosen,
    PlanReady,
    Warned,
)
from swarmcli.core.merge import Merged
from swarmcli.core.plan import Plan, Task, to_document
from swarmcli.core.planshape import shape_warnings
from swarmcli.core.ports import Clock, ModelClient, Recorder
from swarmcli.core.routing import single_mode
from swarmcli.core.spend import Spent
from swarmcli.core.tally import with_vote
from swarmcli.core.verdict import StopCause
from swarmcli.engine.agent import DEFAULT_CALL_TIMEOUT_S, AgentRunner
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.closing import Closing
from swarmcli.engine.conflicts import Conflicts
from swarmcli.engine.critic import Critic
from swarmcli.engine.deadline import Deadline
from swarmcli.engine.engine import Engine
from swarmcli.engine.finish import Finish
from swarmcli.engine.merger import Merger
from swarmcli.engine.order import RunOrder, RunReport
from swarmcli.engine.planner import Planner
from swarmcli.engine.replanner import Replanner
from swarmcli.engine.turns import Fingerprint, Turns
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError, StorageError, SwarmError

ANSWER = "answer"
"""The agent of the modes that make one call."""


class Run:
    """Carries out one `RunOrder`.

    Args:
        order: what to do.
        briefing: what the agents share.
        client: the composed model path.
        recorder: the journal and the displays.
        clock: its zero is the start of the run.
        fingerprint: the input key of a request.
        spent: the ledger of the run so far, earlier sessions included.
        has_asked: whether a call of that agent has left for a provider.
        accounts: of the same calls; whoever records feeds them.
    """

    def __init__(
        self,
        *,
        order: RunOrder,
        briefing: Briefing,
        client: ModelClient,
        recorder: Recorder,
        clock: Clock,
        fingerprint: Fingerprint,
        spent: Callable[[], Spent],
        has_asked: Callable[[str], bool] = lambda _: True,
        accounts: Accounts | None = None,
    ) -> None:
        self._order = order
        self._briefing = briefing
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._spent = spent
        self._accounts = accounts
        self._mode = order.mode.mode
        self._runner = AgentRunner(
            client=client,
            briefing=briefing,
            recorder=recorder,
            clock=clock,
            fingerprint=fingerprint,
            history=order.history,
            mode=self._mode,
            task_timeout_s=order.task_timeout_s,
            critic=Critic(verify=order.verify, briefing=briefing, emit=recorder.emit)
            if order.verify is not None and order.verify.critic is not None
            else None,
        )
        self._engine = Engine(
            execute=self._runner.run,
            recorder=recorder,
            clock=clock,
            parallel=order.parallel,
            fail_fast=order.fail_fast,
            models_of=self._runner.models_of,
        )
        self._deadline = Deadline(self._engine, clock, order.timeout_s, has_asked)
        self._planning = Work()
        self._planner_made = order.planner_made
        self._error: SwarmError | None = None
        self._merger = Merger(
            client=client,
            briefing=briefing,
            emit=recorder.emit,
            clock=clock,
            timeout_s=order.task_timeout_s or DEFAULT_CALL_TIMEOUT_S,
            schema=order.schema,
        )
        self._conflicts = Conflicts(
            turns=lambda: Turns(
                None,
                client=client,
                recorder=recorder,
                fingerprint=fingerprint,
                earlier=order.history.turns.get(None, {}),
                timeout_s=order.task_timeout_s or DEFAULT_CALL_TIMEOUT_S,
            ),
            briefing=briefing,
            emit=recorder.emit,
            clock=clock,
            parallel=order.parallel,
        )
        self._finish = Finish(order=order, merger=self._merger, emit=recorder.emit, clock=clock)

    @property
    def running(self) -> int:
        """Agents at work now, for the message of an interrupt."""
        return self._engine.running

    async def execute(self) -> RunReport:
        """Run to the end. Bugs and an outside cancellation are the only exceptions."""
        order = self._order
        try:
            await self._recorder.commit(order.started)
            self._recorder.emit(ModeChosen(mode=order.mode.mode, reason=order.mode.reason))
        except StorageError as error:
            self._error = error
        else:
            await self._run_agents()
        return await self._report(await self._merged() if self._error is None else None)

    def interrupt(self, cause: StopCause) -> None:
        """The first signal: nothing new starts; running agents may finish."""
        self._engine.stop(cause, "interrupted", cancel_running=False)

    def storage_failed(self, error: StorageError) -> None:
        """The journal cannot be written any more."""
        self._engine.storage_failed(error)

    def cancel(self, cause: StopCause) -> None:
        """The grace is over, or the second signal: running agents and a running merge are cancelled."""
        self._engine.stop(cause, "interrupted", cancel_running=True)
        self._finish.hurry()

    async def _run_agents(self) -> None:
        async with asyncio.TaskGroup() as group:
            keep = self._order.reserve if self._strategy_calls_model() else 0.0
            deadline = group.create_task(self._deadline.watch(keep))
            await self._engine.run(self._source)
            deadline.cancel()

    async def _source(self) -> None:
        """Add the run's tasks: known ones at once, planned ones as the planner streams them."""
        tasks = self._order.tasks
        if tasks is not None:
            self._engine.add(tasks)
            # A plan from a file is kept: the file may be gone, or another one, when the run is resumed.
            plan = to_document("swarm", tasks) if self._order.planner_made else None
            self._recorder.emit(PlanReady(tasks=len(tasks), plan=plan))
        elif self._mode == "swarm":
            await self._plan()
        else:
            self._answer_directly()
        await self._engine.settled()
        await self._ask_distrusted()
        await self._revise()
        await self._ask_distrusted()
        await self._ask_about_conflicts()

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

    async def _ask_about_conflicts(self) -> None:
        """Where the recipe wants it, other models decide between agents, when all of these have ended."""
        verify = self._order.verify
        if verify is None or not verify.conflicts or self._engine.stopped_by is not None:
            return
        await self._engine.settled()
        await self._conflicts.ask_again(self._engine.outcomes)
        refused = self._conflicts.refused
        if isinstance(refused, StorageError):
            self._engine.storage_failed(refused)
        elif refused is not None and refused.kind == "budget":
            self._engine.stop("budget", refused.message, cancel_running=False)

    async def _plan(self) -> None:
        planner = Planner(
            client=self._client,
            briefing=self._briefing,
            emit=self._recorder.emit,
            clock=self._clock,
            max_tasks=self._order.max_tasks,
            # Which tasks are leaves, and so are voted on, is known only when the plan is whole.
            on_tasks=self._engine.add if self._order.vote is None else _later,
            timeout_s=self._order.task_timeout_s or DEFAULT_CALL_TIMEOUT_S,
        )
        self._planning = planner.work
        try:
            plan = await planner.plan()
        except SwarmError as error:
            self._error = error
            spent = isinstance(error, ModelError) and error.kind == "budget"
            self._engine.stop("budget" if spent else "fatal", error.message, cancel_running=True)
            return
        self._planner_made = True
        self._adopt(plan)

    def _adopt(self, plan: Plan) -> None:
        self._engine.reconcile(with_vote(plan.tasks, self._order.vote))
        for warning in shape_warnings(plan.tasks):
            self._recorder.emit(Warned(message=warning))
        if len(plan.tasks) > 1:
            return
        if plan.tasks:
            self._recorder.emit(ModeChosen(mode="swarm", reason="the planner sees one task"))
            return
        self._mode = self._runner.mode = single_mode(plan.mode)
        self._recorder.emit(ModeChosen(mode=self._mode, reason="the planner declined to split"))
        self._answer_directly()

    async def _revise(self) -> None:
        """Let the planner change its plan where tasks have failed, lack something or contradict each other."""
        if not (self._order.replans and self._planner_made and self._mode == "swarm"):
            return
        replanner = Replanner(
            client=self._client,
            briefing=self._briefing,
            emit=self._recorder.emit,
            clock=self._clock,
            order=self._order,
            engine=self._engine,
            work=self._planning,
        )
        await replanner.revise(keep=self._order.reserve if self._strategy_calls_model() else 0.0)

    def _answer_directly(self) -> None:
        """One agent for the whole job; files are named, so that their content is put in."""
        briefing, prompt = self._briefing, self._briefing.job
        if briefing.files:
            names = briefing.blocks.wrap("files", "\n".join(briefing.files))
            prompt = f"{prompt}\n\nFiles:\n{names}"
        model = "small" if self._mode == "instant" else "large"
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
        if order.merge_in_code is not None or self._mode in {"instant", "thinking", "agent"}:
            return False
        return order.merge == "write" or (
            order.merge == "auto" and (order.planner_made or order.tasks is None)
        )

    async def _merged(self) -> Merged | None:
        """The result; None when there is none, or when the writer failed, which is then the run's error."""
        engine = self._engine
        try:
            return await self._finish.result(
                engine.outcomes,
                stopped_by=engine.stopped_by,
                planner_made=self._planner_made,
                conflicts=self._conflicts.among(engine.outcomes),
            )
        except ModelError as error:
            self._error = error
            return None

    async def _report(self, merged: Merged | None) -> RunReport:
        outcomes = tuple(self._engine.outcomes)
        storage = self._engine.storage_error
        error = self._error or storage
        closing = Closing(
            order=self._order,
            engine=self._engine,
            finish=self._finish,
            merger=self._merger,
            conflicts=self._conflicts,
            clock=self._clock,
            spent=self._spent,
            accounts=self._accounts,
        )
        end = closing.end(outcomes, merged, error, mode=self._mode, planning=self._planning)
        try:
            await self._recorder.commit(end)
        except StorageError as failure:
            error = error or failure
            if end.exit_code == 0:
                end = replace(end, exit_code=failure.exit_code, status="partial")
        return RunReport(end=end, mode=self._mode, outcomes=outcomes, merged=merged, error=error)


def _later(_tasks: Sequence[Task]) -> None:
    """Tasks that are added when the whole plan is known."""
