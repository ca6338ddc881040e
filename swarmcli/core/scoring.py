"""Scores: the questions of a dataset, and whether an answer is the expected one. Pure."""

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
    choices = _choices(record.get("choices"))
    known = _expected(expected, choices)
    chosen = scorer or _scorer_for(known, choices)
    if canonical(known, "text" if chosen == "exact" else chosen) is None:
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


def _choices(value: Json) -> tuple[str, ...]:
    """The texts of the choices; also in the form {"text": [...], "label": [...]}, whose labels are replaced by ours."""
    given = value.get("text") if isinstance(value, dict) else value
    if given is None and value is None:
        return ()
    if not isinstance(given, list) or not 2 <= len(given) <= len(LABELS):
        raise NotAQuestion(f"its choices are no list of 2 to {len(LABELS)}")
    if not all(isinstance(choice, str | int | float) for choice in given):
        raise NotAQuestion("its choices are no texts")
    return tuple(str(choice).strip() for choice in given)


def _expected(value: Json, choices: Sequence[str]) -> str:
    """The expected answer; of choices their label.

    The dataset may name a choice by its position (a whole number, from 0), its text or its label.
    """
    if not isinstance(value, str | int | float):
        raise NotAQuestion("its answer is neither text nor a number")
    text = str(value).rpartition(_WORKED_OUT)[2].strip()
    if not choices:
        return text
    if type(value) is int and 0 <= value < len(choices):
        return LABELS[value]
    if text in choices:
        return LABELS[choices.index(text)]
    if len(text) == 1 and text.upper() in LABELS[: len(choices)]:
        return text.upper()
    raise NotAQuestion(f"its answer {text[:40]!r} is none of its choices")


def _scorer_for(expected: str, choices: Sequence[str]) -> Scorer:
    if choices or _LETTER.fullmatch(expected):
        return "choice"
    is_number = isinstance(canonical_of(expected), float)
    return "number" if is_number and not any(map(str.isalpha, expected)) else "exact"


def _with_choices(text: str, choices: Sequence[str]) -> str:
    lines = [f"{label}) {choice}" for label, choice in zip(LABELS, choices, strict=False)]
    return "\n".join([text, "", *lines]) if choices else text


def value_of(question: Question, answer: str) -> Value | None:
    """What an answer says, in the form in which it is compared; None where it says nothing of that kind."""
    value = canonical(answer, "text" if question.scorer == "exact" else question.scorer)
    if question.scorer == "choice" and value is not None:
        for label, choice in zip(LABELS, question.choices, strict=False):
            if value == canonical(choice, "text"):
                return label.casefold()
    return value


def is_correct(question: Question, answer: str) -> bool:
    """Whether the answer is the expected one.

    `20%` also counts as 20: datasets leave the sign out where the question asks for percent.
    """
    expected = value_of(question, question.expected)
    readings = [value_of(question, answer)]
    if question.scorer == "number":
        readings.append(value_of(question, _PERCENT.sub(" ", answer)))
    return expected is not None and any(r is not None and same(r, expected) for r in readings)
