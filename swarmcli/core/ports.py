"""The ports: Protocols that the engine talks to, and the values that cross them.

Adapters implement these; nothing here knows an implementation. Time is in seconds, money in US dollars.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from swarmcli.core.events import Event, Usage
from swarmcli.recipe.values import Json, ModelSpec

Purpose = Literal["planner", "agent", "judge", "writer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One chat message."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest:
    """One question to one model: everything that can change the answer, and who asks.

    `purpose`, `agent` and `timeout_s` never reach the provider and are no part of the cache key.
    """

    model: ModelSpec
    messages: tuple[Message, ...]
    response_schema: Mapping[str, Json] | None = None
    """JSON Schema for the provider's structured output; None: free text."""
    sample: int = 0
    """Which of several draws of the same question this is."""
    max_output_tokens: int | None = None
    temperature: float | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])
    """Provider parameters that are not part of the OpenAI API."""
    purpose: Purpose = "agent"
    agent: str | None = None
    """The agent's id; None for planner and writer."""
    timeout_s: float = 600.0
    """Total time, first request sent to last byte; retries share it, waiting for a slot does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """What a provider says is left of its limits, from the headers of an answer; None where it does not say."""

    requests: int | None = None
    requests_reset_s: float | None = None
    """Until `requests` is full again; already bounded."""
    tokens: int | None = None
    tokens_reset_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReply:
    """One complete answer. A truncated or empty one is a `ModelError`, never a reply."""

    text: str
    model: str
    """The LiteLLM id that answered (a fallback's, where one did)."""
    usage: Usage | None = None
    """None when the provider did not say."""
    cost_usd: float | None = None
    """None when the price is unknown; 0.0 for a cached answer."""
    cached: bool = False
    attempts: int = 1
    """Requests sent for this answer, the failed ones included; 0 for a cached one."""
    seconds: float = 0.0
    """First request sent to last byte, retries included, waiting for a slot excluded."""
    hedged: bool = False
    """A duplicate request was sent because the first one was slow."""
    headroom: Headroom | None = None


class TextSink(Protocol):
    """Receives an answer while it streams."""

    def feed(self, text: str) -> None:
        """The next piece, in order."""
        ...

    def restart(self) -> None:
        """All pieces so far are void: the answer begins again (a retry after a broken stream)."""
        ...


class ModelClient(Protocol):
    """Anything that answers a `ModelRequest`: the LiteLLM edge, its middleware, and the fakes."""

    async def complete(
        self, request: ModelRequest, stream_to: TextSink | None = None
    ) -> ModelReply:
        """Answer, or raise `ModelError`. With `stream_to`, pieces are handed over as they arrive."""
        ...

    async def close(self) -> None:
        """Release connections; called once, before the event loop ends."""
        ...


class Clock(Protocol):
    """Time, so that tests can own it."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start, never going back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        ...


class Recorder(Protocol):
    """Where facts go: the journal first, then every display."""

    def emit(self, event: Event) -> None:
        """Record; returns at once."""
        ...

    async def commit(self, event: Event) -> None:
        """Record and return when it is durable; raises `StorageError` when it cannot be."""
        ...


Emit = Callable[[Event], None]
"""What middleware gets when it only needs to say that something happened."""
