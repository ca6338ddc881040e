"""What one rendering of a template may use: text and steps, counted before they are spent. Pure.

A template is small, but its result need not be: nested loops, doubled text and shared lists grow without bound. Every
value that a template puts in, every loop step and every call passes through the `Budget` of its rendering.
"""

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, cast

from swarmcli.errors import UsageError
from swarmcli.recipe.outside import OutsideText, as_written, outside_in
from swarmcli.recipe.values import Json

MAX_CHARACTERS = 10_000_000
MAX_STEPS = 200_000
_CHARACTERS_A_STEP = 2_000
_PARTS_A_STEP = 20
_MAX_BITS = 10_000


class TemplateError(UsageError):
    """A template cannot be read or rendered: the recipe, or what was passed to it, is wrong.

    Args:
        message: what is wrong, in one line.
        line: the line within the template, from 1; 0 when unknown.
    """

    def __init__(self, message: str, *, line: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.line = line


class Budget:
    """How much text and how many steps a rendering has left; within its `with` block it is the one that counts."""

    def __init__(self) -> None:
        self._characters = MAX_CHARACTERS
        self._steps = MAX_STEPS

    def __enter__(self) -> "Budget":
        self._token = _current.set(self)
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        _current.reset(self._token)
        if isinstance(error, RecursionError):
            raise TemplateError("the template or its data is nested too deep") from None

    @staticmethod
    def current() -> "Budget":
        """The one of the rendering that calls."""
        return _current.get()

    def spend(self, characters: int) -> None:
        """Count text before it is made."""
        self._characters -= characters
        if self._characters < 0:
            raise TemplateError(f"the result has more than {MAX_CHARACTERS:,} characters")

    def step(self, count: int = 1) -> None:
        """Count a loop step, a call, a value put in."""
        self._steps -= count
        if self._steps < 0:
            raise TemplateError(f"the template takes more than {MAX_STEPS:,} steps")

    def loop(self, items: Iterable[Any], characters: int = 0) -> Iterator[Any]:
        """The items, each counted as a step that writes this much text."""
        for item in items:
            self.step()
            self.spend(characters)
            yield item

    def range(self, *bounds: int) -> range:
        """Python's `range`, counted."""
        numbers = range(*bounds)
        self.step(min(len(range(*bounds)[: MAX_STEPS + 1]), MAX_STEPS + 1))
        return numbers

    def work(self, value: object) -> None:
        """Count a step that goes through a whole text or list, such as a method, a filter or a slice makes."""
        if isinstance(value, str):
            self.step(1 + len(value) // _CHARACTERS_A_STEP)
        else:
            parts = cast("list[object]", value) if isinstance(value, list) else []
            self.step(1 + len(parts) // _PARTS_A_STEP)

    def text(self, value: object) -> str:
        """A value as text: text as it is, everything else as JSON; outside text where some is in it."""
        self.step()
        if isinstance(value, str):
            self.spend(len(value))
            return str(value)
        text, origin = json.dumps(self.plain(value), ensure_ascii=False), outside_in(value)
        return text if origin is None else OutsideText(text, origin.wrap)

    def shown(self, value: object) -> str:
        """As `text`, counted as it is written: outside text with its block."""
        if isinstance(value, OutsideText):
            self.step()
            self.spend(len(value.written))
            return value
        text = self.text(value)
        self.spend(len(as_written(text)) - len(text))
        return text

    def plain(self, value: object) -> Json:
        """A copy as plain JSON data. It is counted on the way, so that shared parts cannot explode."""
        match value:
            case None | bool():
                self.spend(5)
                return value
            case int():
                self.spend(value.bit_length() // 3 + 1)
                return value
            case float():
                self.spend(10)
                return self._finite(value)
            case str():
                self.spend(len(value) + 2)
                return _bare(value)
            case Mapping():
                self.spend(20)
                entries = cast("Mapping[object, object]", value)
                return {self._key(key): self.plain(entries[key]) for key in entries}
            case list() | tuple() | range():
                self.spend(20)
                return [self.plain(item) for item in cast("Iterable[object]", value)]
            case _:
                raise TemplateError(f"a {type(value).__name__} cannot be written as text")

    def _finite(self, value: float) -> float:
        if not math.isfinite(value):
            raise TemplateError(f"{value} is no number that can be written")
        return value

    def _key(self, key: object) -> str:
        if not isinstance(key, str):
            raise TemplateError(f"the key {key!r} is no text")
        self.spend(len(key) + 4)
        return _bare(key)

    def check_operands(self, operator: str, left: object, right: object) -> None:
        """Counts `+` of texts and lists; `*`, `**` and `%` are for numbers of a sane size."""
        if operator == "+":
            for operand in (left, right):
                if isinstance(operand, str | list | tuple):
                    self.spend(len(cast("str | list[object] | tuple[object, ...]", operand)))
            return
        if not isinstance(left, int | float) or not isinstance(right, int | float):
            raise TemplateError(f"'{operator}' is for numbers")
        size = sum(n.bit_length() for n in (left, right) if isinstance(n, int))
        if operator == "**" and isinstance(left, int) and isinstance(right, int):
            size = left.bit_length() * abs(right)
        if size > _MAX_BITS:
            raise TemplateError(f"the numbers of '{operator}' are too large")


def _bare(text: str) -> str:
    return text.content if isinstance(text, OutsideText) else str(text)


_current: ContextVar[Budget] = ContextVar("_current")
