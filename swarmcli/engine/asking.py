"""Asking models on behalf of one agent: one question or several side by side, and what all of it took together.

Rule: an answer that a later question builds on is durable before that question leaves.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from swarmcli.core.events import Usage
from swarmcli.core.ports import ModelReply, ModelRequest
from swarmcli.core.replies import Claim, parse_reply
from swarmcli.engine.briefing import is_tiny
from swarmcli.engine.turns import Turns
from swarmcli.engine.typed import Wrap, ask_for_json
from swarmcli.errors import Charge, FailureKind, ModelError, SwarmError

_BILLED: frozenset[FailureKind] = frozenset({"truncated", "empty", "content_filter", "timeout"})
"""The provider has worked and will charge for it; where it has not said how much, that is unknown, not zero."""


@dataclass(slots=True)
class Taken:
    """What calls took together. Time in seconds, money in US dollars."""

    attempts: int = 0
    usage: Usage | None = None
    cost_usd: float | None = 0.0
    """None when a price is unknown."""
    busy_s: float = 0.0
    cached: bool = True
    hedged: bool = False

    def add(self, reply: ModelReply) -> None:
        """A call that was answered, after those before."""
        self.hedged = self.hedged or reply.hedged
        self.attempts += reply.attempts
        self.busy_s += reply.seconds
        self.cached = self.cached and reply.cached
        if reply.usage is not None and not reply.cached:
            self.usage = (self.usage or Usage()) + reply.usage
        self._pay(reply.cost_usd)

    def add_error(self, error: ModelError, *, free: bool) -> None:
        """A call that was not answered, after those before; `free`: its model costs nothing."""
        self.attempts += error.attempts
        self.busy_s += error.seconds
        self.cached = self.cached and not error.attempts
        if error.charge is not None:
            self._add_charge(error.charge)
        elif error.attempts and error.kind in _BILLED and not free:
            self.cost_usd = None

    def add_side_by_side(self, parts: Sequence["Taken"]) -> None:
        """Calls that were made at the same time: they are busy together, not one after the other."""
        self.busy_s += max((part.busy_s for part in parts), default=0.0)
        for part in parts:
            self.attempts += part.attempts
            self.cached = self.cached and part.cached
            self.hedged = self.hedged or part.hedged
            if part.usage is not None:
                self.usage = (self.usage or Usage()) + part.usage
            self._pay(part.cost_usd)

    def _add_charge(self, charge: Charge) -> None:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One model's whole answer to an agent's question."""

    output: str
    text: str
    """The last reply in full, steps included."""
    model: str
    status: str = "ok"
    claims: tuple[Claim, ...] = ()
    cost_usd: float | None = None
    """Of all calls that it took; None when unknown."""
    cached: bool = False


class Asking:
    """The questions of one agent.

    Args:
        turns: makes the chain of calls of one question, which has so many seconds left.
        timeout_s: for all calls of the agent that follow each other.
        wrap: makes data blocks.
        on_retry: called before a model is asked again because of its output's schema.
    """

    def __init__(
        self,
        turns: Callable[[float], Turns],
        timeout_s: float,
        *,
        wrap: Wrap,
        on_retry: Callable[[], None],
    ) -> None:
        self._turns = turns
        self._wrap = wrap
        self._left_s = timeout_s
        self._on_retry = on_retry
        self._open: list[Turns] = []
        """Whose last answer is not durable."""
        self.taken = Taken()

    async def ask(self, question: ModelRequest) -> Answer:
        """One model's answer.

        Raises:
            ModelError: there is none; what it took is in `taken` all the same.
            StorageError: an answer before it cannot be made durable.
        """
        [answer] = await self.ask_all([question])
        if isinstance(answer, ModelError):
            raise answer
        return answer

    async def ask_all(self, questions: Sequence[ModelRequest]) -> list[Answer | ModelError]:
        """The answers to questions that are asked side by side, in their order; an error in place of an answer.

        Raises:
            StorageError: an answer before them cannot be made durable.
        """
        await self.keep()
        parts = [Taken() for _ in questions]
        self._open = [self._turns(self._left_s) for _ in questions]
        try:
            if len(questions) == 1:
                return [await self._one(questions[0], self._open[0], parts[0])]
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(self._one(question, turns, part))
                    for question, turns, part in zip(questions, self._open, parts, strict=True)
                ]
            return [task.result() for task in tasks]
        except* SwarmError as errors:  # of storage: every other one is a value
            raise _first(errors) from None
        finally:
            self.taken.add_side_by_side(parts)
            self._left_s -= max((turns.used_s for turns in self._open), default=0.0)

    async def reply(self, question: ModelRequest) -> ModelReply:
        """One model's bare reply, which is no answer of the agent's: a judge may quote one in it.

        Raises:
            ModelError: there is none; what it took is in `taken` all the same.
            StorageError: an answer before it cannot be made durable.
        """
        await self.keep()
        turns, part = self._turns(self._left_s), Taken()
        self._open = [turns]
        try:
            reply = await turns.ask(question)
            part.add(reply)
        except ModelError as error:
            part.add_error(error, free=is_tiny(question.model))
            raise
        finally:
            self.taken.add_side_by_side([part])
            self._left_s -= turns.used_s
        return reply

    async def keep(self) -> None:
        """Make what was answered so far durable.

        Raises:
            StorageError: it cannot be.
        """
        for turns in self._open:
            await turns.keep()
        self._open = []

    async def _one(self, question: ModelRequest, turns: Turns, part: Taken) -> Answer | ModelError:
        async def ask(request: ModelRequest) -> ModelReply:
            reply = await turns.ask(request)
            part.add(reply)
            return reply

        try:
            if question.response_schema is None:
                reply = await ask(question)
                typed = parse_reply(reply.text)
                if not typed.output.strip():
                    message = f"{reply.model} gave an empty answer"
                    raise ModelError(message, kind="empty", model=reply.model)  # noqa: TRY301
                output, status, claims = typed.output, typed.status, typed.claims
            else:
                reply, output = await ask_for_json(
                    ask, question, wrap=self._wrap, on_retry=self._on_retry
                )
                status, claims = "ok", ()
        except ModelError as error:
            part.add_error(error, free=is_tiny(question.model))
            return error
        return Answer(
            output=output,
            text=reply.text,
            model=reply.model,
            status=status,
            claims=claims,
            cost_usd=part.cost_usd,
            cached=part.cached,
        )


def _first(errors: BaseExceptionGroup[SwarmError]) -> SwarmError:
    """The first of them, out of its groups."""
    found = errors.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
