"""One run from mode to merged result. Whatever happens ends in a `RunReport`, with one last durable event."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from swarmcli.core.events import (
    Failure,
    ModeChosen,
    PlanReady,
    RunCompleted,
    RunFailed,
    RunInterrupted,
)
from swarmcli.core.merge import Merged
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Plan, Task
from swarmcli.core.ports import Clock, ModelClient, Recorder
from swarmcli.core.receipt import receipt
from swarmcli.core.spend import Spent
from swarmcli.core.totals import totals
from swarmcli.core.verdict import StopCause, Verdict, verdict
from swarmcli.engine.agent import DEFAULT_CALL_TIMEOUT_S, AgentRunner
from swarmcli.engine.briefing import Briefing
from swarmcli.engine.deadline import Deadline
from swarmcli.engine.engine import Engine
from swarmcli.engine.finish import Finish
from swarmcli.engine.merger import Merger
from swarmcli.engine.order import RunOrder, RunReport
from swarmcli.engine.planner import Planner
from swarmcli.engine.turns import Fingerprint
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError, StorageError, SwarmError
from swarmcli.recipe.values import Json

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
    ) -> None:
        self._order = order
        self._briefing = briefing
        self._client = client
        self._recorder = recorder
        self._clock = clock
        self._spent = spent
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
        )
        self._engine = Engine(
            execute=self._runner.run,
            recorder=recorder,
            clock=clock,
            parallel=order.parallel,
            fail_fast=order.fail_fast,
            model_of=self._runner.model_of,
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
            self._recorder.emit(PlanReady(tasks=len(tasks)))
        elif self._mode == "swarm":
            await self._plan()
        else:
            self._answer_directly()

    async def _plan(self) -> None:
        planner = Planner(
            client=self._client,
            briefing=self._briefing,
            emit=self._recorder.emit,
            clock=self._clock,
            max_tasks=self._order.max_tasks,
            on_tasks=self._engine.add,
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
        self._engine.reconcile(plan.tasks)
        if plan.tasks:
            return
        self._mode = "instant"
        self._runner.mode = "instant"
        self._recorder.emit(ModeChosen(mode="instant", reason="the planner declined to split"))
        self._answer_directly()

    def _answer_directly(self) -> None:
        """One agent for the whole job; files are named, so that their content is put in."""
        files = "\n".join(f"- {path}" for path in self._briefing.files)
        prompt = f"{self._briefing.job}\n\nFiles:\n{files}" if files else self._briefing.job
        model = "small" if self._mode == "instant" else "large"
        schema = self._order.schema
        self._engine.add(
            [Task(id=ANSWER, prompt=prompt, group=ANSWER, model=model, output_schema=schema)]
        )

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
                engine.outcomes, stopped_by=engine.stopped_by, planner_made=self._planner_made
            )
        except ModelError as error:
            self._error = error
            return None

    async def _report(self, merged: Merged | None) -> RunReport:
        outcomes = tuple(self._engine.outcomes)
        storage = self._engine.storage_error
        error = self._error or storage
        judged = self._verdict(outcomes, merged, error)
        end = self._end(judged, merged, error, outcomes)
        try:
            await self._recorder.commit(end)
        except StorageError as failure:
            error = error or failure
            if end.exit_code == 0:
                end = replace(end, exit_code=failure.exit_code, status="partial")
        return RunReport(end=end, mode=self._mode, outcomes=outcomes, merged=merged, error=error)

    def _verdict(
        self, outcomes: Sequence[Outcome], merged: Merged | None, error: SwarmError | None
    ) -> Verdict:
        cause = self._engine.stopped_by or self._finish.stopped_by
        if error is not None and merged is None and cause in {None, "fatal", "storage"}:
            return Verdict(status="failed", exit_code=error.exit_code)
        return verdict(
            outcomes,
            has_result=merged is not None,
            min_success=self._order.min_success,
            stopped_by=cause,
        )

    def _end(
        self,
        judged: Verdict,
        merged: Merged | None,
        error: SwarmError | None,
        outcomes: Sequence[Outcome],
    ) -> RunCompleted | RunFailed | RunInterrupted:
        cls = RunCompleted if merged is not None else RunFailed
        if judged.status == "interrupted":
            cls = RunInterrupted
        failure = None
        if error is not None:
            kind = error.kind if isinstance(error, ModelError) else type(error).__name__
            failure = Failure(kind=kind, message=error.message)
        return cls(
            status=judged.status,
            exit_code=judged.exit_code,
            result=merged.text if merged is not None else None,
            error=failure,
            totals=self._totals(outcomes),
        )

    def _totals(self, outcomes: Sequence[Outcome]) -> dict[str, Json]:
        numbers = totals(
            outcomes,
            receipt=receipt(outcomes, self._planning.spans, self._merger.work.spans),
            spent=self._spent(),
            duration_s=self._clock.monotonic(),
        )
        return {"mode": self._mode, **numbers}
