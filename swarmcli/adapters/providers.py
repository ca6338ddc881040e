"""Who can be reached from here: keys, addresses, and what to say when nothing can. Never imports LiteLLM.

LiteLLM knows more providers than this table; their ids pass through unchecked. The table holds what its own answers
get wrong (a missing OpenAI key looks like a 500, Gemini seems to need two keys, Ollama's default address is "missing").
"""

import ipaddress
import json
import re
import socket
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit

from swarmcli.errors import NoModelError
from swarmcli.recipe.values import ModelSpec

PROBE_TIMEOUT_S = 0.3
UNUSED_KEY = "unused"
"""Sent to a loopback server when no key is set: LiteLLM's OpenAI client insists on one, the server does not."""
OLLAMA_ADDRESS = "http://127.0.0.1:11434"

_NO_CHAT = re.compile(r"embed|minilm|bge-|rerank|whisper|clip", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """What swarm knows of one LiteLLM provider."""

    name: str
    """LiteLLM's prefix."""
    keys: tuple[str, ...] = ()
    """Variables of which one must hold the key, in LiteLLM's order; the first is the one to advise."""
    bases: tuple[str, ...] = ()
    """Variables that hold its address, in LiteLLM's order."""
    address: str | None = None
    """Where it listens by default, for servers that people run themselves."""
    needs_key: bool = True
    default: str | None = None
    """The model to use when only its key was found; an id of LiteLLM's table."""


PROVIDERS: Mapping[str, Provider] = {
    p.name: p
    for p in (
        Provider(
            name="openai",
            keys=("OPENAI_API_KEY",),
            bases=("OPENAI_BASE_URL", "OPENAI_API_BASE"),
            default="openai/gpt-5-mini",
        ),
        Provider(
            name="anthropic",
            keys=("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"),
            bases=("ANTHROPIC_API_BASE", "ANTHROPIC_BASE_URL"),
            default="anthropic/claude-haiku-4-5",
        ),
        Provider(
            name="gemini",
            keys=("GEMINI_API_KEY", "GOOGLE_API_KEY"),
            bases=("GEMINI_API_BASE",),
            default="gemini/gemini-2.5-flash",
        ),
        Provider(
            name="mistral",
            keys=("MISTRAL_API_KEY",),
            bases=("MISTRAL_API_BASE",),
            default="mistral/mistral-small-latest",
        ),
        Provider(
            name="groq",
            keys=("GROQ_API_KEY",),
            bases=("GROQ_API_BASE",),
            default="groq/openai/gpt-oss-120b",
        ),
        Provider(
            name="openrouter",
            keys=("OPENROUTER_API_KEY", "OR_API_KEY"),
            bases=("OPENROUTER_API_BASE",),
            default="openrouter/openai/gpt-5-mini",
        ),
        Provider(
            name="deepseek",
            keys=("DEEPSEEK_API_KEY",),
            bases=("DEEPSEEK_API_BASE",),
            default="deepseek/deepseek-v4-flash",
        ),
        Provider(
            name="xai", keys=("XAI_API_KEY",), bases=("XAI_API_BASE",), default="xai/grok-4.3"
        ),
        Provider(
            name="together_ai",
            keys=(
                "TOGETHER_API_KEY",
                "TOGETHER_AI_API_KEY",
                "TOGETHERAI_API_KEY",
                "TOGETHER_AI_TOKEN",
            ),
            default="together_ai/openai/gpt-oss-120b",
        ),
        Provider(
            name="fireworks_ai",
            keys=(
                "FIREWORKS_API_KEY",
                "FIREWORKS_AI_API_KEY",
                "FIREWORKSAI_API_KEY",
                "FIREWORKS_AI_TOKEN",
            ),
            bases=("FIREWORKS_API_BASE",),
            default="fireworks_ai/accounts/fireworks/models/gpt-oss-20b",
        ),
        Provider(
            name="cohere_chat",
            keys=("COHERE_API_KEY", "CO_API_KEY"),
            default="cohere_chat/command-a-03-2025",
        ),
        Provider(name="cohere", keys=("COHERE_API_KEY", "CO_API_KEY")),
        # No default: the name of an Azure deployment is its owner's.
        Provider(
            name="azure", keys=("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"), bases=("AZURE_API_BASE",)
        ),
        Provider(
            name="ollama_chat", bases=("OLLAMA_API_BASE",), address=OLLAMA_ADDRESS, needs_key=False
        ),
        Provider(
            name="ollama", bases=("OLLAMA_API_BASE",), address=OLLAMA_ADDRESS, needs_key=False
        ),
        Provider(
            name="hosted_vllm",
            keys=("HOSTED_VLLM_API_KEY",),
            bases=("HOSTED_VLLM_API_BASE",),
            needs_key=False,
        ),
        Provider(
            name="lm_studio",
            keys=("LM_STUDIO_API_KEY",),
            bases=("LM_STUDIO_API_BASE",),
            address="http://127.0.0.1:1234/v1",
            needs_key=False,
        ),
    )
}
"""In the order in which keys are looked for; `swarm doctor` prints it."""


class Found(NamedTuple):
    """A model that can be used without asking, and why."""

    model: str
    reason: str


def provider_of(model_id: str) -> str:
    """The prefix of a LiteLLM id; empty when it has none."""
    return model_id.partition("/")[0] if "/" in model_id else ""


def api_base_of(model_id: str, env: Mapping[str, str]) -> str | None:
    """The address that the environment gives for this model; None: the provider's own.

    `OLLAMA_HOST` counts where `OLLAMA_API_BASE` is not set, although LiteLLM does not know it.
    """
    provider = PROVIDERS.get(provider_of(model_id))
    if provider is None:
        return None
    for name in provider.bases:
        if base := env.get(name, "").strip():
            return base
    return _ollama_address(env) if provider.address == OLLAMA_ADDRESS else provider.address


def key_name(spec: ModelSpec) -> str | None:
    """The variable in which this model's key is expected; None for models that need none and unknown providers."""
    provider = PROVIDERS.get(provider_of(spec.id))
    if spec.api_key_env:
        return spec.api_key_env
    return provider.keys[0] if provider is not None and provider.keys else None


def api_key(spec: ModelSpec, env: Mapping[str, str]) -> str | None:
    """The key to send, or None where LiteLLM knows better (unknown providers, cloud credentials).

    A loopback server that speaks the OpenAI API gets `UNUSED_KEY` when none is set.
    """
    if spec.api_key_env:
        return env.get(spec.api_key_env) or None
    provider = PROVIDERS.get(provider_of(spec.id))
    if provider is None:
        return None
    for name in provider.keys:
        if value := env.get(name):
            return value
    loopback = is_local(spec.api_base or api_base_of(spec.id, env))
    return UNUSED_KEY if provider.name == "openai" and loopback else None


def key_problem(spec: ModelSpec, env: Mapping[str, str]) -> NoModelError | None:
    """Why no call to this model can succeed, as far as the environment shows it; None when nothing is wrong.

    No call is made. An empty variable counts as missing. Unknown providers pass.
    """
    provider = PROVIDERS.get(provider_of(spec.id))
    key = api_key(spec, env)
    if key is not None:
        return _malformed(spec, env, key)
    if spec.api_key_env:
        return NoModelError(
            f"{spec.id} needs the key in {spec.api_key_env}, which is not set",
            hint=f"export {spec.api_key_env}=...",
        )
    if provider is None:
        return None
    base = spec.api_base or api_base_of(spec.id, env)
    if provider.name in {"hosted_vllm", "azure"} and base is None:
        name = provider.bases[0]
        return NoModelError(
            f"{spec.id} needs the address of its server, and {name} is not set",
            hint=f"export {name}=http://host:8000/v1, or give the model an `api_base`",
        )
    if not provider.needs_key or (provider.name == "azure" and env.get("AZURE_AD_TOKEN")):
        return None
    name = provider.keys[0]
    own_server = f", or {name}=unused if your server wants none" if base else ""
    return NoModelError(
        f"{spec.id} needs a key, and {' or '.join(provider.keys[:2])} is not set",
        hint=f"export {name}=...{own_server}",
    )


def _malformed(spec: ModelSpec, env: Mapping[str, str], key: str) -> NoModelError | None:
    if re.fullmatch(r"[!-~]+", key):
        return None
    provider = PROVIDERS.get(provider_of(spec.id))
    names = (spec.api_key_env,) if spec.api_key_env else provider.keys if provider else ()
    name = next((n for n in names if n and env.get(n) == key), "the key")
    fault = "a space or line break" if re.search(r"\s", key) else "a character that no key has"
    return NoModelError(
        f"{name} holds {fault}, so it cannot be sent", hint=f"set {name} again, to the key alone"
    )


def first_available(env: Mapping[str, str]) -> Found | None:
    """The default model of the first provider, in the table's order, whose key is set. Touches no network."""
    for provider in PROVIDERS.values():
        name = next((name for name in provider.keys if env.get(name)), None)
        if name is not None and provider.default is not None:
            return Found(provider.default, f"{name} is set")
    return None


def running_ollama(env: Mapping[str, str]) -> Found | None:
    """The newest chat model of an Ollama that answers here and now; None within about 0.3 s otherwise."""
    models = ollama_models(env)
    if not models:
        return None
    count = f"{len(models)} model{'s' if len(models) > 1 else ''}"
    chat = next((name for name in models if not _NO_CHAT.search(name)), models[0])
    return Found(f"ollama_chat/{chat}", f"no key is set; Ollama has {count}")


def ollama_models(env: Mapping[str, str]) -> list[str] | None:
    """The names of Ollama's models, newest first; None when it does not answer.

    A bare socket is tried first: when nothing listens it costs a tenth of a millisecond, an HTTP client 100 times that.
    """
    base = api_base_of("ollama_chat/any", env) or OLLAMA_ADDRESS
    url = urlsplit(base)
    try:
        port = url.port or (443 if url.scheme == "https" else 80)
        socket.create_connection((url.hostname or "127.0.0.1", port), PROBE_TIMEOUT_S).close()
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(f"{base.rstrip('/')}/api/tags", timeout=PROBE_TIMEOUT_S) as response:
            body: Any = json.loads(response.read(1 << 20))
        listed = cast("list[dict[str, Any]]", body["models"])
        newest = sorted(listed, key=lambda m: str(m.get("modified_at", "")), reverse=True)
        return [str(model["name"]) for model in newest]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _ollama_address(env: Mapping[str, str]) -> str:
    """`OLLAMA_HOST` as Ollama itself reads it: host, host:port, or a URL."""
    host = env.get("OLLAMA_HOST", "").strip().rstrip("/")
    if not host:
        return OLLAMA_ADDRESS
    if "://" not in host:
        if re.fullmatch(r"[0-9a-fA-F:]*:[0-9a-fA-F:]*:[0-9a-fA-F:]*", host):
            host = f"[{host}]"
        host = f"http://127.0.0.1{host}" if host.startswith(":") else f"http://{host}"
        if not re.search(r":\d+$", host):
            host += ":11434"
    # 0.0.0.0 is where a server listens; it is no address to call everywhere.
    return host.replace("://0.0.0.0", "://127.0.0.1")


def is_local(api_base: str | None) -> bool:
    """True for an address on this machine: its models share our processor."""
    if not api_base:
        return False
    try:
        host = (urlsplit(api_base if "://" in api_base else f"//{api_base}").hostname or "").lower()
    except ValueError:
        return False
    if host in {"localhost", "host.docker.internal"} or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def is_free(model_id: str) -> bool:
    """True for servers that people run themselves with a provider name that says so: a call costs no money."""
    return provider_of(model_id) in {"ollama", "ollama_chat", "lm_studio", "embedded"}


def no_model_error(env: Mapping[str, str]) -> NoModelError:
    """Nothing can be used; says what was looked for and the exact commands that help."""
    ollama = api_base_of("ollama_chat/any", env) or OLLAMA_ADDRESS
    names = [p.keys[0] for p in PROVIDERS.values() if p.default is not None]
    others = ", ".join(names[1:6])
    return NoModelError(
        f"no model to use: no key in the environment or .env, and no Ollama at {ollama}",
        hint=(
            f"export {names[0]}=sk-...   (or {others}, ...)\n"
            "ollama serve && ollama pull qwen3:4b\n"
            "pip install 'swarmcli[embedded]' && swarm models pull smollm2   (tiny, for trying swarm without a key)\n"
            "your own server: HOSTED_VLLM_API_BASE=http://host:8000/v1 swarm solve -m hosted_vllm/my-model ..."
        ),
    )
