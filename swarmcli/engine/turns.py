"""What one agent asks, call after call, and what an earlier session of the run left of it.

Rule: an answer that another call builds on is durable before that call leaves; a resumed run takes it from
the journal instead of paying for it again.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from swarmcli.core.events import AgentCompleted, TurnCompleted
from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Task
from swarmcli.core.ports import ModelClient, ModelReply, ModelRequest, Recorder
from swarmcli.core.replies import Claim
from swarmcli.core.tally import vote_result_of
from swarmcli.errors import ModelError
from swarmcli.recipe.values import Json

Fingerprint = Callable[[ModelRequest], str]
"""Hash of everything in a request that can change the answer."""


class Turns:
    """The calls of one agent, one after the other, in the time that they have together.

    Args:
        agent: its id; None for the run itself.
        client: the composed model path.
        recorder: takes `turn.completed`.
        fingerprint: the input key of a request.
        earlier: answers from an earlier session, by input key.
        timeout_s: for all calls of the agent; waiting for a slot and earlier sessions do not count.
        left_s: what of that is left for these calls; None: all of it.
    """

    def __init__(
        self,
        agent: str | None,
        *,
        client: ModelClient,
        recorder: Recorder,
        fingerprint: Fingerprint,
        earlier: Mapping[str, TurnCompleted],
        timeout_s: float,
        left_s: float | None = None,
    ) -> None:
        self._agent = agent
        self._client = client
        self._recorder = recorder
        self._fingerprint = fingerprint
        self._earlier = earlier
        self._timeout_s = timeout_s
        self._given_s = self._left_s = timeout_s if left_s is None else left_s
        self._answered: tuple[ModelRequest, ModelReply] | None = None
        """The last call, while it is not durable."""

    async def ask(self, question: ModelRequest) -> ModelReply:
        """The next answer.

        Raises:
            ModelError: there is none, or no time to ask for it.
            StorageError: the one before it cannot be made durable.
        """
        await self.keep()
        turn = self._earlier.get(self._fingerprint(question)) if self._earlier else None
        if turn is not None:
            return _replayed(turn)
        if self._left_s <= 0:
            raise ModelError(
                f"the agent's time ({self._timeout_s:g} s) is over before it could ask again",
                kind="timeout",
                model=question.model.id,
            )
        reply = await self._client.complete(replace(question, timeout_s=self._left_s))
        self._left_s -= reply.seconds
        self._answered = question, reply
        return reply

    @property
    def used_s(self) -> float:
        """What the calls of this session took of the time."""
        return self._given_s - self._left_s

    async def keep(self) -> None:
        """Make the last answer durable, because something builds on it.

        Raises:
            StorageError: it cannot be.
        """
        if self._answered is None:
            return
        question, reply = self._answered
        await self._recorder.commit(
            TurnCompleted(
                agent=self._agent,
                key=self._fingerprint(question),
                output=reply.text,
                model=reply.model,
                cached=reply.cached,
                hedged=reply.hedged,
                attempts=reply.attempts,
                tokens=reply.usage,
                cost_usd=reply.cost_usd,
                seconds=round(reply.seconds, 4),
            )
        )
        self._answered = None


def _replayed(turn: TurnCompleted) -> ModelReply:
    return ModelReply(
        text=turn.output,
        model=turn.model,
        usage=turn.tokens,
        cost_usd=turn.cost_usd,
        cached=turn.cached,
        attempts=turn.attempts,
        seconds=turn.seconds,
        hedged=turn.hedged,
    )


def reused(task: Task, earlier: AgentCompleted, now_s: float) -> Outcome:
    """The outcome of an agent that an earlier session finished: nothing is called, nothing is paid."""
    return Outcome(
        task=task,
        state="done",
        output=earlier.output,
        status=earlier.status,
        claims=_claims_of(earlier.claims),
        verdict=earlier.verdict,
        model=earlier.model,
        cached=earlier.cached,
        reused=True,
        hedged=earlier.hedged,
        attempts=earlier.attempts,
        usage=earlier.tokens,
        cost_usd=earlier.cost_usd,
        busy_s=earlier.seconds,
        started_s=now_s,
        ended_s=now_s,
        key=earlier.key,
        vote=vote_result_of(earlier.vote),
    )


def _claims_of(value: Json) -> tuple[Claim, ...]:
    entries = value if isinstance(value, list) else []
    return tuple(
        Claim(
            key=str(e.get("key")),
            value=e.get("value"),
            unit=str(e.get("unit", "")),
            source=str(e.get("source", "")),
        )
        for e in entries
        if isinstance(e, dict)
    )
