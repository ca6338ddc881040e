"""Keys, addresses and what is said without them: all without a call, and without LiteLLM."""

import importlib.util
import json
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import pytest

from swarmcli.adapters import providers
from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.providers import (
    PROVIDERS,
    api_base_of,
    api_key,
    first_available,
    is_local,
    key_problem,
    no_model_error,
    running_ollama,
)
from swarmcli.errors import NoModelError
from swarmcli.recipe.values import ModelSpec
from tests.fakes.openai_server import serve


def model(id="openai/gpt-5-mini", **fields):
    """A model as a recipe or `-m` gives it."""
    return ModelSpec(id=id, **fields)


class TestKeyProblem:
    """What is wrong before anything is sent."""

    @pytest.mark.parametrize(
        ("spec", "env"),
        [
            (model(), {"OPENAI_API_KEY": "sk-1"}),
            (model("gemini/gemini-2.5-flash"), {"GOOGLE_API_KEY": "k"}),
            (model("gemini/gemini-2.5-flash"), {"GEMINI_API_KEY": "k"}),
            (model("together_ai/x"), {"TOGETHERAI_API_KEY": "k"}),
            (model(api_key_env="MINE"), {"MINE": "k"}),
            (model("ollama_chat/qwen3:4b"), {}),
            (model("lm_studio/x"), {}),
            (model("hosted_vllm/x", api_base="http://gpu:8000/v1"), {}),
            (model("hosted_vllm/x"), {"HOSTED_VLLM_API_BASE": "http://gpu:8000/v1"}),
            (model(api_base="http://127.0.0.1:8080/v1"), {}),
            (model(), {"OPENAI_API_BASE": "http://localhost:8080/v1"}),
            (model("azure/mine"), {"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://x"}),
            (model("azure/mine"), {"AZURE_AD_TOKEN": "t", "AZURE_API_BASE": "https://x"}),
            (model("bedrock/anthropic.claude-v2"), {}),
            (model("somebody_new/x"), {}),
        ],
    )
    def test_nothing_is_wrong(self, spec, env):
        """One of the keys will do; servers of one's own need none; unknown providers pass."""
        assert key_problem(spec, env) is None

    @pytest.mark.parametrize(
        ("spec", "env", "says", "hint"),
        [
            (model(), {}, "OPENAI_API_KEY is not set", "export OPENAI_API_KEY=..."),
            (
                model(),
                {"OPENAI_API_KEY": ""},
                "OPENAI_API_KEY is not set",
                "export OPENAI_API_KEY=...",
            ),
            (
                model("gemini/x"),
                {},
                "GEMINI_API_KEY or GOOGLE_API_KEY is not set",
                "GEMINI_API_KEY",
            ),
            (
                model(api_key_env="MINE"),
                {"OPENAI_API_KEY": "k"},
                "MINE, which is not set",
                "export MINE",
            ),
            (
                model(api_base="https://gateway.example/v1"),
                {},
                "OPENAI_API_KEY is not set",
                "OPENAI_API_KEY=unused if your server wants none",
            ),
            (model("hosted_vllm/x"), {}, "HOSTED_VLLM_API_BASE is not set", "http://host:8000/v1"),
            (model("azure/mine"), {}, "AZURE_API_BASE is not set", "AZURE_API_BASE"),
            (
                model(),
                {"OPENAI_API_KEY": "sk-1\n"},
                "a space or line break",
                "OPENAI_API_KEY again",
            ),
            (model(), {"OPENAI_API_KEY": "sk 1"}, "a space or line break", "OPENAI_API_KEY again"),
            (model(), {"OPENAI_API_KEY": " "}, "a space or line break", "OPENAI_API_KEY again"),
            (model(), {"OPENAI_API_KEY": "sk-é"}, "a character that no key has", "OPENAI_API_KEY"),
            (model(api_key_env="MINE"), {"MINE": "a\tb"}, "MINE holds a space", "set MINE again"),
        ],
    )
    def test_what_is_wrong_and_what_helps(self, spec, env, says, hint):
        """The variable is named, its value is not; exit code 77."""
        problem = key_problem(spec, env)
        assert isinstance(problem, NoModelError)
        assert problem.exit_code == 77
        assert says in problem.message
        assert hint in (problem.hint or "")
        assert not any(len(value) > 1 and value in problem.message for value in env.values())

    def test_a_dummy_key_is_for_this_machine_only(self):
        """LiteLLM wants a key for openai/; only loopback servers are given a made-up one."""
        assert api_key(model(api_base="http://127.0.0.1:1/v1"), {}) == "unused"
        assert api_key(model(api_base="http://10.0.0.9/v1"), {}) is None
        assert api_key(model(api_base="http://127.0.0.1:1/v1"), {"OPENAI_API_KEY": "k"}) == "k"
        assert api_key(model("groq/x", api_base="http://127.0.0.1:1/v1"), {}) is None


class TestAddresses:
    """Where a model is."""

    @pytest.mark.parametrize(
        ("id", "env", "expected"),
        [
            ("openai/x", {}, None),
            ("openai/x", {"OPENAI_API_BASE": "http://a/v1"}, "http://a/v1"),
            (
                "openai/x",
                {"OPENAI_API_BASE": "http://a", "OPENAI_BASE_URL": "http://b"},
                "http://b",
            ),
            ("openai/x", {"OPENAI_API_BASE": " "}, None),
            ("groq/x", {"OPENAI_API_BASE": "http://a"}, None),
            ("groq/x", {"GROQ_API_BASE": "http://g"}, "http://g"),
            ("new_one/x", {"OPENAI_API_BASE": "http://a"}, None),
            ("lm_studio/x", {}, "http://127.0.0.1:1234/v1"),
            ("ollama_chat/x", {}, "http://127.0.0.1:11434"),
            ("ollama/x", {"OLLAMA_API_BASE": "http://o:1", "OLLAMA_HOST": "h"}, "http://o:1"),
            ("ollama/x", {"OLLAMA_HOST": "box"}, "http://box:11434"),
            ("ollama/x", {"OLLAMA_HOST": "box:99"}, "http://box:99"),
            ("ollama/x", {"OLLAMA_HOST": "https://box.example/"}, "https://box.example"),
            ("ollama/x", {"OLLAMA_HOST": "0.0.0.0"}, "http://127.0.0.1:11434"),  # noqa: S104
            ("ollama/x", {"OLLAMA_HOST": ":99"}, "http://127.0.0.1:99"),
            ("ollama/x", {"OLLAMA_HOST": "::1"}, "http://[::1]:11434"),
            ("ollama/x", {"OLLAMA_HOST": "[::1]:99"}, "http://[::1]:99"),
        ],
    )
    def test_the_environments_address(self, id, env, expected):
        """The provider's own variables, in LiteLLM's order; for Ollama also the one that Ollama reads."""
        assert api_base_of(id, env) == expected

    @pytest.mark.parametrize(
        ("address", "local"),
        [
            ("http://127.0.0.1:8000/v1", True),
            ("http://127.9.9.9", True),
            ("http://localhost:1", True),
            ("http://LOCALHOST", True),
            ("http://x.localhost/", True),
            ("http://[::1]:8000/v1", True),
            ("http://0.0.0.0:1", True),
            ("localhost:8000", True),
            ("https://api.openai.com/v1", False),
            ("http://10.0.0.1/v1", False),
            ("http://localhost.evil.example/", False),
            ("http://[bad", False),
            ("", False),
            (None, False),
        ],
    )
    def test_this_machine(self, address, local):
        """Loopback only: what shares our processor gets a small parallelism."""
        assert is_local(address) is local


class TestChoice:
    """What is used when nothing was said."""

    def test_the_first_key_in_the_tables_order(self):
        """Not the environment's order; the reason names the variable."""
        env = {"GROQ_API_KEY": "k", "ANTHROPIC_API_KEY": "k", "OPENAI_API_KEY": ""}
        assert first_available(env) == ("anthropic/claude-haiku-4-5", "ANTHROPIC_API_KEY is set")
        assert first_available({"OPENAI_API_KEY": "k"}) == (
            "openai/gpt-5-mini",
            "OPENAI_API_KEY is set",
        )
        assert first_available({}) is None

    def test_defaults_are_models_that_exist(self):
        """Every default has its provider's prefix; LiteLLM's table knows it and names no end for it."""
        for provider in PROVIDERS.values():
            if provider.default is None:
                continue
            assert provider.default.startswith(f"{provider.name}/")
            if provider.name != "openrouter":  # LiteLLM's table has no OpenRouter prices
                assert facts_of(ModelSpec(id=provider.default)).context_window, provider.default

    def test_ollama_gives_its_newest_chat_model(self):
        """Embedding models are passed over; the reason counts what is there."""
        with serve(ollama_models=["nomic-embed-text:latest", "qwen3:4b", "llama3:8b"]) as server:
            found = running_ollama({"OLLAMA_HOST": server.root})
        assert found == ("ollama_chat/qwen3:4b", "no key is set; Ollama has 3 models")

    def test_an_ollama_without_models_is_no_ollama(self):
        """It runs, but has nothing to answer with."""
        with serve(ollama_models=[]) as server:
            assert running_ollama({"OLLAMA_HOST": server.root}) is None

    def test_something_else_on_the_port(self):
        """A server that is no Ollama is ignored."""
        with serve() as server:
            assert running_ollama({"OLLAMA_HOST": server.root}) is None

    def test_nobody_there(self):
        """A refused connection costs next to nothing; one that never answers, the probe's limit."""
        with serve() as server:
            address = server.root
        started = time.perf_counter()
        assert running_ollama({"OLLAMA_HOST": address}) is None
        assert time.perf_counter() - started < 0.2
        with socket.create_server(("127.0.0.1", 0)) as silent:
            started = time.perf_counter()
            assert running_ollama({"OLLAMA_HOST": f"127.0.0.1:{silent.getsockname()[1]}"}) is None
        assert time.perf_counter() - started < 2 * providers.PROBE_TIMEOUT_S + 0.5

    def test_a_proxy_is_not_asked_for_ollama(self, monkeypatch):
        """The probe stays on this machine."""
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
        with serve(ollama_models=["qwen3:4b"]) as server:
            assert running_ollama({"OLLAMA_HOST": server.root}) is not None


def test_the_last_word_names_everything_that_helps():
    """A key variable, Ollama, and the embedded model with the command that fetches it."""
    error = no_model_error({"OLLAMA_HOST": "box"})
    assert error.exit_code == 77
    assert "http://box:11434" in error.message
    hint = error.hint or ""
    for words in (
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "ollama pull",
        "swarmcli[embedded]",
        "swarm models pull smollm2",
        "HOSTED_VLLM_API_BASE",
    ):
        assert words in hint


def test_providers_load_nothing_heavy():
    """Preflight works without LiteLLM, an SDK or an HTTP client."""
    code = (
        "import sys; from swarmcli.adapters import providers as p; p.first_available({});"
        "print([m for m in ('litellm', 'openai', 'httpx', 'aiohttp') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.stdout == "[]\n"


def test_no_default_is_about_to_end():
    """A default that its provider will switch off soon is no default."""
    found = importlib.util.find_spec("litellm")
    assert found is not None
    assert found.origin is not None
    name = "model_prices_and_context_window_backup.json"
    table = json.loads((Path(found.origin).parent / name).read_bytes())
    for provider in PROVIDERS.values():
        id = provider.default or ""
        entry = table.get(id) or table.get(id.partition("/")[2]) or {}
        ends = entry.get("deprecation_date")
        assert ends is None or date.fromisoformat(ends) > date(2027, 1, 1), provider.default
