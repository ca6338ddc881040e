"""Text that nobody vouches for, as templates see it.

Rule: a template works with it as with any text, and whatever it makes of it is written inside a data block. So no
filter, slice or loop can cut a block open, or bring a line out of it.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Self, SupportsIndex, cast

Wrap = Callable[[str], str]
"""Content -> data block."""


class OutsideText(str):
    """The text itself, and how it is written. `str` keeps it what it is; `content` is the bare text.

    Args:
        content: the text.
        wrap: makes the block of whatever is made of the text.
        written: what stands for the whole text in a prompt; default: its block.
    """

    __slots__ = ("_written", "wrap")

    wrap: Wrap
    _written: str | None

    def __new__(cls, content: str, wrap: Wrap, written: str | None = None) -> Self:
        text = str.__new__(cls, content)  # faster than super(), once for each line of a log
        text.wrap = wrap
        text._written = written
        return text

    def __getitem__(self, key: SupportsIndex | slice) -> "OutsideText":
        return OutsideText(super().__getitem__(key), self.wrap)

    def __iter__(self) -> Iterator["OutsideText"]:
        return (OutsideText(character, self.wrap) for character in super().__iter__())

    def __str__(self) -> Self:
        return self

    @property
    def content(self) -> str:
        """The bare text."""
        return super().__str__()

    @property
    def written(self) -> str:
        """As it stands in a prompt."""
        if self._written is None:
            self._written = self.wrap(self.content)
        return self._written


class Passage(OutsideText):
    """Own words and outside text in one, such as a macro writes: only the outside text stands in blocks.

    It stays so when it is indented, or the white space around it goes away. A part of it, or what else a template
    makes of it, is outside text as a whole.
    """

    __slots__ = ()

    def changed(self, change: Callable[[str], str]) -> "Passage":
        """The same after a change that leaves blocks whole."""
        return Passage(change(self.content), self.wrap, change(self.written))

    def strip(self, chars: str | None = None, /) -> str:
        return self.changed(str.strip) if chars is None else super().strip(chars)

    def lstrip(self, chars: str | None = None, /) -> str:
        return self.changed(str.lstrip) if chars is None else super().lstrip(chars)

    def rstrip(self, chars: str | None = None, /) -> str:
        return self.changed(str.rstrip) if chars is None else super().rstrip(chars)


def passage(parts: Iterable[str], separator: str = "") -> str:
    """One text of many, in which outside texts keep their own blocks."""
    texts = [*parts]
    origin = outside_in([separator, *texts])
    if origin is None:
        return separator.join(texts)
    written = as_written(separator).join(as_written(text) for text in texts)
    return Passage(separator.join(texts), origin.wrap, written)


def as_written(text: str) -> str:
    """A text as it stands in a prompt."""
    return text.written if isinstance(text, OutsideText) else text


def outside_in(value: object) -> OutsideText | None:
    """Some outside text in a value; None where there is none."""
    return _found(value, set())


def made_of(result: object, *sources: object) -> object:
    """`result`, which is outside text where one of its sources is."""
    if isinstance(result, OutsideText | int | float | None):
        return result
    for source in sources:
        if (origin := outside_in(source)) is not None:
            return marked(result, origin.wrap)
    return result


def marked(value: object, wrap: Wrap) -> object:
    """The value with all of its texts, keys included, as outside text; what is none, or is one already, stays."""
    return _Marking(wrap).of(value)


def _found(value: object, seen: set[int]) -> OutsideText | None:
    """As `outside_in`; each list is looked at once, because templates can build ones that share their parts."""
    if isinstance(value, OutsideText):
        return value
    if not isinstance(value, list | tuple | dict) or id(cast("object", value)) in seen:
        return None
    seen.add(id(cast("object", value)))
    parts = cast("Iterable[object]", value)
    if isinstance(value, dict):
        parts = chain(parts, cast("Iterable[object]", value.values()))
    doubtful = (part for part in parts if type(part) is not str)
    return next((text for part in doubtful if (text := _found(part, seen)) is not None), None)


class _Marking:
    """Marks one value; parts that it shares are shared afterwards, too."""

    def __init__(self, wrap: Wrap) -> None:
        self._wrap = wrap
        self._known: dict[int, object] = {}

    def of(self, value: object) -> object:
        if isinstance(value, str):
            return value if isinstance(value, OutsideText) else OutsideText(value, self._wrap)
        if isinstance(value, Iterator):
            return (marked(part, self._wrap) for part in cast("Iterator[object]", value))
        if type(value) not in {list, tuple, dict}:
            return value
        if id(value) not in self._known:
            self._known[id(value)] = self._container(value)
        return self._known[id(value)]

    def _container(self, value: object) -> object:
        if isinstance(value, dict):
            entries = cast("dict[object, object]", value)
            return {self.of(key): self.of(part) for key, part in entries.items()}
        parts = [
            OutsideText(part, self._wrap) if type(part) is str else self.of(part)
            for part in cast("list[object]", value)
        ]
        return parts if isinstance(value, list) else tuple(parts)
