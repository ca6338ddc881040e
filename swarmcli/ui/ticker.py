"""A regular call on the event loop, with the run's own time."""

import asyncio
import time
from collections.abc import Callable


class Ticker:
    """Calls `tick(now_t)` about every `interval_s`, once started.

    It learns the run's time from the events: `now_t` runs on from the latest `t` that `sync` was
    given. A `tick` that raises is not called again: one report is enough.
    """

    def __init__(
        self,
        tick: Callable[[float], None],
        interval_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tick = tick
        self._interval_s = interval_s
        self._clock = clock
        self._began: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    def sync(self, t: float) -> None:
        """An event that happened at `t` has just arrived."""
        began = self._clock() - t
        self._began = began if self._began is None else min(began, self._began)

    def now_t(self) -> float:
        """Seconds since the run began; 0 before its first event."""
        return 0.0 if self._began is None else self._clock() - self._began

    def start(self) -> None:
        """Begin, on the running event loop."""
        if self._timer is None:
            self._schedule(asyncio.get_running_loop())

    def stop(self) -> None:
        """End; also harmless before `start`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(self._interval_s, self._fire, loop)

    def _fire(self, loop: asyncio.AbstractEventLoop) -> None:
        self._tick(self.now_t())
        if self._timer is not None:
            self._schedule(loop)
