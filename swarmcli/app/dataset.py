"""Datasets: JSON Lines of questions with known answers, read whole and checked before anything is asked."""

import json
import random
from pathlib import Path
from typing import cast

from swarmcli.adapters.files import read_text
from swarmcli.app.intake import MAX_STDIN_BYTES, Stdin
from swarmcli.core.scoring import NotAQuestion, Question, Scorer, question_of
from swarmcli.errors import UsageError
from swarmcli.recipe.values import Json

SHAPE = 'a line looks like {"question": "How many ...?", "answer": "72"}'


def read_questions(source: str, *, scorer: Scorer | None, stdin: Stdin) -> list[Question]:
    """The questions of a file, or of standard input (`-`).

    Raises:
        UsageError: unreadable, empty, or a broken line, with its place.
    """
    if source == "-":
        where, text = "standard input", stdin.read()
    else:
        where, text = source, read_text(Path(source), max_bytes=MAX_STDIN_BYTES)
    questions: dict[str, Question] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        if not line.strip():
            continue
        try:
            question = question_of(_parsed(line), default_id=str(number), scorer=scorer)
        except NotAQuestion as error:
            raise UsageError(f"{where}:{number}: {error}", hint=SHAPE) from error
        if question.id in questions:
            raise UsageError(
                f"{where}:{number}: its id {question.id[:40]!r} stands on an earlier line, too",
                hint="give each question an id of its own, or none",
            )
        questions[question.id] = question
    if not questions:
        raise UsageError(f"{where} holds no questions", hint=SHAPE)
    return list(questions.values())


def _parsed(line: str) -> Json:
    try:
        return cast("Json", json.loads(line))
    except json.JSONDecodeError as error:
        raise NotAQuestion(f"no JSON: {error.msg} at column {error.colno}") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # a number of thousands of digits, lists in lists in lists
        raise NotAQuestion(f"no usable JSON: {error}") from error


def sample(questions: list[Question], limit: int | None, seed: int) -> list[Question]:
    """At most `limit` questions, drawn at random and left in their order; the same ones for the same seed."""
    if limit is None or limit >= len(questions):
        return questions
    drawn = random.Random(seed).sample(range(len(questions)), limit)
    return [questions[index] for index in sorted(drawn)]
