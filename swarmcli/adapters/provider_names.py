"""Which provider prefixes LiteLLM takes: read from its files in a millisecond, for importing it takes seconds."""

import difflib
import functools
import importlib.util
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from swarmcli.adapters.model_table import facts_of
from swarmcli.adapters.providers import PROVIDERS, provider_of
from swarmcli.errors import UsageError
from swarmcli.recipe.values import ModelSpec

_OURS = frozenset({*PROVIDERS, "embedded"})
_LIST = re.compile(r"^class LlmProviders\(.*?\):\n(.*?)^\S", re.DOTALL | re.MULTILINE)
_MEMBER = re.compile(r'^    [A-Z]\w* = "([^"\n]+)"', re.MULTILINE)
_FEWEST = 50
"""LiteLLM has had more for years: fewer means that its list has moved."""


def check_provider(model: ModelSpec, env: Mapping[str, str]) -> None:
    """Refuse a provider that LiteLLM does not have, before anything is sent.

    What cannot be judged passes: a model with an address of its own or in LiteLLM's table, a LiteLLM proxy, an
    installation whose list cannot be read.

    Raises:
        UsageError: nobody could answer; says what may have been meant.
    """
    name = provider_of(model.id)
    if name in _OURS or model.api_base or env.get("USE_LITELLM_PROXY", "").lower() == "true":
        return
    known = litellm_providers()
    if not known or name in known or facts_of(model).context_window is not None:
        return
    meant = difflib.get_close_matches(name.lower(), sorted(known | _OURS), 1, 0.6)
    rest = model.id.partition("/")[2]
    raise UsageError(
        f"{model.id}: there is no provider {name!r}",
        hint=f"did you mean {meant[0]}/{rest}?"
        if meant
        else f"write provider/model, e.g. openrouter/{model.id}; your own server: hosted_vllm/{rest}",
    )


@functools.cache
def litellm_providers() -> frozenset[str]:
    """The prefixes that LiteLLM knows; empty when they cannot be read."""
    found = importlib.util.find_spec("litellm")
    if found is None or found.origin is None:
        return frozenset()
    folder = Path(found.origin).parent
    try:
        source = (folder / "types" / "utils.py").read_text(encoding="utf-8")
        more: object = json.loads((folder / "llms" / "openai_like" / "providers.json").read_bytes())
    except (OSError, ValueError):
        return frozenset()
    listed = _LIST.search(source)
    names = frozenset(_MEMBER.findall(listed[1] if listed else ""))
    if len(names) < _FEWEST or not isinstance(more, dict):
        return frozenset()
    return names | cast("dict[str, object]", more).keys()
