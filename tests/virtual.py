"""A virtual-time event loop: nothing ever waits, and the clock jumps to whatever is due next.

    with virtual_runner() as runner:
        runner.run(scenario())          # asyncio.sleep, timeouts and `LoopClock` all run on virtual time

Exact and repeatable, and as fast as the code under test: an hour of waiting takes no time.
"""

import asyncio
import contextlib
import selectors
from collections.abc import Iterator
from types import SimpleNamespace

import asyncio_throttle.throttler as throttler


class Stalled(AssertionError):
    """Everybody waits for something that never happens."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time stands still while anything can run, then jumps."""

    def __init__(self) -> None:
        self._virtual_s = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        return self._virtual_s

    def jump(self, seconds: float) -> None:
        """Let `seconds` pass at once."""
        self._virtual_s += seconds


class _Jumping(selectors.DefaultSelector):
    """Where the loop would wait, it jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        ready = super().select(0)
        if not ready and timeout is None:
            raise Stalled
        if not ready and timeout > 0:
            self._loop.jump(timeout)
        return ready


class LoopClock:
    """A `Clock` on the running loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@contextlib.contextmanager
def virtual_runner() -> Iterator[asyncio.Runner]:
    """A runner on a virtual loop; asyncio-throttle, which reads the system's clock, reads the loop's meanwhile."""
    real = throttler.time
    throttler.time = SimpleNamespace(monotonic=LoopClock().monotonic)
    try:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            yield runner
    finally:
        throttler.time = real
