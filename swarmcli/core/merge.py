"""Deterministic merges: from the outcomes of the leaf agents to one result, without a model call."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from swarmcli.core.outcomes import Outcome
from swarmcli.core.plan import Task
from swarmcli.core.safe_json import safe_json
from swarmcli.core.votes import majority
from swarmcli.recipe.values import Json, MergeStrategy

MAX_TITLE = 80
"""Longest item or prompt that stands in a heading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A result: its text, and the parsed list or value where the strategy makes one."""

    text: str
    structured: Json = None


def record_of(outcome: Outcome, index: int) -> dict[str, Json]:
    """One JSON record per leaf agent: the lines of `jsonl` and of `map --jsonl`."""
    task = outcome.task
    record: dict[str, Json] = {
        "index": index,
        "agent": task.id,
        "input": task.item if task.index is not None else task.prompt,
        "output": outcome.output,
        "status": outcome.status if outcome.state == "done" else outcome.state,
        "model": outcome.model,
        "cached": outcome.cached,
        "cost_usd": outcome.cost_usd,
        "seconds": round(outcome.busy_s, 3),
    }
    if outcome.state != "done":
        failure = outcome.failure
        record["error"] = {
            "kind": failure.kind if failure else outcome.state,
            "message": failure.message if failure else outcome.state,
        }
    return record


def merge_in_code(strategy: MergeStrategy, leaves: Sequence[Outcome]) -> Merged:
    """Merge with `concat`, `json`, `jsonl`, `table` or `majority`; leaves come in plan, then item order.

    Raises:
        ValueError: the strategy needs a model.
    """
    match strategy:
        case "concat":
            return Merged(text=_concat(leaves))
        case "jsonl":
            records = [record_of(leaf, i) for i, leaf in enumerate(leaves)]
            lines = [safe_json(record) for record in records]
            return Merged(text="\n".join(lines), structured=cast("list[Json]", records))
        case "json":
            records = [record_of(leaf, i) for i, leaf in enumerate(leaves)]
            return Merged(
                text=safe_json(records, indent=2),
                structured=cast("list[Json]", records),
            )
        case "table":
            return _table(leaves)
        case "majority":
            return _majority(leaves)
        case "auto" | "write":
            raise ValueError(f"merge strategy {strategy!r} is not done in code")


def lines(leaves: Sequence[Outcome]) -> Merged:
    """One output per line, as `swarm map` prints it; a failed item leaves an empty line, so lines stay aligned."""
    return Merged(text="\n".join(" ".join((leaf.output or "").split()) for leaf in leaves))


def _concat(leaves: Sequence[Outcome]) -> str:
    if len(leaves) == 1 and leaves[0].output is not None:
        return leaves[0].output
    parts = [
        f"## {_title(leaf.task)}\n\n{leaf.output.strip() if leaf.output is not None else f'({leaf.reason})'}"
        for leaf in leaves
    ]
    return "\n\n".join(parts)


def _title(task: Task) -> str:
    """The agent's id, and what it worked on where one short line says it: its item, or a planner's prompt."""
    subject = task.item if task.index is not None else "" if task.template else task.prompt
    short = isinstance(subject, str) and 0 < len(subject) <= MAX_TITLE and subject.isprintable()
    return f"{task.id}: {subject}" if short else task.id


def _majority(leaves: Sequence[Outcome]) -> Merged:
    won = majority(leaf.output for leaf in leaves if leaf.output is not None)
    if won is None:
        return Merged(text="")
    answer, count = won
    return Merged(text=answer, structured={"answer": answer, "votes": count, "asked": len(leaves)})


def _table(leaves: Sequence[Outcome]) -> Merged:
    """A Markdown table: one row per agent; columns are the keys of JSON outputs, else one column `output`."""
    rows = [_row(leaf) for leaf in leaves]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = ["agent", *columns]
    table = [_table_line(head), _table_line(["---"] * len(head))]
    table += [
        _table_line([leaf.agent, *(_cell(row.get(c)) for c in columns)])
        for leaf, row in zip(leaves, rows, strict=True)
    ]
    structured: list[Json] = [
        {"agent": leaf.agent, **row} for leaf, row in zip(leaves, rows, strict=True)
    ]
    return Merged(text="\n".join(table), structured=structured)


def _row(leaf: Outcome) -> dict[str, Json]:
    if leaf.output is None:
        return {"output": f"({leaf.reason})"}
    try:
        value: object = json.loads(leaf.output)
    except (ValueError, RecursionError):
        return {"output": leaf.output}
    if not isinstance(value, dict):
        return {"output": leaf.output}
    row = cast("dict[str, Json]", value)
    return {"output.agent" if key == "agent" else key: row[key] for key in row}


def _cell(value: Json) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(' '.join(cell.split())) for cell in cells)} |"


def _escaped(cell: str) -> str:
    """A pipe ends a cell unless it is escaped, and a backslash before it escapes the escape."""
    *before, last = cell.split("|")
    ends = (part + "\\" * (len(part) - len(part.rstrip("\\"))) for part in before)
    return "\\|".join([*ends, last])
