"""Finding what has the same canonical value, without comparing everything with everything. Pure."""

import math
from collections import defaultdict
from typing import Generic, TypeVar

from swarmcli.core.canonical import ABSOLUTE, RELATIVE, Value, same

T = TypeVar("T")

_WIDTH = 1.1 * RELATIVE
"""Of a cell: a little more than the distance of two numbers that are the same, so that they stand in neighbours."""


class Alike(Generic[T]):
    """Things under canonical values, of which no two are the same (`canonical.same`).

    To find one costs the same however many there are: texts are looked up, and numbers lie in cells of the width of the
    tolerance, so that only a handful of them has to be compared.
    """

    def __init__(self) -> None:
        self._cells: defaultdict[str | int, list[tuple[int, Value, T]]] = defaultdict(list)
        self._count = 0

    def put(self, value: Value, thing: T) -> T:
        """The first thing that was put under the same value; `thing` itself, which is kept, where there is none.

        Args:
            value: a text, or a finite number.
            thing: what is kept under it.
        """
        cell = _cell(value)
        near = (cell,) if isinstance(cell, str) else (cell - 1, cell, cell + 1)
        alike = [
            (place, known)
            for one in near
            for place, other, known in self._cells.get(one, ())
            if same(other, value)
        ]
        if alike:
            return min(alike, key=lambda found: found[0])[1]
        self._cells[cell].append((self._count, value, thing))
        self._count += 1
        return thing


def _cell(value: Value) -> str | int:
    """Equal texts share a cell; so do numbers, or they are in neighbouring ones, when they are the same.

    Its steps are even up to where the relative tolerance overtakes the absolute one, and logarithmic from there on.
    """
    if isinstance(value, str):
        return value
    return math.floor(math.asinh(value * (RELATIVE / ABSOLUTE)) / _WIDTH)
