"""The planner: one streamed model call that becomes a checked plan, with one repair turn.

The answer is read while it streams, so that the first agents start before the plan ends. A plan that is wrong gets
its exact fault back once; then the run fails clearly.
"""

from collections.abc import Callable, Sequence

import json_repair

from swarmcli.core.blocks import DATA_NOTE
from swarmcli.core.events import PlanReady, PlanStarted
from swarmcli.core.plan import Plan, PlanBuilder, Task, to_document
from swarmcli.core.planform import tiny_plan_schema
from swarmcli.core.planstream import PlanStream
from swarmcli.core.plantext import parse_plan
from swarmcli.core.ports import Clock, Emit, Message, ModelClient, ModelRequest
from swarmcli.core.routing import listed_items
from swarmcli.core.tokens import MESSAGE_OVERHEAD, cut_to_tokens
from swarmcli.engine.briefing import Briefing, is_tiny, messages_of, room_for_inputs
from swarmcli.engine.work import Work
from swarmcli.errors import ModelError, PlanError
from swarmcli.prompts import load_prompt

REPAIRABLE_KINDS = frozenset({"truncated", "empty"})
TINY_PLAN_TASKS = 4
"""Most tasks that the embedded model is asked for; it repeats itself beyond."""
_QUOTED_TOKENS = 8000
"""Most of a broken answer that the repair turn shows."""
_LEAST_QUOTED_TOKENS = 64
_REPAIRED_CHARS = 5000
"""Longest JSON that the lenient reader gets: its time grows with the square, to a second here, and all agents wait."""
MOST_FILES = 500
"""So many files are told to the planner by name."""


class Planner:
    """Asks the role `planner` for a plan.

    Args:
        client: the composed model path.
        briefing: the job, the models and the profiles that a plan may name.
        emit: takes `plan.started` and `plan.ready`.
        clock: its zero is the start of the run.
        max_tasks: most tasks that the plan may hold.
        on_tasks: called with tasks as soon as they are fully known.
        timeout_s: total time for one call.
    """

    def __init__(
        self,
        *,
        client: ModelClient,
        briefing: Briefing,
        emit: Emit,
        clock: Clock,
        max_tasks: int,
        on_tasks: Callable[[Sequence[Task]], None],
        timeout_s: float,
    ) -> None:
        self._client = client
        self._briefing = briefing
        self._emit = emit
        self._clock = clock
        self._model = briefing.roles.resolve("planner")
        self._max_tasks = min(max_tasks, TINY_PLAN_TASKS) if is_tiny(self._model) else max_tasks
        self._on_tasks = on_tasks
        self._timeout_s = timeout_s
        self._handed: dict[str, Task] = {}
        self.work = Work()

    async def plan(self) -> Plan:
        """The checked plan.

        Raises:
            PlanError: no usable plan, also after the repair turn.
            ModelError: the planner could not be reached.
        """
        messages = self._messages()
        answer, fault = "", ""
        for turn in range(2):
            try:
                answer = ""
                answer = await self._call(messages, fault or None)
                plan = self._check(answer)
            except PlanError as error:
                fault = error.message
            except ModelError as error:
                if error.kind not in REPAIRABLE_KINDS:
                    raise
                fault = (
                    "the answer was cut off" if error.kind == "truncated" else "the answer is empty"
                )
            else:
                self._emit(self._ready(plan))
                return plan
            if turn == 0:
                messages = self._repair_turn(messages, answer, fault)
        raise PlanError(
            f"the plan by {self._model.id} cannot be used, also after one repair turn: {fault}",
            hint="try a larger planner model (-m planner=provider/name), or write the tasks into a recipe",
        )

    def _messages(self) -> tuple[Message, ...]:
        b = self._briefing
        if is_tiny(self._model):
            text = load_prompt("planner_small").render(
                job=b.job_outline, max_tasks=str(self._max_tasks)
            )
            return messages_of(text)
        text = load_prompt("planner").render(
            job=b.job_outline,
            max_tasks=str(self._max_tasks),
            choices=choices_of(b),
            materials=materials_of(b, self._max_tasks),
            data_note=DATA_NOTE,
        )
        if self._model.context_window is not None:
            room_for_inputs(self._model, "the planner", text.system + text.user)
        return messages_of(text)

    def _repair_turn(
        self, messages: tuple[Message, ...], answer: str, fault: str
    ) -> tuple[Message, ...]:
        """The chat with the broken answer, as far as the window holds it, and its fault."""
        repair = messages_of(load_prompt("planner_repair").render(fault=fault))
        room = _QUOTED_TOKENS
        if self._model.context_window is not None:
            text = "".join(message.content for message in (*messages, *repair))
            room = min(room, room_for_inputs(self._model, "the planner", text) - MESSAGE_OVERHEAD)
        if not answer or room < _LEAST_QUOTED_TOKENS:
            return (*messages, *repair)
        said = Message(role="assistant", content=cut_to_tokens(answer, room))
        return (*messages, said, *repair)

    async def _call(self, messages: tuple[Message, ...], fault: str | None) -> str:
        self._emit(PlanStarted(model=self._model.id, repair=fault))
        started_s = self._clock.monotonic()
        request = ModelRequest(
            model=self._model,
            messages=messages,
            response_schema=tiny_plan_schema(self._max_tasks) if is_tiny(self._model) else None,
            purpose="planner",
            timeout_s=self._timeout_s,
        )
        reader = _StreamReader(self._builder, self._hand_over)
        reply = await self._client.complete(request, stream_to=reader)
        ended_s = self._clock.monotonic()
        self.work.add("planner", [reply], started_s=started_s, ended_s=ended_s)
        return reply.text

    def _hand_over(self, tasks: Sequence[Task], held: set[str]) -> None:
        """Tasks of a draft, each once. What contradicts an earlier draft is held back until the plan is whole."""
        fresh: list[Task] = []
        for task in tasks:
            earlier = self._handed.get(task.id)
            if earlier == task:
                continue
            needs = (agent for d in task.depends_on for agent in d.agents)
            if (
                earlier is not None
                or len(self._handed) >= self._max_tasks
                or any(agent in held for agent in needs)
            ):
                held.add(task.id)
                continue
            self._handed[task.id] = task
            fresh.append(task)
        if fresh:
            self._on_tasks(fresh)

    def _builder(self) -> PlanBuilder:
        b = self._briefing
        return PlanBuilder(max_tasks=self._max_tasks, profiles=b.profiles, models=b.roles.models)

    def _check(self, answer: str) -> Plan:
        document = parse_plan(answer, repair=lenient_json)
        builder = self._builder()
        for draft in document.drafts:
            builder.add(draft)
        return builder.finish(document.mode)

    def _ready(self, plan: Plan) -> PlanReady:
        return PlanReady(
            tasks=len(plan.tasks),
            folded=plan.folded,
            seconds=round(sum(span.busy_s for span in self.work.spans), 4),
            plan=to_document(plan.mode, plan.tasks),
        )


def lenient_json(text: str) -> object:
    """Complete but sloppy JSON; None when it cannot be read either."""
    if len(text) > _REPAIRED_CHARS:
        return None
    try:
        return json_repair.loads(text)
    except (ValueError, RecursionError, IndexError, TypeError):
        return None


def choices_of(briefing: Briefing) -> str:
    """Models and profiles that a plan may name."""
    profiles = [
        f'- "{p.name}": {p.description or "no description"}' for p in briefing.profiles.values()
    ]
    lines = ['- "model" of a task may be "small" (the default) or "large" (hard reasoning only).']
    if profiles:
        lines += [
            '- "agent" of a task may name one of these profiles:',
            *("  " + line for line in profiles),
        ]
    return "\n".join(lines)


def materials_of(briefing: Briefing, max_tasks: int) -> str:
    """How large the job is, by names and sizes only: the plan is fixed before any outside text is read."""
    lines = [
        f"- {m.name}: {len(m.text):,} characters, given to every agent that has no inputs"
        for m in briefing.materials
    ]
    if briefing.files:
        names = briefing.blocks.wrap("files", "\n".join(briefing.files[:MOST_FILES]))
        lines += ["- files, each of them given to an agent whose prompt names its path:", names]
    if len(briefing.files) > MOST_FILES:
        lines.append(f"- and {len(briefing.files) - MOST_FILES} more files")
    material = "MATERIAL:\n" + "\n".join(lines) if lines else ""
    return "\n\n".join(filter(None, [_listed(briefing.job_outline, max_tasks), material]))


def _listed(job: str, max_tasks: int) -> str:
    items = listed_items(job)
    if items < 2:
        return ""
    if items <= max_tasks:
        return f"The JOB lists {items} items. Where they are independent, plan one task for each."
    return (
        f"The JOB lists {items} items and only {max_tasks} tasks are allowed: "
        "group the items so that each one is in exactly one task."
    )


class _StreamReader:
    """Reads the plan while it streams; a fresh start after a broken stream."""

    def __init__(
        self,
        builder: Callable[[], PlanBuilder],
        hand_over: Callable[[Sequence[Task], set[str]], None],
    ) -> None:
        self._new_builder = builder
        self._hand_over = hand_over
        self.restart()

    def restart(self) -> None:
        """Forget what was read; tasks that were handed over are settled when the whole plan is known."""
        self._stream = PlanStream()
        self._builder = self._new_builder()
        self._held: set[str] = set()
        """Tasks of this answer that were not handed over."""

    def feed(self, text: str) -> None:
        """Read on; hand over the tasks that are fully known."""
        for draft in self._stream.feed(text):
            self._hand_over(self._builder.add(draft), self._held)
