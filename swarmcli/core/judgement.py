"""What a judge says, read from the last line of its reply and from nowhere else.

Rule: a judge may quote the text that it judges. Only what it writes last counts, so nothing inside that text can be
taken for its verdict.
"""

import json
from dataclasses import dataclass
from typing import Literal, cast

from swarmcli.core.fences import fenced_blocks
from swarmcli.recipe.values import Json

Verdict = Literal["accept", "reject", "unsure"]
MAX_ERROR_CHARS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A critic's verdict on one answer."""

    verdict: Verdict
    first_error: str = ""
    """The first wrong step, cut at 2,000 characters; empty where there is none."""


def parse_judgement(text: str) -> Judgement:
    """The verdict in the last line of `text`; `unsure` when that line holds none."""
    value = last_object(text)
    error = value.get("first_error")
    first_error = error.strip()[:MAX_ERROR_CHARS] if isinstance(error, str) else ""
    match value.get("verdict"):
        case "accept":
            return Judgement(verdict="accept")
        case "reject":
            return Judgement(
                verdict="reject", first_error="" if first_error == "none" else first_error
            )
        case _:
            return Judgement(verdict="unsure", first_error=first_error)


def last_object(text: str) -> dict[str, Json]:
    """The JSON object that ends `text`: its last line, or the fenced block that it ends with; empty without one."""
    stripped = text.strip()
    last = stripped.rpartition("\n")[2].strip()
    if last.endswith("```"):
        last = "".join(fenced_blocks(stripped)[-1:])
    try:
        value: object = json.loads(last)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Json]", value) if isinstance(value, dict) else {}
