"""Real time."""

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from swarmcli.core.ports import Clock


class SystemClock:
    """The `Clock` of a real run; its zero is the moment in which it was made."""

    def __init__(self) -> None:
        self._zero = time.monotonic()

    def monotonic(self) -> float:
        return time.monotonic() - self._zero

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


if TYPE_CHECKING:
    _: Clock = SystemClock()
