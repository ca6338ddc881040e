"""Conflicts: agents that state different values for the same thing, found by comparing keyed claims. No model is asked.

The protocol of keyed claims follows LLMxMapReduce (arXiv 2410.09342), whose ablation lost 15 to 35 points without it.
"""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

from swarmcli.core.canonical import Value, canonical_of, same
from swarmcli.core.outcomes import Outcome
from swarmcli.core.replies import Claim
from swarmcli.recipe.values import Json

MAX_LISTED = 100
"""Most conflicts in the section of a result; `--json` has all."""
_HEADING = "## Conflicts"
_MAX_SHOWN = 200
"""Longest key or value in the section of a result, in characters."""
_MEASURE = re.compile(
    r"[^\W\d_]{1,3}(?:/[^\W\d_]+)?|°.*|square|cubic"
    r"|(?:kilo|centi|milli|micro|mega|giga|tera)?"
    r"(?:met(?:er|re)|gram|tonne|ton|lit(?:er|re)|watt|volt|joule|byte|bit|hertz)s?"
    r"|(?:mile|yard|pound|ounce|acre|hectare|second|minute|hour|day|week|month|year|dollar|euro|cent|degree)s?"
    r"|feet|foot|inch|inches",
    re.IGNORECASE,
)
"""What makes the word behind a number a unit of its own: 5 km and 5000 m differ in it, 5 guests and 6 people do not."""
_QUANTITY = re.compile(r"(?P<number>.*\d[.,]?\s?%?)(?P<words>(?:\s*[^\W\d_][^\d]*)?)", re.DOTALL)


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
        stated = _stated_by(claim) if key else None
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
    """The position that `answer` agrees with; None when it is a value of its own, or none at all."""
    given = _stated_by(Claim(key=conflict.key, value=answer, unit=conflict.unit))
    if given is None:
        return None
    for position in conflict.positions:
        known = _stated_by(Claim(key=conflict.key, value=position.value, unit=conflict.unit))
        if known is not None and same(known.value, given.value) and known.unit == given.unit:
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
        + " or ".join(
            f"{with_unit(p.value, conflict.unit)} ({_named(p.agents)})" for p in conflict.positions
        )
        for conflict in left[:MAX_LISTED]
    ]
    lines += [f"- and {len(left) - MAX_LISTED} more"] if len(left) > MAX_LISTED else []
    return f"{_HEADING}\n\n" + "\n".join(lines) if lines else ""


def without_section(text: str) -> str:
    """A text result as it was before `conflicts_section` came behind it."""
    before, found, _ = text.rpartition(f"\n\n{_HEADING}\n\n")
    return before if found else text


def shown(value: Json) -> str:
    """A claim's key or value on one line, cut."""
    text = " ".join((value if isinstance(value, str) else str(value)).split())
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"


def with_unit(value: Json, unit: str) -> str:
    """The value on one line, with its unit unless it says it itself."""
    text = shown(value)
    return text if not unit or text.casefold().endswith(unit.casefold()) else f"{text} {unit}"


def _named(agents: Sequence[str], most: int = 5) -> str:
    more = len(agents) - most
    return ", ".join(agents[:most]) + (f" and {more} more" if more > 0 else "")


class _Quantity(NamedTuple):
    """A claim's value in the form in which it is compared."""

    value: Value
    unit: str
    named: str
    """The unit as it was written."""
    said: Json
    """The value as it was stated, with the factor that stood in its unit: 1200 and "million USD" are "1200 million"."""


def _stated_by(claim: Claim) -> _Quantity | None:
    """What the claim states; None when that is nothing that can be compared."""
    try:
        return _quantity(claim)
    except (OverflowError, RecursionError, ValueError):  # 10**400, a thousand brackets
        return None


def _quantity(claim: Claim) -> _Quantity | None:
    """Number and unit, also where the unit stands in the value ("5 km") or a factor in the unit ("million USD")."""
    value = claim.value
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    unit = " ".join(claim.unit.split())
    number = canonical_of(value)
    if isinstance(number, str):
        return _Quantity(number, canonical_unit(unit), unit, value) if number else None
    written = str(value).strip()
    parts = _QUANTITY.fullmatch(written) if isinstance(value, str) else None
    if parts is not None:
        written, inside = parts["number"].strip(), " ".join(parts["words"].split())
        factor, _, rest = inside.partition(" ")
        if factor and _with_factor(written, factor) is not None:
            written, inside = f"{written} {factor}", rest
        unit = "" if unit == "%" and written.endswith("%") else unit
        unit = unit or (inside if _MEASURE.fullmatch(inside.partition(" ")[0]) else "")
    number = cast("float", canonical_of(written))
    said, (factor, _, rest) = value, unit.partition(" ")
    scaled = _with_factor(written, factor) if factor else None
    if scaled is not None:
        said, number, unit = f"{value} {factor}", scaled, rest
    return _Quantity(number, canonical_unit(unit), unit, said)


def _with_factor(number: str, word: str) -> float | None:
    """The number with `word` behind it, where that is a factor (percent, million) and not a unit."""
    scaled = canonical_of(f"{number} {word}")
    return scaled if isinstance(scaled, float) and scaled != canonical_of(number) else None


@dataclass(slots=True, kw_only=True)
class _Stated:
    quantity: _Quantity
    value: Json
    agents: list[str] = field(default_factory=list[str])
    sources: list[str] = field(default_factory=list[str])


@dataclass(slots=True, kw_only=True)
class _Topic:
    """Everything that was said under one key."""

    key: str
    stated: list[_Stated] = field(default_factory=list[_Stated])

    def add(self, agent: str, claim: Claim, quantity: _Quantity) -> None:
        for known in self.stated:
            if known.quantity.unit == quantity.unit and same(known.quantity.value, quantity.value):
                break
        else:
            known = _Stated(quantity=quantity, value=quantity.said)
            self.stated.append(known)
        known.agents.append(agent)
        if claim.source:
            known.sources.append(claim.source)

    def conflicts(self) -> list[Conflict]:
        units = list(dict.fromkeys(s.quantity.unit for s in self.stated if s.quantity.unit))
        if len(units) <= 1:  # who left the unit out meant the only one that was named
            return self._conflict(self.stated)
        return [
            conflict
            for unit in ("", *units)
            for conflict in self._conflict([s for s in self.stated if s.quantity.unit == unit])
        ]

    def _conflict(self, stated: Sequence[_Stated]) -> list[Conflict]:
        groups: list[list[_Stated]] = []
        for one in stated:
            for group in groups:
                if same(group[0].quantity.value, one.quantity.value):
                    group.append(one)
                    break
            else:
                groups.append([one])
        if len(groups) < 2 or len({agent for one in stated for agent in one.agents}) < 2:
            return []  # one agent alone that names several values has a list to tell, or an unclear key
        unit = next((s.quantity.named for s in stated if s.quantity.named), "")
        return [Conflict(key=self.key, positions=tuple(map(_position, groups)), unit=unit)]


def _position(group: Sequence[_Stated]) -> Position:
    return Position(
        value=group[0].value,
        agents=tuple(dict.fromkeys(agent for one in group for agent in one.agents)),
        sources=tuple(dict.fromkeys(source for one in group for source in one.sources)),
    )


def canonical_unit(unit: str) -> str:
    """Equal for units that differ only in case, spacing or a plural s."""
    folded = " ".join(unit.split()).casefold().rstrip(".")
    return folded[:-1] if len(folded) > 3 and folded.endswith("s") else folded
