"""What an answer costs, from the providers' own ways of counting: cache reads, cache writes, reasoning."""

import json

import pytest

from swarmcli.adapters.litellm_client import LitellmClient
from swarmcli.adapters.model_table import facts_of
from swarmcli.core.events import Usage
from swarmcli.core.ports import Message, ModelRequest
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Price
from swarmcli.testing import RecordingText
from tests.fakes.openai_server import Reply, serving

KEYS = dict.fromkeys(
    ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "DEEPSEEK_API_KEY", "GEMINI_API_KEY"),
    "sk-test-key-of-the-fake",
)


def chat(usage, finish="stop"):
    """A chat completion as OpenAI and its likes send it."""
    message = {"role": "assistant", "content": "hi"}
    choice = {"index": 0, "finish_reason": finish, "message": message}
    envelope = {"id": "x", "object": "chat.completion", "created": 1, "model": "m"}
    return {**envelope, "choices": [choice], "usage": usage}


OPENAI = chat(
    {
        "prompt_tokens": 10_000,
        "completion_tokens": 1000,
        "total_tokens": 11_000,
        "prompt_tokens_details": {"cached_tokens": 8000},
        "completion_tokens_details": {"reasoning_tokens": 900},
    }
)
DEEPSEEK = chat(
    {
        "prompt_tokens": 10_000,
        "completion_tokens": 1000,
        "total_tokens": 11_000,
        "prompt_cache_hit_tokens": 8000,
        "prompt_cache_miss_tokens": 2000,
    }
)
ANTHROPIC = {
    "id": "msg",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "hi"}],
    "stop_reason": "end_turn",
    "usage": {
        "input_tokens": 1000,
        "cache_creation_input_tokens": 2000,
        "cache_read_input_tokens": 7000,
        "output_tokens": 1000,
    },
}
GEMINI = {
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "hi"}]},
            "finishReason": "STOP",
            "index": 0,
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 10_000,
        "cachedContentTokenCount": 8000,
        "candidatesTokenCount": 100,
        "thoughtsTokenCount": 900,
        "totalTokenCount": 11_000,
    },
}


async def answer_to(body, model, *, stream_to=None):
    """What a client makes of this body of the provider's."""
    async with serving(reply=Reply(body=body), any_path=True) as server:
        base = server.url if model.id.startswith(("openai", "deepseek")) else server.root
        client = LitellmClient(env=KEYS)
        spec = ModelSpec(
            id=model.id, api_base=base, price=model.price, max_output_tokens=model.max_output_tokens
        )
        question = ModelRequest(model=spec, messages=(Message(role="user", content="q"),))
        try:
            return await client.complete(question, stream_to)
        finally:
            await client.close()


@pytest.mark.parametrize(
    ("model", "body", "cached", "parts"),
    [
        # cost per million tokens: fresh input, cache reads, cache writes, output with reasoning
        ("openai/gpt-5-mini", OPENAI, 8000, (2000 * 0.25, 8000 * 0.025, 0, 1000 * 2.0)),
        ("deepseek/deepseek-chat", DEEPSEEK, 8000, (2000 * 0.28, 8000 * 0.028, 0, 1000 * 0.42)),
        ("anthropic/claude-haiku-4-5", ANTHROPIC, 7000, (1000, 7000 * 0.1, 2000 * 1.25, 1000 * 5)),
        ("gemini/gemini-2.5-flash", GEMINI, 8000, (2000 * 0.3, 8000 * 0.03, 0, 1000 * 2.5)),
    ],
)
async def test_each_token_costs_what_the_provider_takes_for_it(model, body, cached, parts):
    """Usage says all input and all output, reasoning included; the cost tells cheap tokens from dear ones."""
    reply = await answer_to(body, ModelSpec(id=model))

    assert reply.usage == Usage(input_tokens=10_000, output_tokens=1000, cached_tokens=cached)
    assert reply.cost_usd == pytest.approx(sum(parts) / 1e6)


@pytest.mark.parametrize(("cached_rate", "cost_usd"), [(None, 0.018), (0.5, 0.014)])
async def test_a_price_of_the_recipe_wins(cached_rate, cost_usd):
    """All input costs the same, unless the recipe says what cache reads cost."""
    price = Price(input_per_mtok=1.0, output_per_mtok=8.0, cached_input_per_mtok=cached_rate)

    reply = await answer_to(OPENAI, ModelSpec(id="openai/gpt-5-mini", price=price))

    assert reply.cost_usd == pytest.approx(cost_usd)


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {"prompt_tokens": -5, "completion_tokens": 10, "total_tokens": 5},
        {"prompt_tokens": 10**12, "completion_tokens": 10, "total_tokens": 10**12},
        {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0},
    ],
)
async def test_usage_that_is_missing_or_cannot_be_is_unknown(usage):
    """Neither 0 nor a credit nor a fortune."""
    reply = await answer_to(chat(usage), ModelSpec(id="openai/gpt-5-mini"))

    assert (reply.usage, reply.cost_usd) == (None, None)


async def test_more_cache_reads_than_input_are_cut():
    """Part of the input cannot be more than all of it."""
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}
    body = chat({**usage, "prompt_tokens_details": {"cached_tokens": 5000}})
    price = Price(input_per_mtok=1.0, output_per_mtok=1.0, cached_input_per_mtok=0.0)

    reply = await answer_to(body, ModelSpec(id="openai/gpt-5-mini", price=price))

    assert (reply.usage.cached_tokens, reply.cost_usd) == (100, pytest.approx(10 / 1e6))


async def test_a_streamed_answer_costs_the_same():
    """The usage of a stream comes with its last piece."""
    text = RecordingText()
    first = {"index": 0, "delta": {"role": "assistant", "content": "hi"}, "finish_reason": None}
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    base = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    pieces = [
        {**base, "choices": [first]},
        {**base, "choices": [last]},
        {**base, "choices": [], "usage": OPENAI["usage"]},
    ]
    body = "".join(f"data: {json.dumps(piece)}\n\n" for piece in pieces) + "data: [DONE]\n\n"
    sse = Reply(body=body, headers={"Content-Type": "text/event-stream"})
    async with serving(reply=sse) as server:
        client = LitellmClient(env=KEYS)
        model = ModelSpec(id="openai/gpt-5-mini", api_base=server.url)
        question = ModelRequest(
            model=model, messages=(Message(role="user", content="q"),), purpose="planner"
        )
        reply = await client.complete(question, text)
        await client.close()

    assert reply.usage == Usage(input_tokens=10_000, output_tokens=1000, cached_tokens=8000)
    assert reply.cost_usd == pytest.approx(0.0027)


async def test_a_truncated_answer_says_what_it_took():
    """There is no answer, and it is charged all the same."""
    body = chat(OPENAI["usage"], finish="length")

    with pytest.raises(ModelError) as caught:
        await answer_to(body, ModelSpec(id="openai/gpt-5-mini"))

    charge = caught.value.charge
    assert (caught.value.kind, charge.input_tokens, charge.output_tokens) == (
        "truncated",
        10_000,
        1000,
    )
    assert charge.cost_usd == pytest.approx(0.0027)
    assert caught.value.copy().charge is None


class TestTheTable:
    @pytest.mark.parametrize("model", ["openai/no-such-model", "gemini/gemma-3-27b-it"])
    def test_no_price_is_unknown(self, model):
        """Models that the table lacks, and those that it has with 0 because nobody filled it in."""
        assert facts_of(ModelSpec(id=model)).price is None

    @pytest.mark.parametrize("model", ["ollama_chat/llama3", "embedded/smollm2", "lm_studio/any"])
    def test_models_of_this_machine_are_free(self, model):
        """Nobody sends a bill for them."""
        assert facts_of(ModelSpec(id=model)).price == Price(input_per_mtok=0, output_per_mtok=0)

    def test_the_recipe_is_believed_before_the_table(self):
        """Also with a price of 0."""
        price = Price(input_per_mtok=0, output_per_mtok=0)
        assert facts_of(ModelSpec(id="openai/gpt-5-mini", price=price)).price == price
