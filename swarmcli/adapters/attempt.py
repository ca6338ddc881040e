"""A request on its way through our own middleware, and the log of what became of it."""

from dataclasses import dataclass, field, fields

from swarmcli.core.ports import ModelRequest


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

    def busy_s(self, now: float) -> float:
        """Time since the first request left, queues excluded."""
        return 0.0 if self.left_at is None else max(0.0, now - self.left_at - self.queued_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt(ModelRequest):
    """A request on its way through our own middleware: which try it is, and its log."""

    question: ModelRequest
    """What the provider is asked: the request without all this."""
    number: int = 1
    flight: Flight = field(default_factory=Flight, compare=False)

    @classmethod
    def of(cls, request: ModelRequest, number: int, flight: Flight) -> "Attempt":
        """The `number`-th try of `request`."""
        values = {f.name: getattr(request, f.name) for f in fields(ModelRequest)}
        return cls(**values, question=request, number=number, flight=flight)
