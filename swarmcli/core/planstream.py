"""Reading a plan while it streams.

Each task object is handed over the moment its closing brace has arrived, so that the first agents start while the
planner still writes (LLMCompiler, arXiv 2312.04511, streams its plan for the same reason).
"""

import re
from typing import Literal

from swarmcli.core.jsontext import Balance
from swarmcli.core.plan import TaskDraft
from swarmcli.core.planform import DECODER, draft_of
from swarmcli.errors import PlanError

MAX_PLAN_CHARS = 2_000_000
TASKS = re.compile(r'"tasks"\s*:\s*\[')
_LONGEST_HEAD = 100
"""Characters of `"tasks": [` with spaces; a longer one is only read at the end."""
_HEAD = re.compile(rf"(?P<tasks>{TASKS.pattern})|<think(?:ing)?>")
_THOUGHT_END = re.compile(r"</think(?:ing)?>")


class PlanStream:
    """Feed text, get drafts. Malformed objects are left to `parse_plan`, which reads the whole text at the end."""

    def __init__(self) -> None:
        self._length = 0
        self._state: Literal["before", "thinking", "between", "inside", "after"] = "before"
        self._tail = ""
        """The end of the text before the array, in which its head, or a thought's end, may have begun."""
        self._object: list[str] = []
        self._balance = Balance()
        self._found = False

    def feed(self, piece: str) -> list[TaskDraft]:
        """Take the next piece; return the task objects that it closed.

        Raises:
            PlanError: the text is longer than any plan may be.
        """
        self._length += len(piece)
        if self._length > MAX_PLAN_CHARS:
            raise too_long()
        drafts: list[TaskDraft] = []
        position = 0
        while position < len(piece) and self._state != "after":
            match self._state:
                case "before" | "thinking":
                    position = self._seek(piece, position)
                case "between":
                    position = self._next_object(piece, position)
                case "inside":
                    position = self._read_object(piece, position, drafts)
        return drafts

    def _seek(self, piece: str, position: int) -> int:
        """To behind the array's opening bracket, a thought's beginning or its end, or to the end of the piece."""
        text = self._tail + piece[position:]
        match = (_HEAD if self._state == "before" else _THOUGHT_END).search(text)
        if match is None:
            self._tail = text[-_LONGEST_HEAD:]
            return len(piece)
        if self._state == "thinking":
            self._state = "before"
        else:
            self._state = "between" if match["tasks"] else "thinking"
        position += match.end() - len(self._tail)
        self._tail = ""
        return position

    def _next_object(self, piece: str, position: int) -> int:
        """To the next `{` of the array. Where something else stands, the array has ended, or it was only prose."""
        while position < len(piece) and piece[position] in " \t\r\n,":
            position += 1
        if position < len(piece):
            if piece[position] == "{":
                self._state, self._object, self._balance = "inside", [], Balance()
            else:
                self._state = "after" if self._found else "before"
        return position

    def _read_object(self, piece: str, position: int, drafts: list[TaskDraft]) -> int:
        end = self._balance.end(piece, position)
        self._object.append(piece[position:end])
        if end is None:
            return len(piece)
        try:
            drafts.append(draft_of(DECODER.decode("".join(self._object))))
        except (ValueError, RecursionError, PlanError):
            self._state = "after"
        else:
            self._state, self._found = "between", True
        return end


def after_thoughts(text: str) -> str:
    """The text without the thoughts (`<think>...</think>`) before its plan: what they sketch is not the answer."""
    position = 0
    while (head := _HEAD.search(text, position)) and not head["tasks"]:
        end = _THOUGHT_END.search(text, head.end())
        if end is None:
            break
        position = end.end()
    return text[position:]


def too_long() -> PlanError:
    """The fault of a text longer than `MAX_PLAN_CHARS`."""
    return PlanError(f"the plan is longer than {MAX_PLAN_CHARS:,} characters")
