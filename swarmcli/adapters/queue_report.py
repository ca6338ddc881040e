"""What displays hear about a queue, and about what was learnt of its limits."""

import math

from swarmcli.core.events import BY_PROVIDER, LimitChanged, LimitWaiting
from swarmcli.core.ports import Emit

_REPORT_EVERY_S = 1.0


class QueueReport:
    """Tells displays how many wait for what, at most once a second, and when nobody waits any more."""

    def __init__(self, name: str, emit: Emit) -> None:
        self._name = name
        self._emit = emit
        self._waiting = 0
        self._reason = ""
        self._told: tuple[str, int] = ("", 0)
        self._told_at = -math.inf

    def joined(self, now: float) -> None:
        self._waiting += 1
        self._tell(now)

    def left(self, now: float) -> None:
        self._waiting -= 1
        if self._waiting == 0:
            self._reason = ""
        self._tell(now)

    def blocked(self, reason: str, now: float) -> None:
        """The head of the queue waits for `reason`."""
        self._reason = reason
        self._tell(now)

    def _tell(self, now: float) -> None:
        state = (self._reason, self._waiting if self._reason else 0)
        if state == self._told:
            return
        if state[1] and now - self._told_at < _REPORT_EVERY_S:
            return
        self._told = state
        if state[1]:
            self._told_at = now
        self._emit(LimitWaiting(bucket=self._name, waiting=state[1], reason=state[0]))


class LimitReport:
    """Tells displays what was learnt about a bucket: at most once a second, but the first refusal at once."""

    def __init__(self, name: str, parallel: int, emit: Emit) -> None:
        self._name = name
        self._emit = emit
        self._told = (parallel, False)
        self._told_at = -math.inf
        self._was_refused = False

    def changed(self, parallel: int, pause_s: float, now: float, *, refused: bool = False) -> None:
        """So many requests at once now, and nothing leaves for `pause_s`."""
        state = (parallel, pause_s > 0)
        at_once = refused and not self._was_refused
        self._was_refused |= refused
        is_news = state != self._told or (refused and pause_s > 0)
        if not at_once and not (is_news and now - self._told_at >= _REPORT_EVERY_S):
            return
        lower = refused or parallel < self._told[0]
        self._told, self._told_at = state, now
        self._emit(
            LimitChanged(
                bucket=self._name,
                parallel=parallel,
                reason=BY_PROVIDER if lower else "answers come",
                pause_s=round(pause_s, 3),
            )
        )
