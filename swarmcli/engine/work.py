"""What the model calls outside the agents took: the planner's and the writer's."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from swarmcli.core.events import Usage
from swarmcli.core.ports import ModelReply
from swarmcli.core.receipt import Span


@dataclass(slots=True)
class Work:
    """Time, tokens and money so far; also that of calls whose answers were of no use."""

    spans: list[Span] = field(default_factory=list[Span])
    usage: Usage | None = None
    cost_usd: float | None = 0.0
    """None when the price of a call is unknown."""

    def add(
        self, name: str, replies: Sequence[ModelReply], *, started_s: float, ended_s: float
    ) -> None:
        """Calls that were made side by side between these times."""
        for reply in replies:
            span = Span(name=name, started_s=started_s, ended_s=ended_s, busy_s=reply.seconds)
            self.spans.append(span)
            if reply.usage is not None and not reply.cached:
                self.usage = (self.usage or Usage()) + reply.usage
            known = self.cost_usd is not None and reply.cost_usd is not None
            self.cost_usd = (self.cost_usd or 0.0) + (reply.cost_usd or 0.0) if known else None
