"""Typed replies: what an agent says of its own answer, read from the end of its text.

{"status": "ok|insufficient|conflict", "answer": ..., "claims": [{"key", "value", "unit", "source"}]}
"""

import json
import math
import re
from dataclasses import dataclass
from typing import cast

from swarmcli.recipe.values import Json

STATUSES = ("ok", "insufficient", "conflict")
_MAX_BRACKETS = 200
_FENCE = re.compile(r"```[^\n`]*\n(.*?)```", re.DOTALL)


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
    for candidate in _candidates(text):
        try:
            value = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict) and cast("dict[str, object]", value).get("status") in STATUSES:
            return _reply_of(cast("dict[str, Json]", value), _without(text, candidate))
    return Reply(output=text.strip())


def _candidates(text: str) -> list[str]:
    stripped = text.strip()
    candidates = [stripped.rpartition("\n")[2].strip()]
    candidates += [fence.strip() for fence in reversed(_FENCE.findall(stripped))]
    candidates.append(stripped)
    return [c for c in candidates if c.startswith("{") and c.endswith("}")]


def _without(text: str, reply: str) -> str:
    """The text above a typed reply that has no answer of its own; all of it where nothing stands above."""
    above = text.strip()[: text.strip().rfind(reply)].removesuffix("\n")
    lines = above.rstrip().split("\n")
    if lines[-1].startswith("```"):  # the fence around the reply
        lines.pop()
    return "\n".join(lines).strip() or text


def _reply_of(value: dict[str, Json], text: str) -> Reply:
    answer = value.get("answer")
    if answer is None:
        output = text.strip() if "answer" not in value else ""
    else:
        output = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    claims = value.get("claims")
    entries = claims if isinstance(claims, list) else []
    return Reply(
        output=output,
        status=str(value["status"]),
        claims=tuple(claim for claim in map(_claim_of, entries) if claim is not None),
    )


def _claim_of(entry: Json) -> Claim | None:
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str) or "value" not in entry:
        return None
    if not _can_be_compared(entry["value"]):
        return None
    return Claim(
        key=str(entry["key"]),
        value=entry["value"],
        unit=str(entry.get("unit") or ""),
        source=str(entry.get("source") or ""),
    )


def _can_be_compared(value: Json) -> bool:
    """False for what JSON allows and nothing can work with: NaN, numbers beyond floats, hundreds of brackets."""
    try:
        if isinstance(value, int | float):
            return math.isfinite(value)
        text = json.dumps(value, allow_nan=False)
    except (ValueError, OverflowError, RecursionError):
        return False
    return text.count("[") + text.count("{") <= _MAX_BRACKETS
