"""Typed replies: what an agent says of its own answer, read from the end of its text.

{"status": "ok|insufficient|conflict", "answer": ..., "claims": [{"key", "value", "unit", "source"}]}
"""

import json
import math
from dataclasses import dataclass
from typing import cast

from swarmcli.core.fences import fenced_blocks
from swarmcli.recipe.values import Json

STATUSES = ("ok", "insufficient", "conflict")
MAX_CLAIMS = 5000
"""Of one reply: more than any model writes in one answer. What a longer one claims beyond them is not compared."""
MAX_CLAIM_CHARS = 10_000
"""Longest claim, in characters of its texts: what is longer is no figure, date or name."""
_MAX_BRACKETS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One keyed statement that can be compared with other agents' statements."""

    key: str
    value: Json
    unit: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An agent's answer with what it says of it."""

    output: str
    status: str = "ok"
    claims: tuple[Claim, ...] = ()


def parse_reply(text: str) -> Reply:
    """The typed reply in the last line or last fenced block of `text`; without one the whole text, status ok."""
    whole = text.strip()
    for candidate in _candidates(whole):
        try:
            value = cast("Json", json.loads(candidate))
            if isinstance(value, dict) and value.get("status") in STATUSES:
                return _reply_of(value, whole, around=_without(whole, candidate))
        except (ValueError, RecursionError):  # no JSON, or too deep to be read or written
            continue
    return Reply(output=whole)


def text_of(value: Json) -> str:
    """A JSON value as people read it: a text itself, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _candidates(text: str) -> list[str]:
    last_line = text.rpartition("\n")[2].strip()
    candidates = [last_line, *reversed(fenced_blocks(text)), text]
    return [c for c in candidates if c.startswith("{") and c.endswith("}")]


def _without(text: str, reply: str) -> str:
    """What stands around a typed reply, without the fences around it; those of a block of code above it stay."""
    above, _, below = text.rpartition(reply)
    lines, below = above.rstrip().split("\n"), below.lstrip()
    fences = sum(line.lstrip().startswith("```") for line in lines)
    if lines[-1].lstrip().startswith("```") and (below.startswith("```") or fences % 2):
        lines.pop()
    parts = ("\n".join(lines).strip(), below.removeprefix("```").strip())
    return "\n\n".join(part for part in parts if part)


def _reply_of(value: dict[str, Json], text: str, *, around: str) -> Reply:
    """Without an answer of its own its output is what stands around it; where nothing does, all of it or nothing."""
    answer = value.get("answer")
    if answer is None:
        answer = around or ("" if "answer" in value else text)
    claims = value.get("claims")
    entries = claims[:MAX_CLAIMS] if isinstance(claims, list) else []
    return Reply(
        output=text_of(answer),
        status=str(value["status"]),
        claims=tuple(claim for claim in map(_claim_of, entries) if claim is not None),
    )


def _claim_of(entry: Json) -> Claim | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str) or "value" not in entry:
        return None
    claim = Claim(
        key=str(entry["key"]),
        value=entry["value"],
        unit=str(entry.get("unit") or ""),
        source=str(entry.get("source") or ""),
    )
    return claim if _can_be_compared(claim) else None


def _can_be_compared(claim: Claim) -> bool:
    """False for what nothing can work with: NaN, numbers beyond floats, hundreds of brackets, pages of text."""
    value = claim.value
    try:
        if isinstance(value, int | float) and not math.isfinite(value):
            return False
        text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    except (ValueError, OverflowError, RecursionError):
        return False
    nested = not isinstance(value, str) and text.count("[") + text.count("{") > _MAX_BRACKETS
    size = sum(map(len, (claim.key, text, claim.unit, claim.source)))
    return size <= MAX_CLAIM_CHARS and not nested
