"""Looking at runs: `runs`, `show`, `logs`. Reads folders; imports nothing heavy."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from swarmcli.adapters.journal import read_journal
from swarmcli.adapters.run_summary import RunSummary, summary
from swarmcli.adapters.runs import RunDir
from swarmcli.app.workspace import open_workspace
from swarmcli.core.event_json import to_record
from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    AgentStarted,
    CallHedged,
    CallRetry,
    ConflictFound,
    CriticJudged,
    Event,
    LimitChanged,
    LimitWaiting,
    PlanRevised,
    RunStarted,
    VoteTallied,
)
from swarmcli.core.replay import replay
from swarmcli.core.safe_json import safe_json
from swarmcli.core.totals import calls_of
from swarmcli.errors import UsageError
from swarmcli.ui.checks import (
    AgentEnd,
    Checked,
    Checks,
    conflict_words,
    critic_words,
    revision_words,
    vote_words,
)
from swarmcli.ui.clean import clean, one_line
from swarmcli.ui.receipt import ReceiptWords
from swarmcli.ui.say import err, out
from swarmcli.ui.state import LOCAL_PREFIXES

ROWS = 20
_CHECKS = ("vote", "critic")
"""What stays true of an agent that a later session takes over."""


def list_runs(*, as_json: bool, most: int | None) -> int:
    """`swarm runs`; `most` None: all as JSON, a screen of them as text."""
    rows = open_workspace().runs.list()
    if as_json:
        _print_json([asdict(row) for row in rows[:most]])
        return 0
    if not rows:
        err("no runs yet")
        return 0
    most = most or ROWS
    out(f"{'RUN':<20} {'RECIPE':<18} {'STATUS':<12} {'AGENTS':>11} {'TIME':>8} {'COST':>9}")
    for row in rows[:most]:
        out(_row(row))
    if len(rows) > most:
        err(f"... and {len(rows) - most} more (swarm runs -n {len(rows)})")
    return 0


def _row(row: RunSummary) -> str:
    agents = f"{row.agents.done}/{row.agents.total}"
    seconds = "" if row.duration_s is None else f"{row.duration_s:.1f}s"
    cost = "?" if row.cost_usd is None else f"${row.cost_usd:.4f}"
    return (
        f"{row.id:<20} {one_line(row.recipe)[:18]:<18} {row.status:<12} {agents:>11} {seconds:>8} {cost:>9}"
        f"{'  ' + one_line(row.problem) if row.problem else ''}"
    )


def show(ref: str, *, as_json: bool) -> int:
    """`swarm show RUN`: how it ended, its receipt and its agents.

    Raises:
        UsageError: no such run.
    """
    run = open_workspace().runs.open(ref)
    read = read_journal(run.journal)
    events = [stamped.event for stamped in read.events]
    facts = _facts(run, events, read.problems)
    if as_json:
        _print_json(facts)
        return 0
    out(_row(summary(run)))
    out(f"folder  {run.folder}")
    for name, line in _receipt(facts, events):
        out(f"{name:<7} {line}")
    for agent in facts["agents"]:
        out(_agent_row(agent))
    if facts["resume"]:
        err(f"next    {facts['resume']}")
    return 0


def _agent_row(agent: dict[str, Any]) -> str:
    said = agent.get("error") or agent.get("because") or (agent.get("output") or "")[:400]
    checks = [agent[check] for check in _CHECKS if check in agent]
    note = "  ".join([*checks, one_line(said)[:80]])
    return f"  {one_line(agent['agent']):<18} {agent['state']:<10} {one_line(agent.get('model') or ''):<24} {note}"


def _receipt(facts: dict[str, Any], events: Iterable[Event]) -> Iterator[tuple[str, str]]:
    """The lines of the receipt that say something."""
    checks, models = Checks(), set[str]()
    for event in events:
        if isinstance(event, Checked | AgentEnd):
            checks.feed(event)
        elif isinstance(event, RunStarted):
            models |= set(event.models.values())
    free = bool(models) and all(model.startswith(LOCAL_PREFIXES) for model in models)
    words = ReceiptWords(facts["totals"] or {"receipt": facts["receipt"]}, free=free)
    lines = (
        ("time", words.time()),
        ("path", words.path()),
        ("checks", words.checks(checks)),
        ("votes", words.identity()),
        ("roles", words.roles()),
        ("waste", words.waste()),
    )
    return ((name, line) for name, line in lines if line)


def _facts(run: RunDir, events: Sequence[Event], problems: Iterable[str]) -> dict[str, Any]:
    history = replay(events)
    row = summary(run)
    totals = dict(history.end.totals) if history.end else None
    return {
        "run": run.id,
        "folder": str(run.folder),
        "status": row.status,
        "recipe": row.recipe,
        "started": row.started,
        "duration_s": row.duration_s,
        "cost_usd": row.cost_usd,
        "result": history.end.result if history.end else None,
        "totals": totals,
        "receipt": (totals or {}).get("receipt") or calls_of(history.accounts),
        "plan": history.plan,
        "agents": list(_agents(events).values()),
        "problems": list(problems),
        "resume": None if history.is_whole else f"swarm resume {run.id}",
    }


def _agents(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """The last word on each agent; how an earlier attempt ended is no part of it."""
    agents: dict[str, dict[str, Any]] = {}
    for event in events:
        if isinstance(event, PlanRevised):
            for name in set(event.removed) & agents.keys():
                because = "the plan was revised"
                agents[name] = {"agent": name, "state": "skipped", "because": because}
        elif word := _word_on_agent(event):
            name = str(getattr(event, "agent", ""))
            before = agents.get(name, {})
            if isinstance(event, AgentStarted | AgentSkipped):
                before = {key: before[key] for key in _CHECKS if key in before}
            agents[name] = {"agent": name, "state": "running", **before, **word}
    return agents


def _word_on_agent(event: Event) -> dict[str, Any]:
    """What an event says of its agent; empty for events that are not about one."""
    match event:
        case AgentStarted():
            return {"state": "running", "model": event.model, "prompt": event.prompt}
        case AgentCompleted():
            names = ("model", "output", "cached", "hedged", "attempts", "cost_usd", "seconds")
            return {"state": "done"} | {name: getattr(event, name) for name in names}
        case AgentFailed():
            return {"state": "failed", "error": f"{event.error.kind}: {event.error.message}"}
        case VoteTallied():
            return {"vote": vote_words(event)}
        case CriticJudged():
            return {"critic": critic_words(event)}
        case AgentSkipped():
            return {"state": "skipped", "because": event.because}
        case AgentCancelled():
            return {"state": "cancelled", "because": event.because}
        case _:
            return {}


def logs(ref: str, agent: str | None, *, failed: bool, as_json: bool) -> int:
    """`swarm logs RUN [AGENT]`: an agent's prompt and output, or the run's events as lines.

    Raises:
        UsageError: no such run or agent.
    """
    ws = open_workspace()
    run = ws.runs.open(ref)
    read = read_journal(run.journal)
    if agent is None and not failed:
        for stamped in read.events:
            record = to_record(stamped)
            out(safe_json(record) if as_json else _event_line(stamped.t, stamped.event))
        return 0
    agents = _agents(stamped.event for stamped in read.events)
    chosen = (
        [a for a in agents.values() if a["state"] == "failed"]
        if agent is None
        else [_one(agents, agent, run)]
    )
    if as_json:
        _print_json(chosen if agent is None else chosen[0])
        return 0
    for facts in chosen:
        out(_log_text(facts))
    return 0


def _one(agents: dict[str, dict[str, Any]], agent: str, run: RunDir) -> dict[str, Any]:
    if agent not in agents:
        some = ", ".join(list(agents)[:8])
        raise UsageError(
            f"run {run.id} has no agent {agent!r} (agents: {some})", hint=f"swarm show {run.id}"
        )
    return agents[agent]


def _log_text(facts: dict[str, Any]) -> str:
    model = one_line(facts.get("model", ""))
    parts = [f"== {one_line(facts['agent'])}  {facts['state']}  {model}"]
    titles = [title for title in ("prompt", "output", "error", "because") if facts.get(title)]
    parts += [f"-- {title}\n{clean(str(facts[title]))}" for title in titles]
    return "\n".join(parts) + "\n"


def _event_line(t: float, event: Event) -> str:
    agent = getattr(event, "agent", None) or ""
    words = [
        one_line(str(getattr(event, name)))[:80]
        for name in ("note", "because", "kind", "bucket", "message", "reason", "status")
        if getattr(event, name, None)
    ]
    words += _numbers(event)
    if isinstance(event, AgentFailed):
        words.append(one_line(f"{event.error.kind}: {event.error.message}"))
    return f"[{t:8.2f}] {event.type:<16} {one_line(agent):<14} {' '.join(words)}".rstrip()


def _numbers(event: Event) -> list[str]:
    """What an event about traffic or about doubt says in numbers and values."""
    match event:
        case CallRetry():
            return [f"again in {event.delay_s:.3g} s ({event.attempt + 1}/{event.max})"]
        case CallHedged():
            return [f"asks {one_line(event.to)} as well after {event.after_s:.3g} s"]
        case LimitWaiting():
            return [f"{event.waiting} wait"]
        case LimitChanged():
            paused = f", paused {event.pause_s:.3g} s" if event.pause_s else ""
            return [f"{event.parallel} at once{paused}"]
        case VoteTallied():
            return [vote_words(event)]
        case CriticJudged():
            return [critic_words(event)]
        case ConflictFound():
            return [one_line(event.key), conflict_words(event.values)]
        case PlanRevised():
            return [revision_words(event)]
        case _:
            return []


def _print_json(value: object) -> None:
    out(safe_json(value, indent=2))
