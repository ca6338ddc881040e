"""The re-planner: one call in which the planner may change its plan, after it heard how the tasks ended.

Rule: a revision is a gain or nothing. Whatever is wrong with it, or with the call for it, is a warning, and the run
goes on with the plan that it has.
"""

from collections.abc import Sequence
from dataclasses import replace

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.claims import Conflict, conflicts_among
from swarmcli.core.events import PlanReady, PlanRevised, PlanStarted, Warned
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import PlanBuilder, Task, to_document
from swarmcli.core.plantext import parse_plan
from swarmcli.core.ports import Clock, Emit, Message, ModelClient, ModelRequest
from swarmcli.core.replan import Revision, open_to_change, revise, summary, troubles
from swarmcli.core.tally import with_vote
from swarmcli.core.tokens import estimate_tokens
from swarmcli.engine.agent import DEFAULT_CALL_TIMEOUT_S
from swarmcli.engine.briefing import Briefing, is_tiny, messages_of, room_for_inputs
from swarmcli.engine.engine import Engine
from swarmcli.engine.order import RunOrder
from swarmcli.engine.planner import choices_of, lenient_json, materials_of
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError, PlanError
from swarmcli.prompts import load_prompt

_PROMPT_CHARS = (300, 80, 0)
"""So much of each task's prompt is told; less where the planner's window is small."""
_SHOWN_REASONS = 5


class Replanner:
    """Asks the role `planner` whether a plan should change.

    Args:
        client: the composed model path.
        briefing: the job, the models and the profiles that a plan may name.
        emit: takes `plan.started`, `plan.revised`, `plan.ready`, and warnings.
        clock: its zero is the start of the run.
        order: the run's bounds of tasks, revisions and time.
        engine: runs the tasks; all that it knows are of the planner's plan.
        work: what the planner's calls took so far.
    """

    def __init__(
        self,
        *,
        client: ModelClient,
        briefing: Briefing,
        emit: Emit,
        clock: Clock,
        order: RunOrder,
        engine: Engine,
        work: Work,
    ) -> None:
        self._client = client
        self._briefing = briefing
        self._emit = emit
        self._clock = clock
        self._model = briefing.roles.resolve("planner")
        self._order = order
        self._max_tasks = order.max_tasks
        self._engine = engine
        self._work = work

    async def revise(self, *, keep: float) -> None:
        """Change the plan as often as that is allowed and helps; return when all its tasks have ended.

        The embedded model is not asked: it can write questions, not revise a plan.

        Args:
            keep: share of the run's time that is kept for the merge, 0 to 1.
        """
        for _ in range(0 if is_tiny(self._model) else self._order.replans):
            outcomes = self._engine.outcomes
            conflicts = self._disputed(outcomes)
            troubled = troubles(outcomes, conflicts)
            timeout_s = self._time(keep)
            if not troubled or timeout_s <= 0:
                return
            revision = await self._revised(outcomes, troubled, conflicts, timeout_s)
            tasks = [outcome.task for outcome in outcomes]
            if revision is not None:
                tasks = self._voted(revision)
                self._engine.reconcile(tasks, "the plan was revised")
            self._emit(self._ready(tasks))
            if revision is None:
                return
            await self._engine.settled()

    def _voted(self, revision: Revision) -> list[Task]:
        """The new leaves are voted on like the first ones; what stays is not asked again for that."""
        voted = {task.id: task for task in with_vote(revision.tasks, self._order.vote)}
        return [voted[t.id] if t.id in revision.added else t for t in revision.tasks]

    def _time(self, keep: float) -> float:
        """Seconds that the planner may take, so that its new tasks have as much; 0 when that is too little for one."""
        order = self._order
        call_s = order.task_timeout_s or DEFAULT_CALL_TIMEOUT_S
        if order.timeout_s is None:
            return call_s
        half_s = (order.timeout_s * (1.0 - keep) - self._clock.monotonic()) / 2
        return 0.0 if half_s <= (self._engine.median_s or 0.0) else min(call_s, half_s)

    def _disputed(self, outcomes: Sequence[Outcome]) -> list[Conflict]:
        """Contradictions for the planner to settle; with `verify.conflicts` they are asked about directly instead."""
        verify = self._order.verify
        asked = verify is not None and verify.conflicts
        return [] if asked else conflicts_among(outcomes)

    async def _revised(
        self,
        outcomes: Sequence[Outcome],
        troubled: dict[str, str],
        conflicts: Sequence[Conflict],
        timeout_s: float,
    ) -> Revision | None:
        """The changed plan; None when nothing is to change, or nothing usable came of it."""
        reason = reason_of(troubled)
        self._emit(PlanStarted(model=self._model.id, revision=reason))
        try:
            revision = await self._ask(outcomes, troubled, conflicts, timeout_s)
        except (PlanError, ModelError) as error:
            self._emit(Warned(message=f"the plan is not revised: {error.message}"))
            return None
        if revision is not None:
            self._emit(PlanRevised(added=revision.added, removed=revision.removed, reason=reason))
        return revision

    def _ready(self, tasks: Sequence[Task]) -> PlanReady:
        return PlanReady(
            tasks=len(tasks),
            seconds=round(sum(span.busy_s for span in self._work.spans), 4),
            plan=to_document("swarm", tasks),
        )

    async def _ask(
        self,
        outcomes: Sequence[Outcome],
        troubled: dict[str, str],
        conflicts: Sequence[Conflict],
        timeout_s: float,
    ) -> Revision | None:
        request = ModelRequest(
            model=self._model,
            messages=self._messages(outcomes, troubled, conflicts),
            purpose="planner",
            timeout_s=timeout_s,
        )
        started_s = self._clock.monotonic()
        reply = await self._client.complete(request)
        self._work.add("planner", [reply], started_s=started_s, ended_s=self._clock.monotonic())
        b, tasks = self._briefing, tuple(outcome.task for outcome in outcomes)
        return revise(
            tasks,
            parse_plan(reply.text, repair=lenient_json),
            changeable=open_to_change(tasks, troubled),
            builder=PlanBuilder(
                max_tasks=self._max_tasks, profiles=b.profiles, models=b.roles.models
            ),
        )

    def _messages(
        self,
        outcomes: Sequence[Outcome],
        troubled: dict[str, str],
        conflicts: Sequence[Conflict],
    ) -> tuple[Message, ...]:
        """The question, with as much of the prompts as the window holds."""
        b = self._briefing
        prompt = load_prompt("replan")
        fixed = prompt.render(
            job=b.job_outline,
            max_tasks=str(self._max_tasks),
            choices=choices_of(b),
            materials=materials_of(b, self._max_tasks),
            data_note=DATA_NOTE,
            status="",
        )
        room = None
        if self._model.context_window is not None:
            room = room_for_inputs(self._model, "the planner", fixed.system + fixed.user)
        status = ""
        for chars in _PROMPT_CHARS:
            told = summary(outcomes, troubled, conflicts, prompt_chars=chars)
            status = b.blocks.wrap("status", told)
            if room is None or estimate_tokens(status) <= room:
                break
        return messages_of(replace(fixed, user=f"{fixed.user}\n{status}"))


def reason_of(troubled: dict[str, str]) -> str:
    """`t2 failed (server), t5 insufficient, and 3 more`."""
    told = [f"{agent} {why}" for agent, why in list(troubled.items())[:_SHOWN_REASONS]]
    more = len(troubled) - len(told)
    return ", ".join([*told, *([f"and {more} more"] if more else [])])
