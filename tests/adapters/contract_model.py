"""What every `ModelClient` must do, whoever implements it: the LiteLLM edge, its middleware, the shipped fakes.

    class TestScriptedClient(ModelContract):
        @contextlib.asynccontextmanager
        async def serving(self, answers):
            yield ScriptedClient([...])

`answers` are in order of the calls; a subclass turns them into whatever makes its client behave so.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import pytest

from swarmcli.core.events import Usage
from swarmcli.core.ports import Message, ModelClient, ModelRequest
from swarmcli.errors import FailureKind, ModelError
from swarmcli.recipe.values import ModelSpec, Price

PATIENCE_S = 20.0
"""Far beyond what anything here takes; only a hang comes near."""


@dataclass(frozen=True)
class Says:
    """A whole answer."""

    text: str


@dataclass(frozen=True)
class Fails:
    """A failure before the first piece."""

    kind: FailureKind


@dataclass(frozen=True)
class Breaks:
    """The beginning of `text`, then a failure of one of the kinds that a cut stream may have."""

    text: str


@dataclass(frozen=True)
class Hangs:
    """No answer, for as long as the caller waits."""


Answer = Says | Fails | Breaks | Hangs
BROKEN_STREAM_KINDS = {"network", "truncated", "server", "protocol"}


class Pieces:
    """A `TextSink` that keeps what it gets."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.restarts = 0

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def feed(self, text: str) -> None:
        self.pieces.append(text)

    def restart(self) -> None:
        self.restarts += 1


class FullSink(Pieces):
    """A `TextSink` that refuses its first piece."""

    def feed(self, text: str) -> None:
        raise BufferError("full")


def ask(
    text: str = "What is 2 + 2?", timeout_s: float = PATIENCE_S, **model: object
) -> ModelRequest:
    """A request to a model that no price table knows."""
    spec = {"id": "openai/contract", **model}
    return ModelRequest(
        model=ModelSpec(**spec), messages=(Message(role="user", content=text),), timeout_s=timeout_s
    )


class ModelContract:
    """The checks. A subclass gives `serving`, and says where it cannot take part."""

    error_kinds: Sequence[FailureKind] = (
        "rate_limit",
        "server",
        "network",
        "auth",
        "quota",
        "unknown_model",
        "context_overflow",
        "bad_request",
        "empty",
    )
    can_hang = True

    @contextlib.asynccontextmanager
    async def serving(self, answers: Sequence[Answer]) -> AsyncIterator[ModelClient]:
        raise NotImplementedError  # each client's own tests say how it is served
        yield

    async def test_an_answer_is_a_whole_reply(self):
        """The text comes back as it is, from the model that was asked, with the tokens that it took."""
        async with self.serving([Says("It is 4.\n\n  Really.")]) as client:
            reply = await client.complete(ask())
        assert reply.text == "It is 4.\n\n  Really."
        assert reply.model == "openai/contract"
        assert isinstance(reply.usage, Usage)
        assert reply.usage.input_tokens > 0
        assert reply.usage.output_tokens > 0
        assert (reply.cached, reply.attempts) == (False, 1)
        assert reply.seconds >= 0

    async def test_hostile_text_passes_unchanged(self):
        """A client judges no content: what may reach a terminal is decided where it is shown."""
        text = "\x1b[31mred\x1b]0;x\x07 \u202eevil [/bold] ::error:: \U0001f600 é"
        async with self.serving([Says(text)]) as client:
            assert (await client.complete(ask())).text == text

    async def test_an_unknown_price_is_unknown(self):
        """A model without a price has no cost, which is not a cost of zero."""
        async with self.serving([Says("4")]) as client:
            assert (await client.complete(ask())).cost_usd is None

    async def test_a_given_price_is_used(self):
        """The recipe's price times the tokens is the cost."""
        price = Price(input_per_mtok=1_000_000.0, output_per_mtok=2_000_000.0)
        async with self.serving([Says("four, of course")]) as client:
            reply = await client.complete(ask(price=price))
        assert reply.usage is not None
        expected = reply.usage.input_tokens + 2 * reply.usage.output_tokens
        assert reply.cost_usd == pytest.approx(expected)

    async def test_a_failure_is_a_model_error_with_its_kind(self):
        """Whatever goes wrong arrives as one `ModelError`: a kind, the model, one clean line; the client lives on."""
        answers: list[Answer] = []
        for kind in self.error_kinds:
            answers += [Fails(kind), Says("and on")]
        async with self.serving(answers) as client:
            for kind in self.error_kinds:
                with pytest.raises(ModelError) as caught:
                    await client.complete(ask())
                error = caught.value
                assert (error.kind, error.model) == (kind, "openai/contract")
                assert error.message
                assert len(error.message) <= 500
                assert error.message.isprintable()
                assert (await client.complete(ask())).text == "and on"

    async def test_pieces_come_in_order_and_make_up_the_reply(self):
        """Joined, the streamed pieces are exactly the reply's text; a client never restarts a sink by itself."""
        text = "".join(f"sentence {i}. " for i in range(60))
        sink = Pieces()
        async with self.serving([Says(text)]) as client:
            reply = await client.complete(ask(), sink)
        assert reply.text == text == sink.text
        assert len(sink.pieces) > 1
        assert sink.restarts == 0

    async def test_a_stream_that_breaks_is_no_reply(self):
        """Half an answer is a failure; the sink has the beginning, and restarting it is the retry's business."""
        text = "".join(f"sentence {i}. " for i in range(60))
        sink = Pieces()
        async with self.serving([Breaks(text)]) as client:
            with pytest.raises(ModelError) as caught:
                await client.complete(ask(), sink)
        assert caught.value.kind in BROKEN_STREAM_KINDS
        assert text.startswith(sink.text)
        assert sink.text not in {"", text}
        assert sink.restarts == 0

    async def test_what_the_sink_raises_passes_through(self):
        """A sink that fails is not the provider's failure."""
        async with self.serving([Says("some words of an answer"), Says("and on")]) as client:
            with pytest.raises(BufferError, match="full"):
                await client.complete(ask(), FullSink())
            assert (await client.complete(ask())).text == "and on"

    async def test_many_at_once(self):
        """Fifty calls share one client."""
        async with self.serving([Says("same")] * 50) as client, asyncio.TaskGroup() as group:
            calls = [group.create_task(client.complete(ask(f"q{i}"))) for i in range(50)]
        assert {call.result().text for call in calls} == {"same"}

    async def test_cancellation_passes_straight_through(self):
        """A cancelled call ends at once as cancelled, and the client lives on."""
        if not self.can_hang:
            pytest.skip("this client has no answers that take time")
        async with self.serving([Hangs(), Says("and on")]) as client:
            async with asyncio.timeout(PATIENCE_S), asyncio.TaskGroup() as group:
                call = group.create_task(client.complete(ask()))
                await self.until_asked()
                call.cancel()
            assert call.cancelled()
            assert (await client.complete(ask())).text == "and on"

    async def until_asked(self) -> None:
        """Return when the call under way waits for its answer."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def test_the_deadline_is_the_callers(self):
        """`timeout_s` bounds the whole call, whatever the other side does."""
        if not self.can_hang:
            pytest.skip("this client has no answers that take time")
        async with self.serving([Hangs()]) as client:
            with pytest.raises(ModelError) as caught:
                await client.complete(ask(timeout_s=0.3))
        assert caught.value.kind == "timeout"
