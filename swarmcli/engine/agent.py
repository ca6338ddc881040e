"""One agent: from a task and its inputs to an outcome. Every failure is a value here."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from swarmcli.core.events import AgentStarted, AgentUpdated, Failure, Usage
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Task
from swarmcli.core.ports import Clock, ModelClient, ModelReply, ModelRequest, Recorder
from swarmcli.core.replay import History
from swarmcli.core.replies import Claim, parse_reply
from swarmcli.core.routing import with_thinking
from swarmcli.engine.briefing import Briefing, Inputs, is_tiny
from swarmcli.engine.turns import Fingerprint, Turns, reused
from swarmcli.engine.typed import ask_for_json, schema_text, with_schema
from swarmcli.errors import (
    Charge,
    FailureKind,
    ModelError,
    StorageError,
    SwarmError,
    UncertainError,
)
from swarmcli.recipe.values import Json, Mode

PROMPT_IN_EVENT = 20_000
DEFAULT_CALL_TIMEOUT_S = 600.0

_BILLED: frozenset[FailureKind] = frozenset({"truncated", "empty", "content_filter", "timeout"})
"""The provider has worked and will charge for it; where it has not said how much, that is unknown, not zero."""


@dataclass(slots=True)
class _Spent:
    """What all calls of one agent took together."""

    attempts: int = 0
    usage: Usage | None = None
    cost_usd: float | None = 0.0
    busy_s: float = 0.0
    cached: bool = True
    hedged: bool = False

    def add(self, reply: ModelReply) -> None:
        self.hedged = self.hedged or reply.hedged
        self.attempts += reply.attempts
        self.busy_s += reply.seconds
        self.cached = self.cached and reply.cached
        if reply.usage is not None and not reply.cached:
            self.usage = (self.usage or Usage()) + reply.usage
        self._pay(reply.cost_usd)

    def add_charge(self, charge: Charge) -> None:
        """A call that gave no usable answer, and what the provider says it took."""
        self.cached = False
        self.usage = (self.usage or Usage()) + Usage(
            input_tokens=charge.input_tokens,
            output_tokens=charge.output_tokens,
            cached_tokens=charge.cached_tokens,
        )
        self._pay(charge.cost_usd)

    def _pay(self, cost_usd: float | None) -> None:
        known = self.cost_usd is not None and cost_usd is not None
        self.cost_usd = cast("float", self.cost_usd) + cast("float", cost_usd) if known else None


class AgentRunner:
    """Runs agents, each with one question and at most one re-ask.

    Args:
        client: the composed model path.
        briefing: what all agents share.
        recorder: takes what happens to an agent until its end, which is the engine's to record.
        clock: for the times in outcomes; its zero is the start of the run.
        fingerprint: the input key of a request.
        history: what earlier sessions of this run left; reused where the input key is equal.
        mode: `thinking` asks with reasoning effort, `instant` and `thinking` with the plain answer prompt.
        task_timeout_s: time for all calls of one agent together; None: ten minutes.
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
    ) -> None:
        self._client = client
        self._briefing = briefing
        self._recorder = recorder
        self._emit = recorder.emit
        self._clock = clock
        self._fingerprint = fingerprint
        self._history = history
        self.mode: Mode = mode
        self._timeout_s = task_timeout_s or DEFAULT_CALL_TIMEOUT_S

    async def run(self, task: Task, inputs: Inputs) -> Outcome:
        """Do the task. Only cancellation and bugs leave as exceptions."""
        started_s = self._clock.monotonic()
        try:
            request = self._request(task, inputs)
        except SwarmError as error:
            self._emit(AgentStarted(agent=task.id, model=self.model_of(task)))
            return self._failed(task, error, started_s, _Spent())
        key = self._fingerprint(request)
        prompt = request.messages[-1].content[:PROMPT_IN_EVENT]
        self._emit(AgentStarted(agent=task.id, model=request.model.id, prompt=prompt))
        earlier = self._history.finished.get(task.id)
        if earlier is not None and earlier.key == key:
            return reused(task, earlier, started_s)
        spent = _Spent()
        try:
            self._refuse_uncertain(task)
            outcome = await self._ask(task, request, spent)
        except SwarmError as error:
            return self._failed(task, error, started_s, spent)
        return replace(outcome, key=key, started_s=started_s, ended_s=self._clock.monotonic())

    def _refuse_uncertain(self, task: Task) -> None:
        """What was begun with side effects and has no known end is not silently begun again."""
        tools = self._history.uncertain.get(task.id)
        if tools:
            raise UncertainError(
                f"its tool may have run in an earlier session, and nobody knows how it ended: "
                f"{', '.join(dict.fromkeys(tools))}; swarm resume --retry-uncertain runs it again"
            )

    def _request(self, task: Task, inputs: Inputs) -> ModelRequest:
        model = self._briefing.model_for(task)
        single = self.mode in {"instant", "thinking", "agent"}
        schema = self._schema(task)
        messages = self._briefing.worker_messages(
            task,
            inputs,
            prompt="answer" if single else "worker",
            beside="" if schema is None else schema_text(schema),
        )
        if schema is not None:
            messages = with_schema(messages, schema)
        return ModelRequest(
            model=with_thinking(model) if self.mode == "thinking" else model,
            messages=messages,
            response_schema=schema,
            agent=task.id,
            timeout_s=self._timeout_s,
        )

    def _schema(self, task: Task) -> Mapping[str, Json] | None:
        profile = self._briefing.profiles.get(task.profile or "")
        return task.output_schema or (profile.output_schema if profile else None)

    async def _ask(self, task: Task, request: ModelRequest, spent: _Spent) -> Outcome:
        turns = Turns(
            task.id,
            client=self._client,
            recorder=self._recorder,
            fingerprint=self._fingerprint,
            earlier=self._history.turns.get(task.id, {}),
            timeout_s=self._timeout_s,
        )

        async def ask(question: ModelRequest) -> ModelReply:
            reply = await turns.ask(question)
            spent.add(reply)
            return reply

        if request.response_schema is None:
            reply = await ask(request)
            typed = parse_reply(reply.text)
            if not typed.output.strip():
                raise ModelError(
                    f"{reply.model} gave an empty answer", kind="empty", model=reply.model
                )
            return _done(task, reply.model, spent, typed.output, typed.status, typed.claims)
        again = AgentUpdated(agent=task.id, note="schema: asks again")
        reply, output = await ask_for_json(ask, request, lambda: self._emit(again))
        return _done(task, reply.model, spent, output)

    def model_of(self, task: Task) -> str:
        """The LiteLLM id of the model that a task asks; its own word where that is no role of this run."""
        try:
            return self._briefing.model_for(task).id
        except SwarmError:  # a role that this run does not have: that is the failure
            return task.model or ""

    def _failed(self, task: Task, error: SwarmError, started_s: float, spent: _Spent) -> Outcome:
        if isinstance(error, ModelError):
            spent.attempts += error.attempts
            spent.busy_s += error.seconds
            if error.charge is not None:
                spent.add_charge(error.charge)
            elif (
                error.attempts
                and error.kind in _BILLED
                and not is_tiny(self._briefing.model_for(task))
            ):
                spent.cost_usd = None
        now = self._clock.monotonic()
        return Outcome(
            task=task,
            state="failed",
            failure=Failure(kind=_kind_of(error), message=error.message),
            model=self.model_of(task),
            attempts=spent.attempts,
            usage=spent.usage,
            cost_usd=spent.cost_usd,
            busy_s=spent.busy_s,
            started_s=started_s,
            ended_s=now,
        )


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


def _done(
    task: Task,
    model: str,
    spent: _Spent,
    output: str,
    status: str = "ok",
    claims: tuple[Claim, ...] = (),
) -> Outcome:
    return Outcome(
        task=task,
        state="done",
        output=output,
        status=status,
        claims=claims,
        model=model,
        cached=spent.cached,
        hedged=spent.hedged,
        attempts=spent.attempts,
        usage=spent.usage,
        cost_usd=spent.cost_usd,
        busy_s=spent.busy_s,
    )
