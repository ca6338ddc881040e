"""How much work a piece of code is, counted and not timed: the same on any machine, however busy."""

import sys
from collections.abc import Callable
from types import FrameType


def calls(work: Callable[[], object]) -> int:
    """The function calls that `work` makes, Python's and C's. What happens inside one C call counts as one."""
    count = 0

    def counted(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    before = sys.getprofile()
    sys.setprofile(counted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


_WAITING = frozenset({"acquire", "join", "poll", "select", "sleep", "write"})


def waits(work: Callable[[], object]) -> list[str]:
    """The calls into C by which `work` may wait: for a lock by `acquire` (`with lock` is not one), a file, or time."""
    names: list[str] = []

    def noted(_frame: FrameType, event: str, arg: object) -> None:
        name, owner = getattr(arg, "__name__", ""), getattr(arg, "__self__", None)
        if event == "c_call" and name in _WAITING and not isinstance(owner, str | bytes):
            names.append(name)

    before = sys.getprofile()
    sys.setprofile(noted)
    try:
        work()
    finally:
        sys.setprofile(before)
    return names
