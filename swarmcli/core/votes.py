"""Votes: which answer several answers come to, and when it is known.

Agreement of *different* models is the signal: two that agree are rarely both wrong, while samples of one model repeat
their mistakes (measured on recorded GSM8K and DATE answers).
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from swarmcli.core.canonical import Value, canonical, canonical_number, canonical_text, same
from swarmcli.recipe.values import Canonical, Json

Rule = Literal["unanimous", "majority"]


@dataclass(frozen=True, slots=True)
class Voter:
    """One vote that is asked for: the `sample`-th draw of a model."""

    model: str
    sample: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One value and how many voted for it, in the order in which their voters are listed."""

    value: Value
    votes: int
    voter: Voter
    """The first listed voter who gave it."""


class Ballot:
    """The votes on one question.

    Args:
        voters: everybody who is asked, in order of rank: ties go to the one listed first.
        rule: `unanimous`: all voted, and for the same value. `majority`: one value has more than half of the votes
            that were asked for; who abstains counts as asked.
    """

    def __init__(self, voters: Sequence[Voter], rule: Rule) -> None:
        if not voters or len(set(voters)) != len(voters):
            raise ValueError("each voter once, and at least one")
        self._voters = tuple(voters)
        self._rule: Rule = rule
        self._votes: dict[Voter, Value | None] = {}

    def cast(self, voter: Voter, value: Value | None) -> None:
        """Count a vote; None for one that says nothing (a failed, empty or insufficient reply).

        Raises:
            ValueError: not a voter, or a second vote.
        """
        if voter not in self._voters or voter in self._votes:
            raise ValueError(f"{voter} has no vote, or has voted")
        self._votes[voter] = value

    @property
    def open(self) -> int:
        """Votes that are not in yet."""
        return len(self._voters) - len(self._votes)

    @property
    def tallies(self) -> list[Tally]:
        """Most votes first; ties in the order of the voters."""
        groups: list[list[Voter]] = []
        for voter in self._voters:
            value = self._votes.get(voter)
            if value is None:
                continue
            for group in groups:
                known = self._votes[group[0]]
                if known is not None and same(known, value):
                    group.append(voter)
                    break
            else:
                groups.append([voter])
        groups.sort(key=len, reverse=True)
        return [Tally(value=self._given(g[0]), votes=len(g), voter=g[0]) for g in groups]

    @property
    def agreed(self) -> bool | None:
        """Whether the rule is fulfilled; None while votes that are still open can decide it either way."""
        tallies = self.tallies
        most = tallies[0].votes if tallies else 0
        asked = len(self._voters)
        needed = asked if self._rule == "unanimous" else asked // 2 + 1
        if most >= needed:
            return True
        # Of the open votes all might go to the leader, who might also be somebody whom nobody has named yet.
        return None if most + self.open >= needed else False

    @property
    def leader(self) -> Tally | None:
        """The value with most votes; None when nobody voted."""
        tallies = self.tallies
        return tallies[0] if tallies else None

    @property
    def leads_for_good(self) -> bool:
        """No open vote can take the lead from the leader."""
        tallies = self.tallies
        if not tallies:
            return self.open == 0
        second = tallies[1].votes if len(tallies) > 1 else 0
        return tallies[0].votes > second + self.open or self.open == 0

    def wanted(self, *, arbiter: bool) -> int:
        """How many of the open votes to ask for next: the fewest that can decide; 0 when nothing can change any more.

        `unanimous` needs everybody, so that all are asked at once.

        Args:
            arbiter: another model answers where there is no agreement, so who leads then does not matter.
        """
        agreed = self.agreed
        if agreed is True or (agreed is False and (arbiter or self.leads_for_good)):
            return 0
        if agreed is False or self._rule == "unanimous":
            return self.open
        tallies = self.tallies
        return len(self._voters) // 2 + 1 - (tallies[0].votes if tallies else 0)

    def _given(self, voter: Voter) -> Value:
        value = self._votes[voter]
        if value is None:
            raise ValueError(f"{voter} abstained")
        return value


def vote_value(output: str, text: str, kind: Canonical) -> Value | None:
    """The value that an answer votes for; None when it holds none of that kind.

    Args:
        output: the typed answer, or the whole text where the reply is not typed.
        text: the whole reply, whose last number counts where the typed answer holds none.
        kind: how answers are compared.
    """
    said = output if kind == "json" else _answer_field(output)
    value = canonical(said, kind)
    return canonical_number(text) if value is None and kind == "number" else value


def _answer_field(output: str) -> str:
    """The field `answer` of an output that is a JSON object (an `output_schema` asked for it), else the output."""
    if not output.lstrip().startswith("{"):
        return output
    try:
        value = cast("Json", json.loads(output))
    except (ValueError, RecursionError):
        return output
    if not isinstance(value, dict) or "answer" not in value:
        return output
    answer = value["answer"]
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)


def value_text(value: Value) -> str:
    """A canonical value as people write it: 42 and not 42.0."""
    if isinstance(value, str):
        return value
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else f"{value:.10g}"


def majority(answers: Iterable[str]) -> tuple[str, int] | None:
    """The answer given most often (as first written) and its count; ties go to the one that came first."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for answer in answers:
        key = canonical_text(answer)
        first.setdefault(key, answer.strip())
        counts[key] += 1
    if not counts:
        return None
    best = max(first, key=lambda key: counts[key])
    return first[best], counts[best]
