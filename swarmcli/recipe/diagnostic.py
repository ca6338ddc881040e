"""A `RecipeError` as text: what is wrong, the source line, and a caret below the place. Pure.

Source lines come from files that nobody has checked: characters that could move the cursor, hide text or reorder it
are shown as escapes, and long lines are cut to a window around the caret.
"""

import unicodedata

from swarmcli.errors import Problem, RecipeError
from swarmcli.recipe.document import line_starts

MAX_SHOWN = 10
WINDOW = 100
_BEFORE_CARET = 60
_CUT = "..."


def render_problems(error: RecipeError) -> str:
    """All problems of a file, the first ten in full."""
    shown = error.problems[:MAX_SHOWN]
    parts = [render_problem(problem, error.source, error.text) for problem in shown]
    rest = len(error.problems) - len(shown)
    if rest:
        parts.append(f"... and {rest} more")
    count = len(error.problems)
    noun = "problem" if count == 1 else "problems"
    hint = f" hint: {visible(error.hint)}" if error.hint else ""
    return "\n\n".join([*parts, f"{count} {noun}.{hint}"])


def render_problem(problem: Problem, source: str, text: str, label: str = "error") -> str:
    """One problem of a file; `label` is `error`, or `note` for what stops nothing."""
    hint = visible(problem.hint) if problem.hint else ""
    head = f"{label}: {visible(problem.message)}"
    text = text.removeprefix("\ufeff")
    if not problem.line:
        return "\n".join(filter(None, [head, f"  --> {visible(source)}", hint and f"hint: {hint}"]))
    place = f"  --> {visible(source)}:{problem.line}:{problem.column}"
    line, caret = _window(_line(text, problem.line), problem.column)
    gutter = " " * max(3, len(str(problem.line)))
    return "\n".join(
        [
            head,
            place,
            f"{gutter}|",
            f"{problem.line:>{len(gutter)}}| {line}".rstrip(),
            f"{gutter}| {' ' * caret}^ {hint}".rstrip(),
        ]
    )


def visible(text: str) -> str:
    r"""The text with control, format and half characters as escapes: `\x1b`, `\t`, `\u202e`."""
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character == " " or not unicodedata.category(character).startswith(("C", "Z")):
        return character
    return character.encode("unicode_escape").decode("ascii")


def _line(text: str, number: int) -> str:
    starts = line_starts(text)
    if number > len(starts):
        return ""
    end = starts[number] if number < len(starts) else len(text)
    return text[starts[number - 1] : end].rstrip("\r\n")


def _window(line: str, column: int) -> tuple[str, int]:
    """The visible line, or the part of it around the column, and how many cells stand before the caret."""
    before, after = visible(line[: column - 1]), visible(line[column - 1 :])
    if len(before) + len(after) > WINDOW:
        if len(before) > _BEFORE_CARET:
            before = _CUT + before[-_BEFORE_CARET:]
        room = WINDOW - len(before)
        if len(after) > room:
            after = after[:room] + _CUT
    return before + after, sum(map(_cells, before))


def _cells(character: str) -> int:
    """Columns that a terminal uses for it."""
    if unicodedata.category(character) in {"Mn", "Me"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in {"W", "F"} else 1
