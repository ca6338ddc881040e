"""Which agents have asked a provider: known from the events on their way to the journal."""

from collections import Counter

from swarmcli.core.events import CallFailed, CallStarted, Event
from swarmcli.core.ports import Emit


class Departures:
    """Passes events on and remembers whose calls have left and have not failed.

    Args:
        emit: takes every event.
    """

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._asked: Counter[str] = Counter()

    def emit(self, event: Event) -> None:
        """Take note of an event, and pass it on."""
        if isinstance(event, CallStarted) and event.agent is not None:
            self._asked[event.agent] += 1
        elif isinstance(event, CallFailed) and event.agent is not None:
            self._asked[event.agent] -= 1
        self._emit(event)

    def has_left(self, agent: str) -> bool:
        """Whether a call of this agent is with a provider, or was answered; False while it waits to try again."""
        return self._asked[agent] > 0
