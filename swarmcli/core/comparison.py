"""What the answers of several configurations to the same questions say about them. Pure.

The standard errors are those of "Adding Error Bars to Evals" (arXiv 2411.00640): of a mean over questions, and of the
mean of paired differences, which is much smaller than that of two separate means because hard questions are hard for
everybody. Beside it stands McNemar's exact test (1947), which looks only at the questions that exactly one got right.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmcli.core.events import Failure
from swarmcli.core.scoring import Question, value_of
from swarmcli.recipe.values import Json


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over questions and its standard error; None from fewer than two questions."""

    mean: float
    standard_error: float | None


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean and its standard error, sqrt(s^2 / n) with the sample variance s^2; None without values."""
    n = len(values)
    if n == 0:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Estimate(mean, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Estimate(mean, math.sqrt(variance / n))


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """How one configuration compares with the reference on the questions that both were asked."""

    questions: int
    difference: Estimate
    """Of the accuracies: above zero where this one is better."""
    won: int
    """Questions that only this one got right."""
    lost: int
    """Questions that only the reference got right."""
    p_value: float
    """McNemar's exact test, two-sided: how likely so uneven a split is where neither is better."""


def paired(reference: Mapping[str, bool], other: Mapping[str, bool]) -> Paired | None:
    """Compare two configurations, question by question; None where they share none.

    Args:
        reference: question id -> right or wrong.
        other: the same for the configuration that is compared with it.
    """
    pairs = [(reference[key], right) for key, right in other.items() if key in reference]
    difference = estimate([float(right) - float(before) for before, right in pairs])
    if difference is None:
        return None
    won = sum(right and not before for before, right in pairs)
    lost = sum(before and not right for before, right in pairs)
    return Paired(
        questions=len(pairs),
        difference=difference,
        won=won,
        lost=lost,
        p_value=sign_test(won, lost),
    )


def sign_test(won: int, lost: int) -> float:
    """The two-sided exact p-value of `won` against `lost` where both are equally likely."""
    n = won + lost
    ways = tail = 1
    for k in range(min(won, lost)):  # binomial coefficients, each from the one before
        ways = ways * (n - k) // (k + 1)
        tail += ways
    return min(1.0, 2 * tail / 2**n)


def quantile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that at least `share` of the values do not exceed (nearest rank); None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What came of one question under one configuration: a record of `swarm eval`."""

    question: Question
    config: str
    status: Literal["ok", "failed", "unfinished"]
    """`failed` counts as wrong; `unfinished`: the evaluation was stopped before there was an answer, so it does not."""
    answer: str | None = None
    correct: bool | None = None
    cost_usd: float | None = 0.0
    """What all its calls cost, or would have cost had the cache not answered them; None when unknown."""
    seconds: float | None = None
    """Busy time of its longest chain of calls; None where the cache answered one, so that nobody knows."""
    calls: int = 0
    """Calls that it took, those that failed and those that the cache answered included."""
    error: Failure | None = None
    """Why there is no answer."""

    def record(self) -> dict[str, Json]:
        """As JSON."""
        value = None if self.answer is None else value_of(self.question, self.answer)
        record: dict[str, Json] = {
            "item": self.question.id,
            "config": self.config,
            "expected": self.question.expected,
            "answer": self.answer,
            "value": value,
            "correct": self.correct,
            "status": self.status,
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 9),
            "seconds": self.seconds,
            "calls": self.calls,
        }
        if self.error is not None:
            record["error"] = {"kind": self.error.kind, "message": self.error.message}
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """Everything about one configuration."""

    name: str
    description: str
    answers: tuple[Answered, ...]
    calls: int
    cost_usd: float | None
    """Of all its calls, also of those that belong to no single question; None when one is unknown."""
    escalated: float | None
    """Share of the votes that were escalated; None where nothing was voted on."""

    @property
    def right(self) -> Mapping[str, bool]:
        """Question id -> right or wrong, for every question that was asked to the end."""
        return {a.question.id: a.correct for a in self.answers if a.correct is not None}

    def compared_with(self, reference: "Result") -> Paired | None:
        """Against another configuration; None against itself."""
        return None if reference is self else paired(reference.right, self.right)

    def summary(self, reference: "Result") -> dict[str, Json]:
        """As JSON; shares from 0 to 1."""
        accuracy = estimate([float(right) for right in self.right.values()])
        against = self.compared_with(reference)
        seconds = [a.seconds for a in self.answers if a.seconds is not None]
        return {
            "name": self.name,
            "description": self.description,
            "asked": len(self.right),
            "right": sum(self.right.values()),
            "failed": sum(a.status == "failed" for a in self.answers),
            "accuracy": _rounded(accuracy.mean if accuracy else None),
            "accuracy_se": _rounded(accuracy.standard_error if accuracy else None),
            "difference": None if against is None else _paired_record(against),
            "cost_usd": None if self.cost_usd is None else round(self.cost_usd, 6),
            "seconds_p50": quantile(seconds, 0.5),
            "seconds_p95": quantile(seconds, 0.95),
            "timed": len(seconds),
            "calls": self.calls,
            "escalated": _rounded(self.escalated),
        }


def _paired_record(against: Paired) -> dict[str, Json]:
    return {
        "questions": against.questions,
        "mean": _rounded(against.difference.mean),
        "se": _rounded(against.difference.standard_error),
        "won": against.won,
        "lost": against.lost,
        "p_value": _rounded(against.p_value),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
