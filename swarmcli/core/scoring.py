"""Scores: the questions of a dataset, and whether an answer is the expected one. Pure."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from swarmcli.core.canonical import Value, canonical, canonical_of, same
from swarmcli.recipe.values import Json

Scorer = Literal["number", "choice", "exact"]

LABELS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_WORKED_OUT = "####"
"""GSM8K's answers are worked out first; the result stands behind this."""
_LETTER = re.compile(r"\(?([A-Z])[).]?")
_PERCENT = re.compile(r"\\?%|\bper ?cent\b", re.IGNORECASE)


class NotAQuestion(ValueError):
    """A line of a dataset that cannot be used; the message says why, in a few words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One item of a dataset."""

    id: str
    text: str
    """As it is asked: with its choices, where it has any."""
    expected: str
    """As the dataset has it, without the working; the label (A, B, ...) where there are choices."""
    scorer: Scorer
    choices: tuple[str, ...] = ()


def question_of(record: Json, *, default_id: str, scorer: Scorer | None) -> Question:
    """The question that a line of a dataset holds.

    Known keys: `question` and `answer` (GSM8K), or `input` and `expected`; `id` and `choices` where they are there.

    Args:
        record: the parsed line.
        default_id: its id where it has none.
        scorer: None: choice where there are choices or one capital letter is expected, number where a number is,
            else exact.

    Raises:
        NotAQuestion: it cannot be used.
    """
    if not isinstance(record, dict):
        raise NotAQuestion("it is no JSON object")
    text = _first(record, "question", "input")
    expected = _first(record, "answer", "expected")
    if not isinstance(text, str) or not text.strip():
        raise NotAQuestion("its question is no text")
    given, labels = _choices(record.get("choices"))
    choices = tuple(str(choice).strip() for choice in given)
    known = _expected(expected, given, labels)
    chosen = scorer or _scorer_for(known, choices)
    if not _fits(chosen, known):
        raise NotAQuestion(f"its answer {known[:40]!r} is no {chosen}")
    named = record.get("id")
    if not isinstance(named, str | int | None) or isinstance(named, bool):
        raise NotAQuestion("its id is neither text nor a number")
    return Question(
        id=default_id if named is None else str(named),
        text=_with_choices(text.strip(), choices),
        expected=known,
        scorer=chosen,
        choices=choices,
    )


def _first(record: Mapping[str, Json], *names: str) -> Json:
    for name in names:
        if record.get(name) is not None:
            return record[name]
    raise NotAQuestion(f"it has no {' or '.join(repr(name) for name in names)}")


def _choices(value: Json) -> tuple[Sequence[Json], Sequence[str]]:
    """The choices and their labels; also in the form {"text": [...], "label": [...]}. Asked for are labels of ours."""
    if value is None:
        return (), ()
    given, labels = (
        (value.get("text"), value.get("label")) if isinstance(value, dict) else (value, None)
    )
    if not isinstance(given, list) or not 2 <= len(given) <= len(LABELS):
        raise NotAQuestion(f"its choices are no list of 2 to {len(LABELS)}")
    if not all(isinstance(choice, str | int | float) for choice in given):
        raise NotAQuestion("its choices are no texts")
    if labels is None:
        return given, ()
    if not isinstance(labels, list) or len(labels) != len(given):
        raise NotAQuestion("its choices have another number of labels")
    return given, [str(label).strip() for label in labels]


def _expected(value: Json, given: Sequence[Json], labels: Sequence[str]) -> str:
    """The expected answer; of choices our label."""
    missing = isinstance(value, float) and math.isnan(value)  # as some programs write it
    if missing or not isinstance(value, str | int | float):
        raise NotAQuestion("its answer is neither text nor a number")
    text = str(value).rpartition(_WORKED_OUT)[2].strip()
    if not given:
        return text
    place = _place(value, text, given, labels)
    if place is None:
        raise NotAQuestion(f"its answer {text[:40]!r} is none of its choices")
    return LABELS[place]


def _place(value: Json, text: str, given: Sequence[Json], labels: Sequence[str]) -> int | None:
    """Which choice is meant.

    The dataset may name it by its own label, as it stands among the choices, by its position (a whole number, from 0),
    or by our label (`B`, `b`, `(B)`, `B.`); what comes first in this list counts.
    """
    texts = [str(choice).strip() for choice in given]
    if text in labels:
        return labels.index(text)
    alike = [t if type(c) is type(value) else None for c, t in zip(given, texts, strict=True)]
    if text in alike:
        return alike.index(text)
    if type(value) is int and 0 <= value < len(given):
        return value
    if text in texts:
        return texts.index(text)
    letter = _LETTER.fullmatch(text.upper())
    place = len(given) if letter is None else LABELS.index(letter[1])
    return place if place < len(given) else None


def _scorer_for(expected: str, choices: Sequence[str]) -> Scorer:
    if choices or _LETTER.fullmatch(expected):
        return "choice"
    is_number = isinstance(canonical_of(expected), float)
    return "number" if is_number and not any(map(str.isalpha, expected)) else "exact"


def _fits(scorer: Scorer, expected: str) -> bool:
    """Whether an answer of that kind can be the expected one: else every model would seem to fail."""
    if scorer == "choice":
        return _LETTER.fullmatch(expected.upper()) is not None
    return canonical(expected, "text" if scorer == "exact" else scorer) is not None


def _with_choices(text: str, choices: Sequence[str]) -> str:
    lines = [f"{label}) {choice}" for label, choice in zip(LABELS, choices, strict=False)]
    return "\n".join([text, "", *lines]) if choices else text


def value_of(question: Question, answer: str) -> Value | None:
    """What an answer says, in the form in which it is compared; None where it says nothing of that kind."""
    value = canonical(answer, "text" if question.scorer == "exact" else question.scorer)
    labels = [label.casefold() for label in LABELS[: len(question.choices)]]
    if question.scorer != "choice" or value is None or value in labels:
        return value
    texts = [canonical(choice, "text") for choice in question.choices]
    return labels[texts.index(value)] if value in texts else value


def is_correct(question: Question, answer: str) -> bool:
    """Whether the answer is the expected one.

    `20%` also counts as 20: datasets leave the sign out where the question asks for percent.
    """
    expected = value_of(question, question.expected)
    readings = [value_of(question, answer)]
    if question.scorer == "number":
        readings.append(value_of(question, _PERCENT.sub(" ", answer)))
    return expected is not None and any(r is not None and same(r, expected) for r in readings)
