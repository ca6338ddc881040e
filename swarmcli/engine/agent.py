"""One agent: from a task and its inputs to an outcome. Every failure is a value here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import cast

from swarmcli.core.events import AgentStarted, AgentUpdated, Failure
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Task
from swarmcli.core.ports import Clock, ModelClient, ModelRequest, Recorder
from swarmcli.core.replay import History
from swarmcli.core.routing import with_thinking
from swarmcli.core.tally import VoteResult
from swarmcli.engine.asking import Answer, Asking, Taken
from swarmcli.engine.briefing import Briefing, Inputs
from swarmcli.engine.courts import Court, Courts
from swarmcli.engine.critic import Critic
from swarmcli.engine.panel import Panel, Seat, with_notes
from swarmcli.engine.turns import Fingerprint, Turns, reused
from swarmcli.engine.typed import schema_text, with_schema
from swarmcli.engine.voting import Poll
from swarmcli.errors import FailureKind, ModelError, StorageError, SwarmError, UncertainError
from swarmcli.recipe.values import Json, Mode, Vote

PROMPT_IN_EVENT = 20_000
DEFAULT_CALL_TIMEOUT_S = 600.0


class AgentRunner:
    """Runs agents: each asks one model, with at most one re-ask, or has its question voted on.

    Args:
        client: the composed model path.
        briefing: what all agents share.
        recorder: takes what happens to an agent until its end, which is the engine's to record.
        clock: for the times in outcomes; its zero is the start of the run.
        fingerprint: the input key of a request.
        history: what earlier sessions of this run left; reused where the input key is equal.
        mode: `thinking` asks with reasoning effort, `instant` and `thinking` with the plain answer prompt.
        task_timeout_s: time for all calls of one agent together; None: ten minutes.
        critic: judges each answer before anybody else sees it; None: nobody does.
    """

    def __init__(
        self,
        *,
        client: ModelClient,
        briefing: Briefing,
        recorder: Recorder,
        clock: Clock,
        fingerprint: Fingerprint,
        history: History,
        mode: Mode = "swarm",
        task_timeout_s: float | None = None,
        critic: Critic | None = None,
    ) -> None:
        self._client = client
        self._briefing = briefing
        self._recorder = recorder
        self._emit = recorder.emit
        self._clock = clock
        self._fingerprint = fingerprint
        self._history = history
        self._critic = critic
        self._courts = Courts(recorder.emit, history)
        self._voted: dict[str, VoteResult] = {}
        """What the votes of this session's agents came to."""
        self.mode: Mode = mode
        self._timeout_s = task_timeout_s or DEFAULT_CALL_TIMEOUT_S

    async def run(self, task: Task, inputs: Inputs) -> Outcome:
        """Do the task. Only cancellation and bugs leave as exceptions."""
        started_s = self._clock.monotonic()
        try:
            request = self._request_of(task, inputs)
        except SwarmError as error:
            self._emit(AgentStarted(agent=task.id, model=self.models_of(task)[0]))
            return self._failed(task, error, started_s, Taken())
        key = self._key(task, inputs, request) + (f"+{self._critic.key}" if self._critic else "")
        prompt = request.messages[-1].content[:PROMPT_IN_EVENT]
        self._emit(AgentStarted(agent=task.id, model=request.model.id, prompt=prompt))
        earlier = self._history.finished.get(task.id)
        if earlier is not None and earlier.key == key and not task.distrusted:
            return self._remembered(reused(task, earlier, started_s))
        asking = self._asking(task)
        try:
            self._refuse_uncertain(task)
            outcome = await self._answer(task, inputs, request, asking)
        except SwarmError as error:
            return self._failed(task, error, started_s, asking.taken)
        ended_s = self._clock.monotonic()
        return self._remembered(replace(outcome, key=key, started_s=started_s, ended_s=ended_s))

    def _remembered(self, outcome: Outcome) -> Outcome:
        if outcome.vote is not None:
            self._voted[outcome.agent] = outcome.vote
        return outcome

    def _refuse_uncertain(self, task: Task) -> None:
        """What was begun with side effects and has no known end is not silently begun again."""
        tools = self._history.uncertain.get(task.id)
        if tools:
            raise UncertainError(
                f"its tool may have run in an earlier session, and nobody knows how it ended: "
                f"{', '.join(dict.fromkeys(tools))}; swarm resume --retry-uncertain runs it again"
            )

    def _asking(self, task: Task) -> Asking:
        def turns(left_s: float) -> Turns:
            return Turns(
                task.id,
                client=self._client,
                recorder=self._recorder,
                fingerprint=self._fingerprint,
                earlier=self._history.turns.get(task.id, {}),
                timeout_s=self._timeout_s,
                left_s=left_s,
            )

        again = AgentUpdated(agent=task.id, note="schema: asks again")
        return Asking(
            turns,
            self._timeout_s,
            wrap=self._briefing.blocks.wrap,
            on_retry=lambda: self._emit(again),
        )

    async def _answer(
        self, task: Task, inputs: Inputs, request: ModelRequest, asking: Asking
    ) -> Outcome:
        """The answer stage: one model's answer, or what a vote comes to."""
        if task.vote is None:
            answer, result = await asking.ask(request), None
        else:
            poll = Poll(
                task.vote,
                panel=self._panel(task, inputs, asking),
                court=self._court(task, task.vote),
                blocks=self._briefing.blocks,
                emit=self._emit,
                before=self._voted.get(task.id) if task.distrusted else None,
            )
            answer, result = await poll.hold()
        verdict = ""
        if self._critic is not None:
            answer, verdict = await self._critic.check(request, answer, asking)
        return replace(_done(task, answer, asking.taken), vote=result, verdict=verdict)

    def distrusts(self, outcome: Outcome) -> bool:
        """Its votes agreed and were believed, but by now the votes of its fan-out are not trusted any more."""
        task, result = outcome.task, outcome.vote
        if result is None or task.vote is None or not result.agreed:
            return False
        believed = not (result.audited or result.escalated)
        return believed and self._court(task, task.vote).stopped

    def _court(self, task: Task, vote: Vote) -> Court:
        jury = " ".join(self._model_id(task, seat.name) for seat in self._first_seats(task))
        if vote.escalate is not None:
            jury += f" > {self._model_id(task, vote.escalate)}"
        return self._courts.of(None if task.index is None else task.group, vote, jury)

    def _model_id(self, task: Task, name: str | None) -> str:
        return self._briefing.model_for(_seated(task, name)).id

    def _panel(self, task: Task, inputs: Inputs, asking: Asking) -> Panel:
        return Panel(
            task.id,
            request=partial(self._request, task, inputs),
            model_of=partial(self._model_id, task),
            asking=asking,
        )

    def _request_of(self, task: Task, inputs: Inputs) -> ModelRequest:
        """What the agent asks first: the first voter who can be asked, or else who decides."""
        fault: SwarmError | None = None
        arbiter = task.vote.escalate if task.vote else None
        for seat in (*self._first_seats(task), *([Seat(name=arbiter)] if arbiter else [])):
            try:
                return self._request(task, inputs, seat)
            except ModelError as error:  # the window of this one is too small
                fault = fault or error
        raise fault or RuntimeError("an agent without a model")

    def _first_seats(self, task: Task) -> Iterator[Seat]:
        names: Sequence[str | None] = (task.vote.models if task.vote else ()) or (None,)
        return (Seat(name=name) for name in names)

    def _request(self, task: Task, inputs: Inputs, seat: Seat) -> ModelRequest:
        """What one model is asked.

        Raises:
            ModelError: (context_overflow) it does not fit the model's window.
            TemplateError, UsageError: a variable or a model role does not exist.
        """
        task = _seated(task, seat.name)
        model = self._briefing.model_for(task)
        single = self.mode in {"instant", "thinking", "agent"}
        schema = self._schema(task)
        messages = self._briefing.worker_messages(
            task,
            inputs,
            prompt="answer" if single else "worker",
            beside=seat.notes + ("" if schema is None else schema_text(schema)),
        )
        messages = with_notes(messages, seat)
        if schema is not None:
            messages = with_schema(messages, schema)
        return ModelRequest(
            model=with_thinking(model) if self.mode == "thinking" or seat.thinking else model,
            messages=messages,
            response_schema=schema,
            sample=seat.sample,
            agent=task.id,
            timeout_s=self._timeout_s,
        )

    def _key(self, task: Task, inputs: Inputs, request: ModelRequest) -> str:
        """The input key of the agent: of its question, and of everybody who may answer it, and how."""
        vote = task.vote
        if vote is None:
            return self._fingerprint(request)
        asked: list[Json] = []
        for name in (*vote.models, *([vote.escalate] if vote.escalate is not None else [])):
            try:
                asked.append(self._fingerprint(self._request(task, inputs, Seat(name=name))))
            except SwarmError as error:
                asked.append(error.message)
        settings = cast("dict[str, Json]", asdict(vote))
        extra = {**request.extra, "vote": {**settings, "models": asked}}
        return self._fingerprint(replace(request, extra=extra))

    def _schema(self, task: Task) -> Mapping[str, Json] | None:
        profile = self._briefing.profiles.get(task.profile or "")
        return task.output_schema or (profile.output_schema if profile else None)

    def models_of(self, task: Task) -> list[str]:
        """The LiteLLM ids of those whom a task asks first; its own word where that is no role of this run."""
        vote = task.vote
        try:
            if vote is not None and vote.escalate is not None and self._court(task, vote).stopped:
                return [self._model_id(task, vote.escalate)]
            return [self._model_id(task, seat.name) for seat in self._first_seats(task)]
        except SwarmError:  # a role that this run does not have: that is the failure
            return [next(self._first_seats(task)).name or task.model or ""]

    def _failed(self, task: Task, error: SwarmError, started_s: float, taken: Taken) -> Outcome:
        model = self.models_of(task)[0]
        several = task.vote is not None or self._critic is not None
        if several and isinstance(error, ModelError):
            model = error.model or model
        return Outcome(
            task=task,
            state="failed",
            failure=Failure(kind=_kind_of(error), message=error.message),
            hint=error.hint,
            model=model,
            attempts=taken.attempts,
            usage=taken.usage,
            cost_usd=taken.cost_usd,
            busy_s=taken.busy_s,
            started_s=started_s,
            ended_s=self._clock.monotonic(),
        )


def _seated(task: Task, name: str | None) -> Task:
    """The task as one voter gets it: on that voter's model."""
    return task if name is None else replace(task, model=name)


def _kind_of(error: SwarmError) -> FailureKind:
    match error:
        case ModelError():
            return error.kind
        case UncertainError():
            return "uncertain"
        case StorageError():
            return "internal"
        case _:
            return "template"


def _done(task: Task, answer: Answer, taken: Taken) -> Outcome:
    return Outcome(
        task=task,
        state="done",
        output=answer.output,
        status=answer.status,
        claims=answer.claims,
        model=answer.model,
        cached=taken.cached,
        hedged=taken.hedged,
        attempts=taken.attempts,
        usage=taken.usage,
        cost_usd=taken.cost_usd,
        busy_s=taken.busy_s,
    )
