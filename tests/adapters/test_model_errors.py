"""From a chain of foreign exceptions to one kind, one line and one hint; no provider is needed to test that."""

import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmcli.adapters.evidence import read, retry_after_s
from swarmcli.adapters.model_errors import classify, model_error, one_line, worded
from swarmcli.adapters.redact import Redactor
from swarmcli.errors import FAILURE_KINDS
from swarmcli.recipe.values import ModelSpec

MODEL = ModelSpec(id="openai/gpt-x")


def exception(name, message="", *, module="litellm.exceptions", cause=None, **fields):
    """An instance of a class that has only the name, the module and the fields of the real one."""
    made = type(name, (Exception,), {"__module__": module})(message)
    made.__dict__.update(fields)
    made.__cause__ = cause
    return made


def sent(status, message="", body=None, headers=None):
    """What LiteLLM raises for an answer with this status."""
    response = SimpleNamespace(status_code=status, headers=headers or {})
    generic = f"Server error '{status} Whatever' for url 'https://x'"
    below = exception("HTTPStatusError", generic, module="httpx", response=response)
    sdk = exception(
        "APIStatusError", message, module="openai", response=response, body=body, cause=below
    )
    return exception(
        "InternalServerError", f"litellm.X: OpenAIException - {message}", status_code=500, cause=sdk
    )


def kind(error):
    return classify(read(error))


class TestStatus:
    """A status that a server sent decides, with the words beside it."""

    @pytest.mark.parametrize(
        ("status", "message", "expected"),
        [
            (401, "Incorrect API key provided", "auth"),
            (403, "Country not supported", "auth"),
            (403, "Key limit exceeded (monthly limit)", "quota"),
            (402, "Insufficient Balance", "quota"),
            (429, "Rate limit reached", "rate_limit"),
            (429, "You exceeded your current quota, please check your plan", "quota"),
            (429, "You exceeded your current quota. Please retry in 34.2s.", "rate_limit"),
            (404, "The model `x` does not exist", "unknown_model"),
            (404, "No endpoints found for x/y.", "unknown_model"),
            (404, "model: claude-x", "unknown_model"),
            (404, "Not Found", "protocol"),
            (404, "<html><h1>404</h1></html>", "protocol"),
            (400, "bogus is not a valid model ID", "unknown_model"),
            (400, "Invalid model: mistral-x", "unknown_model"),
            (400, "API key not valid. Please pass a valid API key.", "auth"),
            (400, "Your credit balance is too low to access the Anthropic API", "quota"),
            (400, "prompt is too long: 210000 tokens > 200000 maximum", "context_overflow"),
            (400, "This model's maximum context length is 8192 tokens", "context_overflow"),
            (400, "The input token count (2000000) exceeds the maximum", "context_overflow"),
            (413, "Request too large", "context_overflow"),
            (500, "the request exceeds the available context size", "context_overflow"),
            (400, "rejected as a result of our safety system", "content_filter"),
            (400, "The response was filtered: content management policy", "content_filter"),
            (400, "Invalid value for temperature", "bad_request"),
            (422, "field required", "bad_request"),
            (405, "Method Not Allowed", "bad_request"),
            (408, "Request Timeout", "timeout"),
            (504, "Gateway Timeout", "timeout"),
            (524, "A timeout occurred", "timeout"),
            (409, "Conflict", "server"),
            (500, "Internal error", "server"),
            (503, "The model is overloaded", "server"),
            (529, "Overloaded", "server"),
        ],
    )
    def test_kinds(self, status, message, expected):
        """As OpenAI, Anthropic, Gemini, Mistral, DeepSeek, OpenRouter, llama.cpp and proxies say it."""
        assert kind(sent(status, message)) == expected

    def test_the_code_of_the_body_counts(self):
        """`insufficient_quota` is out of credit however it is worded."""
        assert kind(sent(429, "Hold on", {"message": "Hold on"})) == "rate_limit"
        body = {"message": "Hold on", "code": "insufficient_quota"}
        assert kind(sent(429, "Hold on", body)) == "quota"
        assert kind(sent(429, "Hold on", {"error": body})) == "quota"

    def test_litellms_own_status_does_not_count(self):
        """It writes 500 over everything that never reached a server."""
        refused = exception("ConnectError", "All attempts failed", module="httpx")
        assert (
            kind(exception("InternalServerError", "x", status_code=500, cause=refused)) == "network"
        )

    def test_an_error_event_in_a_stream(self):
        """Its status stands in the body."""
        text = 'OpenAIException - {"error": {"message": "slow down", "code": 429}}'
        inner = exception("OpenAIError", text, module="litellm.llms.openai.common_utils")
        outer = exception("MidStreamFallbackError", "x", original_exception=inner)
        assert kind(outer) == "rate_limit"
        assert kind(exception("MidStreamFallbackError", "Upstream broke")) == "server"


REAL = [
    json.loads(line)
    for line in Path(__file__).with_name("provider_answers.jsonl").read_text("utf-8").splitlines()
]
"""Refusals as providers document them and people report them, each with the kind that it is."""


@pytest.mark.parametrize("answer", REAL, ids=lambda a: f"{a['status']}-{a['from']}")
def test_real_answers(answer):
    """A minute's limit passes; a day's, a month's, or no money does not: as each provider words it."""
    body = answer["body"]
    words = body if isinstance(body, str) else json.dumps(body)
    error = sent(answer["status"], words, body if isinstance(body, dict) else None)
    assert kind(error) == answer["kind"]


class TestWithoutStatus:
    """Nobody answered, or nobody could read the answer."""

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (TimeoutError(), "timeout"),
            (exception("Timeout", "x", status_code=408), "timeout"),
            (exception("X", cause=exception("ReadTimeout", module="httpx")), "timeout"),
            (ConnectionRefusedError(111, "refused"), "network"),
            (ConnectionResetError(104, "reset"), "network"),
            (BrokenPipeError(32, "pipe"), "network"),
            (exception("gaierror", "Name or service not known", module="socket"), "network"),
            (exception("ReadError", module="httpx"), "network"),
            (exception("RemoteProtocolError", module="httpx"), "network"),
            (exception("ClientPayloadError", module="aiohttp"), "network"),
            (exception("ClientConnectorDNSError", module="aiohttp"), "network"),
            (exception("ServerDisconnectedError", module="aiohttp"), "network"),
            (exception("SSLCertVerificationError", module="ssl"), "network"),
            (exception("X", cause=ValueError("x").with_traceback(None)), "protocol"),
            (exception("X", cause=exception("JSONDecodeError", module="json")), "protocol"),
            (exception("APIConnectionError", cause=AttributeError("service_tier")), "protocol"),
            (exception("X", "Unable to get json response - <html>"), "protocol"),
            (
                exception("BadRequestError", "LLM Provider NOT provided. You passed x"),
                "unknown_model",
            ),
            (exception("UnsupportedParamsError", "does not support ['x']"), "bad_request"),
            (exception("X", "Missing Anthropic API Key - A call is being made"), "no_key"),
            (exception("X", "The api_key client option must be set"), "no_key"),
            (exception("AuthenticationError", "x"), "auth"),
            (exception("ContextWindowExceededError", "x"), "context_overflow"),
            (exception("RateLimitError", "x"), "rate_limit"),
            (exception("APIConnectionError", cause=ImportError("boto3")), "bad_request"),
        ],
    )
    def test_kinds(self, error, expected):
        """By the deepest name that means something, LiteLLM's own last."""
        assert kind(error) == expected

    def test_a_ring_of_causes_ends(self):
        """Exceptions may point at each other."""
        first, second = ValueError("a"), ValueError("b")
        first.__context__, second.__context__ = second, first
        assert kind(first) == "protocol"

    @given(st.text(), st.integers(min_value=100, max_value=599))
    def test_it_is_total(self, text, status):
        """Whatever a provider says, there is a kind for it."""
        assert kind(sent(status, text)) in FAILURE_KINDS
        assert kind(RuntimeError(text)) in FAILURE_KINDS


class TestRetryAfter:
    """Header in seconds, milliseconds or as a date; else words."""

    NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("headers", "message", "expected"),
        [
            ({"Retry-After": "5"}, "", 5.0),
            ({"retry-after-ms": "250", "retry-after": "1"}, "", 0.25),
            ({"retry-after": "Sat, 21 Nov 2026 12:00:30 GMT"}, "", 30.0),
            ({"retry-after": "Sat, 21 Nov 2026 12:00:30"}, "", 30.0),
            ({"retry-after": "Sat, 21 Nov 2026 11:00:00 GMT"}, "", None),
            (
                {
                    "retry-after": "Sat, 21 Nov 2026 15:00:10 GMT",
                    "date": "Sat, 21 Nov 2026 15:00:00 GMT",
                },
                "",
                10.0,
            ),
            ({"retry-after": "1e400"}, "", None),
            ({"retry-after": "+inf"}, "", None),
            ({"retry-after": "-0.5"}, "", None),
            ({"retry-after": "999999"}, "", 3600.0),
            ({"retry-after": "garbage"}, "try again in 9s", None),
            ({}, "Please try again in 20ms.", 0.02),
            ({}, "Please try again in 1.5s.", 1.5),
            ({}, "Please retry in 2m", 120.0),
            ({}, '{"@type": "RetryInfo", "retryDelay": "34s"}', 34.0),
            ({}, "Please try again in 9m38.016s. Need more", 578.016),
            ({}, "Please retry after 1 minute 5 seconds.", 65.0),
            ({}, "Please retry after 86400 seconds.", 3600.0),
            ({}, "Slow down", None),
            (
                {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"},
                "",
                360.0,
            ),
            (
                {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"},
                "",
                None,
            ),
            (
                {
                    "anthropic-ratelimit-tokens-remaining": "0",
                    "anthropic-ratelimit-tokens-reset": "2026-11-21T12:00:07Z",
                },
                "",
                7.0,
            ),
            (
                {
                    "retry-after": "2",
                    "x-ratelimit-remaining-requests": "0",
                    "x-ratelimit-reset-requests": "9s",
                },
                "",
                2.0,
            ),
        ],
    )
    def test_values(self, headers, message, expected):
        """What makes no sense is as if nothing had been said; the server's clock beats ours."""
        found = retry_after_s(read(sent(429, message, headers=headers)), self.NOW)
        assert found == pytest.approx(expected)

    def test_litellms_own_attribute_is_read(self):
        """On its own handler's path the response itself has lost its headers."""
        error = exception("RateLimitError", "x", litellm_response_headers={"retry-after": "3"})
        assert retry_after_s(read(error)) == 3.0

    @given(st.text())
    def test_anything_may_stand_there(self, value):
        """Any header gives None or a number between 0 and an hour."""
        found = retry_after_s(read(sent(429, headers={"retry-after": value})), self.NOW)
        assert found is None or 0 < found <= 3600


class TestWords:
    """What the user reads."""

    @pytest.mark.parametrize(
        ("error", "expected"),
        [
            (
                sent(401, "Incorrect API key provided: sk-abc"),
                'openai refused the key (401): "Incorrect API key provided: sk-[redacted]"',
            ),
            (sent(429, "Slow down"), 'openai limits the rate (429): "Slow down"'),
            (
                sent(502, "<html><head><style>p{}</style></head><h1>Bad  Gateway</h1></html>"),
                'openai failed (502): "Bad Gateway"',
            ),
            (sent(500, "x\x1b[31m\n\u202ey"), 'openai failed (500): "x [31m y"'),
            (ConnectionRefusedError(111, "x"), "no answer from openai (connection refused)"),
            (
                exception(
                    "UnsupportedParamsError",
                    "litellm.UnsupportedParamsError: no. To drop these, set",
                ),
                'openai refused the request: "no."',
            ),
        ],
    )
    def test_sentences(self, error, expected):
        """Who, what, and the provider's own words: one clean line without LiteLLM in it."""
        assert model_error(error, MODEL, redact=Redactor()).message == expected

    def test_ollama_has_a_name_an_address_and_a_remedy(self):
        """The most common local failure."""
        model = ModelSpec(id="ollama_chat/qwen3:4b", api_base="http://127.0.0.1:11434")
        error = model_error(ConnectionRefusedError(111, "x"), model, redact=Redactor())
        assert error.message == "no answer from Ollama at 127.0.0.1:11434 (connection refused)"
        assert (error.kind, error.exit_code, error.hint) == ("network", 75, "ollama serve")

    def test_a_password_in_an_address_is_not_shown(self):
        """`http://user:password@host` is a valid address."""
        model = ModelSpec(id="openai/x", api_base="http://me:secret@host:1/v1")
        assert "secret" not in model_error(ConnectionResetError(), model, redact=Redactor()).message

    def test_an_id_without_provider(self):
        """LiteLLM's three lines of advice become one of ours."""
        error = exception(
            "BadRequestError", "litellm.BadRequestError: LLM Provider NOT provided. ..."
        )
        made = model_error(error, ModelSpec(id="bogus"), redact=Redactor())
        assert made.message == "'bogus' has no provider"
        assert made.hint == "write provider/model, e.g. openai/bogus"

    def test_known_secrets_go(self):
        """Keys of any form in the provider's words."""
        made = model_error(
            sent(500, "for key-without-shape-1"), MODEL, redact=Redactor(["key-without-shape-1"])
        )
        assert "without" not in made.message

    def test_nothing_is_endless(self):
        """A page of a megabyte is cut."""
        made = model_error(sent(500, "word " * 200_000), MODEL, redact=Redactor())
        assert len(made.message) <= 500
        assert made.message.endswith('…"')

    def test_every_kind_has_words(self):
        """Also for kinds that other parts of the program use."""
        for name in FAILURE_KINDS:
            made = worded(name, MODEL, redact=Redactor(), detail="a detail")
            assert made.message.endswith("(a detail)")
            assert made.kind == name

    @given(st.text(), st.integers(min_value=1, max_value=80))
    def test_one_line_is_one_safe_line(self, text, limit):
        """Nothing that moves a cursor, turns the writing around or ends the line."""
        line = one_line(text, limit)
        assert len(line) <= limit
        assert not any(ord(c) < 32 or 0x7F <= ord(c) <= 0x9F for c in line)
        assert not set(line) & set("\u202e\u2066\u2028\u200b\ufeff")
        line.encode()
