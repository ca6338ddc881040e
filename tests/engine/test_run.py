"""A whole run: from the mode to the result, the exit code and the last event."""

import asyncio
import json

import pytest

from swarmcli.core.events import (
    AgentCancelled,
    AgentCompleted,
    AgentSkipped,
    AgentStarted,
    MergeStarted,
    ModeChosen,
    PlanReady,
    PlanTask,
    RunCompleted,
    RunFailed,
    RunInterrupted,
    RunStarted,
    Warned,
)
from swarmcli.core.merge import lines
from swarmcli.core.replay import History
from swarmcli.core.tokens import estimate_tokens
from swarmcli.errors import EXIT_GATE, StorageError
from swarmcli.recipe.values import ModelSpec
from tests.core.tasks import every, task
from tests.engine.stage import (
    BLOCKS,
    DiskRecorder,
    Stage,
    briefing_of,
    error,
    plan_text,
    roles_of,
    states,
    user_text,
)


def ended(report):
    """Status, exit code and result, as the last event tells them."""
    return report.end.status, report.end.exit_code, report.end.result


# Fixed graphs


async def test_the_one_final_task_is_the_answer():
    """No merge call where there is nothing to merge."""
    stage = Stage({"b": "the answer"}, tasks=[task("a"), task("b", "a")])
    report = await stage.play()

    assert ("ok", 0, "the answer") == ended(report)
    assert ["a", "b"] == stage.asked
    assert BLOCKS.wrap("a", "output of a") in user_text(stage.request_of("b"))


async def test_a_fixed_graph_with_several_ends_is_put_together_in_code():
    """Requests = agents, unless the recipe asks for a writer."""
    stage = Stage(tasks=[task("a"), task("b")])
    report = await stage.play()

    assert ("ok", 0, "## a: do a\n\noutput of a\n\n## b: do b\n\noutput of b") == ended(report)
    assert ["a", "b"] == stage.asked


async def test_merge_write_asks_the_writer_also_for_a_fixed_graph():
    """`merge: {strategy: write}`."""
    stage = Stage({"writer": "the report"}, tasks=[task("a"), task("b")], merge="write")
    report = await stage.play()

    assert ("ok", 0, "the report") == ended(report)
    assert ["a", "b", "writer"] == stage.asked


async def test_a_failed_item_reaches_the_join_and_makes_the_run_partial():
    """The join is told, the user is told, and so is the script: exit 3."""
    scans = [task(f"scan[{i}]", index=i) for i in range(3)]
    stage = Stage({"scan[1]": error("timeout")}, tasks=[*scans, task("join", every("scan", 3))])
    report = await stage.play()

    assert ("partial", 3, "output of join") == ended(report)
    assert "(scan[1] has no result: timeout)" in user_text(stage.request_of("join"))
    assert [{"agent": "scan[1]", "kind": "timeout", "message": "it broke"}] == report.end.totals[
        "failures"
    ]


async def test_min_success_makes_a_few_failures_acceptable():
    """`min_success: 60%` of three agents is two."""
    scans = [task(f"scan[{i}]") for i in range(3)]
    report = await Stage({"scan[1]": error("server")}, tasks=scans, min_success=0.6).play()

    assert ("ok", 0) == ended(report)[:2]


@pytest.mark.parametrize(
    ("kinds", "code"),
    [(("rate_limit", "server"), 75), (("rate_limit", "schema"), 1), (("auth", "server"), 77)],
)
async def test_when_all_agents_failed_there_is_no_result(kinds, code):
    """stdout stays empty, and the causes decide the code; what was only skipped is no cause."""
    answers = {"a": error(kinds[0]), "b": error(kinds[1])}
    stage = Stage(answers, tasks=[task("a"), task("b"), task("c", "a", "b")])
    report = await stage.play()

    assert ("failed", code, None) == ended(report)
    assert isinstance(stage.recorder.events[-1], RunFailed)
    assert report.merged is None


async def test_nothing_to_do_is_an_empty_result_and_is_said():
    """A recipe whose every fan-out is empty ends like any pipeline without input: no call, exit 0, and a warning."""
    stage = Stage(tasks=[])
    report = await stage.play()

    assert ("ok", 0, "") == ended(report)
    assert [] == stage.client.requests
    assert any("nothing to do" in getattr(e, "message", "") for e in stage.recorder.events)


async def test_the_first_and_the_last_event_frame_the_run():
    """`run.started` before anything is called, `run.completed` when all is done; both are durable."""
    stage = Stage(tasks=[task("a")])
    report = await stage.play()

    events = stage.recorder.events
    assert [RunStarted, ModeChosen, PlanTask, PlanReady] == [type(e) for e in events[:4]]
    assert report.end is events[-1]
    assert [RunStarted, AgentCompleted, RunCompleted] == [type(e) for e in stage.recorder.committed]


async def test_records_keep_the_place_of_each_input():
    """`merge: jsonl`: record i belongs to item i, the failed one included."""
    items = [task(f"m[{i}]", index=i, item=f"in {i}", item_name="item") for i in range(3)]
    stage = Stage({"m[1]": error("server")}, tasks=items, merge="jsonl")
    report = await stage.play()

    records = [json.loads(line) for line in report.end.result.split("\n")]
    assert [(0, "in 0", "ok"), (1, "in 1", "failed"), (2, "in 2", "ok")] == [
        (r["index"], r["input"], r["status"]) for r in records
    ]
    assert records == report.merged.structured


async def test_the_totals_are_those_of_the_whole_run():
    """Agents, calls, money, speed-up and the critical path, writer included."""
    stage = Stage(
        tasks=[task("a"), task("b"), task("c", "a")], merge="write", takes={"b": 5.0, "writer": 2.0}
    )
    totals = (await stage.play()).end.totals

    assert (4, 3, 3) == (
        totals["usage"]["calls"],
        totals["agents"]["total"],
        totals["agents"]["done"],
    )
    assert {"seconds": 7.0, "agents": ["b", "writer"]} == totals["critical_path"]
    assert (1.0, 7.0, "swarm") == (totals["speedup"], totals["duration_s"], totals["mode"])
    assert totals["cost_usd"] > 0


# Planned runs


async def test_agents_start_while_the_planner_still_writes():
    """Five tasks in ten seconds of planning: the first is done before the plan is."""
    stage = Stage({"planner": plan_text(*"abcde"), "writer": "the report"}, takes={"planner": 10.0})
    report = await stage.play()

    assert ("ok", 0, "the report") == ended(report)
    kinds = (AgentStarted, AgentCompleted)
    order = [
        (e.type, getattr(e, "agent", ""))
        for e in stage.recorder.events
        if isinstance(e, (*kinds, PlanReady))
    ]
    assert order.index(("agent.completed", "a")) < order.index(("plan.ready", ""))
    assert 12.0 == round(report.end.totals["duration_s"])
    assert ["planner", *"abcde", "writer"] == stage.asked


async def test_dependants_of_a_plan_get_their_inputs_as_blocks():
    """A planned task sees the outputs that it waits for."""
    stage = Stage({"planner": plan_text("a", ("b", "a"))})
    report = await stage.play()

    assert BLOCKS.wrap("a", "output of a") in user_text(stage.request_of("b"))
    assert ("ok", 0, "output of b") == ended(report)


async def test_declining_to_split_costs_two_calls():
    """`{"mode": "instant"}`: the whole job with all its material goes to one call."""
    stage = Stage({"planner": '{"mode": "instant"}', "answer": "42"})
    report = await stage.play()

    assert ("ok", 0, "42") == ended(report)
    assert ["planner", "answer"] == stage.asked
    assert "the whole job" in user_text(stage.request_of("answer"))
    assert ("instant", "instant") == (report.mode, stage.recorder.of(ModeChosen)[-1].mode)


async def test_a_broken_draft_is_repaired_and_its_tasks_dropped():
    """What the corrected plan does not hold is stopped and is no part of the result."""
    planner = [plan_text("a", "wrong", ("b", "nowhere")), plan_text("a", ("b", "a"))]
    stage = Stage({"planner": planner}, takes={"planner": 4.0, "a": 20.0, "wrong": 100.0})
    report = await stage.play()

    assert ("ok", 0, "output of b") == ended(report)
    assert {"a": "done", "b": "done"} == states(report)
    assert [("agent.cancelled", "wrong")] == stage.events(AgentCancelled, AgentSkipped)
    assert 1 == stage.asked.count("a")
    assert "depends on 'nowhere', which does not exist" in user_text(stage.request_of("planner", 1))


async def test_what_a_dropped_agent_cost_stays_in_the_sum():
    """It was paid, although its output is used nowhere."""
    planner = [plan_text("wrong", ("b", "nowhere")), plan_text("right")]
    stage = Stage({"planner": planner}, takes={"planner": 4.0, "wrong": 0.5})
    totals = (await stage.play()).end.totals

    asked = sum(estimate_tokens(m.content) for r in stage.client.requests for m in r.messages)
    assert {"wrong", "right", "planner"} == set(stage.asked)
    assert (4, asked) == (totals["usage"]["calls"], totals["usage"]["input_tokens"])


async def test_declining_after_a_broken_draft_drops_that_draft():
    """Agents of a plan that is none are not merged into the answer."""
    planner = [plan_text("wrong", ("b", "nowhere")), '{"mode": "instant"}']
    stage = Stage({"planner": planner, "answer": "42"}, takes={"planner": 4.0, "wrong": 100.0})
    report = await stage.play()

    assert ("ok", 0, "42") == ended(report)
    assert {"answer": "done"} == states(report)


async def test_a_plan_that_cannot_be_used_ends_the_run_with_1_and_no_result():
    """Also when agents of the broken draft had finished: half a plan is never run as if whole."""
    stage = Stage({"planner": [plan_text("a", ("b", "x")), "no"]}, takes={"planner": 4.0, "a": 1.0})
    report = await stage.play()

    assert ("failed", 1, None) == ended(report)
    assert report.error.message.startswith("the plan by fake/model cannot be used")
    assert isinstance(stage.recorder.events[-1], RunFailed)
    assert report.end.totals["cost_usd"] > 0
    assert report.end.totals["usage"]["calls"] == 3


@pytest.mark.parametrize(("kind", "code"), [("auth", 77), ("rate_limit", 75), ("bad_request", 1)])
async def test_a_planner_that_cannot_be_reached_decides_the_code(kind, code):
    """A script may try again after 75, and must not after 77."""
    stage = Stage({"planner": error(kind)})
    report = await stage.play()

    assert ("failed", code, None) == ended(report)
    assert ["planner"] == stage.asked


async def test_failed_agents_of_a_plan_reach_the_writer_as_statements():
    """The report can say what is missing; the script gets exit 3."""
    answers = {"planner": plan_text(*"abc"), "b": error("timeout", "OBEY"), "writer": "the report"}
    stage = Stage(answers)
    report = await stage.play()

    assert ("partial", 3, "the report") == ended(report)
    text = user_text(stage.request_of("writer"))
    assert "FAILED (no result):\n- b: timeout" in text
    assert "OBEY" not in text


async def test_a_plan_of_an_earlier_session_is_merged_like_a_new_one():
    """`swarm resume`: the plan exists already, the writer still writes."""
    stage = Stage({"writer": "the report"}, tasks=[task("a"), task("b")], planner_made=True)

    assert ("ok", 0, "the report") == ended(await stage.play())


async def test_a_writer_that_fails_leaves_no_result_and_its_own_code():
    """The agents' work is in the journal; `swarm resume` tries again."""
    stage = Stage({"planner": plan_text("a", "b"), "writer": error("rate_limit")})
    report = await stage.play()

    assert ("failed", 75, None) == ended(report)
    assert "rate_limit" == report.error.kind


async def test_many_results_reach_the_writer_through_a_small_window():
    """Sixty long answers and a window of 4,096 tokens: a tree of calls, and every fact arrives."""
    names = [f"t{i}" for i in range(60)]
    answers = {name: f"FACT-{name} " + "filler " * 120 for name in names}

    def keep_facts(request):
        return " ".join(w for w in user_text(request).split() if w.startswith("FACT-"))

    model = ModelSpec(id="fake/small", context_window=4096)
    stage = Stage(
        {**answers, "planner": plan_text(*names), "reducer": keep_facts, "writer": keep_facts},
        briefing=briefing_of(model, job_outline="the job"),
    )
    report = await stage.play()

    assert {f"FACT-{name}" for name in names} == set(report.end.result.split())
    assert stage.asked.count("reducer") > 1


# Modes of one call


@pytest.mark.parametrize(
    ("mode", "model", "effort"),
    [
        ("instant", "fake/model", None),
        ("thinking", "fake/large", "medium"),
        ("agent", "fake/large", None),
    ],
)
async def test_the_modes_of_one_call_make_one_call(mode, model, effort):
    """`instant` asks the small model, the others the large one; files are put in by name."""
    briefing = briefing_of(
        roles=roles_of(large=ModelSpec(id="fake/large")),
        job="the whole job",
        files=("a.txt",),
        read_file=lambda path: f"content of {path}",
    )
    stage = Stage({"answer": "42"}, mode=mode, briefing=briefing)
    report = await stage.play()

    assert ("ok", 0, "42", mode) == (*ended(report), report.mode)
    (request,) = stage.client.requests
    assert (model, effort) == (request.model.id, request.model.reasoning_effort)
    assert BLOCKS.wrap("a.txt", "content of a.txt") in user_text(request)


CITY = {"type": "object", "required": ["city"]}


@pytest.mark.parametrize(
    ("answer", "asked"),
    [('{"city": "Paris"}', ["planner", "a", "b"]), ("Paris", ["planner", "a", "b", "writer"])],
)
async def test_a_plan_with_one_final_task_keeps_to_the_result_schema(answer, asked):
    """The planner's task was not asked for it: what does not fit goes to the writer, who is."""
    plan = plan_text("a", ("b", "a"))
    stage = Stage({"planner": plan, "b": answer, "writer": '{"city": "Paris"}'}, schema=CITY)
    report = await stage.play()

    assert ("ok", 0, '{"city": "Paris"}') == ended(report)
    assert asked == stage.asked


async def test_a_result_that_breaks_the_schema_is_not_verified():
    """Status, exit code and the journal's last event say the same; the result is there."""
    report = await Stage({"a": "Paris"}, tasks=[task("a")], schema=CITY).play()

    assert ("unverified", EXIT_GATE, "Paris") == ended(report)


async def test_a_result_schema_binds_a_single_answer():
    """`--schema FILE` with one call: asked once more, then the value alone."""
    schema = {"type": "object", "required": ["n"]}
    stage = Stage({"answer": ["none", 'So: {"n": 1}']}, mode="instant", schema=schema)

    assert ("ok", 0, '{"n": 1}') == ended(await stage.play())


# Time


async def test_a_timeout_merges_what_is_there():
    """`--timeout 10s`: the finished agents' results, in time, and 124."""
    stage = Stage({"planner": plan_text(*"abc"), "writer": "partial report"},
                  takes={"planner": 1.0, "a": 2.0, "b": 500.0, "c": 500.0, "writer": 1.0}, timeout_s=10.0)  # fmt: skip
    report = await stage.play()

    assert ("timeout", 124, "partial report") == ended(report)
    assert {"a": "done", "b": "cancelled", "c": "cancelled"} == states(report)
    assert report.end.totals["duration_s"] <= 10.0
    text = user_text(stage.request_of("writer"))
    assert BLOCKS.wrap("a", "output of a") in text
    assert "- b: uncalled\n- c: uncalled" in text


async def test_a_writer_that_takes_too_long_is_cut_off():
    """The deadline holds for the merge too: the results are put together without it."""
    stage = Stage(
        {"planner": plan_text(*"ab")}, takes={"planner": 1.0, "writer": 500.0}, timeout_s=10.0
    )
    report = await stage.play()

    assert ("timeout", 124) == ended(report)[:2]
    assert "## a: do a\n\noutput of a" in report.end.result
    assert 10.0 == report.end.totals["duration_s"]
    assert ["write", "concat"] == [e.strategy for e in stage.recorder.of(MergeStarted)]
    assert "without the writer model" in stage.recorder.of(Warned)[-1].message


async def test_a_timeout_with_nothing_finished_has_no_result():
    """124 and an empty stdout."""
    report = await Stage(tasks=[task("a")], takes=500.0, timeout_s=10.0).play()

    assert ("timeout", 124, None) == ended(report)
    assert 10.0 == report.end.totals["duration_s"]


async def test_a_timeout_while_the_planner_writes_keeps_what_its_agents_found():
    """The plan never ended, the first agents did."""
    stage = Stage({"planner": plan_text(*"ab")}, takes={"planner": 100.0, "a": 1.0}, timeout_s=80.0)
    report = await stage.play()

    assert ("timeout", 124, "output of a") == ended(report)


async def test_a_timeout_in_the_middle_of_a_graph_merges_the_last_that_was_finished():
    """The join never ran: its inputs are the best there is, and the join's absence is told."""
    stage = Stage(tasks=[task("a"), task("b", "a"), task("c"), task("join", "b", "c")],
                  takes={"join": 500.0}, timeout_s=10.0)  # fmt: skip
    report = await stage.play()

    assert ("timeout", 124) == ended(report)[:2]
    assert (
        "## b: do b\n\noutput of b\n\n## c: do c\n\noutput of c\n\n## join: do join\n\n(uncalled: "
        in report.end.result
    )
    assert "output of a" not in report.end.result


@pytest.mark.parametrize("merge", ["jsonl", lines])
async def test_a_cut_map_keeps_the_place_of_each_input(merge):
    """`swarm map --timeout`: line i is still input i."""
    items = [task(f"m[{i}]", index=i, item=str(i), item_name="item") for i in range(4)]
    order = {"merge": merge} if isinstance(merge, str) else {"merge_in_code": merge}
    stage = Stage(tasks=items, takes={"m[0]": 500.0, "m[2]": 500.0}, timeout_s=10.0, **order)
    report = await stage.play()

    assert ("timeout", 124) == ended(report)[:2]
    if merge is lines:
        assert "\noutput of m[1]\n\noutput of m[3]" == report.end.result
    else:
        records = report.merged.structured
        assert [(0, "cancelled"), (1, "ok"), (2, "cancelled"), (3, "ok")] == [
            (r["index"], r["status"]) for r in records
        ]


async def test_a_cut_pipeline_has_one_record_per_final_agent():
    """An input whose first step alone was done is no extra line."""
    scans = [task(f"scan[{i}]", index=i, item=str(i), item_name="item") for i in range(3)]
    checks = [
        task(f"check[{i}]", f"scan[{i}]", index=i, item=str(i), item_name="item") for i in range(3)
    ]
    takes = {"check[1]": 500.0, "scan[2]": 500.0}
    stage = Stage(tasks=[*scans, *checks], takes=takes, timeout_s=10.0, merge="jsonl")
    report = await stage.play()

    assert [("check[0]", "ok"), ("check[1]", "cancelled"), ("check[2]", "skipped")] == [
        (r["agent"], r["status"]) for r in report.merged.structured
    ]


async def test_a_run_that_ends_in_time_does_not_wait_for_its_deadline():
    """`--timeout 1h` costs no hour."""
    report = await Stage(tasks=[task("a")], timeout_s=3600.0).play()

    assert ("ok", 1.0) == (report.end.status, report.end.totals["duration_s"])


# Signals


def at(stage, *actions):
    """Play the run; at each of the times one thing happens to it."""

    async def play():
        async with asyncio.TaskGroup() as group:
            running = group.create_task(stage.run.execute())
            for seconds, action in actions:
                await stage.clock.sleep(seconds - stage.clock.monotonic())
                action()
        return running.result()

    return stage.clock.drive(play())


async def test_the_first_signal_lets_running_agents_finish_and_merges():
    """What was paid for is in the result; 130 and a last event that says so."""
    stage = Stage({"writer": "partial"}, tasks=[task("a"), task("b"), task("c", "a")], merge="write",
                  takes={"a": 2.0, "b": 4.0})  # fmt: skip
    at_work = []
    report = await at(
        stage,
        (1.0, lambda: stage.run.interrupt("sigint")),
        (1.0, lambda: at_work.append(stage.run.running)),
    )

    assert ("interrupted", 130, "partial") == ended(report)
    assert [2] == at_work
    assert {"a": "done", "b": "done", "c": "skipped"} == states(report)
    assert isinstance(stage.recorder.events[-1], RunInterrupted)


async def test_the_second_signal_ends_it_without_a_writer():
    """Running agents are cancelled at once; the finished ones are put together in code."""
    stage = Stage(tasks=[task("a"), task("b")], merge="write", takes={"a": 2.0, "b": 400.0})
    report = await at(
        stage,
        (1.0, lambda: stage.run.interrupt("sigterm")),
        (3.0, lambda: stage.run.cancel("sigterm")),
    )

    assert ("interrupted", 143) == ended(report)[:2]
    assert "output of a" in report.end.result
    assert {"a": "done", "b": "cancelled"} == states(report)
    assert (3.0, ["a", "b"]) == (report.end.totals["duration_s"], stage.asked)


async def test_a_second_signal_during_the_merge_cuts_the_writer_off():
    """The results are put together without it."""
    stage = Stage(tasks=[task("a"), task("b")], merge="write", takes={"writer": 500.0})
    report = await at(
        stage,
        (2.0, lambda: stage.run.interrupt("sigint")),
        (3.0, lambda: stage.run.cancel("sigint")),
    )

    assert ("interrupted", 130) == ended(report)[:2]
    assert "## a: do a\n\noutput of a" in report.end.result
    assert 1 == stage.client.cancelled


async def test_a_signal_with_nothing_finished_leaves_no_result():
    """130, an empty stdout, and `run.interrupted` last."""
    stage = Stage(tasks=[task("a")], takes=500.0)
    report = await at(stage, (1.0, lambda: stage.run.cancel("sigint")))

    assert ("interrupted", 130, None) == ended(report)
    assert isinstance(stage.recorder.events[-1], RunInterrupted)


async def test_a_signal_while_the_planner_writes_ends_the_planning():
    """No agent starts any more; those at work may finish."""
    stage = Stage({"planner": plan_text(*"abcd")}, takes={"planner": 8.0, "a": 3.0})
    report = await at(stage, (3.0, lambda: stage.run.interrupt("sigint")))

    assert ("interrupted", 130, "output of a") == ended(report)
    assert ["planner", "a"] == stage.asked


async def test_a_signal_before_the_run_begins_calls_nobody():
    """Ctrl-C in the first moment."""
    stage = Stage(tasks=[task("a")])
    stage.run.interrupt("sigint")
    report = await stage.play()

    assert ("interrupted", 130, None) == ended(report)
    assert [] == stage.asked


# Budget, access, storage


async def test_a_spent_budget_stops_and_merges():
    """`--max-cost`: exit 4 with the best result."""
    stage = Stage(
        {"b": error("budget", "max_cost_usd $1 is reached")},
        tasks=[task("a"), task("b"), task("c", "b")],
    )
    report = await stage.play()

    assert ("budget", 4) == ended(report)[:2]
    assert "output of a" in report.end.result


async def test_a_budget_that_ends_at_the_writer_is_4_and_not_0():
    """All agents succeeded, but the result is not what was asked for."""
    stage = Stage({"writer": error("budget")}, tasks=[task("a"), task("b")], merge="write")
    report = await stage.play()

    assert ("budget", 4) == ended(report)[:2]
    assert "## a: do a\n\noutput of a" in report.end.result


async def test_a_budget_that_does_not_even_pay_the_plan_is_4():
    """Without a result."""
    report = await Stage({"planner": error("budget")}).play()

    assert ("budget", 4, None) == ended(report)


async def test_a_401_stops_at_first_sight():
    """77, nothing more is called, and what was finished is not thrown away."""
    stage = Stage({"b": error("auth", "401: wrong key")}, tasks=[task("a"), task("b"), task("c"), task("d", "a")],
                  takes={"b": 2.0, "c": 500.0, "d": 500.0}, merge="write")  # fmt: skip
    report = await stage.play()

    assert ("partial", 77) == ended(report)[:2]
    assert "output of a" in report.end.result
    assert {"a": "done", "b": "failed", "c": "cancelled", "d": "cancelled"} == states(report)
    assert "writer" not in stage.asked


async def test_fail_fast_ends_with_what_it_has():
    """`--fail-fast`: partial when something was finished."""
    stage = Stage({"b": error("server")}, tasks=[task("a"), task("b"), task("c")], takes={"b": 2.0, "c": 500.0},
                  fail_fast=True)  # fmt: skip
    report = await stage.play()

    assert ("partial", 3) == ended(report)[:2]
    assert {"a": "done", "b": "failed", "c": "cancelled"} == states(report)


async def test_a_disk_that_is_full_from_the_start_calls_nobody():
    """Nothing is paid that could not be recorded."""
    stage = Stage(tasks=[task("a")], recorder=DiskRecorder(full_at={"run.started", "run.failed"}))
    report = await stage.play()

    assert ("failed", 1, None) == ended(report)
    assert isinstance(report.error, StorageError)
    assert [] == stage.asked


async def test_a_disk_that_fills_up_stops_the_run():
    """What was recorded before is still delivered, with exit 1."""
    stage = Stage(tasks=[task("a"), task("b"), task("c")], takes={"b": 2.0, "c": 500.0},
                  recorder=DiskRecorder(full_at={"b"}))  # fmt: skip
    report = await stage.play()

    assert ("partial", 1) == ended(report)[:2]
    assert "output of a" in report.end.result
    assert "output of b" not in report.end.result
    assert "the disk is full" == report.error.message


async def test_a_last_event_that_cannot_be_written_is_not_a_success():
    """The result exists, but the run on disk has no end."""
    stage = Stage(tasks=[task("a")], recorder=DiskRecorder(full_at={"run.completed"}))
    report = await stage.play()

    assert ("partial", 1, "output of a") == ended(report)
    assert isinstance(report.error, StorageError)


# Resuming


async def test_finished_agents_are_reused_by_their_question():
    """Only what is new or asks something else is called; the receipt counts only that."""
    first = Stage(tasks=[task("a"), task("b"), task("c", "a", "b")])
    await first.play()
    finished = {e.agent: e for e in first.recorder.of(AgentCompleted)}

    changed = [task("a"), task("b", prompt="another question"), task("c", "a", "b")]
    stage = Stage({"b": "new"}, tasks=changed, history=History(finished=finished))
    report = await stage.play()

    assert ["b", "c"] == stage.asked
    assert [("a", True), ("b", False), ("c", False)] == [
        (o.agent, o.reused) for o in report.outcomes
    ]
    assert (2.0, ["b", "c"]) == (
        report.end.totals["critical_path"]["seconds"],
        report.end.totals["critical_path"]["agents"],
    )
    assert 1.0 == report.end.totals["speedup"]


async def test_a_finished_run_calls_nobody_again():
    """Everything is there: the same result for nothing."""
    tasks = [task("a"), task("b", "a")]
    first = Stage(tasks=tasks)
    result = ended(await first.play())
    finished = {e.agent: e for e in first.recorder.of(AgentCompleted)}

    stage = Stage(tasks=tasks, history=History(finished=finished))
    assert result == ended(await stage.play())
    assert [] == stage.asked
