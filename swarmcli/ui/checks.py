"""What a run does about doubt, as a display needs it: votes, critics, conflicts and revised plans. Pure.

Rules: answers are data, and a value that was voted for is quoted and cut short before it stands beside words of ours.
The sums are those of `--json`: of the agents that have an answer, as their end tells it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    ConflictFound,
    CriticJudged,
    PlanRevised,
    VoteTallied,
)
from swarmcli.core.tally import VoteResult, vote_result_of
from swarmcli.recipe.values import Json
from swarmcli.ui.cells import fit
from swarmcli.ui.clean import one_line

VALUE_WIDTH = 24
"""Cells for a value that was voted for or that is disputed."""
MAX_VALUES = 4


Checked = VoteTallied | CriticJudged | ConflictFound | PlanRevised
"""What says how an answer or a plan was questioned."""
AgentEnd = AgentCompleted | AgentFailed | AgentSkipped | AgentCancelled

_VERDICT_WORDS = {"accept": "accepted", "reject": "rejected"}


@dataclass(slots=True)
class Checks:
    """The fold of everything that questions an answer or a plan."""

    votes: dict[str, str] = field(default_factory=dict[str, str])
    """Agent -> agreed, escalated, or divided: the leading value stands without agreement."""
    verdicts: dict[str, str] = field(default_factory=dict[str, str])
    """Agent -> what its critic said last."""
    conflicts: set[str] = field(default_factory=set[str])
    """Keys of which agents state different values."""
    revisions: int = 0

    def feed(self, event: Checked | AgentEnd) -> None:
        """Fold one event."""
        match event:
            case VoteTallied():
                self.votes[event.agent] = _came_to(event)
            case CriticJudged():
                self.verdicts[event.agent] = one_line(event.verdict)
            case AgentCompleted():
                self._forget(event.agent)
                if (vote := vote_result_of(event.vote)) is not None:
                    self.votes[event.agent] = _came_to(vote)
                if event.verdict:
                    self.verdicts[event.agent] = one_line(event.verdict)
            case AgentFailed() | AgentSkipped() | AgentCancelled():
                self._forget(event.agent)
            case ConflictFound():
                self.conflicts.add(" ".join(event.key.split()).casefold())
            case PlanRevised():
                self.revisions += 1

    def _forget(self, agent: str) -> None:
        """It has another answer than the one that was questioned, or none."""
        self.votes.pop(agent, None)
        self.verdicts.pop(agent, None)

    @property
    def escalated(self) -> int:
        """Votes without agreement that another model decides."""
        return sum(came_to == "escalated" for came_to in self.votes.values())

    @property
    def rejected(self) -> int:
        """Answers that their critic does not accept."""
        return sum(verdict == "reject" for verdict in self.verdicts.values())

    def summary(self, *, votes: str = "", conflicts: str = "") -> str:
        """`votes: 37 agreed, 3 escalated; critic: 1 rejected; 2 conflicts; re-planned`, or nothing.

        Args:
            votes: the same about the votes, where somebody knows more.
            conflicts: the same about the conflicts.
        """
        facts = (
            votes or _counted("votes", self.votes.values()),
            _counted("critic", self.verdicts.values()),
            conflicts or many(len(self.conflicts), "conflict"),
            "re-planned" + times(self.revisions) if self.revisions else "",
        )
        return "; ".join(fact for fact in facts if fact)


def vote_words(event: VoteTallied) -> str:
    """`vote 3/5 for "42"`; `vote 2/4: "42" 2, "41" 1, escalated` where there is no agreement."""
    if not event.asked and not event.counts:
        return "no vote, escalated" if event.escalated else "no vote"
    most = max(event.counts.values(), default=0)
    share = f"vote {most}/{max(event.asked, sum(event.counts.values()))}"
    if event.agreed and event.value is not None:
        text = f"{share} for {quoted(event.value)}"
    else:
        values = list(event.counts.items())
        told = [f"{quoted(value)} {votes}" for value, votes in values[:MAX_VALUES]]
        more = ["..."] if len(values) > MAX_VALUES else []
        text = f"{share}: {', '.join([*told, *more]) or 'no answer'}"
    return f"{text}, escalated" if event.escalated else text


def critic_words(event: CriticJudged) -> str:
    """`critic: reject, the sum leaves out Q3`."""
    verdict = f"critic: {one_line(event.verdict)}"
    error = one_line(event.first_error[:400])
    return verdict if event.verdict == "accept" or not error else f"{verdict}, {error}"


def revision_words(event: PlanRevised) -> str:
    """`2 added, 1 removed`."""
    facts = (
        f"{len(event.added)} added" if event.added else "",
        f"{len(event.removed)} removed" if event.removed else "",
    )
    return ", ".join(fact for fact in facts if fact) or "nothing changed"


def conflict_words(values: Json) -> str:
    """`"12" (scan[3]) or "14" (scan[7], scan[9])`: each value, and who states it."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        return one_line(str(values))
    told = [_position(value) for value in values[:MAX_VALUES]]
    return " or ".join([*told, *(["..."] if len(values) > MAX_VALUES else [])])


def quoted(value: object) -> str:
    """A foreign value between quotation marks, cut short."""
    return f'"{fit(one_line(str(value)[:200]), VALUE_WIDTH)}"'


def many(number: int, noun: str) -> str:
    """`1 conflict`, `2 conflicts`; nothing for none."""
    return "" if not number else f"{number} {noun}{'' if number == 1 else 's'}"


def times(number: int) -> str:
    """` 3x` behind what happened several times; nothing for once."""
    return f" {number}x" if number > 1 else ""


def _came_to(vote: VoteTallied | VoteResult) -> str:
    return "escalated" if vote.escalated else "agreed" if vote.agreed else "divided"


def _position(position: Json) -> str:
    if not isinstance(position, Mapping) or "value" not in position:
        return quoted(position)
    value, agents = position["value"], position.get("agents")
    if not isinstance(agents, list) or not agents:
        return quoted(value)
    names = [one_line(str(agent)[:80]) for agent in cast("list[object]", agents)]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{quoted(value)} ({', '.join(names[:3])}{more})"


def _counted(name: str, words: Iterable[str]) -> str:
    """`critic: 9 accepted, 1 rejected`."""
    counts = sorted(Counter(words).items())
    told = ", ".join(f"{number} {_VERDICT_WORDS.get(word, word)}" for word, number in counts)
    return f"{name}: {told}" if told else ""
