"""What the calls in a journal took, also those of a session that was killed. Pure.

Rule: a call that was sent may be charged, so none is forgotten. One that was started and never ended, because its
session died, counts as what had been set aside for it.
"""

from collections import defaultdict, deque

from swarmcli.core.events import CallCompleted, CallFailed, CallStarted, Event, RunStarted
from swarmcli.core.spend import TURNED_AWAY, Amount, Spent, one_call

_Key = tuple[str | None, str, str]
"""Who asked, what for, and which model. Calls that share it are taken to end in the order in which they left."""

_UNKNOWN = Amount(tokens=0, cost_usd=None)
"""Nothing was set aside, or nobody wrote it down."""


class CallBook:
    """The sum of all calls so far; fed with the events of a journal, in order."""

    def __init__(self) -> None:
        self._ended = Spent()
        self._open: defaultdict[_Key, deque[CallStarted]] = defaultdict(deque)

    @property
    def spent(self) -> Spent:
        """Every call that was sent; those without an end as if their session had died."""
        spent = self._ended
        for calls in self._open.values():
            for call in calls:
                spent += _cut_off(call)
        return spent

    def feed(self, event: Event) -> None:
        """The next event of the journal. Cached answers are no calls."""
        match event:
            case CallStarted():
                self._open[_key(event)].append(event)
            case CallCompleted() if not event.cached:
                self._completed(event)
            case CallFailed():
                self._failed(event)
            case RunStarted():  # whatever the session before has left open died with it
                self._ended = self.spent
                self._open.clear()
            case _:
                pass

    def _completed(self, call: CallCompleted) -> None:
        estimate = self._close(call)
        usage, cost_usd = call.tokens, call.cost_usd
        guess = estimate
        if call.booked_tokens is not None:
            guess = Amount(tokens=call.booked_tokens, cost_usd=call.booked_usd)
        counted = guess.tokens if usage is None else usage.input_tokens + usage.output_tokens
        booked = Amount(tokens=counted, cost_usd=guess.cost_usd if cost_usd is None else cost_usd)
        self._ended += one_call(
            booked, estimate=estimate, usage=usage, certain=cost_usd is not None
        )

    def _failed(self, call: CallFailed) -> None:
        estimate = self._close(call)
        booked = Amount(tokens=call.booked_tokens, cost_usd=call.booked_usd)
        if booked == Amount() and call.tokens is None:
            self._ended += TURNED_AWAY
            return
        certain = call.tokens is not None
        self._ended += one_call(booked, estimate=estimate, usage=call.tokens, certain=certain)

    def _close(self, call: CallCompleted | CallFailed) -> Amount:
        """What had been set aside for a call that has ended."""
        calls = self._open.get(_key(call))
        return _estimate(calls.popleft()) if calls else _UNKNOWN


def _key(call: CallStarted | CallCompleted | CallFailed) -> _Key:
    return call.agent, call.purpose, call.model


def _estimate(call: CallStarted) -> Amount:
    if call.estimated_tokens is None:
        return _UNKNOWN
    return Amount(tokens=call.estimated_tokens, cost_usd=call.estimated_usd)


def _cut_off(call: CallStarted) -> Spent:
    estimate = _estimate(call)
    return one_call(estimate, estimate=estimate, usage=None, certain=False)
