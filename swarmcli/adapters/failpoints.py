"""Named points at which a test may end or fail this process: `SWARM_FAILPOINT=name:action[:nth]`.

Rule: without the variable, which is read once at start, `hit` is a function that does nothing.
"""

import errno
import itertools
import os
import signal
from collections.abc import Callable, Mapping
from typing import Literal, get_args

from swarmcli.errors import UsageError

VARIABLE = "SWARM_FAILPOINT"

Point = Literal[
    "run.claimed",  # the run's folder is there, and nothing in it says what was asked
    "run.described",  # `run.json` is durable; the journal is not there
    "file.created",  # an atomic file (run.json, a large output, the result, `-o`): empty, under its temporary name
    "file.written",  # all of it is written, nothing synced
    "file.synced",  # its content is durable, its name is the temporary one
    "file.renamed",  # it has its name, which is not durable
    "file.durable",  # so is the name
    "journal.opened",  # the journal is there, this session has written nothing
    "journal.write",  # lines are about to be written
    "journal.written",  # they are, and are not durable
    "journal.synced",  # they are durable, and nobody has been told
    "output.stored",  # a large output is durable, the journal does not refer to it
]
"""A step on the way to the disk: what holds when the process is stopped there."""

POINTS: tuple[Point, ...] = get_args(Point)

_ERRORS: Mapping[str, int] = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_ACTIONS = ("kill", "exit", *_ERRORS)


def _nothing(_point: Point) -> None:
    """No point is armed."""


def armed(spec: str | None) -> Callable[[Point], None]:
    """What `hit` is under this value of the variable.

    Args:
        spec: `name:action[:nth]`. `kill` is SIGKILL, `exit` leaves at once with 70, `enospc` and `eio`
            raise the `OSError`; the nth time the point is reached, from 1. None: nothing ever happens.

    Raises:
        UsageError: there is no such point or action.
    """
    if spec is None:
        return _nothing
    name, _, rest = spec.partition(":")
    action, _, nth = rest.partition(":")
    if name not in POINTS or action not in _ACTIONS or not (nth or "1").isdecimal():
        raise UsageError(
            f"{VARIABLE}={spec} is not NAME:ACTION[:NTH]",
            hint=f"names: {', '.join(POINTS)}; actions: {', '.join(_ACTIONS)}",
        )
    reached = itertools.count(1)

    def hit(point: Point) -> None:
        if point == name and next(reached) == int(nth or "1"):
            _act(action)

    return hit


def _act(action: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if action == "exit":
        os._exit(70)
    number = _ERRORS[action]
    raise OSError(number, os.strerror(number))


hit = armed(os.environ.get(VARIABLE))
"""Say that a point is reached. Call it where an `OSError` would be handled."""
