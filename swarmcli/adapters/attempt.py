"""A request on its way through our own middleware, and the log of what became of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, fields

from swarmcli.core.events import Usage
from swarmcli.core.ports import ModelReply, ModelRequest
from swarmcli.core.spend import Amount

BAD_LUCK = 2
"""So many 429s of one question are bad luck; then it lets others pass, and with more it waits by itself as well."""


@dataclass(slots=True)
class Flight:
    """What really happened to one question on its way out, over all its attempts."""

    sent: int = 0
    """Requests that left."""
    left_at: float | None = None
    """When the first one left."""
    queued_s: float = 0.0
    """Time spent in queues since then."""
    in_queue: bool = False
    """A request waits, or was cancelled while it did: it never left."""
    refusals: int = 0
    """Requests that came back as a 429."""
    refusals_in_vain: int = 0
    """Of these, the last ones between which nobody of its bucket got an answer."""
    held_s: float = 0.0
    """How long the limiter holds everybody back after its last 429."""
    twin: Usage | None = None
    """What the same question took where another call has answered it: so much this one may have taken as well."""
    chances: int | None = None
    """How many more 429s without any answer of its bucket it may meet; 0: waiting is in vain. None: nobody counts."""
    _answers: int = -1

    def queued(self, seconds: float) -> None:
        """A request has waited in a queue of ours."""
        if self.left_at is not None:
            self.queued_s += seconds

    def leave(self, now: float) -> None:
        """A request leaves."""
        self.in_queue = False
        if self.left_at is None:
            self.left_at = now
        self.sent += 1

    def refused(self, answers: int) -> None:
        """A request came back as a 429, when its bucket had had so many answers."""
        self.refusals += 1
        self.refusals_in_vain = self.refusals_in_vain + 1 if answers == self._answers else 1
        self._answers = answers

    @property
    def goes_first(self) -> bool:
        """It has been out before, and not so often in vain that it may be the reason itself."""
        return self.sent > 0 and self.refusals < BAD_LUCK

    def busy_s(self, now: float) -> float:
        """Time since the first request left, queues excluded."""
        return 0.0 if self.left_at is None else max(0.0, now - self.left_at - self.queued_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(ModelRequest):
    """A request on its way through our own middleware: which try it is, and its log."""

    question: ModelRequest
    """What the provider is asked: the request without all this."""
    number: int = 1
    estimated_tokens: int | None = None
    """Input and output together, as they were set aside under the run's caps; None: nobody has."""
    estimated_usd: float | None = None
    book: Callable[[ModelReply], Amount] | None = field(default=None, compare=False)
    """What the run's caps count for an answer; None: nobody counts."""
    flight: Flight = field(default_factory=Flight, compare=False)

    @classmethod
    def of(cls, request: ModelRequest, number: int, flight: Flight) -> "Attempt":
        """The `number`-th try of `request`."""
        values = {f.name: getattr(request, f.name) for f in fields(ModelRequest)}
        plain = ModelRequest(**values) if isinstance(request, Attempt) else request
        return cls(**values, question=plain, number=number, flight=flight)
