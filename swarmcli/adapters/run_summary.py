"""How runs went, read from both ends of their journals: the rows of `swarm runs`.

Rule: nothing here raises for a broken folder, and only an unfinished run is read whole.
"""

import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from swarmcli.adapters.atomic import storage_error
from swarmcli.adapters.journal import unframe
from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    CallCompleted,
    PlanTask,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from swarmcli.errors import StorageError

if TYPE_CHECKING:
    from swarmcli.adapters.runs import RunDir

RunStatus = Literal[
    "running",
    "ok",
    "partial",
    "unverified",
    "failed",
    "interrupted",
    "budget",
    "timeout",
    "crashed",  # it has no end, and nobody works on it
    "unreadable",
]
RESUMABLE: frozenset[str] = frozenset(get_args(RunStatus)) - {"running", "ok", "unreadable"}

_ENDS = {RunCompleted.type, RunFailed.type, RunInterrupted.type}
_AGENT_STATES = {
    AgentCompleted.type: "done",
    AgentFailed.type: "failed",
    AgentSkipped.type: "skipped",
    AgentCancelled.type: "cancelled",
}
_COUNTED = re.compile(
    rb'"type":"(?:plan\.task|call\.completed|agent\.(?:completed|failed|skipped|cancelled))"'
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCounts:
    """How far a run came."""

    total: int = 0
    done: int = 0
    failed: int = 0
    skipped: int = 0
    cached: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One row of `swarm runs`."""

    id: str
    recipe: str
    status: RunStatus
    started: str
    duration_s: float | None = None
    agents: AgentCounts = AgentCounts()
    cost_usd: float | None = None
    """None when a price is unknown."""
    problem: str = ""
    """Why it is unreadable."""


def summary(run: "RunDir") -> RunSummary:
    """How a run went, from both ends of its journal; only an unfinished one is read whole."""
    try:
        meta = run.read_meta()
        recipe, course = _history(run)
    except StorageError as exc:
        return RunSummary(
            id=run.id,
            recipe="",
            status="unreadable",
            started=_minute(run.id),
            problem=exc.message,
        )
    return RunSummary(
        id=run.id,
        recipe=recipe or meta.recipe_source,
        status=course.status,
        started=meta.created,
        duration_s=course.duration_s,
        agents=course.agents,
        cost_usd=course.cost_usd,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Course:
    status: RunStatus
    duration_s: float | None = None
    agents: AgentCounts = AgentCounts()
    cost_usd: float | None = None


def _history(run: "RunDir") -> tuple[str, _Course]:
    """The recipe's name and the run's course; a run without a journal did nothing yet."""
    # The lock first: a run that ends between the two looks is then seen at its end.
    unfinished: RunStatus = "running" if run.locked() else "crashed"
    try:
        with run.journal.open("rb") as journal:
            first = _record(journal.readline())
            last = _last_record(journal)
            ended = last.get("type") in _ENDS
            course = _ended(last) if ended else _tally(journal, last, unfinished)
    except FileNotFoundError:
        return "", _Course(status=unfinished)
    except OSError as exc:
        raise storage_error("read", run.journal, exc) from exc
    recipe = first.get("recipe") if first.get("type") == RunStarted.type else None
    return str(recipe or ""), course


def _record(line: bytes) -> dict[str, Any]:
    """The event in a journal line; empty when there is none."""
    payload = unframe(line)
    if payload is None:
        return {}
    try:
        return cast("dict[str, Any]", json.loads(payload))
    except (ValueError, RecursionError):
        return {}


def _last_record(journal: io.BufferedReader) -> dict[str, Any]:
    """The last whole event of a journal, from a window at its end that grows until it holds one."""
    size = journal.seek(0, os.SEEK_END)
    window = 64 * 1024
    while True:
        start = max(0, size - window)
        journal.seek(start)
        lines = list(io.BytesIO(journal.read(size - start)))
        for line in reversed(lines[1:] if start else lines):
            record = _record(line)
            if record:
                return record
        if not start:
            return {}
        window *= 8


def _ended(end: Mapping[str, Any]) -> _Course:
    status = end.get("status")
    totals = _mapping(end.get("totals"))
    counts = _mapping(totals.get("agents"))
    known = {f.name: int(_number(counts.get(f.name)) or 0) for f in fields(AgentCounts)}
    return _Course(
        status=cast("RunStatus", status) if status in RESUMABLE | {"ok"} else "failed",
        duration_s=_number(totals.get("duration_s", end.get("t"))),
        agents=AgentCounts(**known),
        cost_usd=_number(totals.get("cost_usd")),
    )


def _tally(journal: io.BufferedReader, last: Mapping[str, Any], status: RunStatus) -> _Course:
    """Count what an unfinished run has done; events that do not count are not even parsed."""
    states: dict[str, str] = {}
    cached: set[str] = set()
    cost: float | None = 0.0
    journal.seek(0)
    for line in journal:
        if not _COUNTED.search(line, 0, 300):
            continue
        record = _record(line)
        agent, kind = str(record.get("agent")), record.get("type")
        if kind == PlanTask.type:
            states.setdefault(agent, "waiting")
        elif kind == CallCompleted.type:
            spent = _number(record.get("cost_usd"))
            cost = None if cost is None or spent is None else cost + spent
        elif kind in _AGENT_STATES:
            states[agent] = _AGENT_STATES[kind]
            if record.get("cached") is True:
                cached.add(agent)
    tally = Counter(states.values())
    return _Course(
        status=status,
        duration_s=_number(last.get("t")),
        agents=AgentCounts(
            total=len(states),
            done=tally["done"],
            failed=tally["failed"],
            skipped=tally["skipped"],
            cached=len(cached),
        ),
        cost_usd=cost,
    )


def _mapping(value: object) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _minute(run_id: str) -> str:
    """When a run began, as far as its id tells."""
    return f"{run_id[:4]}-{run_id[4:6]}-{run_id[6:8]}T{run_id[9:11]}:{run_id[11:13]}:00Z"
