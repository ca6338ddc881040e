"""The sheet on which one configuration's answers are written down, and what stands on it for each question."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

from swarmcli.app.bookkeeping import Books, Taken
from swarmcli.core.claims import without_section
from swarmcli.core.comparison import Answered, Result
from swarmcli.core.events import Failure
from swarmcli.core.markers import without_markers
from swarmcli.core.outcomes import Outcome
from swarmcli.core.scoring import Question, is_correct
from swarmcli.engine.order import RunReport
from swarmcli.errors import (
    EXIT_BUDGET,
    EXIT_GATE,
    EXIT_OK,
    EXIT_PARTIAL,
    EXIT_SIGINT,
    EXIT_SIGTERM,
    EXIT_TIMEOUT,
)

_NOT_ASKED = frozenset({"budget", "cache_miss", "uncalled", "auth", "quota", "no_key"})
"""Failures that say nothing about the answer that would have come."""
NOTHING = Failure(kind="uncalled", message="the evaluation was stopped before")

ENDS_ALL = frozenset({EXIT_BUDGET, EXIT_TIMEOUT, EXIT_SIGINT, EXIT_SIGTERM})
"""What ends the evaluation, not only the run in which it happens."""
_TO_THE_END = frozenset({EXIT_OK, EXIT_PARTIAL, EXIT_GATE})
"""Any other run was cut short, and what it has is not what its recipe would have answered."""
_STEPS = 10
"""How often it is said how far a configuration is."""

Note = Callable[[str], None]


@dataclass(slots=True)
class Sheet:
    """What one configuration has done so far."""

    name: str
    description: str
    total: int
    note: Note
    answers: dict[str, Answered] = field(default_factory=dict[str, Answered])
    taken: Taken = field(default_factory=Taken)
    voted: int = 0
    escalated: int = 0
    ended: int = 0

    def tick(self) -> None:
        """A question is done: say at every tenth how far it is."""
        self.ended += 1
        tenths = self.ended * _STEPS // self.total
        if self.total >= 2 * _STEPS and tenths > (self.ended - 1) * _STEPS // self.total:
            self.note(f"{self.name}: {self.ended} of {self.total}")

    def book(self, report: RunReport, books: Books) -> None:
        """A run is over."""
        self.taken += books.whole
        votes = report.end.totals.get("votes")
        if isinstance(votes, dict):
            self.voted += cast("int", votes.get("tasks") or 0)
            self.escalated += cast("int", votes.get("escalated") or 0)

    def result(self, questions: Sequence[Question]) -> Result:
        """All of it, in the order of the questions."""
        return Result(
            name=self.name,
            description=self.description,
            answers=tuple(
                self.answers.get(q.id) or unanswered(q, self.name, Taken(), NOTHING)
                for q in questions
            ),
            calls=self.taken.calls,
            cost_usd=self.taken.cost_usd,
            escalated=self.escalated / self.voted if self.voted else None,
        )


def by_question(outcomes: Sequence[Outcome], questions: int) -> list[list[Outcome]]:
    """The agents of each question: item i of every fan-out over all questions."""
    sizes: dict[str, int] = {}
    for outcome in outcomes:
        sizes[outcome.task.group] = sizes.get(outcome.task.group, 0) + 1
    own: list[list[Outcome]] = [[] for _ in range(questions)]
    for outcome in outcomes:
        index = outcome.task.index
        if index is not None and sizes[outcome.task.group] == questions:
            own[index].append(outcome)
    return own


def answered(question: Question, config: str, text: str, taken: Taken, seconds: float) -> Answered:
    """The entry of a question that was answered in so many busy seconds."""
    return Answered(
        question=question,
        config=config,
        status="ok",
        answer=text,
        correct=is_correct(question, text),
        cost_usd=taken.cost_usd,
        seconds=None if taken.cached or not taken.calls else round(seconds, 3),
        calls=taken.calls,
    )


def unanswered(question: Question, config: str, taken: Taken, failure: Failure) -> Answered:
    """The entry of a question without an answer: wrong, unless nobody got to answering it."""
    unfinished = failure.kind in _NOT_ASKED
    return Answered(
        question=question,
        config=config,
        status="unfinished" if unfinished else "failed",
        correct=None if unfinished else False,
        cost_usd=taken.cost_usd,
        calls=taken.calls,
        error=failure,
    )


def answer_of(report: RunReport, books: Books) -> str | None:
    """What a run answers, without what was added for people; None where it was stopped before its plan was done."""
    if report.merged is None or report.end.exit_code not in _TO_THE_END:
        return None
    text = without_section(report.merged.text)
    if books.merged_by != "write":
        return text
    return without_markers(text, [outcome.agent for outcome in report.outcomes])


def failure_of(report: RunReport) -> Failure:
    """Why a run has no answer."""
    if report.end.exit_code in ENDS_ALL:
        return NOTHING
    if report.end.error is not None:
        return report.end.error
    failed = (o.failure for o in report.outcomes if o.state == "failed" and o.failure is not None)
    return next(failed, NOTHING)
