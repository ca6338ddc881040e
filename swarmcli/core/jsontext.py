"""JSON within a model's text: the values that stand in it, and where an object ends. Pure."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass

_MOST_VALUES = 1000
_OPEN = re.compile(r"[{\[]")
_IN_STRING = re.compile(r'["\\]')
_OUTSIDE = re.compile(r'["{}\[\]]')
_DECODER = json.JSONDecoder(strict=False)
"""Takes line breaks inside texts, which weak models do not escape."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A JSON value and where it stands in its text."""

    value: object
    start: int
    end: int


class Balance:
    """Finds where an object ends, piece by piece: every character is looked at once."""

    def __init__(self) -> None:
        self._depth = 0
        self._quoted = False
        self._escaped = False

    def end(self, text: str, position: int) -> int | None:
        """Read `text` from `position`; the place behind the closing brace, None while it has not come."""
        if self._escaped and position < len(text):
            self._escaped, position = False, position + 1
        while mark := (_IN_STRING if self._quoted else _OUTSIDE).search(text, position):
            position = mark.end()
            if mark[0] == "\\":
                self._escaped = position == len(text)
                position += 1
            elif mark[0] == '"':
                self._quoted = not self._quoted
            elif mark[0] in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                if self._depth == 0:
                    return position
        return None


def end_of_object(text: str, start: int) -> int | None:
    """The place behind the brace that closes the one at `start`; None where none does."""
    return Balance().end(text, start)


def json_values(text: str, decoder: json.JSONDecoder = _DECODER) -> Iterator[Found]:
    """The JSON values of `text`, outermost ones only: what stands inside a broken or truncated one is part of it.

    Raises:
        RecursionError: one is nested too deeply.
    """
    position = 0
    for _ in range(_MOST_VALUES):
        match = _OPEN.search(text, position)
        if match is None:
            return
        start = match.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            # Whatever was read up to the fault belongs to the broken value. This also keeps the search linear.
            position = max(start + 1, error.pos)
            continue
        except ValueError:  # a number with thousands of digits
            position = start + 1
            continue
        yield Found(value=value, start=start, end=position)
