"""How runs went: finished, crashed, resumed, broken ones, and their order."""

from pathlib import Path

import pytest

from swarmcli.adapters.run_summary import AgentCounts, summary
from swarmcli.adapters.runs import RunStore
from swarmcli.core.events import (
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    AgentStarted,
    CallCompleted,
    Event,
    Failure,
    PlanTask,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from tests.adapters.run_stories import META, Calendar, make, tell


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def store(tmp_path: Path, calendar: Calendar) -> RunStore:
    return RunStore(tmp_path / "state", now=calendar)


def end(status: str, exit_code: int, **totals: object) -> RunCompleted:
    return RunCompleted(status=status, exit_code=exit_code, result="text", totals=totals)


STARTED = RunStarted(recipe="audit", models={"small": "openai/gpt-5-mini"})


def test_a_finished_run_is_told_by_its_last_event(store: RunStore) -> None:
    """Status, counts, cost and time come from the totals; a huge result does not matter."""
    run = store.create(META)
    totals = {
        "agents": {"total": 9, "done": 7, "failed": 2, "skipped": 0, "cached": 3, "hedged": 1},
        "cost_usd": 0.25,
        "duration_s": 12.5,
    }
    last = RunCompleted(status="partial", exit_code=3, result="x" * 900_000, totals=totals)
    tell(run, STARTED, last)
    told = summary(run)
    assert (told.id, told.recipe, told.status) == (run.id, "audit", "partial")
    assert told.agents == AgentCounts(total=9, done=7, failed=2, skipped=0, cached=3)
    assert (told.cost_usd, told.duration_s) == (0.25, 12.5)
    assert told.started == "2026-11-21T09:15:00.000000Z"


@pytest.mark.parametrize(
    ("last", "status"),
    [
        (end("ok", 0), "ok"),
        (end("budget", 4), "budget"),
        (end("timeout", 124), "timeout"),
        (end("novelty", 0), "failed"),
        (RunFailed(status="failed", exit_code=1), "failed"),
        (RunInterrupted(status="interrupted", exit_code=130), "interrupted"),
    ],
)
def test_every_end_has_a_status(store: RunStore, last: Event, status: str) -> None:
    """Each way to end is a status; an unknown price stays unknown."""
    run = store.create(META)
    tell(run, STARTED, last)
    assert summary(run).status == status
    assert summary(run).cost_usd is None


def test_a_crashed_run_is_counted(store: RunStore) -> None:
    """Without an end, the events are counted; an agent that failed and then succeeded is done."""
    run = store.create(META)
    tell(
        run,
        STARTED,
        *(PlanTask(agent=name, group=name, prompt="p") for name in "abcde"),
        AgentStarted(agent="a", model="m", prompt='"type":"agent.failed","agent":"x"'),
        CallCompleted(model="m", purpose="agent", seconds=1, cost_usd=0.5, agent="a"),
        CallCompleted(model="m", purpose="agent", seconds=1, cost_usd=0.25, agent="b"),
        AgentFailed(agent="a", error=Failure(kind="server", message="502")),
        AgentFailed(agent="b", error=Failure(kind="server", message="502")),
        AgentSkipped(agent="c", because="b failed"),
        AgentCompleted(agent="a", output="x", cached=True),
    )
    with run.journal.open("ab") as file:
        file.write(b"0badc0de {torn")
    told = summary(run)
    assert told.status == "crashed"
    assert told.agents == AgentCounts(total=5, done=1, failed=1, skipped=1, cached=1)
    assert told.cost_usd == 0.75
    assert told.duration_s is not None


def test_a_resumed_run_is_unfinished_until_its_new_end(store: RunStore) -> None:
    """The end of an earlier session does not count once the run goes on."""
    run = store.create(META)
    tell(run, STARTED, RunInterrupted(status="interrupted", exit_code=130))
    tell(run, RunStarted(recipe="audit", models={}, resumed=True))
    with run.lock():
        assert summary(run).status == "running"
    assert summary(run).status == "crashed"


def test_the_list_is_newest_first_and_survives_anything(
    store: RunStore, tmp_path: Path, calendar: Calendar
) -> None:
    """Broken folders are rows of their own, strangers are ignored, and nothing raises."""
    fine = store.create(META)
    tell(fine, STARTED, end("ok", 0))
    calendar.pass_by(minutes=1)
    broken = store.create(META)
    broken.meta_path.write_text("{")
    calendar.pass_by(minutes=1)
    odd = store.create(META)
    odd.journal.mkdir()
    make(tmp_path / "state", "20270101-0000-aaaa", "20261399-9999-aaaa", "not-a-run")
    (tmp_path / "state" / "runs" / "README").write_text("hello")
    listed = [(row.id, row.status) for row in store.list()]
    assert listed == [
        ("20270101-0000-aaaa", "unreadable"),
        ("20261399-9999-aaaa", "unreadable"),
        (odd.id, "unreadable"),
        (broken.id, "unreadable"),
        (fine.id, "ok"),
    ]
    assert all(row.problem for row in store.list()[:4])


def test_the_last_unfinished_run(store: RunStore, calendar: Calendar) -> None:
    """`swarm resume` takes the newest run that fell short: not a whole one, not one at work."""
    unfinished, at_work, whole, broken = (
        [store.create(META), calendar.pass_by(minutes=1)][0] for _ in range(4)
    )
    tell(unfinished, STARTED, end("budget", 4))
    tell(whole, STARTED, end("ok", 0))
    broken.meta_path.unlink()
    with at_work.lock():
        assert store.last_unfinished() == unfinished
    assert store.last_unfinished() == at_work
