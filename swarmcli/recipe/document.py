"""A parsed file: plain data, and where each piece of it stands in the text. Pure."""

import bisect
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, cast

from swarmcli.errors import Problem
from swarmcli.recipe.values import Json

Path = tuple[str | int, ...]
"""Where a value is: `("tasks", 0, "prompt")`."""


class Span(NamedTuple):
    """Offsets into the text. Of a list or mapping only the start is known; `end` equals it."""

    start: int
    end: int


class Place(NamedTuple):
    """1-based, as editors count."""

    line: int
    column: int


_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@functools.lru_cache(maxsize=4)
def line_starts(text: str) -> tuple[int, ...]:
    """Offsets at which lines begin."""
    return (0, *(found.end() for found in _LINE_BREAK.finditer(text)))


def place_of(text: str, offset: int) -> Place:
    """Line and column of an offset; the end of the file counts as the end of its last line with text."""
    starts = line_starts(text)
    if offset >= len(text):
        offset = len(text.rstrip())
    line = bisect.bisect_right(starts, offset)
    return Place(line, offset - starts[line - 1] + 1)


def problem_at(text: str, offset: int, message: str, hint: str | None = None) -> Problem:
    """A problem with what stands at `offset`."""
    place = place_of(text, offset)
    return Problem(message=message, line=place.line, column=place.column, hint=hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A mapping read from a file, and where every key and value stands."""

    text: str
    """What was parsed: the file without its byte order mark."""
    data: dict[str, Json]
    keys: Mapping[Path, Span]
    values: Mapping[Path, Span]

    def problem(
        self, message: str, path: Path, *, at_key: bool = False, hint: str | None = None
    ) -> Problem:
        """A problem with the value at `path` (or its key), or with the nearest thing around it."""
        return problem_at(self.text, self.offset(path, at_key=at_key), message, hint)

    def offset(self, path: Path, *, at_key: bool = False) -> int:
        """Where the value at `path`, its key, or else the nearest thing around it begins."""
        for length in range(len(path), -1, -1):
            part = path[:length]
            span = (self.keys.get(part) if at_key else None) or self.values.get(part)
            if span is not None:
                return span.start
        return 0

    def spelling(self, path: Path) -> str:
        """The characters that spell the scalar at `path`, quotes and all; empty for a collection."""
        span = self.values.get(path, Span(0, 0))
        return self.text[span.start : span.end]

    def renamed(self, names: Mapping[Path, str | None]) -> "Document":
        """A copy in which the keys at these paths have other names (None: are left out)."""
        keys: dict[Path, Span] = {}
        values: dict[Path, Span] = {}

        def copy(value: Json, old: Path, new: Path) -> Json:
            values[new] = self.values[old]
            if old in self.keys:
                keys[new] = self.keys[old]
            if isinstance(value, list):
                return [copy(item, (*old, i), (*new, i)) for i, item in enumerate(value)]
            if not isinstance(value, dict):
                return value
            kept = {key: names.get((*old, key), key) for key in value}
            return {
                name: copy(value[key], (*old, key), (*new, name))
                for key, name in kept.items()
                if name is not None
            }

        data = cast("dict[str, Json]", copy(self.data, (), ()))
        return Document(text=self.text, data=data, keys=keys, values=values)
