"""Conflicts: agents that state different values for the same thing, found by comparing keyed claims. No model is asked.

The protocol of keyed claims follows LLMxMapReduce (arXiv 2410.09342), whose ablation lost 15 to 35 points without it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

from swarmcli.core.alike import Alike
from swarmcli.core.canonical import same
from swarmcli.core.outcomes import Outcome
from swarmcli.core.quantities import Quantity, canonical_unit, stated_by
from swarmcli.core.replies import Claim, text_of
from swarmcli.recipe.values import Json

MAX_LISTED = 100
"""Most conflicts in the section of a result; `--json` has all."""
_HEADING = "## Conflicts"
_MAX_SHOWN = 200
"""Longest key or value in the section of a result, in characters."""
_MAX_SIDES = 10
"""Most values of one conflict that are told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """One value of a disputed key, and who states it."""

    value: Json
    """As it was first stated."""
    agents: tuple[str, ...]
    """Without repetition, in the order in which they were given."""
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """A key for which at least two agents state values that are not the same."""

    key: str
    """As it was first written."""
    positions: tuple[Position, ...]
    unit: str = ""
    """Of all values; empty where nobody named one."""

    @property
    def topic(self) -> tuple[str, str]:
        """What it is about: equal for the same key and unit, however they are written."""
        return self.key.casefold(), canonical_unit(self.unit)

    @property
    def agents(self) -> tuple[str, ...]:
        """Everybody who takes part."""
        return tuple(dict.fromkeys(a for position in self.positions for a in position.agents))


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A conflict and what came of it; without a `chosen` position it is unresolved."""

    conflict: Conflict
    chosen: Position | None = None

    @property
    def status(self) -> Literal["resolved", "unresolved"]:
        """The word of `--json`."""
        return "unresolved" if self.chosen is None else "resolved"


def find_conflicts(claims: Iterable[tuple[str, Claim]]) -> list[Conflict]:
    """Compare claims; conflicts in the order in which their keys came up.

    Keys are compared without case and outer space, values canonically (`core.canonical`). Values with different units
    are not comparable and are no conflict: 5 km and 5000 m may both be right.

    Args:
        claims: agent and claim, in plan order.
    """
    topics: dict[str, _Topic] = {}
    for agent, claim in claims:
        key = " ".join(claim.key.split())
        stated = stated_by(claim) if key else None
        if stated is not None:
            topics.setdefault(key.casefold(), _Topic(key=key)).add(agent, claim, stated)
    return [conflict for topic in topics.values() for conflict in topic.conflicts()]


def conflicts_among(outcomes: Iterable[Outcome]) -> list[Conflict]:
    """The conflicts between the claims of all finished agents; outcomes come in plan order."""
    return find_conflicts(
        (outcome.agent, claim)
        for outcome in outcomes
        if outcome.state == "done"
        for claim in outcome.claims
    )


def position_of(conflict: Conflict, answer: Json) -> Position | None:
    """The position that `answer` agrees with; None when it is a value of its own, or none at all.

    Of values without a unit it may name one, as agents may.
    """
    given = stated_by(Claim(key=conflict.key, value=answer, unit=conflict.unit))
    if given is None:
        return None
    for position in conflict.positions:
        known = stated_by(Claim(key=conflict.key, value=position.value, unit=conflict.unit))
        comparable = known is not None and known.unit in {given.unit, ""}
        if known is not None and comparable and same(known.value, given.value):
            return position
    return None


def conflict_record(settled: Settled) -> dict[str, Json]:
    """One entry of `conflicts[]` in `--json`; also what the event `conflict.found` says in `values`."""
    conflict = settled.conflict
    record: dict[str, Json] = {
        "key": conflict.key,
        "values": [
            {"value": p.value, "agents": cast("list[Json]", list(p.agents))}
            for p in conflict.positions
        ],
        "status": settled.status,
    }
    if conflict.unit:
        record["unit"] = conflict.unit
    if settled.chosen is not None:
        record["resolution"] = settled.chosen.value
    return record


def conflicts_section(settled: Iterable[Settled]) -> str:
    """The section `Conflicts` at the end of a text result: one line per unresolved conflict; empty without any."""
    left = [one.conflict for one in settled if one.chosen is None]
    lines = [
        f"- {shown(conflict.key)}: "
        + sides(conflict, " or ", lambda value, agents: f"{value} ({agents})")
        for conflict in left[:MAX_LISTED]
    ]
    lines += [f"- and {len(left) - MAX_LISTED} more"] if len(left) > MAX_LISTED else []
    return f"{_HEADING}\n\n" + "\n".join(lines) if lines else ""


def without_section(text: str) -> str:
    """A text result as it was before `conflicts_section` came behind it."""
    before, found, _ = text.rpartition(f"\n\n{_HEADING}\n\n")
    return before if found else text


def sides(conflict: Conflict, between: str, side: Callable[[str, str], str]) -> str:
    """The values of a conflict on one line, each with the agents that state it; the first ones of very many.

    Args:
        conflict: what is disputed.
        between: a word for between two of them, with its spaces.
        side: puts a value and its agents together.
    """
    told = [
        side(with_unit(shown(p.value), conflict.unit), _named(p.agents))
        for p in conflict.positions[:_MAX_SIDES]
    ]
    more = len(conflict.positions) - _MAX_SIDES
    return between.join([*told, *([f"{more} more values"] if more > 0 else [])])


def shown(value: Json) -> str:
    """A claim's key or value on one line, cut."""
    text = one_line(value)
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def one_line(value: Json) -> str:
    """All of a claim's key or value, on one line."""
    return " ".join(text_of(value).split())


def with_unit(text: str, unit: str) -> str:
    """A value with its unit, unless it says it itself."""
    return text if not unit or text.casefold().endswith(unit.casefold()) else f"{text} {unit}"


def _named(agents: Sequence[str], most: int = 5) -> str:
    more = len(agents) - most
    return ", ".join(agents[:most]) + (f" and {more} more" if more > 0 else "")


@dataclass(slots=True, kw_only=True)
class _Stated:
    quantity: Quantity
    value: Json
    agents: list[str] = field(default_factory=list[str])
    sources: list[str] = field(default_factory=list[str])


@dataclass(slots=True, kw_only=True)
class _Topic:
    """Everything that was said under one key."""

    key: str
    by_unit: defaultdict[str, Alike[_Stated]] = field(
        default_factory=lambda: defaultdict(Alike[_Stated])
    )
    stated: list[_Stated] = field(default_factory=list[_Stated])

    def add(self, agent: str, claim: Claim, quantity: Quantity) -> None:
        one = _Stated(quantity=quantity, value=quantity.said)
        known = self.by_unit[quantity.unit].put(quantity.value, one)
        if known is one:
            self.stated.append(one)
        known.agents.append(agent)
        if claim.source:
            known.sources.append(claim.source)

    def conflicts(self) -> list[Conflict]:
        units = [unit for unit in self.by_unit if unit]
        if len(units) <= 1:  # who left the unit out meant the only one that was named
            return self._conflict(self.stated)
        stated = defaultdict[str, list[_Stated]](list)
        for one in self.stated:
            stated[one.quantity.unit].append(one)
        return [conflict for unit in ("", *units) for conflict in self._conflict(stated[unit])]

    def _conflict(self, stated: Sequence[_Stated]) -> list[Conflict]:
        alike, groups = Alike[list[_Stated]](), list[list[_Stated]]()
        for one in stated:
            new: list[_Stated] = []
            group = alike.put(one.quantity.value, new)
            if group is new:
                groups.append(group)
            group.append(one)
        speakers = {frozenset(agent for one in group for agent in one.agents) for group in groups}
        if len(groups) < 2 or len(speakers) < 2:
            return []  # who names several values has a list to tell, and all who speak tell the same one
        unit = next((s.quantity.named for s in stated if s.quantity.named), "")
        return [Conflict(key=self.key, positions=tuple(map(_position, groups)), unit=unit)]


def _position(group: Sequence[_Stated]) -> Position:
    return Position(
        value=group[0].value,
        agents=tuple(dict.fromkeys(agent for one in group for agent in one.agents)),
        sources=tuple(dict.fromkeys(source for one in group for source in one.sources)),
    )
