"""Which rows a run shows, in windows of every size."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from swarmcli.core.events import (
    BY_PROVIDER,
    AgentCancelled,
    AgentCompleted,
    AgentFailed,
    AgentSkipped,
    AgentStarted,
    AgentUpdated,
    BudgetWarning,
    CallCompleted,
    CallFailed,
    CallHedged,
    CallRetry,
    CallStarted,
    ConflictFound,
    CriticJudged,
    Event,
    Failure,
    LimitChanged,
    LimitWaiting,
    MergeCompleted,
    MergeStarted,
    ModeChosen,
    PlanReady,
    PlanRevised,
    PlanStarted,
    PlanTask,
    RunFailed,
    RunStarted,
    ToolCompleted,
    ToolStarted,
    TurnCompleted,
    Usage,
    VoteTallied,
    Warned,
)
from swarmcli.ui.cells import row_cells, text_of
from swarmcli.ui.steps import State
from swarmcli.ui.view import RunView
from tests.effort import calls
from tests.ui import golden, runs
from tests.ui.runs import MODEL, Tape
from tests.ui.test_clean import ANY_TEXT, UNSAFE

ASKING = {State.RUNNING, State.RETRYING}
WINDOWS = ((120, 30, False), (80, 24, False), (48, 14, False), (80, 24, True))


def viewed(tape: Tape) -> RunView:
    """A view that has seen the tape."""
    view = RunView()
    for stamped in tape.stamped:
        view.feed(stamped)
    return view


def screen(view: RunView, width: int, height: int, now_t: float, *, ascii: bool = False) -> str:
    """The rows as text; each must fit, and all of them must."""
    rows = view.rows(width, height, now_t, ascii=ascii)
    assert len(rows) <= height - 1
    for row in rows:
        assert row_cells(row) <= width
        assert "\n" not in text_of(row)
    return "".join(f"{text_of(row).rstrip()}\n" for row in rows)


def planning() -> Tape:
    """The planner is streaming: three tasks are known, one of them runs already."""
    tape = runs.begun().add(PlanStarted(model=MODEL), CallStarted(model=MODEL, purpose="planner"))
    for index in (1, 2, 3):
        tape.at(index).add(
            PlanTask(agent=f"t{index}", group=f"t{index}", prompt=f"Look at {index}.")
        )
    return tape.started("t1")


def pipeline() -> Tape:
    """`check[i]` starts as soon as `scan[i]` is done: two steps are live at once, and a limit holds calls back."""
    tape = runs.begun()
    for step in ("scan", "check"):
        for index in range(60):
            needs = (f"scan[{index}]",) if step == "check" else ()
            prompt = f"{step} {{{{ item }}}}"
            tape.add(
                PlanTask(agent=f"{step}[{index}]", group=step, prompt=prompt, depends_on=needs)
            )
    tape.add(PlanReady(tasks=120))
    for index in range(30):
        tape.at(index / 10).started(f"scan[{index}]")
    for index in range(12):
        tape.at(6 + index / 10).done(f"scan[{index}]").started(f"check[{index}]")
    tape.at(8)
    for index in range(30, 36):
        tape.add(AgentStarted(agent=f"scan[{index}]", model=MODEL, prompt=f"scan src/{index}.py"))
    return tape.add(LimitWaiting(bucket="openai/*", waiting=6, reason="500 rpm"))


def troubled() -> Tape:
    """Everything that can happen to an agent, in a resumed run whose price is unknown."""
    names = ("kept", "cached", "broken", "after", "stopped", "thin", "slow")
    tape = Tape().add(
        RunStarted(recipe="mixed", models={"small": MODEL, "large": "acme/x"}, resumed=True)
    )
    for name in names:
        tape.add(PlanTask(agent=f"job[{name}]", group="job", prompt="{{ item }}"))
    tape.add(PlanReady(tasks=len(names)))
    tape.add(AgentStarted(agent="job[kept]", model=MODEL))
    tape.add(AgentCompleted(agent="job[kept]", output="", model=MODEL, reused=True, cost_usd=0.5))
    tape.done("job[cached]", cached=True)
    tape.started("job[broken]").started("job[stopped]").started("job[thin]").started("job[slow]")
    fault = Failure(kind="schema", message="missing 'severity'\nafter 2 tries")
    tape.at(3).add(
        AgentFailed(agent="job[broken]", error=fault, model=MODEL, seconds=3.0),
        AgentSkipped(agent="job[after]", because="job[broken] failed"),
        AgentCancelled(agent="job[stopped]", because="interrupted"),
        CallCompleted(model="acme/x", purpose="agent", seconds=3.0, agent="job[thin]"),
        AgentCompleted(agent="job[thin]", output="?", status="insufficient", seconds=3.0),
        ConflictFound(key="price", values=[1, 2]),
    )
    runs.refused(tape, "job[slow]", attempt=2, kind="server")
    return tape.add(MergeStarted(strategy="write", agents=2))


SCENES: dict[str, tuple[Callable[[], Tape], float]] = {
    "0-agents": (runs.begun, 1.2),
    "planning": (planning, 4.0),
    "1-agent": (lambda: runs.plan_of(1), 6.0),
    "3-agents": (lambda: runs.fan_out(3, 9.0), 9.0),
    "8-tasks": (lambda: runs.plan_of(8), 9.0),
    "30-agents": (lambda: runs.fan_out(30), 40.0),
    "300-agents": (lambda: runs.fan_out(300), 40.0),
    "1000-agents": (lambda: runs.fan_out(1000), 40.0),
    "pipeline": (pipeline, 9.0),
    "held-back": (runs.held_back, 12.0),
    "troubled": (troubled, 5.0),
    "doubted": (runs.doubted, 6.0),
    "merging": (lambda: runs.merging(300), 6.0),
}


@pytest.mark.parametrize("scene", SCENES)
def test_screens_look_as_reviewed(scene: str) -> None:
    """The rows of each run in four windows are those that a person has looked at."""
    make, now_t = SCENES[scene]
    view = viewed(make())
    shots = [
        f"== {width}x{height}{' ascii' if plain else ''}\n"
        + screen(view, width, height, now_t, ascii=plain)
        for width, height, plain in WINDOWS
    ]

    golden.check(scene, "\n".join(shots))


@pytest.mark.parametrize("scene", SCENES)
def test_rows_fit_into_every_window(scene: str) -> None:
    """No window is too small: rows are cut or left out, never wrapped."""
    make, now_t = SCENES[scene]
    view = viewed(make())

    for width in (1, 2, 5, 11, 23, 39, 40, 59, 60, 99, 100, 109, 110, 250):
        for height in (0, 1, 2, 3, 4, 5, 7, 9, 12, 60):
            if height > 0:
                screen(view, width, height, now_t)
            else:
                assert view.rows(width, height, now_t) == []


@pytest.mark.parametrize("scene", SCENES)
def test_ascii_rows_are_ascii(scene: str) -> None:
    """Also where a model's own words are not."""
    make, now_t = SCENES[scene]

    assert screen(viewed(make()), 100, 40, now_t, ascii=True).isascii()


def test_the_header_names_the_recipe_and_counts_all_agents() -> None:
    """Scripts that watch a terminal find `n/300` beside the recipe's name."""
    tape = runs.begun()
    for index in range(300):
        tape.add(PlanTask(agent=f"scan[{index}]", group="scan", prompt="x"))
    for index in range(300):
        tape.started(f"scan[{index}]")
    for index in range(7):
        tape.done(f"scan[{index}]")

    for width in (40, 48, 80, 120):
        header = screen(viewed(tape), width, 24, 5.0).splitlines()[0]
        assert "review" in header
        assert "7/300" in header


def test_failures_and_retries_are_shown_before_what_runs_well() -> None:
    """Newest failures first, then who had to try again first, then the agents that run longest."""
    view = viewed(runs.fan_out(300))
    ids = [line.split()[2] for line in screen(view, 120, 30, 40.0).splitlines()[3:14]]

    assert ids[:6] == ["scan[198]", "scan[169]", "scan[140]", "scan[19]", "scan[203]", "scan[226]"]


def test_every_agent_is_somewhere_on_the_screen() -> None:
    """Rows and the line of the others add up to all agents of the step."""
    view = viewed(runs.fan_out(300))
    lines = screen(view, 120, 30, 40.0).splitlines()
    rest = next(line for line in lines if "├─ …" in line)
    hidden = sum(int(word) for word in rest.replace(",", " ").split() if word.isdigit())
    shown = sum("scan[" in line for line in lines)
    strip = "".join(line[3:] for line in lines[lines.index(rest) + 1 : -1])

    assert hidden + shown == 300
    assert len(strip) == 300


def test_counters_agree_with_the_agents() -> None:
    """The incremental counts are what a count from scratch would give, in each step and in all."""
    for make, _ in SCENES.values():
        view = viewed(make())
        agents = list(view.agents.values())
        for state in State:
            assert view.counts[state] == sum(a.state is state for a in agents)
        for step in view.steps():
            letters = bytes(step.cells).decode()
            assert letters == "".join(a.state for a in step.agents)
            assert set(step.started) == {a.id for a in step.agents if a.state is State.STARTED}
            assert set(step.asking) == {a.id for a in step.agents if a.state in ASKING}
            assert set(step.troubled) <= set(step.asking)
            assert step.ended == sum(letters.count(s) for s in "dcufkx")


def test_a_retry_counts_down_and_then_asks_now() -> None:
    """The row says how long to wait and which attempt comes."""
    tape = runs.begun().add(PlanTask(agent="a", group="a", prompt="x")).started("a").at(1.0)
    view = viewed(runs.refused(tape, "a"))

    assert "429, retry in 8s (2/5)" in screen(view, 80, 24, 1.0)
    assert "429, retry in 3s (2/5)" in screen(view, 80, 24, 6.5)
    assert "429, retry now (2/5)" in screen(view, 80, 24, 9.5)
    tape.add(LimitWaiting(bucket="m", waiting=9, reason="4 at once"))
    assert "429, waits for a slot (2/5)" in screen(viewed(tape), 80, 24, 9.5)


def test_a_note_can_be_read_before_the_next_one_comes() -> None:
    """A row changes at most twice a second, and ends with the latest note."""
    tape = runs.begun().started("a")
    for index in range(10):
        tape.at(1 + index / 20).add(AgentUpdated(agent="a", note=f"note {index}"))
    view = viewed(tape)

    assert "note 0" in screen(view, 80, 24, 1.45)
    assert "note 9" in screen(view, 80, 24, 1.5)


def test_money_is_unknown_once_a_price_is() -> None:
    """A completed call without a price makes the sum `$?`, not zero; a cached or local one does not."""
    free = CallCompleted(model="embedded/smollm2", purpose="agent", seconds=1.0, agent="a")
    cached = CallCompleted(model="acme/x", purpose="agent", seconds=0.0, cached=True, agent="a")
    unknown = CallCompleted(model="acme/x", purpose="agent", seconds=1.0, agent="a")

    assert viewed(runs.begun().add(free, cached)).money() == "$0.00/$2.00"
    assert viewed(runs.begun().add(free, cached, unknown)).money() == "$?/$2.00"


def test_local_models_show_no_money() -> None:
    """Where every model runs on this machine there is no cost to show."""
    tape = Tape().add(RunStarted(recipe="r", models={"small": "embedded/smollm2"})).started("a")

    assert "$" not in screen(viewed(tape), 120, 24, 1.0)


def test_a_reused_agent_costs_nothing_again() -> None:
    """What an earlier session paid is not part of this one's spending."""
    view = viewed(troubled())

    assert view.spend.cost_usd == 0.0
    assert "done before" in screen(view, 120, 30, 5.0)


def test_cost_is_taken_from_the_agent_where_its_calls_were_not_seen() -> None:
    """A shortened event log still adds up, and nothing is counted twice."""
    done = AgentCompleted(
        agent="a",
        output="",
        model=MODEL,
        tokens=Usage(input_tokens=7, output_tokens=3),
        cost_usd=0.25,
    )
    alone = viewed(runs.begun().add(AgentStarted(agent="a", model=MODEL), done))
    both = viewed(runs.begun().started("a").done("a"))

    assert (alone.spend.tokens, alone.spend.cost_usd) == (10, 0.25)
    assert (both.spend.tokens, both.spend.cost_usd) == (1030, 0.0012)


def test_a_limit_that_holds_calls_back_has_a_line_for_as_long_as_it_does() -> None:
    """And a little longer, so that a line does not flicker when somebody waits every now and then."""
    tape = pipeline()
    before = screen(viewed(tape), 100, 24, 9.0)
    view = viewed(tape.at(9.0).add(LimitWaiting(bucket="openai/*", waiting=0, reason="")))

    assert before.splitlines()[-1] == "↻ openai/*: 500 rpm, 6 wait"
    assert "6 waiting" in before.splitlines()[1]
    assert "waiting" not in screen(view, 80, 24, 11.9)
    assert "openai/*: 500 rpm" in screen(view, 80, 24, 11.9)
    assert "openai/*" not in screen(view, 80, 24, 12.1)


def test_a_limit_without_room_for_a_line_stands_in_the_header() -> None:
    """In a window of a few lines it takes the place of the step."""
    header = screen(viewed(pipeline()), 100, 5, 9.0).splitlines()[0]

    assert "openai/*: 500 rpm, 6 wait" in header


def test_a_pause_counts_down_and_then_says_what_was_learnt() -> None:
    """After it the line tells how many requests are let out at once."""
    tape = runs.begun().started("a").at(1.0)
    tape.add(
        LimitChanged(bucket=runs.BUCKET, parallel=40, reason=BY_PROVIDER, pause_s=8.0),
        LimitWaiting(bucket=runs.BUCKET, waiting=212, reason=BY_PROVIDER),
        LimitWaiting(bucket=runs.BUCKET, waiting=212, reason="39 at once"),
    )
    view = viewed(tape)

    assert f"↻ {MODEL}: 40 at once, 429: paused 8s, 212 wait" in screen(view, 80, 24, 1.0)
    assert f"↻ {MODEL}: 40 at once, 429: paused 3s, 212 wait" in screen(view, 80, 24, 6.5)
    assert f"↻ {MODEL}: 40 at once, 212 wait" in screen(view, 80, 24, 9.5)


def test_many_limits_take_three_lines() -> None:
    """The first ones keep their places, the others are counted; two addresses of a model are told apart."""
    tape = runs.begun().started("a")
    for name in ("a/m @ http://one", "a/m @ http://two", "b/m", "c/m", "d/m"):
        tape.add(LimitWaiting(bucket=name, waiting=3, reason="9 at once"))
    lines = screen(viewed(tape), 80, 24, 1.0).splitlines()

    assert lines[-3:] == [
        "↻ a/m @ http://one: 9 at once, 3 wait",
        "↻ a/m @ http://two: 9 at once, 3 wait",
        "… 3 more limits, 9 wait",
    ]


def test_a_hedged_call_is_shown_until_one_of_the_two_is_answered() -> None:
    """The row and the counters say so; a 429 for one of the two is no wait, for the other one goes on."""
    tape = runs.begun().started("a").started("b").at(9.0)
    tape.add(CallHedged(model=MODEL, to="acme/m", after_s=9.0, agent="a"))
    tape.add(CallStarted(model="acme/m", purpose="agent", agent="a"))
    out_twice = screen(viewed(runs.refused(tape, "a")), 80, 24, 9.0)
    answered = screen(viewed(tape.at(10.0).done("a", 10.0)), 80, 24, 10.0)

    assert "a  hedged x2  Review the file of a." in out_twice
    assert "1 hedged" in out_twice.splitlines()[1]
    assert "waiting" not in out_twice
    assert "hedged x2" not in answered
    assert "1 hedged" in answered.splitlines()[1]


def test_an_agent_waits_only_while_none_of_its_voters_is_at_work() -> None:
    """One voter is turned away while another one answers; then only the first is left, and its wait is the row's."""
    tape = runs.begun().started("a").add(CallStarted(model="acme/m", purpose="agent", agent="a"))
    answered = CallCompleted(model="acme/m", purpose="agent", seconds=2.0, agent="a")
    turned_away = viewed(runs.refused(tape.at(1.0), "a"))
    alone = viewed(tape.at(2.0).add(answered))
    gone = CallFailed(model=MODEL, purpose="agent", kind="rate_limit", agent="a")
    asks = viewed(tape.at(9.0).add(CallStarted(model=MODEL, purpose="agent", attempt=2, agent="a")))
    escalates = viewed(tape.add(gone, AgentUpdated(agent="a", note="asks large")))

    assert [view.agents["a"].state for view in (turned_away, alone, asks, escalates)] == [
        State.RUNNING, State.RETRYING, State.RUNNING, State.RUNNING,
    ]  # fmt: skip
    assert (turned_away.waiting, alone.waiting) == (0, 1)
    assert "429, retry in 7s (2/5)" in screen(alone, 80, 24, 2.0)


def test_rows_stand_still_in_a_storm_of_refusals() -> None:
    """While 300 agents are refused again and again and none ends, every row stays where it is."""
    view = RunView()
    frames = set[tuple[str, ...]]()
    next_t = 10.0
    for stamped in runs.storm().stamped:
        while stamped.t > next_t:
            rows = screen(view, 120, 28, next_t).splitlines()
            names = (re.findall(r"scan\[\d+\]|openai/\S+:", row) for row in rows)
            frames.add(tuple(name[0] if name else "" for name in names))
            next_t += 0.125
        view.feed(stamped)

    assert len(frames) == 1
    assert "openai/gpt-5-mini:" in frames.pop()


def test_a_failed_call_that_was_charged_is_part_of_the_money() -> None:
    """Known where the provider counted, a guess where only the budget did, unknown without a price."""
    said = Usage(input_tokens=90, output_tokens=10)

    def money(**booked: Any) -> str:
        failed = CallFailed(model="acme/x", purpose="agent", agent="a", kind="truncated", **booked)
        return viewed(runs.begun().started("a").add(failed)).money()

    assert money(booked_usd=0.25, tokens=said) == "$0.25/$2.00"
    assert money(booked_usd=0.25) == "~$0.25/$2.00"
    assert money(booked_usd=None) == "$?/$2.00"
    assert money() == "$0.00/$2.00"


def test_tasks_appear_while_the_planner_is_still_answering() -> None:
    """The plan's step says how many tasks are known, and the first one runs already."""
    shown = screen(viewed(planning()), 100, 24, 4.0)

    assert "plan  3 tasks so far" in shown
    assert "t1" in shown


def test_the_agents_of_a_growing_plan_keep_their_place() -> None:
    """Below the plan, with their rows, also when all that are known have ended and the next one is not there yet."""
    tape = planning()
    working = screen(viewed(tape), 80, 24, 4.0)
    for name in ("t1", "t2", "t3"):
        tape.at(tape.t + 1).done(name)
    idle = screen(viewed(tape), 80, 24, 7.0)
    planned = screen(viewed(tape.add(PlanReady(tasks=3, seconds=7.0, plan={}))), 80, 24, 7.0)

    def rows(shown: str) -> list[str]:
        return re.findall(r"plan|agents|t\d", "\n".join(shown.splitlines()[2:]))

    assert rows(working) == rows(idle) == ["plan", "agents", "t1", "t2", "t3"]
    assert "✓ agents" not in idle
    assert "✓ agents  3/3" in planned


def test_a_reason_that_would_be_cut_takes_the_place_of_the_model() -> None:
    """Why an agent failed says more than who it asked; a short reason stands beside it."""
    tape = runs.begun().started("a").started("b")
    why = "openai refused the request (400): 'messages' is not a list of objects"
    tape.add(AgentFailed(agent="a", error=Failure(kind="bad", message=why), model=MODEL, seconds=3))
    tape.add(AgentFailed(agent="b", error=Failure(kind="bad", message=""), model=MODEL, seconds=3))
    shown = screen(viewed(tape), 100, 24, 4.0).splitlines()

    assert any(why in row and "gpt-5-mini" not in row for row in shown)
    assert any("b  bad" in row and "gpt-5-mini" in row for row in shown)


def test_a_repair_turn_says_what_was_wrong() -> None:
    """The planner's second try shows the exact fault of the first."""
    tape = planning().add(PlanStarted(model=MODEL, repair="task t2 needs t9, which does not exist"))

    assert "repair: task t2 needs t9" in screen(viewed(tape), 100, 24, 4.0)


def test_a_revision_goes_on_counting_where_the_planner_had_stopped() -> None:
    """The time of the agents in between is not the planner's; the row says why it is asked again."""
    tape = planning().add(PlanReady(tasks=3, seconds=4.0, plan={}))
    tape.at(30.0).add(PlanStarted(model=MODEL, revision="t2 failed (schema)"))
    row = screen(viewed(tape), 80, 24, 32.0).splitlines()[2]

    assert "plan  revision: t2 failed (schema)  " in row
    assert row.endswith(" 6s")


def test_a_merge_is_announced_only_where_a_model_will_write_it() -> None:
    """A plan with several answers is written up; the line output of a fan-out is put together by code."""
    tape = planning().add(PlanReady(tasks=3, seconds=4.0, plan={}))
    fixed = runs.fan_out(3, 9.0)

    assert "next: merge" in screen(viewed(tape), 100, 24, 5.0)
    assert "merge" not in screen(viewed(fixed), 100, 24, 9.0)


def test_a_task_that_the_revised_plan_took_back_is_not_waited_for() -> None:
    """Whatever became of it, it counts as skipped; one that is to run again waits for its turn."""
    revised = PlanRevised(removed=("sum", "half", "unheard-of"), added=("half",))
    view = viewed(runs.doubted().add(revised))

    states = [view.agents[name].state for name in ("idle", "sum", "half")]
    assert states == [State.SKIPPED, State.SKIPPED, State.QUEUED]
    assert view.agents["sum"].outcome == "left out of the revised plan"
    assert view.ended == 4


def test_the_judge_has_a_row_for_as_long_as_a_question_is_out() -> None:
    """Two conflicts are asked about; an answer from the cache was no question, a failed one is over."""
    tape = runs.doubted()
    judge = {"model": MODEL, "purpose": "judge"}
    tape.at(7.0).add(CallCompleted(**judge, seconds=0, cached=True))
    tape.add(CallCompleted(**judge, seconds=2, tokens=Usage(input_tokens=70), cost_usd=0.001))
    out = viewed(tape)
    over = viewed(tape.at(8.0).add(CallFailed(**judge, kind="server")))

    assert out.judge.is_live
    assert "judge  2 conflicts" in screen(out, 100, 30, 7.0)
    assert (over.judge.is_live, over.judge.seconds, over.judge.spend.tokens) == (False, 3.0, 70)


def test_the_judge_is_at_work_while_its_question_waits_for_another_attempt() -> None:
    """Nothing is out then, and the row says for how long; the answer ends it."""
    judge = {"model": MODEL, "purpose": "judge"}
    tape = runs.begun().add(CallStarted(**judge)).at(2.0).add(CallFailed(**judge, kind="server"))
    tape.add(CallRetry(**judge, attempt=1, max=5, delay_s=4.0, kind="server"))
    waits = viewed(tape)
    tape.at(6.0).add(CallStarted(**judge, attempt=2)).at(9.0)
    over = viewed(tape.add(CallCompleted(**judge, seconds=3.0)))

    assert waits.judge.is_live
    assert "judge  server error, retry in 3s (2/5)" in screen(waits, 100, 30, 3.0)
    assert (over.judge.is_live, over.judge.seconds) == (False, 9.0)


def test_a_resumed_run_says_so() -> None:
    """The header of a second session differs from the first one's."""
    header = screen(viewed(troubled()), 80, 24, 5.0).splitlines()[0]

    assert header.startswith("mixed  7k3f resumed  6/7")


def test_the_money_turns_yellow_near_the_cap() -> None:
    """At four fifths of the cap."""
    paid = CallCompleted(model=MODEL, purpose="agent", seconds=1.0, cost_usd=0.8, agent="a")

    def style(calls: int) -> str:
        row = viewed(runs.begun().add(*[paid] * calls)).rows(80, 24, 5.0)[0]
        return next(span.style for span in row if "$" in span.text)

    assert [style(1), style(2)] == ["", "warn"]


def test_a_duplicate_task_is_answered_by_its_twin() -> None:
    """A folded task never runs: it counts as cached and names the task that stands for it."""
    tape = planning().add(PlanReady(tasks=2, folded={"t3": "t2"}, seconds=4.0, plan={}))
    view = viewed(tape)

    assert view.counts[State.CACHED] == 1
    assert "same as t2" in screen(view, 100, 24, 4.0)


def test_a_task_of_a_corrected_plan_starts_afresh() -> None:
    """Cancelled with the broken draft, announced again by the corrected plan: it is queued."""
    tape = planning().add(AgentCancelled(agent="t2", because="the corrected plan does not hold it"))
    tape.add(PlanTask(agent="t2", group="t2", prompt="Look again."))

    assert viewed(tape).agents["t2"].state is State.QUEUED


def test_named_steps_of_a_fixed_graph_stand_alone_and_many_are_pooled() -> None:
    """A few single tasks are steps with names; a crowd of them is one step `agents`."""
    few, many = runs.begun(), runs.begun()
    for index in range(3):
        few.add(PlanTask(agent=f"t{index}", group=f"t{index}", prompt="x"))
    for index in range(9):
        many.add(PlanTask(agent=f"t{index}", group=f"t{index}", prompt="x"))

    assert [step.name for step in viewed(few).steps()] == ["t0", "t1", "t2"]
    assert [step.name for step in viewed(many).steps()] == ["agents"]


def test_the_estimate_is_coarse_and_comes_late() -> None:
    """Five agents must have ended, and the time is rounded to five seconds."""
    tape = runs.begun()
    for index in range(20):
        tape.add(PlanTask(agent=f"s[{index}]", group="s", prompt="x"))
    for index in range(20):
        tape.at(index * 2.0).started(f"s[{index}]")
        if index < 4:
            tape.at(index * 2.0 + 2).done(f"s[{index}]")
    early = screen(viewed(tape), 100, 24, 40.0)
    tape.at(41.0).done("s[4]")
    late = screen(viewed(tape), 100, 24, 41.0)

    assert "eta" not in early
    assert "eta ~" in late
    assert viewed(tape).eta_s(41.0) == pytest.approx(41 / 5 * 15)
    assert viewed(tape).eta_s(41 + 41 / 5 * 15) is None, "it did not hold"


def test_finished_steps_fold_when_the_window_is_small() -> None:
    """Six finished steps take one row where the live one needs the space."""
    tape = runs.begun()
    for name in "abcdef":
        tape.add(*(PlanTask(agent=f"{name}[{i}]", group=name, prompt="x") for i in range(2)))
    for name in "abcde":
        for index in range(2):
            tape.started(f"{name}[{index}]").at(tape.t + 1).done(f"{name}[{index}]")
    tape.started("f[0]")

    assert "5 steps done" in screen(viewed(tape), 80, 9, 12.0)
    assert "5 steps done" not in screen(viewed(tape), 80, 24, 12.0)


def test_an_agent_that_runs_far_beyond_the_others_changes_colour() -> None:
    """Twice the median is a warning, four times is late; the words stay the same."""
    tape = runs.begun()
    for index in range(7):
        tape.add(PlanTask(agent=f"s[{index}]", group="s", prompt="x")).started(f"s[{index}]")
    tape.at(4.0)
    for index in range(6):
        tape.done(f"s[{index}]")
    view = viewed(tape)

    def style(now_t: float) -> str:
        row = next(r for r in view.rows(80, 24, now_t) if "s[6]" in text_of(r))
        return row[-1].style

    assert [style(6.0), style(9.0), style(17.0)] == ["dim", "warn", "late"]


@pytest.mark.parametrize(
    ("tape", "most"),
    [(runs.fan_out(1000), 7_500), (runs.storm(300), 7_500), (runs.fan_out(10_000), 16_000)],
    ids=["calm", "storm", "huge"],
)
def test_a_frame_is_cheap(tape: Tape, most: int) -> None:
    """So many function calls for a thousand agents, or a storm of 429s; of ten thousand, nothing walks over all."""
    view = viewed(tape)

    assert calls(lambda: view.rows(120, 40, 40.0)) < most


AGENTS = st.sampled_from(["a", "b", "scan[0]", "scan[1]", "scan[2]", "check[0]"])
USAGE = st.none() | st.builds(
    Usage, input_tokens=st.integers(0, 10**9), output_tokens=st.integers(0, 10**6)
)
MONEY = st.none() | st.floats(0, 1000)
SECONDS = st.floats(0, 10_000)
PURPOSES = st.sampled_from(["planner", "agent", "judge", "writer"])
WHO = st.none() | AGENTS


def event_of(text: st.SearchStrategy[str]) -> st.SearchStrategy[Event]:
    """Any event, with any text wherever foreign text can stand."""
    failure = st.builds(Failure, kind=text, message=text)
    positions = st.fixed_dictionaries({"value": text}, optional={"agents": st.lists(text)})
    return st.one_of(
        st.builds(RunStarted, recipe=text, models=st.dictionaries(text, text, max_size=2)),
        st.builds(ModeChosen, mode=text, reason=text),
        st.builds(PlanStarted, model=text, repair=st.none() | text, revision=st.none() | text),
        st.builds(PlanTask, agent=AGENTS, group=AGENTS, prompt=text, depends_on=st.tuples(AGENTS)),
        st.builds(
            PlanReady, tasks=st.integers(0, 9), folded=st.dictionaries(AGENTS, text, max_size=2)
        ),
        st.builds(AgentStarted, agent=AGENTS, model=text, prompt=text),
        st.builds(AgentUpdated, agent=AGENTS, note=text),
        st.builds(
            AgentCompleted, agent=AGENTS, output=text, status=text, model=text, cached=st.booleans(),
            reused=st.booleans(), tokens=USAGE, cost_usd=MONEY, seconds=SECONDS,
        ),
        st.builds(AgentFailed, agent=AGENTS, error=failure, model=text, seconds=SECONDS),
        st.builds(AgentSkipped, agent=AGENTS, because=text),
        st.builds(AgentCancelled, agent=AGENTS, because=text),
        st.builds(CallStarted, model=text, purpose=PURPOSES, agent=WHO),
        st.builds(
            CallCompleted, model=text, purpose=PURPOSES, seconds=SECONDS, tokens=USAGE,
            cost_usd=MONEY, cached=st.booleans(), agent=WHO,
        ),
        st.builds(
            CallRetry, model=text, purpose=PURPOSES, attempt=st.integers(1, 9), max=st.integers(1, 9),
            delay_s=SECONDS, kind=text, message=text, agent=WHO,
        ),
        st.builds(LimitWaiting, bucket=text, waiting=st.integers(0, 999), reason=text),
        st.builds(
            LimitChanged, bucket=text, parallel=st.integers(0, 99), reason=text,
            pause_s=SECONDS | st.just(float("inf")),
        ),
        st.builds(
            CallFailed, model=text, purpose=PURPOSES, kind=text | st.just("rate_limit"),
            booked_usd=MONEY, tokens=USAGE, agent=WHO,
        ),
        st.builds(CallHedged, model=text, to=text, after_s=SECONDS, agent=WHO),
        st.builds(TurnCompleted, agent=AGENTS, key=text, output=text),
        st.builds(ToolStarted, agent=AGENTS, tool=text, call=text),
        st.builds(ToolCompleted, agent=AGENTS, tool=text, call=text),
        st.builds(BudgetWarning, message=text),
        st.builds(ConflictFound, key=text, values=text | st.lists(positions, max_size=6)),
        st.builds(
            VoteTallied, agent=AGENTS, rule=text, agreed=st.booleans(), escalated=st.booleans(), value=st.none() | text,
            counts=st.dictionaries(text, st.integers(1, 9), max_size=6), asked=st.integers(0, 9),
        ),
        st.builds(CriticJudged, agent=AGENTS, model=text, verdict=text, first_error=text),
        st.builds(PlanRevised, added=st.tuples(AGENTS), removed=st.tuples(AGENTS), reason=text),
        st.builds(Warned, message=text),
        st.builds(MergeStarted, strategy=text, agents=st.integers(0, 999)),
        st.builds(MergeCompleted, strategy=text, seconds=SECONDS, cost_usd=MONEY),
        st.builds(RunFailed, status=text, exit_code=st.just(1), error=failure),
    )  # fmt: skip


def tape_of(events: list[tuple[float, Event]]) -> Tape:
    """The events one after the other; time passes or stands still."""
    tape = Tape()
    for step, event in events:
        tape.at(tape.t + step).add(event)
    return tape


HISTORIES = st.lists(st.tuples(st.floats(0, 50), event_of(ANY_TEXT)), max_size=25).map(tape_of)


@settings(max_examples=150, deadline=None)
@given(HISTORIES, st.integers(1, 140), st.integers(1, 30), st.booleans())
def test_any_history_of_hostile_text_fits_the_window(
    tape: Tape, width: int, height: int, plain: bool
) -> None:
    """Events in any order with any text: no exception, no control character, no row too wide or too many."""
    view = RunView()
    for stamped in tape.stamped:
        view.feed(stamped)
    rows = view.rows(width, height, tape.t + 1, ascii=plain)

    assert len(rows) <= height - 1
    for row in rows:
        text = text_of(row)
        assert not UNSAFE.search(text)
        assert "\n" not in text
        assert max(row_cells(row), cell_len(text)) <= width
