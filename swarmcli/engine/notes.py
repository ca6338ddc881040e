"""Notes: what the small models said, as the escalation model is shown it.

Rule: it reaches the prompt only inside data blocks, without names and cut short.
"""

from collections.abc import Sequence

from swarmcli.engine.asking import Answer
from swarmcli.engine.typed import Wrap

MAX_STEPS = 6
"""Key steps of the small models that the escalation model is shown, of all of them together."""
_STEP_CHARS = 160
_NO_STEPS = ("#", "```", "{", "}", "<", "|--")
"""Lines that begin so are markup."""


def notes_on(positions: Sequence[tuple[str, Answer]], *, steps: int, wrap: Wrap) -> str:
    """One data block for each position.

    Args:
        positions: what the answer says in a line, and the answer.
        steps: so many key steps are shown, shared out among the positions.
        wrap: makes data blocks.
    """
    blocks: list[str] = []
    for index, (said, answer) in enumerate(positions):
        left = steps // (len(positions) - index)
        shown = _key_steps(answer, left)
        steps -= len(shown)
        text = "\n".join([f"answer: {said}", *(f"- {step}" for step in shown)])
        blocks.append(wrap(f"answer {chr(ord('A') + index)}", text))
    return "\n".join(blocks)


def short(text: str) -> str:
    """The text in one line that is not too long for a note."""
    line = " ".join(text.split())
    return line if len(line) <= _STEP_CHARS else f"{line[: _STEP_CHARS - 3]}..."


def _key_steps(answer: Answer, most: int) -> list[str]:
    """The last lines before the result: what the answer was derived from."""
    lines = [line.strip(" \t-*>•") for line in answer.text.splitlines()]
    said = short(answer.output)
    steps = [
        short(line)
        for line in lines
        if line and not line.startswith(_NO_STEPS) and short(line) != said
    ]
    return steps[-most:] if most else []
