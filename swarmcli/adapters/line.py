"""A waiting line on the event loop: those that go round again first, then first come, first served.

Rule: only the head has anything to do. It naps until a moment or a wake-up; everybody behind it waits for one
wake-up, so that a line of hundreds costs nothing. Whoever leaves it, cancelled or not, wakes the next.
"""

import asyncio
import contextlib
import itertools
import math
from collections import deque
from collections.abc import Generator

from swarmcli.core.ports import Clock
from swarmcli.errors import ModelError


class Place:
    """One caller's place."""

    def __init__(self, *, again: bool) -> None:
        self.again = again
        self.woken = asyncio.Event()
        self.error: ModelError | None = None
        """Waiting has become pointless."""


class Line:
    """Callers of one bucket that wait for their turn.

    Args:
        clock: time for naps.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._again: deque[Place] = deque()
        self._fresh: deque[Place] = deque()

    def __len__(self) -> int:
        return len(self._again) + len(self._fresh)

    @contextlib.contextmanager
    def place(self, *, again: bool) -> Generator[Place]:
        """Join; `again`: this caller has been through before, and does not start behind those that have not."""
        place = Place(again=again)
        side = self._again if again else self._fresh
        side.append(place)
        try:
            yield place
        finally:
            side.remove(place)
            self.wake()

    def is_head(self, place: Place) -> bool:
        """Whether it is this caller's turn."""
        return place is self._head()

    def wake(self) -> None:
        """Something has changed: the head should look again."""
        if (head := self._head()) is not None:
            head.woken.set()

    def fail(self, error: ModelError) -> None:
        """Send everybody away."""
        for place in itertools.chain(self._again, self._fresh):
            place.error = error
            place.woken.set()

    async def nap(self, place: Place, seconds: float) -> None:
        """Return after `seconds` or at a wake-up; infinite: at a wake-up."""
        place.woken.clear()
        if math.isinf(seconds):
            await place.woken.wait()
            return
        async with asyncio.TaskGroup() as group:
            timer = group.create_task(self._ring(place, seconds))
            await place.woken.wait()
            timer.cancel()

    async def _ring(self, place: Place, seconds: float) -> None:
        await self._clock.sleep(seconds)
        place.woken.set()

    def _head(self) -> Place | None:
        side = self._again or self._fresh
        return side[0] if side else None
