"""A provider that does not exist is said before anything is sent; one that LiteLLM takes always passes."""

import os
import subprocess
import sys

import pytest

from swarmcli.adapters.provider_names import check_provider, litellm_providers
from swarmcli.errors import UsageError
from swarmcli.recipe.values import ModelSpec


def test_our_list_is_litellms(checkout):
    """What is read from its files is what it says itself, and LiteLLM is not imported for that."""
    code = (
        "import sys\n"
        "from swarmcli.adapters.provider_names import litellm_providers\n"
        "ours = litellm_providers()\n"
        "assert 'litellm' not in sys.modules\n"
        "import litellm\n"
        "missing = {str(getattr(name, 'value', name)) for name in litellm.provider_list} - ours\n"
        "assert not missing, missing\n"
    )
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("model", "hint"),
    [
        ("opnai/gpt-5", "did you mean openai/gpt-5?"),
        ("OpenAI/gpt-5", "did you mean openai/gpt-5?"),
        ("antropic/claude", "did you mean anthropic/claude?"),
        ("nosuch/model", "openrouter/nosuch/model"),
    ],
)
def test_an_unknown_one_is_refused(model, hint):
    """Exit code 2, its name, and what may have been meant."""
    with pytest.raises(UsageError, match="there is no provider") as caught:
        check_provider(ModelSpec(id=model), {})
    assert caught.value.hint is not None
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "model",
    [
        "openai/x",
        "hosted_vllm/x",
        "embedded/smollm2",
        "openrouter/a/b",
        "bedrock/x",
        "nano-gpt/x",
        "custom_openai/x",
        "github_copilot/x",
        "publicai/swiss-ai",
    ],
)
def test_litellms_own_pass(model):
    """Ours, rare ones, and those that LiteLLM configures in JSON."""
    check_provider(ModelSpec(id=model), {})


def test_what_cannot_be_judged_passes(monkeypatch):
    """An address of its own, a LiteLLM proxy, or an installation whose list has moved."""
    check_provider(ModelSpec(id="mine/x", api_base="http://host/v1"), {})
    check_provider(ModelSpec(id="mine/x"), {"USE_LITELLM_PROXY": "True"})
    monkeypatch.setattr("swarmcli.adapters.provider_names._FEWEST", 10_000)
    litellm_providers.cache_clear()
    try:
        check_provider(ModelSpec(id="mine/x"), {})
    finally:
        litellm_providers.cache_clear()
