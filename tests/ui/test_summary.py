"""The last lines of a run."""

import io
from typing import Any

import pytest

from swarmcli.core.events import (
    BY_PROVIDER,
    AgentCancelled,
    BudgetWarning,
    Failure,
    LimitChanged,
    RunCompleted,
    RunEnd,
    RunFailed,
    RunInterrupted,
    RunStarted,
)
from swarmcli.ui.cells import row_cells, text_of
from swarmcli.ui.summary import print_summary, summary_rows
from swarmcli.ui.view import RunView
from tests.ui import runs
from tests.ui.runs import Tape
from tests.ui.test_view import viewed

REPORT = "/home/u/.local/state/swarm/runs/20261121-0915-7k3f/report.html"


def totals(**changes: Any) -> dict[str, Any]:
    """The numbers of `--json` for 305 agents."""
    failures = [{"agent": f"scan[{n}]", "kind": "schema", "message": f"no {n}"} for n in range(12)]
    return {
        "agents": {"total": 305, "done": 292, "failed": 13, "skipped": 0, "cached": 9, "hedged": 0},
        "usage": {"input_tokens": 700_000, "output_tokens": 121_000},
        "cost_usd": 0.74,
        "duration_s": 82.4,
        "speedup": 13.37,
        "critical_path": {"seconds": 82.0, "agents": ["planner", "scan[0]", "judge", "writer"]},
        "failures": [*failures, {"agent": "scan[99]", "kind": "timeout", "message": "x"}],
        **changes,
    }


def told(end: RunEnd, view: RunView | None = None, **options: Any) -> list[str]:
    """The summary as text."""
    rows = summary_rows(end, view or viewed(runs.fan_out(30)), **options)
    assert len(rows) <= 8
    return [text_of(row) for row in rows]


def completed(status: str = "ok", exit_code: int = 0, **changes: Any) -> RunCompleted:
    """A run that wrote a result."""
    return RunCompleted(status=status, exit_code=exit_code, result="x", totals=totals(**changes))


def test_a_whole_summary() -> None:
    """Verdict and price, parallelism, failures by cause, files, and the next command, in this order."""
    assert told(completed("partial", 3), artifacts=[REPORT]) == [
        "! review-diff 7k3f  partial  1m22s  $0.74 of $2.00  305 agents: 283 done, 9 cached, 13 failed",
        "  13.4x: 1m08s of agent time in 5s; critical path planner > scan[0] 4s > judge 0s > writer",
        "  429s: 1",
        "  13 failed: 12 schema, 1 timeout; scan[0]: no 0",
        f"  wrote  {REPORT}",
        "  try the failed ones again: swarm resume 7k3f",
    ]


def test_a_good_run_is_short() -> None:
    """No failures, nothing to resume: the verdict, the speed-up and where to look."""
    agents = {"total": 3, "done": 3, "failed": 0, "skipped": 0, "cached": 0}
    end = completed(agents=agents, failures=[], speedup=2.4, critical_path={})
    lines = told(end, viewed(runs.merging(3)))

    assert lines[0] == "✓ review-diff 7k3f  1m22s  $0.74 of $2.00  3 agents  821k tok"
    assert lines[1].startswith("  2.4x: ")
    assert lines[2:] == ["  details: swarm show 7k3f"]


def test_doubts_and_waste_are_told_where_there_is_room() -> None:
    """Votes and conflicts, who was paid for what, what was of no use; failures and files go first."""
    receipt = {
        "critical_steps": 5,
        "roles": {
            "small": {"calls": 40, "tokens": 9000, "cost_usd": 0.5},
            "large": {"calls": 2, "tokens": 900, "cost_usd": 0.24},
        },
        "unused": {"agents": ["scan[3]"], "tokens": 9, "cost_usd": 0.01},
        "folded": 1,
    }
    votes = {"tasks": 40, "agreed": 38, "escalated": 2}
    conflicts = [{"status": "unresolved"}]
    end = completed("unverified", 5, receipt=receipt, votes=votes, conflicts=conflicts)

    assert told(end, width=140, artifacts=[REPORT])[1:] == [
        "  13.4x: 1m08s of agent time in 5s; 5 critical steps; critical path planner > scan[0] 4s > judge 0s > writer",
        "  votes: 38 agreed, 2 escalated; 1 conflict",
        "  small 40 calls 9.0k tok $0.500, large 2 calls 900 tok $0.240",
        "  429s: 1",
        "  13 failed: 12 schema, 1 timeout; scan[0]: no 0",
        f"  wrote  {REPORT}",
        "  go on: swarm resume 7k3f",
    ]
    assert "  1 agent unused (scan[3]) $0.010; 1 duplicate task" in told(end, width=140)


def test_answers_that_say_too_little_are_no_success() -> None:
    """They stand on the first line, and there is nothing that a resumed run would do again."""
    agents = {"total": 3, "done": 3, "failed": 0, "skipped": 0, "cached": 0}
    doubts = {"insufficient": ["scan[1]"], "rejected": []}
    end = completed("partial", 3, agents=agents, failures=[], doubts=doubts)
    lines = told(end, viewed(runs.merging(3)))

    assert "3 agents: 2 done, 1 insufficient" in lines[0]
    assert lines[-1] == "  details: swarm show 7k3f"


def test_one_agent_has_no_speed_up() -> None:
    """Agent time over wall time says nothing about one agent."""
    agents = {"total": 1, "done": 1}
    view = viewed(runs.merging(1))

    assert told(completed(agents=agents, failures=[], speedup=1.0), view) == [
        "✓ review-diff 7k3f  1m22s  $0.74 of $2.00  1 agent  821k tok",
        "  details: swarm show 7k3f",
    ]


@pytest.mark.parametrize(
    ("end", "verdict", "command"),
    [
        (
            RunInterrupted(status="interrupted", exit_code=130, totals=totals()),
            "■ review-diff 7k3f  stopped by you at 95 %",
            "  go on: swarm resume 7k3f",
        ),
        (
            RunInterrupted(status="interrupted", exit_code=143, totals=totals()),
            "■ review-diff 7k3f  stopped by a signal at 95 %",
            "  go on: swarm resume 7k3f",
        ),
        (
            completed("budget", 4),
            "! review-diff 7k3f  stopped by the budget",
            "  go on: swarm resume 7k3f --max-cost 4",
        ),
        (
            completed("timeout", 124),
            "! review-diff 7k3f  stopped by the timeout",
            "  go on: swarm resume 7k3f",
        ),
    ],
)
def test_a_run_that_was_stopped_says_by_what(end: RunEnd, verdict: str, command: str) -> None:
    """And how to go on."""
    lines = told(end)

    assert lines[0].startswith(verdict)
    assert lines[-1] == command


def test_an_interrupted_run_says_what_is_kept() -> None:
    """Nothing finished is lost."""
    end = RunInterrupted(status="interrupted", exit_code=130, totals=totals())

    assert "292 of 305 kept" in told(end)[0]


def test_a_failed_run_leaves_its_error_to_the_command_line() -> None:
    """`error:` and `hint:` lines are printed there, for every error in the same way."""
    error = Failure(kind="auth", message="401 from openai")
    lines = told(RunFailed(status="failed", exit_code=77, error=error), viewed(runs.begun()))

    assert lines == [
        "✗ review-diff 7k3f  failed  0s  $0.00 of $2.00  0 agents",
        "  go on: swarm resume 7k3f",
    ]


def test_the_commonest_failure_is_told_in_its_own_words() -> None:
    """On one line, without what a terminal would obey; the tree that showed it is gone."""
    failures = [
        {"agent": "a", "kind": "timeout", "message": "late"},
        {"agent": "b", "kind": "network", "message": "\x1b[31mrefused\nby host"},
        {"agent": "c", "kind": "network", "message": "reset"},
    ]
    lines = told(completed("partial", 3, failures=failures))

    assert "  13 failed: 2 network, 1 timeout; b: refused by host" in lines


@pytest.mark.parametrize(
    ("changes", "models", "expected"),
    [
        ({"cost_usd": None}, {"small": runs.MODEL}, "$?"),
        ({"cost_usd": 0.0}, {"small": runs.MODEL}, "$0.00"),
        ({"cost_usd": 0.0003}, {"small": runs.MODEL}, "$0.0003"),
        ({"cost_usd": 0.0}, {"small": "embedded/smollm2"}, None),
    ],
)
def test_money_is_honest(
    changes: dict[str, Any], models: dict[str, str], expected: str | None
) -> None:
    """Unknown is `$?`, not zero; a model of one's own costs none."""
    view = viewed(Tape().add(RunStarted(recipe="r", models=models)))
    first = told(completed(**changes), view)[0]

    assert f"  {expected}  " in first if expected else "$" not in first


def test_missing_totals_are_taken_from_the_events() -> None:
    """An older or shortened log still gives a summary."""
    view = viewed(runs.fan_out(300))
    lines = told(RunCompleted(status="partial", exit_code=3, result="x"), view)

    assert "301 agents: 169 done, 22 cached, 6 failed" in lines[0]
    assert lines[2] == "  6 failed: 6 schema; scan[24]: missing 'severity' after 2 tries"


def test_notes_are_always_shown_and_files_are_counted() -> None:
    """The label of a tiny model stays; of many files the rest is counted; eight lines at most."""
    notes = ["answered by embedded/smollm2, a tiny model: check what it says"]
    lines = told(completed("partial", 3), notes=notes, artifacts=[f"out/{n}.md" for n in range(40)])

    assert f"  {notes[0]}" in lines
    assert "  wrote  out/0.md" in lines
    assert "  wrote  39 more files" in lines
    assert len(lines) == 8


def test_there_are_never_more_than_eight_lines() -> None:
    """What was measured gives way to what must be said and to the files."""
    view = viewed(runs.held_back())
    lines = told(completed("partial", 3), view, notes=["one", "two"], artifacts=["a.md", "b.md"])

    assert lines[2:] == [
        "  13 failed: 12 schema, 1 timeout; scan[0]: no 0",
        "  one",
        "  two",
        "  wrote  a.md",
        "  wrote  b.md",
        "  try the failed ones again: swarm resume 7k3f",
    ]


def test_limits_that_were_met_are_told() -> None:
    """Refusals, how far that slowed the run, other retries and hedges, each only where there were some."""
    slowed = told(completed(), viewed(runs.held_back()))
    refused = LimitChanged(bucket=runs.BUCKET, parallel=30, reason=BY_PROVIDER, pause_s=1.0)
    grown = LimitChanged(bucket=runs.BUCKET, parallel=64, reason="answers come")
    alone = told(completed(), viewed(runs.refused(runs.begun().add(refused, grown), "a")))

    both = runs.held_back().add(
        LimitChanged(bucket="anthropic/x", parallel=64, reason="answers come")
    )

    assert "  429s: 10, slowed to 40 at once; 2 hedged" in slowed
    assert f"  429s: 10, {runs.MODEL} slowed to 40 at once; 2 hedged" in told(
        completed(), viewed(both)
    )
    assert "  429s: 1, slowed to 30 at once" in alone
    assert not any("429" in line for line in told(completed(), viewed(runs.merging(3))))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"estimate": {"cost_usd": 0.9, "tokens": 9}}, "$0.74 of $2.00 (estimated $0.90)"),
        ({"estimate": {"cost_usd": None, "tokens": 9}}, "$0.74 of $2.00"),
        ({"estimate": {"cost_usd": 0.0, "tokens": 0}}, "$0.74 of $2.00"),
        ({"cost_usd": None, "booked": {"cost_usd": 0.8, "tokens": 9}}, "~$0.80 of $2.00"),
        ({"cost_usd": None, "booked": {"cost_usd": None, "tokens": 9}}, "$? of $2.00"),
    ],
)
def test_the_estimate_stands_beside_what_it_became(changes: dict[str, Any], expected: str) -> None:
    """A cost with a guess in it is marked as one; without a price there is no number at all."""
    assert f"  {expected}  305 agents" in told(completed(**changes), width=200)[0]


def test_the_first_line_loses_whole_facts_where_it_is_narrow() -> None:
    """First the tokens, then the estimate, then what became of the other agents."""
    end = completed(estimate={"cost_usd": 0.9, "tokens": 9})

    assert told(end, width=200)[0].endswith("13 failed  821k tok")
    assert told(end, width=104)[0].endswith(
        "(estimated $0.90)  305 agents: 283 done, 9 cached, 13 failed"
    )
    assert told(end, width=90)[0].endswith("$2.00  305 agents: 283 done, 9 cached, 13 failed")
    assert told(end, width=75)[0].endswith("$2.00  292 of 305 agents done")
    assert told(end, width=50)[0].endswith("of $2.00")


@pytest.mark.parametrize(
    ("note", "command"),
    [
        ("the next call may take 900 tokens and pass max_tokens 5,000", "--max-tokens 9800"),
        ("the next call may cost $1 and pass max_cost_usd $2", "--max-cost 6.2"),
    ],
)
def test_after_a_cap_the_next_command_raises_that_cap(note: str, command: str) -> None:
    """To twice what was booked, so that the resumed run is not stopped at once."""
    view = viewed(runs.begun().add(BudgetWarning(message=note)))
    end = completed("budget", 4, booked={"cost_usd": 3.1, "tokens": 4900})

    assert told(end, view)[-1] == f"  go on: swarm resume 7k3f {command}"


def test_a_cap_that_no_flag_raises_is_named() -> None:
    """`limits.max_calls` stands in the recipe only."""
    view = viewed(runs.begun().add(BudgetWarning(message="max_calls 100 is reached: 100 sent")))

    assert "limits.max_calls in the recipe" in told(completed("budget", 4), view)[-1]


def test_the_cap_that_stopped_the_agents_is_named() -> None:
    """Not what the budget said last: the writer may have used the rest."""
    view = viewed(runs.begun().add(BudgetWarning(message="100% of the budget is used")))
    turned_away = {"agent": "b", "kind": "budget", "message": "max_calls 4 is reached: 3 calls"}
    end = completed("budget", 4, failures=[turned_away], booked={"cost_usd": 0.4, "tokens": 480})

    assert "limits.max_calls in the recipe" in told(end, view)[-1]


def test_a_cancelled_agent_adds_no_agent_time() -> None:
    """Most of its time it may have stood in a queue; the speed-up of `--json` does not count it either."""
    tape = runs.begun().started("a").started("b").at(4.0).done("a", 4.0)
    view = viewed(tape.at(60.0).add(AgentCancelled(agent="b", because="timeout")))
    end = completed("timeout", 124, speedup=1.0, agents={"total": 2, "done": 1}, critical_path={})

    assert "  1.0x: 4s of agent time in 4s" in told(end, view)


def test_the_times_are_those_of_the_receipt() -> None:
    """So the summary says what `--json` and `swarm show` say, also where the speed-up is rounded to two digits."""
    view = viewed(runs.begun().started("a").at(4.0).done("a", 4.0))
    receipt = {"agent_s": 12.0, "wall_s": 276.0}
    end = completed("timeout", 124, speedup=0.04, receipt=receipt, critical_path={})

    assert "  0.0x: 12s of agent time in 4m36s" in told(end, view)


def test_facts_fit_the_window_and_paths_are_never_cut() -> None:
    """A cut path is of no use; it may wrap."""
    rows = summary_rows(completed(), viewed(runs.fan_out(30)), width=50, artifacts=[REPORT])
    texts = [text_of(row) for row in rows]

    assert f"  wrote  {REPORT}" in texts
    assert all(row_cells(row) <= 50 for row in rows if "wrote" not in text_of(row))


def test_ascii_has_no_other_glyphs() -> None:
    """For streams that cannot take them."""
    for end in (completed(), RunFailed(status="failed", exit_code=1, totals=totals())):
        assert "".join(told(end, ascii=True, width=40)).isascii()


@pytest.mark.parametrize(
    "bad",
    [
        {"agents": None, "usage": [], "critical_path": "x", "failures": {}, "speedup": "fast"},
        {"agents": {"total": "many"}, "duration_s": None, "cost_usd": "cheap", "failures": [1]},
        {"critical_path": {"agents": [1, None, {}] * 5}},
    ],
)
def test_odd_totals_break_nothing(bad: dict[str, Any]) -> None:
    """The summary is the last thing a user sees: it must not be a traceback."""
    assert told(completed(**bad))


def test_it_is_printed_with_colours_where_wanted_and_never_fails() -> None:
    """A closed stderr is no error any more."""
    out, closed = io.StringIO(), io.StringIO()
    closed.close()
    rows = summary_rows(completed(), viewed(runs.fan_out(30)))
    print_summary(rows, out, color=True)
    print_summary(rows, closed, color=True)

    assert out.getvalue().startswith("\x1b[32m✓ \x1b[0m\x1b[1mreview-diff 7k3f\x1b[0m")
    assert out.getvalue().endswith("\n")
