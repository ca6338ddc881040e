"""Provenance markers: `[t3]` after a statement says whose result it comes from.

Asked for in the prompts of reducer and writer, and read here: what no marker names was not used, or got lost.
"""

import re
from collections.abc import Iterator, Sequence

_MARKER = re.compile(r"\[((?:[^\[\]\n]|\[\d+\])+)\]")
_MARKER_AND_SPACE = re.compile(f"[ ]?{_MARKER.pattern}")
_LINKS = frozenset({"agent", "agents", "and", "to"})
"""Words that models put between the ids."""
_ITEM = re.compile(r"(?<![\w-])[\w-]{1,64}\[\d{1,9}\]")
_NAME = re.compile(r"[\w-]+(?:\[\d+\])?")
_BETWEEN = re.compile(r"\s+to\s+|\s*\.\.+\s*|\s*\u2013\s*")


def cited(text: str, agents: Sequence[str]) -> frozenset[str]:
    """Those of `agents` whose markers stand in `text`.

    Understood are `[t3]`, `[t1, t2]`, `[scan[3]]`, a bare `scan[3]`, and the spans `[t1 to t9]` and `[t1-t9]`, which
    stand for everybody between them.

    Args:
        text: a reducer's or writer's answer.
        agents: ids in plan order, which is what a span runs along.
    """
    place = {agent: i for i, agent in enumerate(agents)}
    found = {name for name in _ITEM.findall(text) if name in place}
    for marker in _MARKER.findall(text):
        found.update(name for name in _NAME.findall(marker) if name in place)
        for first, last in _spans(marker):
            if first in place and last in place:
                found.update(agents[place[first] : place[last] + 1])
    return frozenset(found)


def unused(text: str, agents: Sequence[str]) -> tuple[str, ...]:
    """The agents that a written result never cites: work that nobody used.

    Empty where the text cites nobody at all: then the writer did not keep markers, and nothing is known.

    Args:
        text: the final text of the merge `write`; other merges hold every agent's result.
        agents: the leaf agents with a result, in plan order.
    """
    used = cited(text, agents)
    return tuple(agent for agent in agents if agent not in used) if used else ()


def without_markers(text: str, agents: Sequence[str]) -> str:
    """The text without the markers of `agents`; brackets that hold anything else stay."""
    names = frozenset(agents)

    def kept(match: re.Match[str]) -> str:
        words = [word for word in _NAME.findall(match[1]) if word.casefold() not in _LINKS]
        named = words and all(word in names or cited(f"[{word}]", agents) for word in words)
        return "" if named else match[0]

    text = _MARKER_AND_SPACE.sub(kept, text)
    return _ITEM.sub(lambda match: "" if match[0] in names else match[0], text)


def _spans(marker: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"[,;]", marker):
        ends = _BETWEEN.split(part.strip())
        if len(ends) == 1:  # a hyphen may also be a letter of an id
            ends = part.strip().split("-")
        if len(ends) == 2:
            yield ends[0].strip(), ends[1].strip()
