"""The end of a run's time: a wind-down in which nothing starts that could not finish, then the end of what runs.

Rule: what is cut off at the deadline is paid for and gives nothing. So as soon as an agent of this run takes longer
than what is left, no further one asks; those that ask already may use the rest.
"""

from collections.abc import Callable

from swarmcli.core.ports import Clock
from swarmcli.engine.engine import Engine

_LOOK_AGAIN_S = 0.1


class Deadline:
    """Watches one run's time.

    Args:
        engine: is stopped.
        clock: its zero is the start of the run.
        timeout_s: the run's time; None: as long as it takes.
        has_asked: whether a call of that agent has left for a provider.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        timeout_s: float | None,
        has_asked: Callable[[str], bool],
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._timeout_s = timeout_s
        self._has_asked = has_asked

    async def watch(self, keep: float) -> None:
        """Stop the agents in time.

        Args:
            keep: share of the time that is kept for the merge, 0 to 1.
        """
        timeout_s = self._timeout_s
        if timeout_s is None:
            return
        end_s = timeout_s * (1.0 - keep)
        await self._wind_down(end_s, timeout_s)
        await self._clock.sleep(max(0.0, end_s - self._clock.monotonic()))
        because = f"the run's time ({timeout_s:g} s) is over"
        self._engine.stop("timeout", because, cancel_running=True)

    async def _wind_down(self, end_s: float, timeout_s: float) -> None:
        """Return when nothing new may start any more, or at the end."""
        while (left_s := end_s - self._clock.monotonic()) > _LOOK_AGAIN_S:
            takes_s = self._engine.median_s
            if takes_s is not None and takes_s >= left_s:
                because = (
                    f"{left_s:.3g} s of the run's {timeout_s:g} s are left for agents, "
                    f"and one takes {takes_s:.3g} s"
                )
                if self._engine.wind_down(because, self._has_asked):
                    return
            await self._clock.sleep(_until_next_look(left_s, takes_s))


def _until_next_look(left_s: float, takes_s: float | None) -> float:
    """Seconds to the moment from which an agent could not finish, or half of what is left while nobody knows."""
    ahead_s = left_s / 2 if takes_s is None else left_s - takes_s
    return min(left_s, max(ahead_s, _LOOK_AGAIN_S))
