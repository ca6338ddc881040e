"""The LiteLLM edge against a real loopback server, on both of its HTTP paths."""

import asyncio
import contextlib
import gc
import gzip
import json
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from swarmcli.adapters.litellm_client import LitellmClient
from swarmcli.adapters.redact import Redactor
from swarmcli.core.events import Usage
from swarmcli.core.ports import Headroom, Message, ModelRequest
from swarmcli.errors import ModelError
from swarmcli.recipe.values import ModelSpec, Price
from tests.adapters.contract_model import Answer, Breaks, Fails, Hangs, ModelContract, Pieces, Says
from tests.fakes.openai_server import FAULTS, Reply, Server, http_date, rate_limited, serve, serving

KEY = "sk-canary0123456789abcdefSECRET"
ROOT = Path(__file__).parents[2]
PATHS = {"own handler": "1", "sdk": "0"}

FAULT_OF = {
    "rate_limit": "429",
    "server": "500",
    "network": "reset",
    "auth": "401",
    "quota": "429 quota",
    "unknown_model": "404",
    "context_overflow": "context",
    "bad_request": "400",
    "empty": "null content",
}


def request(text="What is 2 + 2?", *, timeout_s=20.0, response_schema=None, extra=None, **model):
    """A request to `openai/fake`, which LiteLLM's table does not know."""
    return ModelRequest(
        model=ModelSpec(**{"id": "openai/fake", **model}),
        messages=(Message(role="system", content="Be brief."), Message(role="user", content=text)),
        timeout_s=timeout_s,
        response_schema=response_schema,
        extra=extra or {},
    )


@contextlib.asynccontextmanager
async def client_of(server, *, fast="1", **settings):
    """A client whose environment leads to `server`, closed at the end."""
    env = {"OPENAI_API_KEY": KEY, "OPENAI_API_BASE": server.url, "SWARM_FAST_HTTP": fast}
    client = LitellmClient(env=env, **settings)
    try:
        yield client
    finally:
        await client.close()


@pytest.fixture(params=PATHS.values(), ids=PATHS.keys())
async def edge(request):
    """A server and a client of it, once per HTTP path."""
    async with serving() as server, client_of(server, fast=request.param) as client:
        yield server, client


async def failure(client, question=None, sink=None) -> ModelError:
    """The error that a call ends with."""
    with pytest.raises(ModelError) as caught:
        await client.complete(question or request(), sink)
    return caught.value


class LitellmContract(ModelContract):
    """The contract over HTTP."""

    fast = "1"
    server: Server

    @contextlib.asynccontextmanager
    async def serving(self, answers: list[Answer]):
        plan: list[str | Reply] = []
        for answer in answers:
            match answer:
                case Says(text):
                    plan.append(Reply(text=text))
                case Fails(kind):
                    plan.append(FAULT_OF[kind])
                case Breaks(text):
                    plan.append(Reply(text=text, fault="stream eof"))
                case Hangs():
                    plan.append("hang")
        async with (
            serving(faults=plan) as self.server,
            client_of(self.server, fast=self.fast) as client,
        ):
            yield client

    async def until_asked(self):
        await self.server.until(lambda: self.server.in_flight)


class TestOwnHandler(LitellmContract):
    """Through LiteLLM's own HTTP handler."""


class TestSdk(LitellmContract):
    """Through the OpenAI SDK."""

    fast = "0"


KINDS = {
    "429": "rate_limit",
    "429 quota": "quota",
    "500": "server",
    "502": "server",
    "503": "server",
    "400": "bad_request",
    "401": "auth",
    "402": "quota",
    "403": "auth",
    "404": "unknown_model",
    "context": "context_overflow",
    "filter 400": "content_filter",
    "reset": "network",
    "half": "network",
    "bad json": "protocol",
    "html": "protocol",
    "array": "protocol",
    "no choices": "protocol",
    "null content": "empty",
    "refusal": "empty",
    "empty": "empty",
    "blank": "empty",
    "length": "truncated",
    "content filter": "content_filter",
    "huge": "protocol",
    "eof": "network",
    "half head": "network",
    "long head": "protocol",
    "bad gzip": "protocol",
    "bad utf8": "protocol",
    "no body": "protocol",
    "huge error": "server",
    "leaky 400": "bad_request",
    "leaky 500": "server",
    "leaky page": "server",
    "stream reset": "network",
    "stream eof": "network",
    "stream error": "server",
}
STREAMED = {**KINDS, "stream eof": "network"}
del STREAMED["no choices"]  # [DONE] makes it an empty answer where it can be seen, see TestStreams


class TestFaults:
    """Every fault becomes one kind, after one request."""

    @pytest.mark.parametrize(("fault", "kind"), KINDS.items())
    async def test_whole(self, edge, fault, kind):
        """A call for a whole answer: the kind, one request, no word of the key or of LiteLLM."""
        server, client = edge
        server.faults, server.huge_chars = [fault], 10_000_001
        error = await failure(client)
        assert error.kind == kind
        assert len(server.requests) == 1
        self.check(error)

    @pytest.mark.parametrize(("fault", "kind"), STREAMED.items())
    async def test_streamed(self, edge, fault, kind):
        """The same for a streamed one."""
        server, client = edge
        server.faults, server.huge_chars = [fault], 10_000_001
        error = await failure(client, sink=Pieces())
        assert error.kind == kind
        assert len(server.requests) == 1
        self.check(error)

    def check(self, error):
        assert KEY not in error.message
        assert "litellm" not in error.message.lower()
        assert error.message.isprintable()
        # A traceback prints causes and contexts: LiteLLM's hold the key.
        assert (error.__cause__, error.__context__) == (None, None)

    @pytest.mark.parametrize("streamed", [False, True])
    @pytest.mark.parametrize("fault", ["hang", "drip", "stream silent"])
    async def test_silence_and_slowness_meet_the_deadline(self, edge, fault, streamed):
        """The deadline is total: a server that sends a byte now and then does not extend it, and is hung up on."""
        server, client = edge
        server.faults = [fault]
        loop = asyncio.get_running_loop()
        started = loop.time()
        error = await failure(client, request(timeout_s=0.6), Pieces() if streamed else None)
        assert error.kind == "timeout"
        assert 0.55 <= loop.time() - started < 3.0
        await server.until(lambda: not server.in_flight)
        assert server.disconnects == 1

    def test_every_fault_of_the_server_is_covered(self):
        """A new fault in the fake server needs an expectation here."""
        harmless = {"ok", "slow", "no usage", "hostile", "odd usage", "leaky text"}
        elsewhere = {"hang", "drip", "stream silent", "stream done only", "stream no finish"}
        elsewhere |= {"redirect", "odd types", "deep json", "stream garbage"}  # in the fault suite
        assert set(FAULTS) == set(KINDS) | harmless | elsewhere

    async def test_nobody_listens(self):
        """A refused connection says who was not there."""
        async with serving() as server:
            url = server.url
        async with client_of(server) as client:
            error = await failure(client, request(api_base=url))
        assert error.kind == "network"
        assert (
            error.message
            == f"no answer from openai at 127.0.0.1:{server.port} (connection refused)"
        )

    async def test_a_name_that_does_not_resolve(self):
        """DNS failures are the network's, and can be retried."""
        async with serving() as server, client_of(server) as client:
            error = await failure(client, request(api_base="http://nowhere.invalid/v1"))
        assert error.kind == "network"

    async def test_the_providers_words_are_quoted(self, edge):
        """Who refused, with which status, in its own words, and what to do."""
        server, client = edge
        server.faults = ["401"]
        error = await failure(client)
        assert error.message.startswith(
            'openai refused the key (401): "Incorrect API key provided: sk-…CRET.'
        )
        assert error.hint == "check OPENAI_API_KEY; swarm doctor"

    async def test_a_misspelt_model_gets_a_suggestion(self, edge):
        """From the same provider."""
        server, client = edge
        server.faults = ["404"]
        error = await failure(client, request(id="openai/gpt-5-mni"))
        assert error.message.startswith("openai has no model 'gpt-5-mni' (404)")
        assert error.hint == "did you mean openai/gpt-5-mini? swarm models list openai"

    async def test_errors_print_nothing(self, edge, capfd):
        """LiteLLM's advertisements and log lines stay away from both streams."""
        server, client = edge
        server.faults = ["500", "429", "401", "html", "reset"]
        for _ in range(5):
            await failure(client)
        assert capfd.readouterr() == ("", "")


class TestRetryAfter:
    """What a provider says about coming back."""

    @pytest.mark.parametrize(
        ("header", "expected"),
        [
            ("7", 7.0),
            ("0.25", 0.25),
            (" 12 ", 12.0),
            ("90", 90.0),
            ("1e9", 3600.0),
            ("0", None),
            ("-1", None),
            ("NaN", None),
            ("inf", None),
            ("soon", None),
            ("", None),
            (None, None),
        ],
    )
    async def test_seconds(self, edge, header, expected):
        """Seconds count when they make sense; an hour is the most."""
        server, client = edge
        server.faults = [rate_limited(header)]
        assert (await failure(client)).retry_after_s == expected

    async def test_a_date(self, edge):
        """An HTTP date is a number of seconds from now."""
        server, client = edge
        server.faults = [rate_limited(http_date(40)), rate_limited(http_date(-40))]
        wait = (await failure(client)).retry_after_s
        assert wait is not None
        assert 30 < wait <= 41
        assert (await failure(client)).retry_after_s is None

    async def test_an_overloaded_server_may_ask_too(self, edge):
        """503 with Retry-After is honoured; other kinds carry none."""
        server, client = edge
        server.faults = [Reply(fault="503", retry_after="3"), Reply(fault="400", retry_after="3")]
        assert (await failure(client)).retry_after_s == 3.0
        assert (await failure(client)).retry_after_s is None


RATE_HEADERS = {
    "x-ratelimit-remaining-requests": "59",
    "x-ratelimit-reset-requests": "1s",
    "x-ratelimit-remaining-tokens": "149984",
    "x-ratelimit-reset-tokens": "6m0s",
}


class TestHeadroom:
    """What the provider says is left."""

    @pytest.mark.parametrize("sink", [None, Pieces()])
    async def test_an_answers_headers_are_read(self, edge, sink):
        """On both HTTP paths, streamed or not."""
        server, client = edge
        server.reply = Reply(text="hi", headers=RATE_HEADERS)
        assert (await client.complete(request(), sink)).headroom == Headroom(
            requests=59, requests_reset_s=1.0, tokens=149984, tokens_reset_s=60.0
        )

    async def test_without_headers_it_is_unknown(self, edge):
        """Most local servers say nothing."""
        _, client = edge
        assert (await client.complete(request())).headroom is None

    async def test_a_429_without_retry_after_waits_for_the_reset(self, edge):
        """Of what is used up; the answer's own word would win."""
        server, client = edge
        spent = {**RATE_HEADERS, "x-ratelimit-remaining-requests": "0"}
        server.faults = [
            Reply(fault="429", headers={**spent, "x-ratelimit-reset-requests": "12s"}),
            Reply(fault="429", headers=RATE_HEADERS),
            Reply(fault="429", headers=spent, retry_after="3"),
        ]
        waits = [(await failure(client)).retry_after_s for _ in range(3)]
        assert waits == [12.0, None, 3.0]


class TestOwnKeys:
    """A model that repeats our key."""

    @pytest.mark.parametrize("chunk_chars", [3, 16, 500])
    async def test_it_is_not_in_the_answer(self, edge, chunk_chars):
        """Whole or streamed, in pieces of any size; the rest of the answer is untouched."""
        server, client = edge
        server.reply = f"The key is {KEY}, and sk-ant-REDACTED is none of ours."
        server.chunk_chars = chunk_chars
        sink = Pieces()
        for reply in (await client.complete(request()), await client.complete(request(), sink)):
            assert reply.text == "The key is sk-…CRET, and sk-ant-REDACTED is none of ours."
        assert sink.text == reply.text

    async def test_it_is_not_in_the_last_piece(self, edge):
        """An answer that is the key and nothing else."""
        server, client = edge
        server.reply = KEY
        sink = Pieces()
        assert (await client.complete(request(), sink)).text == "sk-…CRET"
        assert sink.text == "sk-…CRET"


class TestHostileSizes:
    """Bodies that are meant to hurt cost bounded memory, and are protocol faults."""

    @pytest.mark.parametrize("fast", PATHS.values(), ids=PATHS.keys())
    def test_endless_bodies_are_cut_off(self, fast):
        """More than is let in: a fault after one request each, at a cost of some copies of what is let in."""
        huge = b"[" * 30_000_000
        stream = {"content-type": "text/event-stream"}
        routes = [
            ("body", Reply(body=huge)),
            ("error", Reply(body=huge, status=500)),
            ("line", Reply(body=b"data: " + huge, headers=stream)),
            ("bomb", Reply(body=gzip.compress(huge * 7, 1), headers={"content-encoding": "gzip"})),
        ]
        code = (
            "import asyncio, resource\n"
            "from swarmcli.adapters.litellm_client import LitellmClient\n"
            "from swarmcli.errors import ModelError\n"
            "from tests.adapters.contract_model import Pieces\n"
            "from tests.adapters.test_litellm_client import request\n"
            "def peak_mb():\n"
            "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
            "async def main():\n"
            "    client = LitellmClient()\n"
            "    await client.complete(request('fine'))\n"
            "    before = peak_mb()\n"
            "    for name in ('body', 'error', 'line', 'bomb'):\n"
            "        for sink in (None, Pieces()):\n"
            "            try:\n"
            "                await client.complete(request(name), sink)\n"
            "            except ModelError as error:\n"
            "                print(name, error.kind, peak_mb() - before)\n"
            "    await client.close()\n"
            "asyncio.run(main())\n"
        )
        with serve(routes=routes) as server:
            env = {**os.environ, **server.env, "SWARM_FAST_HTTP": fast}
            done = subprocess.run(
                [sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True
            )
            assert len(server.requests) == 9
        outcomes = [line.split() for line in done.stdout.splitlines()]
        assert len(outcomes) == 8, done.stderr
        for name, kind, grown_mb in outcomes:
            assert kind == ("server" if name == "error" else "protocol")
            assert int(grown_mb) < 250

    async def test_packed_answers_are_answers(self, edge):
        """Compression itself is fine; packed twice it is not."""
        server, client = edge
        body = json.dumps(
            {"id": "x", "object": "chat.completion", "created": 1, "model": "fake", "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "packed"}, "finish_reason": "stop"}
            ]}
        ).encode()  # fmt: skip
        server.reply = Reply(body=gzip.compress(body), headers={"content-encoding": "gzip"})
        assert (await client.complete(request())).text == "packed"
        twice = gzip.compress(gzip.compress(body))
        server.reply = Reply(body=twice, headers={"content-encoding": "gzip, gzip"})
        assert (await failure(client, request("again"))).kind == "protocol"

    @pytest.mark.parametrize(
        "message",
        [
            {"content": None, "tool_calls": [{"id": "x", "type": "function", "function": {
                "name": "f", "arguments": "{}"}}] * 20_000},
            {"content": None, "function_call": {"name": "f", "arguments": "[" * 100_000}},
            {"content": ["not", "text"]},
            {"content": {"a": 1}},
            {"content": 7},
        ],
    )  # fmt: skip
    async def test_odd_messages_are_faults(self, edge, message):
        """A flood of tool calls that nobody asked for, deep arguments, text that is no text."""
        server, client = edge
        server.reply = {
            "id": "x", "object": "chat.completion", "created": 1, "model": "fake",
            "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}],
        }  # fmt: skip
        assert (await failure(client)).kind in {"empty", "protocol"}

    async def test_many_choices_are_one(self, edge):
        """We ask for one and take the first."""
        server, client = edge
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": "a"},
            "finish_reason": "stop",
        }
        server.reply = {
            "id": "x", "object": "chat.completion", "created": 1, "model": "fake",
            "choices": [choice] * 5_000,
        }  # fmt: skip
        assert (await client.complete(request())).text == "a"

    async def test_deep_json_is_a_fault(self, edge):
        """Nesting that no parser survives."""
        server, client = edge
        server.reply = Reply(body='{"choices":' + "[" * 200_000 + "]" * 200_000 + "}")
        assert (await failure(client)).kind == "protocol"


class TestStreams:
    """When a stream counts as whole."""

    async def test_without_usage_the_providers_finish_is_proof(self, edge):
        """Some servers do not know `include_usage`: the answer counts, its tokens and cost are unknown."""
        server, client = edge
        server.faults = ["no usage"]
        reply = await client.complete(request(), Pieces())
        assert reply.text == "echo: What is 2 + 2?"
        assert (reply.usage, reply.cost_usd) == (None, None)

    @pytest.mark.parametrize("fault", ["stream done only", "stream no finish"])
    async def test_without_finish_there_is_no_proof(self, fault):
        """Usage proves nothing (many send it with every piece). `[DONE]` would, but the SDK hides it."""
        async with serving(faults=[fault] * 2) as server:
            async with client_of(server) as client:
                assert (await client.complete(request(), Pieces())).text == "echo: What is 2 + 2?"
            async with client_of(server, fast="0") as client:
                assert (await failure(client, sink=Pieces())).kind == "network"

    async def test_nothing_at_all_is_no_answer(self, edge):
        """An empty stream is tried once more at most, like an empty answer."""
        server, client = edge
        server.faults = ["no choices"]
        assert (await failure(client, sink=Pieces())).kind in {"empty", "protocol"}

    async def test_a_clean_end_without_it_is_a_cut(self, edge):
        """LiteLLM reports `finish_reason: stop` and a usage of its own for this one (litellm#40260)."""
        server, client = edge
        server.faults = ["stream eof"]
        error = await failure(client, sink=Pieces())
        assert (
            error.message
            == f"no answer from openai at 127.0.0.1:{server.port} (the stream broke off)"
        )

    async def test_many_equal_pieces_are_fine(self, edge):
        """A plan's indentation may come as hundreds of equal chunks; LiteLLM would call 100 of them a loop."""
        server, client = edge
        chunks = (*["    "] * 300, "x", *["same text "] * 300)
        server.reply = Reply(text="".join(chunks), chunks=chunks)
        sink = Pieces()
        assert (await client.complete(request(), sink)).text == sink.text == "".join(chunks)

    async def test_pieces_arrive_while_the_rest_is_unsent(self, edge):
        """The first piece is there long before the last: a planner's first task can start."""
        server, client = edge
        server.reply = Reply(text="abcd" * 4, chunk_chars=4, chunk_delay_s=0.1)
        seen = []

        class Timed(Pieces):
            def feed(self, text):
                seen.append((server.in_flight, text))

        await client.complete(request(), Timed())
        assert [text for _, text in seen] == ["abcd"] * 4
        assert [busy for busy, _ in seen][:3] == [1, 1, 1]

    async def test_streaming_only_on_request(self, edge):
        """Without a sink the provider is asked for one whole answer."""
        server, client = edge
        await client.complete(request())
        await client.complete(request(), Pieces())
        assert [r.body.get("stream") for r in server.requests] == [None, True]
        assert server.requests[1].body["stream_options"] == {"include_usage": True}

    async def test_an_endpoint_that_does_not_stream_is_not_asked_to_again(self, edge):
        """Small servers and proxies ignore `stream` and send one JSON body: worth another attempt, without it."""
        server, client = edge
        message = {"role": "assistant", "content": "whole"}
        server.reply = {
            "id": "x", "object": "chat.completion", "created": 1, "model": "fake",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }  # fmt: skip
        sink = Pieces()

        assert (await failure(client, sink=sink)).kind == "protocol"

        assert (await client.complete(request(), sink)).text == sink.text == "whole"
        assert [r.body.get("stream") for r in server.requests] == [True, None]


def sse(*events: dict) -> str:
    """Server-sent events as one body."""
    return "".join(
        (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    )


def anthropic_events():
    """A whole answer of Anthropic's: it begins with usage and ends with the reason."""
    start = {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": []}
    text = {"type": "text", "text": ""}
    return [
        {
            "type": "message_start",
            "message": {**start, "usage": {"input_tokens": 5, "output_tokens": 1}},
        },
        {"type": "content_block_start", "index": 0, "content_block": text},
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "hello "},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "there"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]


def gemini_event(text, **end):
    """One piece of Gemini's, which repeats the usage each time."""
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 3, "totalTokenCount": 8}
    content = {"role": "model", "parts": [{"text": text}]}
    return {"candidates": [{"content": content, "index": 0, **end}], "usageMetadata": usage}


class TestOtherProviders:
    """Streams that are not OpenAI's."""

    ENV = {"ANTHROPIC_API_KEY": KEY, "GEMINI_API_KEY": KEY}  # noqa: RUF012 - never changed

    @contextlib.asynccontextmanager
    async def client(self, body):
        """A server that answers every request with this body."""
        reply = Reply(body=body, headers={"content-type": "text/event-stream"})
        async with serving(reply=reply, any_path=True) as server:
            client = LitellmClient(env=self.ENV)
            yield server, client
            await client.close()

    async def test_anthropic_whole(self):
        """Text, tokens and the table's price."""
        model = {"id": "anthropic/claude-haiku-4-5"}
        async with self.client(sse(*anthropic_events())) as (server, client):
            sink = Pieces()
            reply = await client.complete(request(**model, api_base=server.root), sink)
        assert (reply.text, sink.pieces) == ("hello there", ["hello ", "there"])
        assert reply.usage == Usage(input_tokens=5, output_tokens=7)
        assert reply.cost_usd == pytest.approx(40e-6)

    @pytest.mark.parametrize("events", [3, 4, 5])
    async def test_anthropic_cut(self, events):
        """Without a stop reason it is a cut, although LiteLLM says `stop` and knows the usage."""
        model = {"id": "anthropic/claude-haiku-4-5"}
        async with self.client(sse(*anthropic_events()[:events])) as (server, client):
            error = await failure(client, request(**model, api_base=server.root), Pieces())
        assert error.kind == "network"

    async def test_gemini_streams_for_the_planner_only(self):
        """LiteLLM hides whether Gemini's stream was cut. A plan shows it by itself; other text would not."""
        model = {"id": "gemini/gemini-2.5-flash"}
        body = sse(gemini_event("hello "), gemini_event("there", finishReason="STOP"))
        async with self.client(body) as (server, client):
            question = replace(request(**model, api_base=server.root), purpose="planner")
            sink = Pieces()
            reply = await client.complete(question, sink)
            assert (reply.text, sink.pieces) == ("hello there", ["hello ", "there"])
            assert ":streamGenerateContent" in server.requests[0].path
        async with self.client(
            json.dumps(gemini_event("all at once", finishReason="STOP"))
        ) as both:
            server, client = both
            sink = Pieces()
            reply = await client.complete(request(**model, api_base=server.root), sink)
            assert (reply.text, sink.pieces) == ("all at once", ["all at once"])
            assert server.requests[0].path.endswith(":generateContent")

    async def test_one_request_per_attempt(self):
        """LiteLLM's own handlers send a request again when the connection breaks; ours do not."""
        for model in ("anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash"):
            async with self.client("") as (server, client):
                server.faults = ["reset"] * 5
                error = await failure(client, request(id=model, api_base=server.root))
                assert (error.kind, len(server.requests)) == ("network", 1)


class TestRequests:
    """What leaves."""

    async def test_both_paths_send_the_same_body(self):
        """The faster path is no other request."""
        schema = {"type": "object", "properties": {"a": {"type": "string"}}}
        question = request(
            temperature=0.3,
            max_output_tokens=77,
            reasoning_effort="low",
            response_schema=schema,
            extra={"top_k": 5},
        )
        bodies = []
        for fast in PATHS.values():
            async with serving() as server, client_of(server, fast=fast) as client:
                await client.complete(question)
                await client.complete(question, Pieces())
                bodies.append([seen.body for seen in server.requests])
                assert {seen.path for seen in server.requests} == {"/v1/chat/completions"}
                assert {seen.key for seen in server.requests} == {KEY}
        assert bodies[0] == bodies[1]
        assert bodies[0][0] == {
            "model": "fake",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "What is 2 + 2?"},
            ],
            "temperature": 0.3,
            "max_tokens": 77,
            "reasoning_effort": "low",
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "strict": False, "schema": schema},
            },
            "top_k": 5,
        }

    async def test_nothing_is_sent_that_was_not_asked_for(self, edge):
        """A bare request holds the model and the messages; ids, purposes and samples stay here."""
        server, client = edge
        await client.complete(request())
        assert set(server.requests[0].body) == {"model", "messages"}

    async def test_half_a_character_is_none(self, edge):
        """Models escape one in their JSON; it cannot be sent, and may not cost the agent that is told it."""
        server, client = edge

        await client.complete(request("half \ud83d of it"))

        assert server.requests[0].prompt == "half ? of it"

    async def test_the_requests_own_bounds_win(self, edge):
        """A request may be cooler and shorter than its model."""
        server, client = edge
        model = ModelSpec(id="openai/fake", temperature=1.0, max_output_tokens=500)
        message = Message(role="user", content="q")
        await client.complete(
            ModelRequest(model=model, messages=(message,), temperature=0.0, max_output_tokens=9)
        )
        assert (server.requests[0].body["temperature"], server.requests[0].body["max_tokens"]) == (
            0.0,
            9,
        )

    async def test_a_closed_schema_is_strict(self, edge):
        """OpenAI takes `strict` only where every object is closed and every property required."""
        server, client = edge
        schema = {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {"type": "string"}}},
            "required": ["a"],
            "additionalProperties": False,
        }
        await client.complete(request(response_schema=schema))
        assert server.requests[0].body["response_format"]["json_schema"]["strict"] is True

    async def test_models_that_litellm_knows_get_their_own_parameters(self, edge):
        """For GPT-5 the limit has another name; only LiteLLM knows that."""
        server, client = edge
        await client.complete(request(id="openai/gpt-5-mini", max_output_tokens=50))
        assert server.requests[0].body["max_completion_tokens"] == 50
        assert server.requests[0].body["model"] == "gpt-5-mini"

    async def test_a_parameter_that_does_not_fit_is_an_error(self, edge):
        """Dropping it in silence would change the answer; nothing is sent."""
        server, client = edge
        error = await failure(client, request(id="openai/gpt-4o", reasoning_effort="high"))
        assert error.kind == "bad_request"
        assert "reasoning_effort" in error.message
        assert server.requests == []


class TestKeysAndAddresses:
    """Whose key goes where."""

    async def test_the_models_own_address_and_key_win(self):
        """`api_base` and `api_key_env` of the recipe beat the provider's variables."""
        async with serving() as server, serving() as other:
            env = {
                "OPENAI_API_KEY": KEY,
                "OPENAI_API_BASE": other.url,
                "MY_KEY": "my-own-key-value",
            }
            client = LitellmClient(env=env)
            await client.complete(request(api_base=server.url, api_key_env="MY_KEY"))
            await client.close()
        assert (len(server.requests), len(other.requests)) == (1, 0)
        assert server.requests[0].key == "my-own-key-value"

    async def test_without_a_key_nothing_is_sent(self):
        """LiteLLM would answer with a 500 that looks worth retrying."""
        async with serving() as server:
            client = LitellmClient(env={"OPENAI_API_KEY": ""})
            error = await failure(client, request(api_base="https://gateway.invalid/v1"))
            assert (error.kind, error.exit_code) == ("no_key", 77)
            assert "OPENAI_API_KEY" in error.message
            assert server.requests == []

    async def test_a_loopback_server_needs_no_key(self):
        """LiteLLM insists on one for openai/; a server on this machine gets a dummy."""
        async with serving() as server:
            client = LitellmClient(env={})
            assert (await client.complete(request(api_base=server.url))).text
            await client.close()
        assert server.requests[0].key == "unused"

    async def test_the_redactor_learns_the_key(self):
        """Whoever shares the redactor can remove a key as soon as it was used."""
        redact = Redactor()
        async with serving() as server, client_of(server, redact=redact) as client:
            await client.complete(request())
        assert KEY not in redact(f"it was {KEY}.")


class TestCost:
    """Money: the recipe's price, LiteLLM's table, or unknown."""

    async def test_the_table_prices_what_it_knows(self, edge):
        """GPT-4o costs $2.50 and $10 a million tokens."""
        server, client = edge
        server.reply = Reply(text="x", tokens=(1_000_000, 100_000))
        whole = await client.complete(request(id="openai/gpt-4o"))
        streamed = await client.complete(request(id="openai/gpt-4o"), Pieces())
        assert whole.cost_usd == pytest.approx(3.5)
        assert streamed.cost_usd == pytest.approx(3.5)
        assert whole.usage == streamed.usage == Usage(input_tokens=1_000_000, output_tokens=100_000)

    async def test_the_recipe_beats_the_table(self, edge):
        """A `price` wins even over a model that the table knows."""
        server, client = edge
        server.reply = Reply(text="x", tokens=(1_000_000, 1_000_000))
        price = Price(input_per_mtok=1.0, output_per_mtok=2.0)
        assert (await client.complete(request(id="openai/gpt-4o", price=price))).cost_usd == 3.0

    async def test_without_usage_the_cost_is_unknown(self, edge):
        """No tokens, no cost, whatever the price."""
        server, client = edge
        server.usage = False
        price = Price(input_per_mtok=1.0, output_per_mtok=2.0)
        for model in ({"price": price}, {"id": "openai/gpt-4o"}):
            reply = await client.complete(request(**model))
            assert (reply.usage, reply.cost_usd) == (None, None)

    async def test_unknown_models_stay_unknown(self, edge):
        """Registering an id with LiteLLM, for speed, does not give it a price, for later clients neither."""
        server, client = edge
        for sink in (None, Pieces()):
            assert (await client.complete(request(), sink)).cost_usd is None
        async with client_of(server, fast="0") as later:
            for sink in (None, Pieces()):
                assert (await later.complete(request(), sink)).cost_usd is None

    async def test_windows(self):
        """The recipe's window, else the table's, else none."""
        client = LitellmClient(env={})
        assert client.context_window(ModelSpec(id="openai/fake", context_window=9)) == 9
        assert client.context_window(ModelSpec(id="openai/gpt-4o")) == 128_000
        assert client.context_window(ModelSpec(id="openai/fake")) is None


class TestScale:
    """Hundreds at once."""

    async def test_three_hundred_in_flight(self):
        """All of them are on the wire at the same time."""
        async with (
            serving(together=300) as server,
            client_of(server) as client,
            asyncio.TaskGroup() as group,
        ):
            calls = [group.create_task(client.complete(request(f"item {i}"))) for i in range(300)]
        assert server.peak == 300
        assert {c.result().text for c in calls} == {f"echo: item {i}" for i in range(300)}

    async def test_connections_are_kept(self, edge):
        """Calls in a row share one connection, whatever their deadlines."""
        server, client = edge
        for i in range(6):
            await client.complete(request(timeout_s=100 + i))
        assert server.connections == 1

    async def test_close_leaves_nothing(self):
        """No socket, no task and no warning stays behind."""
        async with serving() as server:
            before = asyncio.all_tasks()
            async with client_of(server) as client, client_of(server, fast="0") as sdk:
                await client.complete(request())
                await sdk.complete(request(), Pieces())
            gc.collect()  # filterwarnings = error turns what was left open into a failure
            assert asyncio.all_tasks() - before == server.connection_tasks()


def run_python(code: str, *, cwd=None, flags=(), **env: str) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter; litellm's state must not come from this one."""
    base = {k: v for k, v in os.environ.items() if not k.endswith(("_API_KEY", "_API_BASE"))}
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(code)],
        env={**base, "PYTHONPATH": str(ROOT), **env},
        cwd=cwd or ROOT,
        capture_output=True,
        text=True,
        timeout=90,
    )


CALLS = """
    import asyncio, sys
    from swarmcli.adapters.litellm_client import LitellmClient
    from swarmcli.core.ports import Message, ModelRequest
    from swarmcli.errors import ModelError
    from swarmcli.recipe.values import ModelSpec

    class Sink:
        def feed(self, text): pass
        def restart(self): pass

    async def call(client, sink=None, model="openai/fake"):
        try:
            message = Message(role="user", content="q")
            return await client.complete(ModelRequest(model=ModelSpec(id=model), messages=(message,)), sink)
        except ModelError as error:
            return error
"""


class TestProcess:
    """What only a process of its own can show."""

    def test_importing_the_adapter_is_free(self):
        """Neither LiteLLM nor an SDK is loaded before the first call."""
        done = run_python(
            CALLS + "\n    LitellmClient()\n"
            "    print([m for m in ('litellm', 'openai', 'httpx', 'aiohttp', 'pydantic') if m in sys.modules])"
        )
        assert (done.stdout, done.stderr) == ("[]\n", "")

    def test_the_first_call_imports_once_and_cleanly(self, tmp_path):
        """Fifty first calls at once: one import, no `.env`, no callbacks, no advertisement, no leak, no thread."""
        (tmp_path / ".env").write_text("OPENAI_API_BASE=http://127.0.0.1:9/v1\nPLANTED=1\n")
        code = (
            CALLS
            + """
    import gc, os, threading
    async def main():
        asyncio.get_running_loop().slow_callback_duration = 60.0  # dev mode reports slow steps
        client = LitellmClient()
        assert gc.get_threshold()[0] == 700
        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(call(client)) for _ in range(50)]
        kinds = [getattr(c.result(), "kind", "ok") for c in calls]
        for sink in (None, Sink()):
            for model in ("openai/fake", "openai/gpt-4o", "hosted_vllm/fake"):
                kinds.append(getattr(await call(client, sink, model), "kind", "ok"))
        await client.close()
        return kinds
    kinds = asyncio.run(main())
    import litellm
    print(sorted(set(kinds)), os.environ.get("PLANTED"))
    print(litellm.callbacks, litellm.success_callback, litellm.failure_callback, litellm.drop_params)
    print(gc.isenabled(), gc.get_threshold()[0], gc.get_freeze_count() > 100_000)
    print(sorted(t.name for t in threading.enumerate()))
"""
        )
        with serve(faults=["401", "ok", "500", "ok", "429", "reset", "html"]) as server:
            env = {**server.env, "HOSTED_VLLM_API_BASE": server.url}
            done = run_python(code, cwd=tmp_path, flags=("-X", "dev"), **env)
        assert done.stderr == ""
        assert done.stdout.splitlines() == [
            "['auth', 'network', 'ok', 'protocol', 'rate_limit', 'server'] None",
            "[] [] [] False",
            "True 50000 True",
            "['MainThread']",
        ]
        assert len(server.requests) == 56

    def test_a_cancelled_first_call_does_not_take_the_import_along(self):
        """Others wait on the same import."""
        code = (
            CALLS
            + """
    async def main():
        client = LitellmClient()
        async with asyncio.TaskGroup() as group:
            first = group.create_task(call(client))
            second = group.create_task(call(client))
            await asyncio.sleep(0.05)
            first.cancel()
        assert first.cancelled()
        print(second.result().text)
        await client.close()
    asyncio.run(main())
"""
        )
        with serve(reply="still here") as server:
            done = run_python(code, **server.env)
        assert (done.stdout, done.stderr) == ("still here\n", "")

    def test_open_files_are_raised_to_the_hard_limit(self):
        """Hundreds of connections need more than the usual soft limit."""
        resource = pytest.importorskip("resource")
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        wanted = min(hard, 65_536) if hard != resource.RLIM_INFINITY else 65_536
        code = (
            CALLS
            + """
    import resource
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    async def main():
        client = LitellmClient()
        await call(client)
        await client.close()
    asyncio.run(main())
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""
        )
        with serve() as server:
            done = run_python(code, **server.env)
        assert done.stdout == f"{wanted}\n"

    def test_ollama_is_asked_once_and_never_from_the_loop(self):
        """LiteLLM would look up each unknown Ollama model with a blocking request on the event loop."""
        chat = {
            "model": "tiny",
            "created_at": "2026-01-01T00:00:00Z",
            "message": {"role": "assistant", "content": "hi"},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 5,
            "eval_count": 3,
        }
        code = (
            CALLS
            + """
    async def main():
        client = LitellmClient()
        reply = await call(client, model="ollama_chat/tiny")
        print(reply.text, reply.usage.input_tokens, reply.cost_usd)
        await client.close()
    asyncio.run(main())
"""
        )
        with serve(reply=chat, any_path=True) as server:
            done = run_python(code, OLLAMA_HOST=f"127.0.0.1:{server.port}")
        assert (done.stdout, done.stderr) == ("hi 5 0.0\n", "")
        assert [seen.path for seen in server.requests] == ["/api/chat"]

    def test_a_proxy_is_not_asked_for_this_machine(self):
        """With a proxy in the environment, servers on the loopback are still reached directly."""
        code = (
            CALLS
            + """
    async def main():
        client = LitellmClient()
        for model in ("openai/fake", "openai/gpt-4o"):
            print((await call(client, model=model)).text)
        await client.close()
    asyncio.run(main())
"""
        )
        with serve(reply="direct") as server:
            done = run_python(code, http_proxy="http://127.0.0.1:9", **server.env)
        assert (done.stdout, done.stderr) == ("direct\ndirect\n", "")

    def test_loading_may_begin_early(self):
        """`start_loading` returns at once; `ready` waits; neither is a call."""
        code = (
            CALLS
            + """
    import time
    async def main():
        client = LitellmClient()
        started = time.perf_counter()
        client.start_loading()
        print(time.perf_counter() - started < 0.5)
        await client.ready(ModelSpec(id="openai/fake"))
        print("litellm" in sys.modules)
        await client.close()
    asyncio.run(main())
"""
        )
        with serve() as server:
            done = run_python(code, **server.env)
        assert (done.stdout, done.stderr, server.requests) == ("True\nTrue\n", "", [])

    def test_a_log_file_takes_litellms_warnings(self, tmp_path):
        """What LiteLLM wants to say goes to the file and nowhere else."""
        log = tmp_path / "debug.log"
        code = (
            CALLS
            + f"""
    import logging
    from pathlib import Path
    async def main():
        client = LitellmClient(log_file=Path({str(log)!r}))
        await call(client)
        logging.getLogger("LiteLLM").error("from within, with Bearer %s", "sk-canary0123456789")
        await client.close()
    asyncio.run(main())
"""
        )
        with serve() as server:
            done = run_python(code, **server.env)
        assert (done.stdout, done.stderr) == ("", "")
        assert "from within" in log.read_text()
        assert "canary" not in log.read_text()


def test_the_fake_server_is_a_program(tmp_path):
    """It prints its URL, answers, and reports its counts when it is told to stop."""
    script = ROOT / "tests/fakes/openai_server.py"
    with subprocess.Popen(
        [sys.executable, str(script), "--text", "hello"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        done = run_python(
            CALLS
            + """
    async def main():
        client = LitellmClient()
        print((await call(client)).text)
        await client.close()
    asyncio.run(main())
""",
            OPENAI_API_BASE=url,
        )
        process.terminate()
        counts = json.loads(process.stdout.read())
    assert done.stdout == "hello\n"
    assert counts == {
        "requests": 1,
        "peak": 1,
        "connections": 1,
        "disconnects": 0,
        "limited": 0,
        "stragglers": 0,
        "busiest_minute": 1,
    }
