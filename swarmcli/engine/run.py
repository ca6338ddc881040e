"""One run from mode to merged result. Whatever happens ends in a `RunReport`, with one last durable event."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from swarmcli.core.accounts import Accounts
from swarmcli.core.events import ModeChosen
from swarmcli.core.merge import Merged
from swarmcli.core.ports import Clock, ModelClient, Recorder
from swarmcli.core.spend import Spent
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
from swarmcli.engine.tasking import TaskSource
from swarmcli.engine.turns import Fingerprint, Turns
from swarmcli.errors import ModelError, StorageError, SwarmError


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
        self._recorder = recorder
        self._clock = clock
        self._spent = spent
        self._accounts = accounts
        runner = AgentRunner(
            client=client,
            briefing=briefing,
            recorder=recorder,
            clock=clock,
            fingerprint=fingerprint,
            history=order.history,
            mode=order.mode.mode,
            task_timeout_s=order.task_timeout_s,
            critic=Critic(verify=order.verify, briefing=briefing, emit=recorder.emit)
            if order.verify is not None and order.verify.critic is not None
            else None,
        )
        self._engine = Engine(
            execute=runner.run,
            recorder=recorder,
            clock=clock,
            parallel=order.parallel,
            fail_fast=order.fail_fast,
            models_of=runner.models_of,
        )
        self._deadline = Deadline(self._engine, clock, order.timeout_s, has_asked)
        self._tasks = TaskSource(
            order=order,
            briefing=briefing,
            client=client,
            emit=recorder.emit,
            clock=clock,
            engine=self._engine,
            runner=runner,
        )
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
            deadline = group.create_task(self._deadline.watch(self._tasks.kept_time))
            await self._engine.run(self._source)
            deadline.cancel()
        self._error = self._tasks.error

    async def _source(self) -> None:
        await self._tasks.supply()
        await self._ask_about_conflicts()

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

    async def _merged(self) -> Merged | None:
        """The result; None when there is none, or when the writer failed, which is then the run's error."""
        engine = self._engine
        try:
            return await self._finish.result(
                engine.outcomes,
                stopped_by=engine.stopped_by,
                planner_made=self._tasks.planner_made,
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
        mode, planning = self._tasks.mode, self._tasks.planning
        end = closing.end(outcomes, merged, error, mode=mode, planning=planning)
        try:
            await self._recorder.commit(end)
        except StorageError as failure:
            error = error or failure
            if end.exit_code == 0:
                end = replace(end, exit_code=failure.exit_code, status="partial")
        return RunReport(end=end, mode=mode, outcomes=outcomes, merged=merged, error=error)
